"""How a time budget is shared out over a family: fewer images for attacks that take long, the same for every model.

    n_k = s / sqrt(c_k),   sum over k of a_k + c_k n_k = B                                                      (23)

k an attack on a machine, a_k + c_k n seconds that it takes on n images over all models, chips and strengths, B what
clean and corrupted images leave of the budget: of all n_k that fit, these make the sum of the variances 1 / n_k least.
n_k is kept between `LEAST` and the number of clean images, on a machine also below the reference's. Where `LEAST` does
not fit, the dearest attack on a simulated machine is left out.

An attack is measured at one strength on a network of each kind, with two numbers of images; on machines only PGD and
square attacks are, and the others are taken to be dearer there than on the reference by as much as PGD.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

from ep_hw.analysis.statistics import smallest_detectable
from ep_hw.evaluation.budget import FEWEST, FOLDER, LEAST_QUERIES, TRIAL_QUERIES, kept_choice, question_of
from ep_hw.evaluation.cells import Cell
from ep_hw.evaluation.plan import Plan, cells_of, evaluate_all
from ep_hw.networks.family import EP, Member
from ep_hw.threats.threat import CLEAN, Threat
from mapping.files import sign, write_atomically
from mapping.targets import REFERENCE

LEAST = 8            # images that meet an attack
MEASURED, FEW = 16, 4   # images of the trial
CAUTION = 4          # an image more costs at least this part of an image's share of what `MEASURED` took
SHARE = 0.75         # of the budget for cells; the rest for probes, figures and the start of workers
HALVINGS = 50
YARDSTICK = "pgd_l2"
ImageLimits = dict[tuple[str, str], int]  # (machine, attack) -> images, see `Limits`
Parts = list[tuple[str, Plan]]            # kind of network, see ep_hw.networks.family, and its plan
Case = tuple[str, str, str]               # kind of network, machine, attack ("" for threats that are no attack)


class Price(NamedTuple):
    """Seconds: `fixed` whatever the number of images, and `each`."""

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


@dataclass(frozen=True)
class Allocation:
    """What a family's budget allows: see `Limits` for `image_limits` and `skipped`; seconds are the estimate."""

    question: str
    budget_s: float
    images: int
    queries: int
    image_limits: tuple[tuple[str, str, int], ...]
    skipped: tuple[tuple[str, str], ...]
    seconds: float

    def of(self, plan: Plan) -> Plan:
        """The plan within this allocation."""
        return replace(plan, limits=replace(
            plan.limits, image_limits={(machine, kind): n for machine, kind, n in self.image_limits},
            skipped=frozenset((machine, kind) for machine, kind in self.skipped)))

    def sentence(self, plan: Plan) -> str:
        """For users."""
        late = ", more than the budget: fewer would say nothing" if self.seconds > self.budget_s else ""
        attacked = min([n for machine, _, n in self.image_limits if machine == REFERENCE], default=self.images)
        shown, least = (100 * smallest_detectable(n) for n in (self.images, attacked))
        return " ".join([f"{self.images} images, {self.queries} queries: about {self.seconds / 60:.1f} min{late}.",
                         *self.of(plan).coverage_notes(),
                         f"The smallest difference they could show between two networks is {shown:.1f} points on clean "
                         f"and corrupted images, {least:.1f} under the dearest attack."])


def allocate(parts_of: Callable[[int, int], Parts], asked: int, available: int, budget_s: float,
             folder: Path) -> Allocation:
    """Measure a trial and share the budget out; a choice made before for the same question is kept.

    Args:
        parts_of: kinds and plans for a number of images and of queries, the EP network first. asked: queries.
        available: images in the data set. folder: of the evaluation.
    """
    kept = Path(folder) / FOLDER / "allocation.json"
    parts = parts_of(min(FEWEST, available), TRIAL_QUERIES)
    jobs = parts[0][1].run.jobs
    question = question_of([plan for _, plan in parts], budget_s, asked, available)
    if found := kept_choice(kept, question, Allocation):
        return found
    rates, spent = measure(parts, kept.parent)
    costs = family_costs(parts, rates)
    seconds = max(0.0, SHARE * budget_s * jobs - spent)
    images, queries, limits, skipped, used = share_out(costs, seconds, asked, available)
    chosen = Allocation(question, budget_s, images, queries, tuple((*case, n) for case, n in limits.items()), skipped,
                        (used / SHARE + spent) / jobs)
    write_atomically(kept, sign(asdict(chosen)))
    return chosen


def share_out(costs: dict[tuple[str, str], Price], seconds: float, asked: int,
              available: int) -> tuple[int, int, ImageLimits, tuple[tuple[str, str], ...], float]:
    """Images, queries, images of attacks that meet fewer, (machine, attack) pairs left out, and the seconds taken.

    Args:
        costs: (machine, attack) -> price with `TRIAL_QUERIES` queries; "" for what is no attack.
        seconds: to spend, of one worker. asked: queries. available: images in the data set.
    """
    shown = Price.sum(p for (_, kind), p in costs.items() if not kind)
    attacks, skipped = {case: p for case, p in costs.items() if case[1]}, []
    left = seconds - shown.of(min(available, FEWEST))
    while Price.sum(attacks.values()).of(LEAST) > left and (hardware := [c for c in attacks if c[0] != REFERENCE]):
        skipped.append(max(hardware, key=lambda case: attacks[case].of(LEAST)))
        del attacks[skipped[-1]]
    queries = _queries(attacks, left, asked)
    attacks = {case: p.times(queries / TRIAL_QUERIES if _is_square(case) else 1) for case, p in attacks.items()}
    together = Price.sum([shown, *attacks.values()])
    everyone = min(available, max(FEWEST, int((seconds - together.fixed) / together.each)))
    limits = _images(attacks, seconds - shown.of(everyone), everyone)
    used = shown.of(everyone) + sum(p.of(limits[case]) for case, p in attacks.items())
    return everyone, queries, {case: n for case, n in limits.items() if n < everyone}, tuple(sorted(skipped)), used


