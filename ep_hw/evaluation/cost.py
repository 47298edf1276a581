"""What an evaluation will take: cells of each kind are run on a few of their images, and scaled up.

    t_k(n) = f_k + e_k n                                                                                        (1)
    T = (sum over tasks of o + sum over cells of t_k(n)) / jobs + a cells                                       (2)

t_k(n) seconds of a cell of kind k with n images: the line through two numbers of images, mean over the cells measured.
o seconds to open a task's machine, a to read and summarise a finished cell. A kind is a platform (network, and what
decides the speed of its machine) and its work (clean and corrupted images, an attack of any strength, an attack time).

Next is measured the kind whose cells weigh most in T for what is known of it. Measuring never takes more than
`MEASURING` T, by what is known when a cell is begun. A kind without a measurement is priced by the same work on other
platforms, and by how these compare where both were measured:

    t_(p,w) = t_(q,w) sum over v of t_(p,v) / sum over v of t_(q,v)                                             (3)
"""

import math
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch

from ep_hw.evaluation.cells import Cell, run_cell
from ep_hw.evaluation.execution import Machines, Progress, tasks_of
from ep_hw.evaluation.plan import Plan, cells_of
from ep_hw.evaluation.stored_times import StoredTime, times_of
from ep_hw.evaluation.summary import summarise
from ep_hw.threads import threads
from mapping.crossbar.target import CrossbarTarget
from mapping.targets import REFERENCE
from simulators.module import AnyProgram

MEASURING = 0.1     # of T
FEW, MORE = 12, 3   # measured are a twelfth and a third of a cell's images
SAMPLES = 12        # cells of a kind, spread over its machines
GOLDEN = (math.sqrt(5) - 1) / 2   # multiples of it, modulo 1, lie evenly wherever they end
SURPRISE = 2        # a cell is begun only where this many times what it should take is left
CAUTION = 4         # an image more costs at least this part of an image's share of what the larger number took
SHOWN = ""          # the work of clean, corrupted and transferred images
Parts = Sequence[tuple[str, Plan]]   # kind of network, see ep_hw.networks.family, and its plan
Platform = tuple[str, ...]


class Price(NamedTuple):
    """Seconds: `fixed` whatever the number of images, and `each` for an image; equation (1)."""

    fixed: float
    each: float

    def of(self, images: int) -> float:
        return self.fixed + images * self.each

    def times(self, factor: float) -> "Price":
        return Price(factor * self.fixed, factor * self.each)

    @classmethod
    def sum(cls, prices: Iterable["Price"]) -> "Price":
        fixed, each = zip((0.0, 0.0), *prices)
        return cls(sum(fixed), sum(each))

    @classmethod
    def through(cls, seconds: dict[int, float]) -> "Price":
        """The line through what one or two numbers of images took; where more took hardly longer, a cautious one."""
        (most, longest), shortest = max(seconds.items()), min(seconds.items())
        if most == shortest[0]:
            return cls(0.0, longest / most)
        each = (longest - shortest[1]) / (most - shortest[0])
        each = min(max(each, longest / (CAUTION * most)), longest / most)
        return cls(longest - most * each, each)


class Kind(NamedTuple):
    """Cells that are taken to cost alike."""

    platform: Platform
    work: str

    def __str__(self) -> str:
        return " ".join(filter(None, (*self.platform, self.work or "clean and corrupted images")))


@dataclass(frozen=True, eq=False)
class Job:
    """A cell or an attack time that is to be computed.

    Attributes:
        model: name of its network.
        kind: what it costs like.
        what: the cell or attack time itself.
        times: how often it costs what its kind says.
    """

    model: str
    kind: Kind
    what: Cell | StoredTime
    times: int = 1

    @property
    def images(self) -> int:
        return len(self.what.images)


@dataclass(frozen=True)
class Sample:
    """What was measured of one job; see the module for o, equation (1) and a."""

    kind: Kind
    open_s: float
    price: Price
    after_s: float


@dataclass(frozen=True)
class Costs:
    """What was measured, and what follows from it for every kind."""

    samples: tuple[Sample, ...] = ()

    def of(self, kind: Kind) -> Price:
        """The price of a cell: the mean of its kind's samples, else equation (3)."""
        if kind in self._measured:
            return self._measured[kind]
        others = [price.times(self._ratio(kind.platform, other.platform)) for other, price in self._measured.items()
                  if other.work == kind.work]
        return _mean(others or [price for other, price in self._measured.items() if other.platform == kind.platform]
                     or list(self._measured.values()))

    def open_s(self, platform: Platform) -> float:
        """Seconds to open a machine."""
        own = [s.open_s for s in self.samples if s.kind.platform == platform] or [s.open_s for s in self.samples]
        return sum(own) / len(own) if own else 0.0

    @property
    def after_s(self) -> float:
        """Seconds to read and summarise a cell."""
        return sum(s.after_s for s in self.samples) / max(1, len(self.samples))

    @cached_property
    def _measured(self) -> dict[Kind, Price]:
        prices: dict[Kind, list[Price]] = defaultdict(list)
        for sample in self.samples:
            prices[sample.kind].append(sample.price)
        return {kind: _mean(own) for kind, own in prices.items()}

    def _ratio(self, platform: Platform, other: Platform) -> float:
        """How much dearer a platform is than another one, by the works that were measured on both."""
        known = self._measured
        both = [work for at, work in known if at == platform and (other, work) in known]
        top, bottom = (sum(known[Kind(at, work)].of(FEW * MORE) for work in both) for at in (platform, other))
        return top / bottom if bottom else 1.0


