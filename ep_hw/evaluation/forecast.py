"""What an evaluation will take: what its cells take by stored rates, and how much slower this computer is.

    f_k = sum of t / sum of p                                                                                   (1)
    T = f a + sum over kinds of f_k (sum over jobs of p(n)) / workers                                           (2)

p seconds of a cell by the stored rates, `evaluation.price (1)`; t what cells of a kind took here on a few of their
images, p in (1) what the rates say of these. Without such a cell f_k is f, that of all that were measured, or 1. a what
is done once, or by one process alone.

A cell is measured only where, whatever it takes, T will be ten times all that was spent: T is a line in t, so that
holds for every t if it does for none and for one without end.
"""

import math
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from ep_hw.evaluation.cells import Cell
from ep_hw.evaluation.execution import Machines, run_task
from ep_hw.evaluation.plan import Plan, cells_of
from ep_hw.evaluation.price import SHOWN, Job, Kind, Price, jobs_of
from ep_hw.evaluation.summary import summarise
from ep_hw.threads import threads
from ep_hw.threats.threat import CLEAN

MEASURING = 0.09     # of T, at most: a tenth, less what it takes to count cells
PARTS = 4, 16        # a cell is measured on a quarter of its images, or on a sixteenth
SAMPLES = 8          # cells of a kind, spread over its machines
GOLDEN = (math.sqrt(5) - 1) / 2   # multiples of it, modulo 1, lie evenly wherever they end
ENDLESS_S = 1e12
START_S, CELL_S, FIGURE_S = 4.0, 0.02, 0.5   # to start workers, to read and summarise a cell, to write a figure


class Measured(NamedTuple):
    """What cells of a kind took, each on a few of its images, and what the stored rates say of these."""

    cells: int = 0
    stored_s: float = 0.0
    seconds: float = 0.0

    @classmethod
    def sum(cls, several: Iterable["Measured"]) -> "Measured":
        return cls(*map(sum, zip(cls(), *several)))


