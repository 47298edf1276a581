"""Numbers and findings in words: percent for accuracies, points for differences."""

from collections.abc import Sequence
from dataclasses import replace

from ep_hw.analysis.points import Estimate, Point, Points, change
from ep_hw.analysis.series import Ladder, clean_accuracy, machines
from ep_hw.analysis.statistics import smallest_detectable
from ep_hw.threats.threat import CLEAN, Threat
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


def apart(gap: Estimate) -> str:
    """`+4.3 points [1.2, 7.4]`, and whether the sample could tell it from none."""
    return f"{points_of(gap.value)} points {interval(gap)}{_unresolved(gap)}"


def threat_name(threat: Threat) -> str:
    """`pgd_l2 at 0.5, crafted on reference` of transfer:reference:pgd_l2@0.5."""
    made_on = f", crafted on {threat.source}" if threat.source else ""
    return threat.name if threat == CLEAN else f"{threat.kind} at {threat.strength:.3g}{made_on}"


def largest_loss(ladder: Ladder) -> str:
    """One sentence under a waterfall: the whole gap, and the cause that costs most of it."""
    first, last = ladder.steps[0], ladder.steps[-1]
    total = change(first.point, last.point)
    cause, worst = min(((step.cause, step.change) for step in ladder.steps if step.change), key=lambda c: c[1].value)
    whole = (f"From the {first.cause} ({percent(first.point.accuracy.value)}) to {last.machine} "
             f"({percent(last.point.accuracy.value)}) accuracy changes by {points_of(total.value)} points "
             f"{interval(total)}; ")
    if worst.value >= 0:
        return whole + "no single cause costs accuracy on these images."
    cost = Estimate(-worst.value, -worst.high, -worst.low)
    return whole + (f"the largest cause is {cause}, which costs {100 * cost.value:.1f} points {interval(cost)}"
                    f"{_unresolved(cost)}.")


def findings(points: Points) -> list[str]:
    """The answer, machine by machine: the clean gap, and what an adaptive attack takes beyond a transferred one."""
    sentences = []
    for machine in machines(points):
        if machine != REFERENCE:
            sentences += [*_clean_gap(points, machine), *_hidden_accuracy(points, machine)]
    return sentences


def _clean_gap(points: Points, machine: str) -> list[str]:
    before, after = (points.get((name, CLEAN)) for name in (REFERENCE, machine))
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
    """For each attack at the strength where its transfer leaves closest to half of the clean accuracy."""
    pairs, half = {}, clean_accuracy(points) / 2
    for (m, threat), transfer in sorted(points.items(), key=lambda item: -abs(item[1].accuracy.value - half)):
        adaptive = points.get((machine, replace(threat, source=None)))
        if m == machine and threat.source not in (None, machine) and adaptive is not None:
            pairs[threat.name] = (transfer, adaptive)
    return [_compare_attackers(*pair) for _, pair in sorted(pairs.items())]


def _compare_attackers(transfer: Point, adaptive: Point) -> str:
    taken = change(adaptive, transfer)
    opening = (f"{adaptive.threat.kind} at {adaptive.strength:.3g} leaves {adaptive.machine} "
               f"{percent(transfer.accuracy.value)} when crafted on {transfer.threat.source} and "
               f"{percent(adaptive.accuracy.value)} when crafted on {adaptive.machine} itself: ")
    if adaptive.n != transfer.n and taken.low <= 0 <= taken.high:
        return opening + f"{adaptive.n} and {transfer.n} images cannot tell these apart {interval(taken)}."
    if taken.value < 0:
        return opening + ("the attacker who knows the machine does worse, so its attack is not the strongest one and "
                          "the higher number is no evidence of robustness.")
    if taken.value == 0:
        return opening + f"knowing the machine gains an attacker nothing on these images {interval(taken)}."
    return opening + (f"{100 * taken.value:.1f} points {interval(taken)} that a transferred attack misses are not "
                      f"robustness{_unresolved(taken)}.")


def sample_size(points: Sequence[Point]) -> str:
    """What differences the sample can show at all."""
    n = min(point.n for point in points)
    least = f"{100 * smallest_detectable(n):.1f} points"
    return (f"{n} images: against the reference, a paired test shows a difference of {least} with 80 % power where all "
            "changed images change the same way, and only larger ones where some gain and others lose.")