def _mean(prices: Sequence[Price]) -> Price:
    return Price.sum(prices).times(1 / len(prices)) if prices else Price(0.0, 0.0)


@dataclass(frozen=True)
class Forecast:
    """What is left to compute.

    Attributes:
        jobs: the cells and attack times left.
        tasks: (platform, how many) of the machines to open for them.
        workers: processes that share them.
        costs: what was measured of them.
        spent_s: seconds that measuring took.
    """

    jobs: tuple[Job, ...]
    tasks: tuple[tuple[Platform, int], ...]
    workers: int
    costs: Costs = Costs()
    spent_s: float = 0.0

    @property
    def seconds(self) -> float:
        """Equation (2)."""
        work_s = sum(self.weights().values()) + self.opening_s
        return work_s / self.workers + len(self.jobs) * self.costs.after_s

    @property
    def opening_s(self) -> float:
        """Seconds of one worker that all machines take to open."""
        return sum(n * self.costs.open_s(platform) for platform, n in self.tasks)

    def weights(self) -> dict[Kind, float]:
        """Seconds that all jobs of a kind take."""
        prices = {kind: self.costs.of(kind) for kind in dict.fromkeys(job.kind for job in self.jobs)}
        seconds = dict.fromkeys(prices, 0.0)
        for job in self.jobs:
            seconds[job.kind] += job.times * prices[job.kind].of(job.images)
        return seconds

    def unmeasured(self) -> list[Kind]:
        """Kinds that are priced by others."""
        measured = {sample.kind for sample in self.costs.samples}
        return [kind for kind in dict.fromkeys(job.kind for job in self.jobs) if kind not in measured]


def estimate(parts: Parts, folder: Path | None = None, at_most_s: float = math.inf) -> Forecast:
    """Measure what is left of some plans, in a folder of its own.

    Args:
        parts: kinds of networks and their plans, which run where the first one does.
        folder: of the evaluation; what is computed there costs nothing.
        at_most_s: seconds that measuring may take, besides its share of the estimate.
    """
    jobs = tuple(job for kind, plan in parts for job in jobs_of(kind, plan, folder or Path())
                 if folder is None or not job.what.done())
    asked = Forecast(jobs, _tasks(jobs), parts[0][1].run.jobs)
    return _measured(asked, {plan.model: plan for _, plan in parts}, at_most_s, parts[0][1].run.progress)


def jobs_of(kind: str, plan: Plan, folder: Path = Path()) -> list[Job]:
    """Every cell and attack time of a plan.

    Args:
        kind: of the network, as others of its kind cost the same.
    """
    platforms = {name: _platform(kind, program) for name, program in plan.programs.items()}
    cells = [Job(plan.model, Kind(platforms[cell.configuration.machine], _work(cell)), cell, _times(cell))
             for cell in cells_of(plan, folder)]
    times = times_of(plan.relaxing(), plan.images, plan.asked.temporal, plan.asked.seed, plan.run.device,
                     folder / "temporal") if plan.asked.temporal else {}
    return cells + [Job(plan.model, Kind(platforms[name], f"attack time {one.time}"), one)
                    for name, asked in times.items() for one in asked]


def _platform(kind: str, program: AnyProgram) -> Platform:
    target = program.target
    if not isinstance(target, CrossbarTarget):
        return tuple(filter(None, (kind, target.name)))
    wired = target.array.wire_ohm is not None
    return tuple(filter(None, (kind, "crossbar", "noisy" * target.is_noisy, "wires" * wired)))


def _work(cell: Cell) -> str:
    """An attack that is made, with its settings; `SHOWN` where images are only shown."""
    c = cell.configuration
    if not c.threat.is_direct or c.joined or c.settings is None:
        return SHOWN
    return f"{c.threat.kind}, {c.settings.iterations} iterations, {c.settings.restarts} restarts"


def _times(cell: Cell) -> int:
    """A white box that is joined with others shows the images of each to its machine."""
    return 1 + len(cell.configuration.joined)


