"""How a time budget is shared out over a family: fewer images for attacks that take long, the same for every model.

    n_k = s / sqrt(c_k),   sum over k of c_k n_k = B                                                            (23)

c_k seconds an image that attack k takes over all models, machines, chips and strengths, B what clean and corrupted
images leave of the budget: of all n_k that fit, these make the sum of the variances 1 / n_k least. n_k is kept between
`LEAST` and the number of clean images. Where `LEAST` does not fit, the dearest attack on a simulated machine is left
out.

An attack is measured at one strength on a network of each kind; on machines only PGD is, and the others are taken to be
dearer there than on the reference by as much as PGD.
"""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ep_hw.budget import FEWEST, FOLDER, LEAST_QUERIES, TRIAL_QUERIES
from ep_hw.cells import Cell
from ep_hw.checkpoint import write_atomically
from ep_hw.evaluation import Plan, cells_of, evaluate_all
from ep_hw.execution import REFERENCE
from ep_hw.family import EP, Member
from ep_hw.reporting import thrift
from ep_hw.threats import CLEAN, Threat

LEAST = 16           # images that meet an attack, in the trial too
SHARE = 0.75         # of the budget for cells; the rest for probes, figures and the start of workers
HALVINGS = 50
YARDSTICK = "pgd_l2"
Parts = list[tuple[str, Plan]]            # kind of network, see ep_hw.family, and its plan
Case = tuple[str, str, str]               # kind of network, machine, attack ("" for threats that are no attack)


@dataclass(frozen=True)
class Allotment:
    """What a family's budget allows: see `Plan` for `fewer` and `left_out`; seconds are the estimate."""

    budget_s: float
    images: int
    queries: int
    fewer: dict[str, int]
    left_out: tuple[tuple[str, str], ...]
    seconds: float

    def of(self, plan: Plan) -> Plan:
        """The plan within this allotment."""
        return replace(plan, fewer=self.fewer, left_out=frozenset(map(tuple, self.left_out)),
                       probed=min(plan.probed, *self.fewer.values()) if self.fewer else plan.probed)

    def sentence(self, plan: Plan) -> str:
        """For users."""
        late = ", more than the budget: fewer would say nothing" if self.seconds > self.budget_s else ""
        return " ".join([f"{self.images} images, {self.queries} queries: about {self.seconds / 60:.1f} min{late}.",
                         *thrift(self.of(plan))])


def allot(parts_of: Callable[[int, int], Parts], asked: int, available: int, budget_s: float, folder: Path, progress,
          jobs: int) -> Allotment:
    """Measure a trial and share the budget out; a choice made before for the same budget is kept.

    Args:
        parts_of: kinds and plans for a number of images and of queries, the EP network first. asked: queries.
        available: images in the data set. folder: of the evaluation. progress, jobs: see `evaluate`.
    """
    kept = Path(folder) / FOLDER / "allotment.json"
    if kept.is_file():
        found = json.loads(kept.read_text())
        if found["budget_s"] == budget_s:
            return Allotment(**found)
    parts = parts_of(min(FEWEST, available), TRIAL_QUERIES)
    rates, spent = measure(parts, kept.parent, progress, jobs)
    costs = family_costs(parts, rates)
    seconds = max(0.0, SHARE * budget_s * jobs - spent)
    images, queries, fewer, left_out, used = share_out(costs, seconds, asked, available)
    chosen = Allotment(budget_s, images, queries, fewer, left_out, (used / SHARE + spent) / jobs)
    write_atomically(kept, json.dumps(asdict(chosen)).encode())
    return chosen


def share_out(costs: dict[tuple[str, str], float], seconds: float, asked: int,
              available: int) -> tuple[int, int, dict[str, int], tuple[tuple[str, str], ...], float]:
    """Images, queries, images of attacks that meet fewer, (machine, attack) pairs left out, and the seconds taken.

    Args:
        costs: (machine, attack) -> seconds an image with `TRIAL_QUERIES` queries; "" for what is no attack.
        seconds: to spend, of one worker. asked: queries. available: images in the data set.
    """
    queries = _queries(costs, asked)
    costs = {case: c * (queries / TRIAL_QUERIES if case[1].startswith("square") else 1) for case, c in costs.items()}
    everyone = min(available, max(FEWEST, int(seconds / sum(costs.values()))))
    shared = everyone * sum(c for (_, kind), c in costs.items() if not kind)
    left_out = []
    while LEAST * sum(_by_attack(costs).values()) > seconds - shared and (hardware := _on_hardware(costs)):
        left_out.append(max(hardware, key=hardware.get))
        del costs[left_out[-1]]
    attacks = _by_attack(costs)
    fewer = {kind: n for kind, n in _images(attacks, seconds - shared, everyone).items() if n < everyone}
    used = shared + sum(c * fewer.get(kind, everyone) for kind, c in attacks.items())
    return everyone, queries, fewer, tuple(sorted(left_out)), used


