"""How many images a time budget allows: a few are evaluated first, and what their cells took is scaled up.

    seconds(n, q) = [n (c + s q / q_0) + min(n, m) p] / (n_0 jobs)                                             (22)

c seconds that the cells of n_0 trial images took without square attacks, s of square attacks with q_0 queries, p of the
probes (on at most m images). Images n and queries q are the most that fit, n at least `FEWEST`.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeVar

from ep_hw.analysis.statistics import smallest_detectable
from ep_hw.evaluation.cells import Cell
from ep_hw.evaluation.plan import Plan, cells_of, evaluate
from ep_hw.evaluation.probes import FOLDER as PROBES
from ep_hw.evaluation.probes import probe_plan
from mapping.errors import Refusal
from mapping.fields import read_as
from mapping.files import parse_signed, read_bytes, refusing, sign, write_atomically

FEWEST, TRIAL = 64, 8          # images
LEAST_QUERIES, TRIAL_QUERIES = 100, 100
FOLDER = "budget"   # in the folder of the evaluation


@dataclass(frozen=True)
class Rates:
    """What equation (22) is made of, in seconds of one worker for `TRIAL` images: c, s and p; m is `probed`."""

    others: float
    square: float
    probes: float
    probed: int

    def seconds(self, images: int, queries: int, jobs: int) -> float:
        """Equation (22)."""
        return (images * self._each(queries) + min(images, self.probed) * self.probes) / (TRIAL * jobs)

    def most_images(self, budget_s: float, queries: int, jobs: int) -> int:
        """Images that fit, `FEWEST` or more, as if as many as can be were probed."""
        return max(FEWEST, int((budget_s * TRIAL * jobs - self.probed * self.probes) / max(self._each(queries), 1e-9)))

    def most_queries(self, budget_s: float, asked: int, jobs: int) -> int:
        """Queries that fit with `FEWEST` images, no more than asked; `LEAST_QUERIES` where fewer do."""
        if not self.square:
            return asked
        left = (budget_s * TRIAL * jobs - min(FEWEST, self.probed) * self.probes) / FEWEST - self.others
        return int(min(asked, max(LEAST_QUERIES, left / self.square * TRIAL_QUERIES)))

    def _each(self, queries: int) -> float:
        return self.others + self.square * queries / TRIAL_QUERIES


@dataclass(frozen=True)
class Choice:
    """What a budget allows: seconds are the estimate, `detectable` the smallest difference a paired test would show.

    `question` is what it answers, see `question_of`.
    """

    question: str
    images: int
    queries: int
    seconds: float
    detectable: float
    budget_s: float

    def sentence(self) -> str:
        """For users."""
        late = ", more than the budget: fewer would say nothing" if self.seconds > self.budget_s else ""
        return (f"{self.images} images, {self.queries} queries: about {self.seconds / 60:.1f} min{late}. The smallest "
                f"difference they could show is {100 * self.detectable:.1f} points.")


def choose(plan_of: Callable[[int, int], Plan], asked_queries: int, available: int, budget_s: float,
           folder: Path) -> Choice:
    """Measure a trial and choose; a choice made before for the same question is kept, so that a run can be continued.

    Args:
        plan_of: the plan for a number of images and of queries. available: images in the data set.
        folder: of the evaluation.
    """
    kept = Path(folder) / FOLDER / "choice.json"
    trial = plan_of(TRIAL, TRIAL_QUERIES)
    jobs = trial.run.jobs
    question = question_of([trial], budget_s, asked_queries, available)
    if found := kept_choice(kept, question, Choice):
        return found
    rates = measure(trial, kept.parent)
    queries = rates.most_queries(budget_s, asked_queries, jobs)
    images = min(available, rates.most_images(budget_s, queries, jobs))
    choice = Choice(question, images, queries, rates.seconds(images, queries, jobs), smallest_detectable(images),
                    budget_s)
    write_atomically(kept, sign(asdict(choice)))
    return choice


def question_of(trials: Sequence[Plan], *asked: float) -> str:
    """sha256 of everything that a choice depends on but the speed of the computer: trial cells, and what was asked."""
    cells = sorted(cell.stem for trial in trials for cell in cells_of(trial, Path()))
    return hashlib.sha256(json.dumps([cells, *asked]).encode()).hexdigest()


Chosen = TypeVar("Chosen")


def kept_choice(path: Path, question: str, kind: type[Chosen]) -> Chosen | None:
    """What was chosen before for the same question; None where nothing was, or, as is said, where it is damaged."""
    if not path.exists():
        return None
    try:
        with refusing("a stored choice is damaged", where=path, allowed="a file as it was written",
                      remedy="nothing to do"):
            found = read_as(kind, parse_signed(read_bytes(path)))
    except Refusal as damage:
        logging.getLogger(__name__).warning("%s: measured again", damage)
        return None
    return found if found.question == question else None


def measure(trial: Plan, folder: Path) -> Rates:
    """Evaluate and probe a trial of `TRIAL` images, and sum what its cells took."""
    _, cells = evaluate(trial, folder)
    checked = probe_plan(replace(trial, limits=replace(trial.limits, probed=min(TRIAL, trial.limits.probed))))
    probes = evaluate(checked, folder / PROBES)[1] if checked else []
    square = [cell for cell in cells if cell.configuration.threat.kind.startswith("square")]
    return Rates(_total(cells) - _total(square), _total(square), _total(probes), trial.limits.probed if checked else 0)


def _total(cells: Sequence[Cell]) -> float:
    return sum(cell.seconds() for cell in cells)