def _tasks(jobs: Sequence[Job]) -> tuple[tuple[Platform, int], ...]:
    """Machines that are opened for cells: one a task of each depth."""
    platform = {id(job.what): job.kind.platform for job in jobs}
    counts: dict[Platform, int] = defaultdict(int)
    cells = [job.what for job in jobs if isinstance(job.what, Cell)]
    for depth in {cell.configuration.depth for cell in cells}:
        for task in tasks_of([cell for cell in cells if cell.configuration.depth == depth]):
            counts[platform[id(task[0])]] += 1
    return tuple(counts.items())


def _measured(asked: Forecast, plans: dict[str, Plan], at_most_s: float, progress: Progress) -> Forecast:
    """The estimate with samples; a run before them all, as the first of a process is slower than others."""
    by_kind = _by_kind(asked.jobs)
    with TemporaryDirectory() as scratch, threads(1), ExitStack() as stack:
        machines = {model: stack.enter_context(Machines(plan.programs, plan.run.device))
                    for model, plan in plans.items()}
        begun, known = time.perf_counter(), asked
        while job := _next(known, by_kind, at_most_s):
            if not known.costs.samples:
                _run_s(job.what, 1, machines[job.model], Path(scratch))
            sample = _sample(job, machines[job.model], Path(scratch))
            known = replace(known, costs=Costs((*known.costs.samples, sample)), spent_s=time.perf_counter() - begun)
            if isinstance(job.what, Cell):
                progress(job.what, len(by_kind) - len(known.unmeasured()), len(by_kind))
        return known


def _by_kind(jobs: Iterable[Job]) -> dict[Kind, list[Job]]:
    """The jobs of each kind that need no other cells; all of them where every one does."""
    groups: dict[Kind, tuple[list[Job], list[Job]]] = defaultdict(lambda: ([], []))
    for job in jobs:
        groups[job.kind][isinstance(job.what, Cell) and bool(job.what.configuration.needs)].append(job)
    return {kind: alone or borrowing for kind, (alone, borrowing) in groups.items()}


def _next(known: Forecast, by_kind: dict[Kind, list[Job]], at_most_s: float) -> Job | None:
    """A job of the kind that weighs most for the samples there are of it, among those that can still be measured."""
    if not known.costs.samples:
        first = min(by_kind, key=lambda kind: kind.work != SHOWN, default=None)
        return first and by_kind[first][0]
    left_s, weights = min(MEASURING * known.seconds, at_most_s) - known.spent_s, known.weights()
    taken = Counter(sample.kind for sample in known.costs.samples)
    possible = [kind for kind, jobs in by_kind.items() if taken[kind] < min(SAMPLES, len(jobs))
                and SURPRISE * _sample_s(jobs[0], known.costs) <= left_s]
    kind = max(possible, key=lambda kind: weights[kind] / (1 + taken[kind]) ** 2, default=None)
    return kind and by_kind[kind][int(len(by_kind[kind]) * (taken[kind] * GOLDEN % 1))]


def _sizes(job: Job) -> list[int]:
    return [max(1, job.images // FEW), max(1, job.images // MORE)]


def _sample_s(job: Job, costs: Costs) -> float:
    """Seconds that measuring a job should take."""
    return costs.open_s(job.kind.platform) + job.times * sum(map(costs.of(job.kind).of, _sizes(job)))


def _sample(job: Job, machines: Machines, scratch: Path) -> Sample:
    """Run a job on a few of its images, and again on some more."""
    begun = time.perf_counter()
    if isinstance(job.what, Cell):
        c = job.what.configuration
        machines.get(REFERENCE)
        machines.get(c.machine, c.chip_seed)
    open_s = time.perf_counter() - begun
    seconds = {n: _run_s(job.what, n, machines, scratch) / job.times for n in _sizes(job)}
    begun = time.perf_counter()
    if isinstance(job.what, Cell):
        last = _first(job.what, _sizes(job)[-1], scratch)
        summarise(last.read(), [last])
    return Sample(job.kind, open_s, Price.through(seconds), time.perf_counter() - begun)


def _first(cell: Cell, images: int, scratch: Path) -> Cell:
    return Cell(cell.configuration, cell.images.take(torch.arange(images)), scratch, cell.official)


def _run_s(what: Cell | StoredTime, images: int, machines: Machines, scratch: Path) -> float:
    """Seconds that the first images take, those of cells that are needed first not counted."""
    if isinstance(what, StoredTime):
        begun = time.perf_counter()
        replace(what, images=what.images.take(torch.arange(images)), folder=scratch).measure()
        return time.perf_counter() - begun
    few, c = _first(what, images, scratch), what.configuration
    for needed in few.needs:
        if not needed.done():
            _run_s(needed, images, machines, scratch)
    begun = time.perf_counter()
    run_cell(few, machines.get(c.machine, c.chip_seed), machines.get(REFERENCE))
    return time.perf_counter() - begun
