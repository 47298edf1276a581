"""How many images a time budget allows: what they take is estimated from a few cells, see `ep_hw.evaluation.forecast`.

    seconds(n, q) = [c(n) + s(n) q / q_0 + p(min(n, m))] / jobs                                                (1)

c(n) seconds of all cells of n images without square attacks, s of square attacks with q_0 queries, p of the probes (on
at most m images): lines. Images n and queries q are the most that fit, n at least `FEWEST`.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from ep_hw.analysis.statistics import smallest_detectable
from ep_hw.evaluation.cells import Cell
from ep_hw.evaluation.forecast import MEASURING, Forecast, estimate
from ep_hw.evaluation.plan import Plan, cells_of
from ep_hw.evaluation.price import Job, Price, jobs_of
from ep_hw.evaluation.probes import probe_plan
from mapping.errors import Refusal
from mapping.fields import read_as
from mapping.files import parse_signed, read_bytes, refusing, sign, write_atomically

FEWEST = 64   # images
LEAST_QUERIES, TRIAL_QUERIES = 100, 100
FOLDER = "budget"   # in the folder of the evaluation


@dataclass(frozen=True)
class BudgetPrices:
    """What equation (1) is made of: c, s and p in seconds of one worker, and m.

    Attributes:
        others: c.
        square: s.
        probes: p.
        probed: m.
    """

    others: Price
    square: Price
    probes: Price
    probed: int

    def seconds(self, images: int, queries: int, jobs: int) -> float:
        """Equation (1)."""
        return (self._cells(queries).of(images) + self.probes.of(min(images, self.probed))) / jobs

    def most_images(self, budget_s: float, queries: int, jobs: int) -> int:
        """Images that fit, `FEWEST` or more, as if as many as can be were probed."""
        cells = self._cells(queries)
        left = budget_s * jobs - self.probes.of(self.probed) - cells.fixed
        return max(FEWEST, int(left / max(cells.each, 1e-9)))

    def most_queries(self, budget_s: float, asked: int, jobs: int) -> int:
        """Queries that fit with `FEWEST` images, no more than asked; `LEAST_QUERIES` where fewer do."""
        if not (square := self.square.of(FEWEST)):
            return asked
        left = budget_s * jobs - self.probes.of(min(FEWEST, self.probed)) - self.others.of(FEWEST)
        return int(min(asked, max(LEAST_QUERIES, left / square * TRIAL_QUERIES)))

    def _cells(self, queries: int) -> Price:
        return Price.sum([self.others, self.square.times(queries / TRIAL_QUERIES)])


@dataclass(frozen=True)
class Choice:
    """What a budget allows.

    Attributes:
        question: what it answers, see `question_of`.
        images: test images.
        queries: of a square attack, an image.
        seconds: the estimate.
        detectable: the smallest difference that a paired test would show.
        budget_s: what was asked for.
        unmeasured: kinds of cells that the estimate prices by others.
    """

    question: str
    images: int
    queries: int
    seconds: float
    detectable: float
    budget_s: float
    unmeasured: tuple[str, ...] = ()

    def sentence(self) -> str:
        """For users."""
        return (f"{self.images} images, {self.queries} queries: {said(self.seconds, self.budget_s, self.unmeasured)} "
                f"The smallest difference they could show is {100 * self.detectable:.1f} points.")


def said(seconds: float, budget_s: float, unmeasured: Sequence[str]) -> str:
    """What an estimate within a budget comes to, and what it does not stand on, in words."""
    late = ", more than the budget: fewer would say nothing" if seconds > budget_s else ""
    return f"about {seconds / 60:.1f} min{late}.{not_measured(unmeasured)}"


def not_measured(kinds: Sequence[object]) -> str:
    """A sentence about kinds of cells that stored rates and others price; nothing where there are none."""
    return f" Not measured, priced by stored rates and others: {', '.join(map(str, kinds))}." if kinds else ""


def choose(plans_of: Callable[[int, int], Sequence[Plan]], asked_queries: int, available: int, budget_s: float,
           folder: Path) -> Choice:
    """Measure a few cells and choose; a choice made before for the same question is kept, so that a run can go on.

    Args:
        plans_of: plans for a number of images and of queries, of all networks.
        asked_queries: the most queries.
        available: images in the data set.
        budget_s: seconds.
        folder: of the evaluation.
    """
    kept = Path(folder) / FOLDER / "choice.json"
    trials = plans_of(min(FEWEST, available), TRIAL_QUERIES)
    question = question_of(trials, budget_s, asked_queries, available)
    if choice := kept_choice(kept, question, Choice):
        return choice
    known = estimate([plan for trial in trials for plan in _with_probes(trial)], at_most_s=MEASURING * budget_s)
    rates, left_s, jobs = rates_of(known, trials), budget_s - known.spent_s, trials[0].run.workers
    queries = rates.most_queries(left_s, asked_queries, jobs)
    images = min(available, rates.most_images(left_s, queries, jobs))
    choice = Choice(question, images, queries, rates.seconds(images, queries, jobs) + known.spent_s,
                    smallest_detectable(images), budget_s, tuple(map(str, known.unmeasured())))
    write_atomically(kept, sign(asdict(choice)))
    return choice


def _with_probes(plan: Plan) -> list[Plan]:
    """A plan, and its probes where it has some."""
    checked = probe_plan(plan)
    return [plan, checked] if checked else [plan]


def rates_of(known: Forecast, trials: Sequence[Plan]) -> BudgetPrices:
    """Equation (1) from what was measured; machines are opened whatever the number of images."""
    parts = [_with_probes(trial) for trial in trials]
    cells, probes = ([(job, known.price(job)) for plans in parts for plan in plans[own] for job in jobs_of(plan)]
                     for own in (slice(1), slice(1, None)))
    square, others = ([price for job, price in cells if _is_black_box(job) == wanted] for wanted in (True, False))
    return BudgetPrices(others=Price.sum(others), square=Price.sum(square),
                        probes=Price.sum(price for _, price in probes),
                        probed=trials[0].limits.probed if probes else 0)


def _is_black_box(job: Job) -> bool:
    return isinstance(job.what, Cell) and job.what.configuration.threat.is_black_box


def question_of(trials: Sequence[Plan], *asked: float) -> str:
    """sha256 of everything that a choice depends on but the speed of the computer: trial cells, and what was asked."""
    cells = sorted(cell.stem for trial in trials for cell in cells_of(trial, Path()))
    return hashlib.sha256(json.dumps([cells, *asked]).encode()).hexdigest()


class Answer(Protocol):
    """What was chosen, and for which question."""

    @property
    def question(self) -> str:
        """See `question_of`."""


Chosen = TypeVar("Chosen", bound=Answer)


def kept_choice(path: Path, question: str, kind: type[Chosen]) -> Chosen | None:
    """What was chosen before for the same question; None where nothing was, or, as is said, where it is damaged."""
    if not path.exists():
        return None
    try:
        with refusing("a stored choice is damaged", where=path, allowed="a file as it was written",
                      remedy="nothing to do"):
            answer = read_as(kind, parse_signed(read_bytes(path)))
    except Refusal as damage:
        logging.getLogger(__name__).warning("%s: measured again", damage)
        return None
    return answer if answer.question == question else None
