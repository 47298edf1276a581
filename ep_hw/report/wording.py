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
    """`pgd_l2 at 0.5, made on reference` of transfer:reference:pgd_l2@0.5."""
    made_on = f", made on {threat.source}" if threat.source else ""
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
    """Clean gaps and what an adaptive attack takes beyond a transferred one, each machine that stands out by itself;
    what this sample cannot tell apart is said once, for all of them.
    """
    return [*_clean_gaps(points), *_hidden_accuracy(points)]


def _clean_gaps(points: Points) -> list[str]:
    """The gap of every machine to the reference on clean images."""
    own, others = points.get((REFERENCE, CLEAN)), [name for name in machines(points) if name != REFERENCE]
    met = [(point, change(own, point)) for name in others if own and (point := points.get((name, CLEAN)))]
    alike = [f"{point.machine} {apart_in_short(gap)}" for point, gap in met if is_open(gap)]
    sentences = [f"{point.machine} classifies {percent(point.accuracy.value)} of clean images"
                 f"{f' (mean of {len(point.chips)} chips)' if point.over_chips else ''}: {points_of(gap.value)} points "
                 f"{interval(gap)} against the reference, with {percent(point.agreement)} of predictions equal."
                 for point, gap in met if not is_open(gap)]
    if alike and own:
        sentences.append(f"On clean images, of which the reference gets {percent(own.accuracy.value)} right, this "
                         f"sample cannot tell it from {', '.join(alike)}.")
    return sentences


def apart_in_short(gap: Estimate) -> str:
    """`(+4.3 points [1.2, 7.4])`."""
    return f"({points_of(gap.value)} points {interval(gap)})"


def is_open(gap: Estimate) -> bool:
    """Whether a sample cannot tell a difference from none."""
    return gap.low <= 0 <= gap.high


def _unresolved(gap: Estimate) -> str:
    return ", a difference this sample cannot tell from none" if is_open(gap) else ""


def _hidden_accuracy(points: Points) -> list[str]:
    """What knowing the machine gains an attacker, of each machine and attack."""
    pairs = [pair for name in machines(points) if name != REFERENCE for pair in _attackers(points, name)]
    judged = [(*pair, change(pair[1], pair[0])) for pair in pairs]
    sentences = [_compare_attackers(*one) for one in judged if not is_open(one[2])]
    alike = [f"{adaptive.machine} under {threat_name(adaptive.threat)} {apart_in_short(taken)}"
             for _, adaptive, taken in judged if is_open(taken)]
    if alike:
        sentences.append("Whether knowing the machine gains an attacker anything over images made on another one, this "
                         f"sample cannot tell: {', '.join(alike)}.")
    return sentences


def _attackers(points: Points, machine: str) -> list[tuple[Point, Point]]:
    """(transfer, adaptive) of each attack, at the strength where its transfer leaves closest to half of the clean
    accuracy.
    """
    pairs, half = {}, clean_accuracy(points) / 2
    for (m, threat), transfer in sorted(points.items(), key=lambda item: -abs(item[1].accuracy.value - half)):
        adaptive = points.get((machine, replace(threat, source=None)))
        if m == machine and threat.source not in (None, machine) and adaptive is not None:
            pairs[threat.name] = (transfer, adaptive)
    return [pair for _, pair in sorted(pairs.items())]


def _compare_attackers(transfer: Point, adaptive: Point, taken: Estimate) -> str:
    opening = (f"{adaptive.threat.kind} at {adaptive.strength:.3g} leaves {adaptive.machine} "
               f"{percent(transfer.accuracy.value)} when made on {transfer.threat.source} and "
               f"{percent(adaptive.accuracy.value)} when made on {adaptive.machine} itself: ")
    if taken.value < 0:
        return opening + ("the attacker who knows the machine does worse, so its attack is not the strongest one and "
                          "the higher number is no evidence of robustness.")
    return opening + (f"{100 * taken.value:.1f} points {interval(taken)} that a transferred attack misses are not "
                      "robustness.")


def sample_size(points: Sequence[Point]) -> str:
    """What differences the sample can show at all."""
    n = min(point.n for point in points)
    least = f"{100 * smallest_detectable(n):.1f} points"
    return (f"{n} images: against the reference, a paired test shows a difference of {least} with 80 % power where all "
            "changed images change the same way, and only larger ones where some gain and others lose.")
