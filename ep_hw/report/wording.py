"""Numbers and findings in words: percent for accuracies, points for differences."""

from collections.abc import Sequence

from ep_hw.analysis.points import Estimate, Point, Points, change, family, source
from ep_hw.analysis.series import Ladder, clean_accuracy, machines
from ep_hw.analysis.statistics import smallest_detectable
from mapping.targets import REFERENCE


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def short_percent(value: float) -> str:
    """A percentage without its sign, for tables that say so once."""
    return f"{100 * value:.1f}"


def points_of(value: float) -> str:
    """A difference in percentage points with its sign; what rounds to zero has none."""
    text = f"{100 * value:+.1f}".replace("-", "\u2212")
    return "0.0" if text[1:] == "0.0" else text


def interval(estimate: Estimate) -> str:
    return f"[{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]".replace("-", "\u2212")


def threat_name(threat: str, strength: float) -> str:
    """`pgd_l2 at 0.5, crafted on reference` of ("transfer:reference:pgd_l2", 0.5)."""
    made_on = f", crafted on {source(threat)}" if source(threat) else ""
    return "clean" if threat == "clean" else f"{family(threat)} at {strength:.3g}{made_on}"


def largest_loss(ladder: Ladder) -> str:
    """One sentence under a waterfall: the whole gap, and the cause that costs most of it."""
    first, last = ladder.steps[0], ladder.steps[-1]
    total = change(first.point, last.point)
    worst = min(ladder.steps[1:], key=lambda step: step.change.value)
    whole = (f"From the {first.cause} ({percent(first.point.accuracy.value)}) to {last.machine} "
             f"({percent(last.point.accuracy.value)}) accuracy changes by {points_of(total.value)} points "
             f"{interval(total)}; ")
    if worst.change.value >= 0:
        return whole + "no single cause costs accuracy on these images."
    cost = Estimate(-worst.change.value, -worst.change.high, -worst.change.low)
    return whole + (f"the largest cause is {worst.cause}, which costs {100 * cost.value:.1f} points {interval(cost)}"
                    f"{_unresolved(cost)}.")


def findings(points: Points) -> list[str]:
    """The answer, machine by machine: the clean gap, and what an aware attacker takes beyond an unaware one."""
    sentences = []
    for machine in machines(points):
        if machine != REFERENCE:
            sentences += [*_clean_gap(points, machine), *_hidden_accuracy(points, machine)]
    return sentences


def _clean_gap(points: Points, machine: str) -> list[str]:
    before, after = (points.get((name, "clean", 0.0)) for name in (REFERENCE, machine))
    if before is None or after is None:
        return []
    gap = change(before, after)
    chips = f" (mean of {len(after.chips)} chips)" if after.over_chips else ""
    return [f"{machine} classifies {percent(after.accuracy.value)} of clean images{chips}: {points_of(gap.value)} "
            f"points {interval(gap)} against the reference{_unresolved(gap)}, with {percent(after.agreement)} of "
            "predictions equal."]


def _unresolved(gap: Estimate) -> str:
    return ", a difference this sample cannot tell from none" if gap.low <= 0 <= gap.high else ""


def _hidden_accuracy(points: Points, machine: str) -> list[str]:
    """For each attack at the strength where the unaware attacker leaves closest to half of the clean accuracy."""
    pairs, half = {}, clean_accuracy(points) / 2
    for (m, threat, strength), unaware in sorted(points.items(), key=lambda item: -abs(item[1].accuracy.value - half)):
        aware = points.get((machine, family(threat), strength))
        if m == machine and source(threat) not in (None, machine) and aware is not None:
            pairs[threat] = (unaware, aware)
    return [_compare_attackers(*pair) for _, pair in sorted(pairs.items())]


def _compare_attackers(unaware: Point, aware: Point) -> str:
    taken = change(aware, unaware)
    opening = (f"{family(aware.threat)} at {aware.strength:.3g} leaves {aware.machine} "
               f"{percent(unaware.accuracy.value)} when crafted on {source(unaware.threat)} and "
               f"{percent(aware.accuracy.value)} when crafted on {aware.machine} itself: ")
    if aware.n != unaware.n and taken.low <= 0 <= taken.high:
        return opening + f"{aware.n} and {unaware.n} images cannot tell these apart {interval(taken)}."
    if taken.value < 0:
        return opening + ("the attacker who knows the machine does worse, so its attack is not the strongest one and "
                          "the higher number is no evidence of robustness.")
    if taken.value == 0:
        return opening + f"knowing the machine gains an attacker nothing on these images {interval(taken)}."
    return opening + (f"{100 * taken.value:.1f} points {interval(taken)} that an unaware attacker misses are not "
                      f"robustness{_unresolved(taken)}.")


def sample_size(points: Sequence[Point]) -> str:
    """What differences the sample can show at all."""
    n = min(point.n for point in points)
    least = f"{100 * smallest_detectable(n):.1f} points"
    return (f"{n} images: against the reference, a paired test shows a difference of {least} with 80 % power where all "
            "changed images change the same way, and only larger ones where some gain and others lose.")