def _images(attacks: dict[tuple[str, str], Price], seconds: float, most: int) -> ImageLimits:
    """Equation (23) between `LEAST` and `most`, no machine more than the reference; s found by halving."""
    def at(scale: float) -> ImageLimits:
        wanted = {case: min(most, max(LEAST, int(scale / math.sqrt(p.each)))) for case, p in attacks.items()}
        return {(machine, kind): min(n, wanted[REFERENCE, kind]) for (machine, kind), n in wanted.items()}

    low, high = 0.0, (most + 1) * math.sqrt(max((p.each for p in attacks.values()), default=0.0))
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        fits = sum(attacks[case].of(n) for case, n in at(middle).items()) <= seconds
        low, high = (middle, high) if fits else (low, middle)
    return at(low)


def _queries(attacks: dict[tuple[str, str], Price], seconds: float, asked: int) -> int:
    """As many as let square attacks take no longer than the dearest other, and keep half the time for more images."""
    square, others = ([p.of(LEAST) for case, p in attacks.items() if _is_square(case) == wanted]
                      for wanted in (True, False))
    if not square:
        return asked
    most = min(max(others, default=math.inf) / max(square), (seconds / 2 - sum(others)) / sum(square))
    return int(min(asked, max(LEAST_QUERIES, TRIAL_QUERIES * most)))


def _is_square(case: tuple[str, str]) -> bool:
    return case[1].startswith("square")


def measure(parts: Parts, folder: Path) -> tuple[dict[Case, Price], float]:
    """The price of a cell of each case of a trial, and the seconds of the whole trial, both of one worker."""
    # the first of each kind: of EP networks the one with machines
    trial = [(kind, _trial(plan)) for kind, plan in dict(reversed(parts)).items()]
    trials = [(kind, plan, folder / plan.model) for kind, plan in trial]
    trials += [(kind, _fewer(plan), folder / f"{plan.model}-{FEW}") for kind, plan in trial]
    outcomes = evaluate_all([(plan, out) for _, plan, out in trials])
    found = defaultdict(lambda: defaultdict(list))
    for (kind, *_), (_, cells) in zip(trials, outcomes):
        for cell in cells:
            if not cell.configuration.threat.source:   # counted as other images that are shown, at their price
                found[_case(kind, cell)][len(cell.images)].append(cell.seconds())
    prices = {case: Price.through({n: sum(times) / len(times) for n, times in by_size.items()})
              for case, by_size in found.items()}
    return prices, sum(cell.seconds() for _, cells in outcomes for cell in cells)


def family_costs(parts: Parts, prices: dict[Case, Price]) -> dict[tuple[str, str], Price]:
    """(machine, attack) -> price of all networks, chips and strengths together."""
    counted = Counter(_case(kind, cell) for kind, plan in parts for cell in cells_of(plan, Path())
                      if cell.shown)
    costs = defaultdict(list)
    for (kind, machine, attack), cells in counted.items():
        price = prices.get((kind, machine, attack))
        if price is None:   # see above
            here, there = (prices[kind, where, YARDSTICK].of(MEASURED) for where in (machine, REFERENCE))
            price = prices[kind, REFERENCE, attack].times(here / there)
        costs[machine, attack].append(price.times(cells))
    return {case: Price.sum(found) for case, found in costs.items()}


def _trial(plan: Plan) -> Plan:
    """One strength of each attack, two corruptions, one chip; on machines only attacks that are measured there."""
    own = {t.kind: t for t in reversed([t for t in plan.asked.threats if t.is_attack and not t.source])}
    chosen = {CLEAN, *own.values(), *[t for t in plan.asked.threats if not t.is_attack][:2]}
    attacked = [(machine, kind) for machine in plan.asked.machines for kind in own]
    dear = frozenset(case for case in attacked
                     if case[0] != REFERENCE and case[1] != YARDSTICK and not _is_square(case))
    asked = replace(plan.asked, threats=tuple(t for t in plan.asked.threats if _unsourced(t) in chosen), chips=1,
                    extra_pairs=tuple((m, t) for m, t in plan.asked.extra_pairs if _unsourced(t) in chosen))
    return replace(plan, asked=asked, limits=replace(plan.limits, image_limits=dict.fromkeys(attacked, MEASURED),
                                                     skipped=dear))


def _fewer(trial: Plan) -> Plan:
    """The attacks of a trial on `FEW` images."""
    attacks = tuple(t for t in trial.asked.threats if t.is_attack and not t.source)
    return replace(trial, images=trial.images.take(slice(FEW)), limits=replace(trial.limits, image_limits={}),
                   asked=replace(trial.asked, threats=attacks, extra_pairs=()))


def _unsourced(threat: Threat) -> Threat:
    return replace(threat, source=None)


def _case(kind: str, cell: Cell) -> Case:
    c = cell.configuration
    return kind, c.machine, c.threat.kind if c.threat.is_attack and not c.threat.source else ""


def with_kinds(plan: Plan, others: Sequence[tuple[Member, Plan]]) -> Parts:
    """A family's plans with the kinds of their networks."""
    return [(EP, plan), *((member.kind, other) for member, other in others)]