@dataclass(frozen=True)
class Forecast:
    """What is left to compute.

    Attributes:
        jobs: what is left.
        workers: processes that share them.
        alone_s: a of equation (2).
        stored_s: seconds of all jobs of a kind by the stored rates.
        measured: of the kinds of which cells were measured.
        cells: of all plans, those that are done among them.
    """

    jobs: tuple[Job, ...]
    workers: int
    alone_s: float
    stored_s: Mapping[Kind, float]
    measured: Mapping[Kind, Measured] = field(default_factory=dict)
    cells: int = 0

    @classmethod
    def of(cls, jobs: Sequence[Job], workers: int, figures: int = 0, cells: int = 0) -> "Forecast":
        """By the stored rates alone, with so many figures in the end."""
        stored: dict[Kind, float] = defaultdict(float)
        for job in jobs:
            stored[job.kind] += job.price.of(job.images)
        start_s = START_S if workers > 1 else 0.0
        alone_s = start_s + CELL_S * len(jobs) + FIGURE_S * figures if jobs else 0.0
        return cls(tuple(jobs), workers, alone_s, dict(stored), cells=cells)

    @property
    def seconds(self) -> float:
        """Equation (2)."""
        return self.slowness() * self.alone_s + sum(self.weights().values()) / self.workers

    @cached_property
    def all_measured(self) -> Measured:
        """Of all kinds together."""
        return Measured.sum(self.measured.values())

    @property
    def spent_s(self) -> float:
        """Seconds that measuring took."""
        return self.all_measured.seconds

    def slowness(self, kind: Kind | None = None) -> float:
        """Equation (1): how much slower this computer is at a kind, or at all of them, than the stored rates say."""
        own = self.all_measured if kind is None else self.measured.get(kind, self.all_measured)
        return own.seconds / own.stored_s if own.cells else 1.0

    def price(self, job: Job) -> Price:
        """What a job takes here."""
        return job.price.times(self.slowness(job.kind))

    def weights(self) -> dict[Kind, float]:
        """Seconds of one worker that all jobs of a kind take."""
        return {kind: self.slowness(kind) * stored for kind, stored in self.stored_s.items()}

    def taken(self, kind: Kind) -> int:
        """How many cells of a kind were measured."""
        return self.measured.get(kind, Measured()).cells

    def unmeasured(self) -> list[Kind]:
        """Kinds that are priced by others, or by the stored rates alone."""
        return [kind for kind in self.stored_s if kind not in self.measured]

    def basis(self) -> str:
        """What it stands on, in words."""
        if self.jobs and not self.measured:
            return "by stored rates, as measuring would take more than a tenth of that"
        return f"measured on {self.all_measured.cells} small cells"

    def with_sample(self, kind: Kind, stored_s: float, seconds: float) -> "Forecast":
        """The same with one more cell measured, see `Measured`."""
        own = Measured.sum([self.measured.get(kind, Measured()), Measured(1, stored_s, seconds)])
        return replace(self, measured={**self.measured, kind: own})

    def next_sample(self, at_most_s: float = math.inf) -> tuple[Job, int] | None:
        """A job of the kind that weighs most for the samples there are of it, and on how many images to measure it.

        Args:
            at_most_s: seconds that measuring may take in all, as far as can be foreseen.
        """
        weights = self.weights()
        kinds = sorted(weights, key=lambda kind: -weights[kind] / (1 + self.taken(kind)) ** 2)
        return next((chosen for kind in kinds for chosen in self._candidates(kind)
                     if self._may_measure(*chosen, at_most_s)), None)

    def _candidates(self, kind: Kind) -> list[tuple[Job, int]]:
        """The next job of a kind that would be measured, on more images and on fewer."""
        jobs, taken = [job for job in self.jobs if job.opens and job.kind == kind], self.taken(kind)
        if taken >= min(SAMPLES, len(jobs)):
            return []
        job = jobs[int(len(jobs) * (taken * GOLDEN % 1))]
        return [(job, max(1, job.images // part)) for part in PARTS]

    def _may_measure(self, job: Job, images: int, at_most_s: float) -> bool:
        """Whether the estimate will be ten times all that was spent, whatever the job takes."""
        stored_s = job.price.of(images)
        return self.spent_s + self.slowness(job.kind) * stored_s <= at_most_s and all(
            self.spent_s + seconds <= MEASURING * self.with_sample(job.kind, stored_s, seconds).seconds
            for seconds in (0.0, ENDLESS_S))


def estimate(plans: Sequence[Plan], folder: Path | None = None, at_most_s: float = math.inf,
             figures: int = 0) -> Forecast:
    """Measure what is left of some plans, in a folder of its own.

    Args:
        plans: of different models, or of the same one; all run where the first one does.
        folder: of the evaluation; what is computed there costs nothing.
        at_most_s: seconds that measuring may take, besides its share of the estimate.
        figures: that are written in the end.
    """
    every = [(plan, cells_of(plan, folder or Path())) for plan in plans]
    jobs = [job for plan, cells in every for job in jobs_of(plan, folder, cells)]
    run = plans[0].run
    known = Forecast.of(jobs, run.workers, figures, sum(len(cells) for _, cells in every))
    begun = time.perf_counter()
    with TemporaryDirectory() as scratch, threads(1):
        while chosen := known.next_sample(at_most_s):
            job, images = chosen
            _run(job, images, Path(scratch) / str(known.all_measured.cells))
            seconds = time.perf_counter() - begun - known.spent_s
            known = known.with_sample(job.kind, job.price.of(images), seconds)
            run.progress(job.what, len(known.measured), len(known.stored_s))
    return known


def _run(job: Job, images: int, folder: Path):
    """Run a job on its first images, a cell without those of others: transferred images cost what clean ones do."""
    few = job.what.images.take(slice(images))
    if not isinstance(job.what, Cell):
        replace(job.what, images=few, folder=folder).measure()
        return
    c = replace(job.what.configuration, source=None, begun=None, black_box=None, joined=())
    if job.what.configuration.black_box and c.settings is not None:
        c = replace(c, settings=c.settings.model_copy(update={"queries": 1}))
    if job.kind.work == SHOWN and c.threat.is_attack:
        c = replace(c, threat=CLEAN, settings=None)
    cell = Cell(c, few, folder, job.what.official)
    with Machines({job.plan.model: job.plan.programs}, job.plan.run.device) as machines:
        list(summarise(run_task([cell], machines)))
