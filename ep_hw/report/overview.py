"""The first screen of an evaluation: the answer in a sentence, one picture, and the sentence for a paper.

Everything is said of one attack at one strength, that which tells most: where the reference keeps closest to half of
its clean accuracy. The rule looks at no other machine. Without attacks it is said of clean images or of the corruption
that costs the reference most.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from ep_hw.analysis.points import Estimate, Point, Points, change
from ep_hw.analysis.series import clean_accuracy, machines, threats
from ep_hw.report import wording
from ep_hw.report.entry import Entry
from ep_hw.report.figures.charts import Look, Row, Value, legend_of, rows_chart
from ep_hw.threats.threat import CLEAN, Threat
from mapping.targets import REFERENCE

FEW = 3   # machines or numbers that a sentence names one by one
ALIKE = "; no different, as far as this sample shows:"
Shown = Callable[[Point], Value]   # how a number is drawn
Opens = Callable[[Entry, Threat], str | None]   # id of the gallery behind a number


@dataclass(frozen=True)
class Gap:
    """What a machine keeps under the telling threat, against the reference.

    Attributes:
        point: of the machine.
        change: from the reference.
    """

    point: Point
    change: Estimate

    @property
    def is_open(self) -> bool:
        """Whether the sample cannot tell it from none."""
        return self.change.low <= 0 <= self.change.high

    def __str__(self):
        return (f"{wording.percent(self.point.accuracy.value)} on {self.point.machine} "
                f"({wording.points_of(self.change.value)} points {wording.interval(self.change)})")


def telling_threat(points: Points) -> Threat:
    """The threat that the first screen is about: of those that the most machines met, the one that tells most."""
    met = [threat for threat in threats(points) if (REFERENCE, threat) in points and threat != CLEAN]
    half = clean_accuracy(points) / 2
    white, direct = ([t for t in met if t.is_white_box], [t for t in met if t.is_direct])
    if attacks := _widest(white or direct, points):
        return min(attacks, key=lambda t: (abs(points[REFERENCE, t].accuracy.value - half), -t.strength))
    return min(_widest(met, points), key=lambda t: points[REFERENCE, t].accuracy.value, default=CLEAN)


def _widest(met: Sequence[Threat], points: Points) -> list[Threat]:
    """Those that no other was met by more machines than."""
    counted = Counter(threat for _, threat in points)
    most = max((counted[threat] for threat in met), default=0)
    return [threat for threat in met if counted[threat] == most]


def gaps(points: Points, threat: Threat) -> list[Gap]:
    """Of every machine that met the threat beside the reference."""
    own = points.get((REFERENCE, threat))
    return [Gap(point, change(own, point)) for name in machines(points) if own and name != REFERENCE
            and (point := points.get((name, threat)))]


def answer(model: str, points: Points) -> str:
    """What the hardware leaves of the accuracy under the telling threat."""
    threat = telling_threat(points)
    own, found = points.get((REFERENCE, threat)), gaps(points, threat)
    if own is None:
        return f"{model} was not run on the reference, so nothing here is compared with it."
    keeps = (f"{_under(threat)} {model} keeps {wording.percent(own.accuracy.value)} "
             f"{wording.interval(own.accuracy)} of {own.n} images on the reference")
    if not found:
        return f"{keeps}."
    apart, alike = ([gap for gap in found if gap.is_open is is_open] for is_open in (False, True))
    return f"{keeps}{_apart(apart)}{_alike(alike)}."


def _under(threat: Threat) -> str:
    return "On clean images" if threat == CLEAN else f"Under {wording.threat_name(threat)},"


def _apart(found: Sequence[Gap]) -> str:
    """The gaps that the sample shows, from the largest loss."""
    ranked = sorted(found, key=lambda gap: gap.change.value)
    if not ranked:
        return ""
    shown = ranked if len(ranked) <= FEW else [ranked[0], ranked[-1]]
    rest = f", and {len(ranked) - len(shown)} more between these" if len(ranked) > len(shown) else ""
    return f", but {', '.join(map(str, shown))}{rest}"


def _alike(found: Sequence[Gap]) -> str:
    """The gaps that it cannot tell from none, in one clause for all."""
    if not found:
        return ""
    low, high = min(gap.change.low for gap in found), max(gap.change.high for gap in found)
    named = ", ".join(map(str, found)) if len(found) <= FEW else (
        f"as much on {len(found)} machines, whose gaps lie within {wording.interval(Estimate(0, low, high))} points")
    return f"{ALIKE} {named}"


def quote(model: str, dataset: str, points: Points, settings: Mapping[str, object], version: str) -> str:
    """The answer with its interval and its conditions, as a paper would say it."""
    threat = telling_threat(points)
    own, found = points.get((REFERENCE, threat)), gaps(points, threat)
    if own is None or not found:
        return ""
    each = "; ".join(f"{_with_interval(gap.point)} on simulated {gap.point.machine}{_chips(gap.point)}, a change of "
                     f"{wording.points_of(gap.change.value)} points (95 % CI {_ends(gap.change, wording.points_of)})"
                     for gap in found)
    made = f" made on each machine itself{_effort(threat, settings)}" if threat.is_direct else ""
    what = "on clean images" if threat == CLEAN else f"under {wording.threat_name(threat)}{made}"
    return (f"On {own.n} test images of {dataset} the accuracy of {model} {what} is {_with_interval(own)} on the "
            f"digital reference and {each} (ep-hw {version}).")


def _effort(threat: Threat, settings: Mapping[str, object]) -> str:
    """How hard a white box tried, where that is known."""
    gradients = settings.get("gradients")
    if not threat.is_white_box or not isinstance(gradients, (list, tuple)):
        return ""
    return f" (the worst case over {', '.join(map(str, gradients))}, {settings['iterations']} iterations)"


def _with_interval(point: Point) -> str:
    return f"{wording.percent(point.accuracy.value)} (95 % CI {_ends(point.accuracy, wording.short_percent)})"


def _ends(estimate: Estimate, spell: Callable[[float], str]) -> str:
    return f"{spell(estimate.low)} to {spell(estimate.high)}"


def _chips(point: Point) -> str:
    return f" (mean of {len(point.chips)} chips)" if point.over_chips else ""


def attacked(points: Points, machine: str, threat: Threat) -> Point | None:
    """A machine under a threat; where it met none made on itself, under images made on another machine."""
    own = points.get((machine, threat))
    return own or next((point for (name, met), point in points.items()
                        if name == machine and replace(met, source=None) == threat), None)


def machines_picture(model: str, points: Points, looks: Mapping[str, Look], shown: Shown) -> Markup:
    """Clean and attacked accuracy of every machine, with intervals."""
    threat = telling_threat(points)
    rows = [Row(name, [replace(shown(p), hollow=p.threat == CLEAN) for p in met], looks[name],
                " \u2192 ".join(wording.short_percent(p.accuracy.value) for p in met), _made_on(met[-1]))
            for name in machines(points) if (met := _clean_and(points, name, threat))]
    return rows_chart(rows, answer(model, points), legend=_legend(threat))


def _clean_and(points: Points, machine: str, threat: Threat) -> list[Point]:
    met = [points.get((machine, CLEAN)), attacked(points, machine, threat) if threat != CLEAN else None]
    return [point for point in met if point]


def _made_on(point: Point) -> str:
    return f"attacked by images made on {point.threat.source}" if point.threat.source else ""


def models_picture(entries: Sequence[Entry], first: str, threat: Threat, looks: Mapping[str, Look],
                   opens: Opens) -> Markup:
    """Clean and attacked accuracy of models x machines, model by model.

    Args:
        entries: what is compared.
        first: the kind of network that the question is about.
        threat: that attacked them.
        looks: of machines.
        opens: id of the gallery behind a number.
    """
    kinds = sorted(dict.fromkeys(entry.kind for entry in entries), key=lambda kind: kind != first)
    rows = [row for kind in kinds
            for row in _rows_of([one for one in entries if one.kind == kind], threat, looks, opens)]
    said = "; ".join(f"{row.name} {row.note}: {row.written}" for row in rows)
    return rows_chart(rows, f"Clean accuracy, and accuracy under {wording.threat_name(threat)}, in percent. {said}.",
                      legend=_legend(threat))


def _rows_of(entries: Sequence[Entry], threat: Threat, looks: Mapping[str, Look], opens: Opens) -> list[Row]:
    """A row a machine of one kind of network, which the first one names."""
    rows = []
    for n, entry in enumerate(entries):
        met = [(own, mean) for own in dict.fromkeys([CLEAN, threat]) if (mean := entry.mean([own]))]
        values = [Value(mean, f"{entry.name}, {wording.threat_name(own)}: {wording.percent(mean.value)} "
                        f"{wording.interval(mean)}", hollow=own == CLEAN, images=opens(entry, own))
                  for own, mean in met]
        rows.append(Row(entry.kind if n == 0 else "", values, looks[entry.machine],
                        " \u2192 ".join(wording.short_percent(mean.value) for _, mean in met), f"on {entry.machine}",
                        begins=n == 0))
    return rows


def _legend(threat: Threat) -> Markup:
    clean = ("clean", Look(0, 0), True)
    return legend_of([clean] if threat == CLEAN else [clean, (wording.threat_name(threat), Look(0, 0), False)])
