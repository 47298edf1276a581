"""How a time budget is shared out over a family: fewer images for attacks that take long, the same for every model.

    n_k = s / sqrt(e_k),   sum over k of f_k + e_k n_k = B                                                      (1)

k an attack on a machine, f_k + e_k n seconds that it takes on n images over all models, chips and strengths (by
`ep_hw.evaluation.forecast`), B what clean and corrupted images leave of the budget: of all n_k that fit, these make the
sum of the variances 1 / n_k least. n_k is kept between `LEAST` and the number of clean images, on a machine also below
the reference's. Where `LEAST` does not fit, the dearest attack on a simulated machine is skipped.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ep_hw.analysis.statistics import smallest_detectable
from ep_hw.evaluation.budget import FEWEST, FOLDER, LEAST_QUERIES, TRIAL_QUERIES, kept_choice, question_of, said
from ep_hw.evaluation.cells import Cell
from ep_hw.evaluation.forecast import MEASURING, Forecast, estimate
from ep_hw.evaluation.plan import Case, Plan
from ep_hw.evaluation.price import Price
from ep_hw.threats.threat import Threat
from mapping.files import sign, write_atomically
from mapping.targets import REFERENCE

LEAST = 8            # images that meet an attack
SHARE = 0.75         # of the budget for cells; the rest for probes, figures and the start of workers
HALVINGS = 50
ImageLimits = dict[Case, int]   # images that meet an attack on a machine, see `Limits`


@dataclass(frozen=True)
class Allocation:
    """What a family's budget allows.

    Attributes:
        question: what it answers, see `question_of`.
        budget_s: what was asked for.
        images: test images.
        queries: of a square attack, an image.
        image_limits: (machine, attack, images), see `Limits`.
        skipped: see `Limits`.
        seconds: the estimate.
        unmeasured: kinds of cells that the estimate prices by others.
    """

    question: str
    budget_s: float
    images: int
    queries: int
    image_limits: tuple[tuple[str, str, int], ...]
    skipped: tuple[Case, ...]
    seconds: float
    unmeasured: tuple[str, ...] = ()

    def of(self, plan: Plan) -> Plan:
        """The plan within this allocation."""
        return replace(plan, limits=replace(
            plan.limits, image_limits={(machine, kind): n for machine, kind, n in self.image_limits},
            skipped=frozenset((machine, kind) for machine, kind in self.skipped)))

    def sentence(self, plan: Plan) -> str:
        """For users."""
        attacked = min([n for machine, _, n in self.image_limits if machine == REFERENCE], default=self.images)
        shown, least = (100 * smallest_detectable(n) for n in (self.images, attacked))
        chips = ["Fewer --chips would leave time for more."] if self.skipped and plan.asked.chips > 1 else []
        return " ".join([f"{self.images} images, {self.queries} queries: "
                         f"{said(self.seconds, self.budget_s, self.unmeasured)}",
                         *self.of(plan).coverage_notes(), *chips,
                         f"The smallest difference they could show between two networks is {shown:.1f} points on clean "
                         f"and corrupted images, {least:.1f} under the dearest attack."])


def allocate(plans_of: Callable[[int, int], Sequence[Plan]], asked: int, available: int, budget_s: float,
             folder: Path) -> Allocation:
    """Measure a trial and share the budget out; a choice made before for the same question is kept.

    Args:
        plans_of: plans for a number of images and of queries, the EP network first.
        asked: queries.
        available: images in the data set.
        folder: of the evaluation.
    """
    kept = Path(folder) / FOLDER / "allocation.json"
    plans = plans_of(min(FEWEST, available), TRIAL_QUERIES)
    jobs = plans[0].run.workers
    question = question_of(plans, budget_s, asked, available)
    if allocation := kept_choice(kept, question, Allocation):
        return allocation
    known = estimate(plans, at_most_s=MEASURING * budget_s)
    seconds = SHARE * max(0.0, budget_s - known.spent_s) * jobs
    images, queries, limits, skipped, used = share_out(case_costs(known), seconds, asked, available)
    chosen = Allocation(question, budget_s, images, queries, tuple((*case, n) for case, n in limits.items()), skipped,
                        used / SHARE / jobs + known.spent_s, tuple(map(str, known.unmeasured())))
    write_atomically(kept, sign(asdict(chosen)))
    return chosen


def share_out(costs: dict[Case, Price], seconds: float, asked: int,
              available: int) -> tuple[int, int, ImageLimits, tuple[Case, ...], float]:
    """Images, queries, images of attacks that meet fewer, (machine, attack) pairs left out, and the seconds taken.

    Args:
        costs: (machine, attack) -> price with `TRIAL_QUERIES` queries; "" for what is no attack.
        seconds: to spend, of one worker.
        asked: queries.
        available: images in the data set.
    """
    shown = Price.sum(p for (_, kind), p in costs.items() if not kind)
    attacks, skipped = {case: p for case, p in costs.items() if case[1]}, []
    left = seconds - shown.of(min(available, FEWEST))
    while Price.sum(attacks.values()).of(LEAST) > left and (hardware := [c for c in attacks if c[0] != REFERENCE]):
        skipped.append(max(hardware, key=lambda case: attacks[case].of(LEAST)))
        del attacks[skipped[-1]]
    queries = _queries(attacks, left, asked)
    attacks = {case: p.times(queries / TRIAL_QUERIES if _is_black_box(case) else 1) for case, p in attacks.items()}
    together = Price.sum([shown, *attacks.values()])
    everyone = min(available, max(FEWEST, int((seconds - together.fixed) / together.each)))
    limits = _images(attacks, seconds - shown.of(everyone), everyone)
    used = shown.of(everyone) + sum(p.of(limits[case]) for case, p in attacks.items())
    return everyone, queries, {case: n for case, n in limits.items() if n < everyone}, tuple(sorted(skipped)), used


def _images(attacks: dict[Case, Price], seconds: float, most: int) -> ImageLimits:
    """Equation (1) between `LEAST` and `most`, no machine more than the reference; s found by halving."""
    def at(scale: float) -> ImageLimits:
        wanted = {case: min(most, max(LEAST, int(scale / math.sqrt(p.each)))) for case, p in attacks.items()}
        return {(machine, kind): min(n, wanted[REFERENCE, kind]) for (machine, kind), n in wanted.items()}

    low, high = 0.0, (most + 1) * math.sqrt(max((p.each for p in attacks.values()), default=0.0))
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        fits = sum(attacks[case].of(n) for case, n in at(middle).items()) <= seconds
        low, high = (middle, high) if fits else (low, middle)
    return at(low)


def _queries(attacks: dict[Case, Price], seconds: float, asked: int) -> int:
    """As many as let square attacks take no longer than the dearest other, and keep half the time for more images."""
    square, others = ([p.of(LEAST) for case, p in attacks.items() if _is_black_box(case) == wanted]
                      for wanted in (True, False))
    if not square:
        return asked
    most = min(max(others, default=math.inf) / max(square), (seconds / 2 - sum(others)) / sum(square))
    return int(min(asked, max(LEAST_QUERIES, TRIAL_QUERIES * most)))


def _is_black_box(case: tuple[str, str]) -> bool:
    return Threat(case[1]).is_black_box


def case_costs(known: Forecast) -> dict[Case, Price]:
    """(machine, attack) -> price of all networks, chips and strengths together."""
    costs: dict[Case, list[Price]] = defaultdict(list)
    for job in known.jobs:
        if isinstance(job.what, Cell):
            costs[_case(job.what)].append(known.price(job))
    return {case: Price.sum(prices) for case, prices in costs.items()}


def _case(cell: Cell) -> Case:
    """The machine and the attack that is made on it; "" for what only shows images."""
    c = cell.configuration
    return c.machine, c.threat.kind if c.threat.is_direct else ""