def _images(attacks: dict[str, float], seconds: float, most: int) -> dict[str, int]:
    """Equation (23) between `LEAST` and `most`, s found by halving."""
    def at(scale: float) -> dict[str, int]:
        return {kind: min(most, max(LEAST, int(scale / math.sqrt(c)))) for kind, c in attacks.items()}

    low, high = 0.0, (most + 1) * math.sqrt(max(attacks.values(), default=0.0))
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        fits = sum(attacks[kind] * n for kind, n in at(middle).items()) <= seconds
        low, high = (middle, high) if fits else (low, middle)
    return at(low)


def _queries(costs: dict[tuple[str, str], float], asked: int) -> int:
    """As many as let square attacks take no longer than the dearest other attack."""
    attacks = _by_attack(costs)
    square = max((c for kind, c in attacks.items() if kind.startswith("square")), default=0.0)
    others = max((c for kind, c in attacks.items() if not kind.startswith("square")), default=0.0)
    return min(asked, max(LEAST_QUERIES, int(TRIAL_QUERIES * others / square))) if square else asked


def _by_attack(costs: dict[tuple[str, str], float]) -> dict[str, float]:
    found = defaultdict(float)
    for (_, kind), c in costs.items():
        if kind:
            found[kind] += c
    return dict(found)


def _on_hardware(costs: dict[tuple[str, str], float]) -> dict[tuple[str, str], float]:
    return {case: c for case, c in costs.items() if case[0] != REFERENCE and case[1]}


def measure(parts: Parts, folder: Path, progress, jobs: int) -> tuple[dict[Case, float], float]:
    """Seconds an image of each case of a trial, and the seconds of the whole trial, both of one worker."""
    # the first of each kind: of EP networks the one with machines
    trial = [(kind, _trial(plan)) for kind, plan in dict(reversed(parts)).items()]
    outcomes = evaluate_all([(plan, folder / plan.model) for _, plan in trial], progress, jobs)
    seconds = defaultdict(list)
    for (kind, _), (_, cells) in zip(trial, outcomes):
        for cell in cells:
            if not cell.configuration.threat.source:   # counted as other images that are shown, at their price
                seconds[_case(kind, cell)].append(cell.seconds() / len(cell.images))
    rates = {case: sum(found) / len(found) for case, found in seconds.items()}
    return rates, sum(cell.seconds() for _, cells in outcomes for cell in cells)


def family_costs(parts: Parts, rates: dict[Case, float]) -> dict[tuple[str, str], float]:
    """(machine, attack) -> seconds an image, of all networks, chips and strengths together."""
    counted = Counter(_case(kind, cell) for kind, plan in parts for cell in cells_of(plan, Path()))
    costs = defaultdict(float)
    for case, cells in counted.items():
        kind, machine, attack = case
        if case not in rates:   # see above
            dearer = rates[kind, machine, YARDSTICK] / rates[kind, REFERENCE, YARDSTICK]
            rates = rates | {case: rates[kind, REFERENCE, attack] * dearer}
        costs[machine, attack] += cells * rates[case]
    return dict(costs)


def _trial(plan: Plan) -> Plan:
    """One strength of each attack on `LEAST` images, two corruptions, one chip; on machines the yardstick alone."""
    own = {t.kind: t for t in reversed([t for t in plan.threats if t.is_attack and not t.source])}
    chosen = {CLEAN, *own.values(), *[t for t in plan.threats if not t.is_attack][:2]}
    dear = frozenset((m, kind) for m in plan.machines if m != REFERENCE for kind in own if kind != YARDSTICK)
    extra = tuple((m, t) for m, t in plan.extra if _unsourced(t) in chosen)
    return replace(plan, threats=tuple(t for t in plan.threats if _unsourced(t) in chosen), extra=extra, chips=1,
                   fewer=dict.fromkeys(own, LEAST), left_out=dear)


def _unsourced(threat: Threat) -> Threat:
    return replace(threat, source=None)


def _case(kind: str, cell: Cell) -> Case:
    c = cell.configuration
    return kind, c.machine, c.threat.kind if c.threat.is_attack and not c.threat.source else ""


def with_kinds(plan: Plan, others: Sequence[tuple[Member, Plan]]) -> Parts:
    """A family's plans with the kinds of their networks."""
    return [(EP, plan), *((member.kind, other) for member, other in others)]
