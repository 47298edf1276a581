"""What swept options do to accuracy: where along an option it is best and worst, and where it turns.

    change = accuracy at the best value - accuracy at the worst value                                       (1)

Both values are picked after the fact, so that an interval of (1) holds for all pairs of k values at once: the half
widths of the 95 % interval are multiplied by z(1 - 0.025 / m) / z(1 - 0.025) for m = k (k - 1) / 2 pairs (Bonferroni).
Source: Dunn 1961.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import comb

from scipy import special

from ep_hw.analysis.points import Estimate, Point, Points, change
from ep_hw.analysis.statistics import LEVEL
from ep_hw.report import wording
from ep_hw.studies.axes import SweptAxis
from ep_hw.studies.study import Study
from ep_hw.threats.threat import Threat
from mapping.program import Table

Setting = tuple[tuple[str, str], ...]   # options with the texts of their values


@dataclass(frozen=True)
class Effect:
    """What an option does to one technology under one threat, all else alike.

    Attributes:
        option: that was swept.
        values: texts of its values, in order.
        is_number: whether their order means anything.
        technology: what it is called.
        threat: that all met.
        points: what was measured at each value.
    """

    option: str
    values: tuple[str, ...]
    is_number: bool
    technology: str
    threat: Threat
    points: tuple[Point, ...]

    @property
    def worst(self) -> int:
        """Number of the value at which accuracy is lowest, the first of equals."""
        return min(range(len(self.points)), key=lambda n: self.points[n].accuracy.value)

    @property
    def best(self) -> int:
        """Number of the value at which it is highest."""
        return max(range(len(self.points)), key=lambda n: self.points[n].accuracy.value)

    @property
    def change(self) -> Estimate:
        """Equation (1)."""
        return self.between(self.worst, self.best)

    @property
    def is_open(self) -> bool:
        """Whether the sample cannot tell it from none."""
        return wording.is_open(self.change)

    @property
    def turn(self) -> int | None:
        """Number of the value inside the range at which accuracy visibly stops rising and falls, or the reverse."""
        last = len(self.points) - 1
        inner = (n for n in (self.best, self.worst) if 0 < n < last) if self.is_number else ()
        return next((n for n in inner if not any(
            wording.is_open(self.between(end, n)) for end in (0, last))), None)

    def between(self, first: int, second: int) -> Estimate:
        """Accuracy at the second value less that at the first, for any pair that is picked."""
        return widened(change(self.points[first], self.points[second]), comb(len(self.points), 2))

    def said(self, n: int) -> str:
        """The accuracy at a value."""
        return f"{wording.percent(self.points[n].accuracy.value)} at {self.values[n]}"

    def __str__(self):
        return (f"{self.technology} under {wording.threat_name(self.threat)}, along {self.option.replace('_', ' ')}: "
                f"worst {self.said(self.worst)}, best {self.said(self.best)} ({wording.points_of(self.change.value)} "
                f"points {wording.interval(self.change)}){self._turning}")

    @property
    def _turning(self) -> str:
        if (n := self.turn) is None:
            return ""
        ends = " and ".join(f"{wording.points_of(gap.value)} {wording.interval(gap)} from {self.values[end]}"
                            for end in (0, len(self.points) - 1) for gap in [self.between(end, n)])
        return f"; it turns at {self.values[n]}, {ends}"


def widened(estimate: Estimate, pairs: int) -> Estimate:
    """A difference with an interval that holds for so many picked pairs at once, see the module."""
    tail = (1 - LEVEL) / 2
    factor = float(special.ndtri(tail / pairs) / special.ndtri(tail))
    low, high = (estimate.value + factor * (end - estimate.value) for end in (estimate.low, estimate.high))
    return Estimate(estimate.value, max(-1.0, low), min(1.0, high))


def effects(study: Study, rows: Sequence[dict], points: Points) -> list[Effect]:
    """Of every option, technology and threat, at the first setting of the other options that has several values."""
    return [effect for option in study.options()
            for effect in _effects(study, SweptAxis.of(option, rows), rows, points)]


def _effects(study: Study, axis: SweptAxis, rows: Sequence[dict], points: Points) -> Iterator[Effect]:
    others = [name for name in study.options() if name != axis.option]
    groups: dict[tuple[str, Threat], dict[Setting, list[dict]]] = {}
    for row in rows:
        own = groups.setdefault((row["technology"], row["threat"]), {})
        own.setdefault(setting_of(row, others), []).append(row)
    for (technology, threat), settings in groups.items():
        swept = next((sorted(own, key=axis.place) for own in settings.values() if len(own) > 1), None)
        if swept is not None:
            yield Effect(axis.option, tuple(str(row[axis.option]) for row in swept), axis.is_number, technology, threat,
                         tuple(points[row["machine"], threat] for row in swept))


def setting_of(row: dict, options: Sequence[str]) -> Setting:
    """The values that options have in a row."""
    return tuple((name, row[name]) for name in options)


def answer(found: Sequence[Effect]) -> str:
    """Where the swept options matter most, and in how many comparisons this sample can tell no difference."""
    if not found:
        return "Nothing was swept: the machines stand side by side."
    clear = by_size([effect for effect in found if not effect.is_open])
    if not clear:
        widest = max(max(abs(effect.change.low), abs(effect.change.high)) for effect in found)
        return (f"No option makes a difference this sample can tell, in any of {len(found)} comparisons of its worst "
                f"with its best value: all are within {100 * widest:.0f} points.")
    rest = len(found) - len(clear)
    alike = f" In {rest} of {len(found)} comparisons there is no difference this sample can tell." if rest else ""
    return f"Accuracy depends most on {clear[0]}.{alike}"


def by_size(found: Sequence[Effect]) -> list[Effect]:
    """The largest change first."""
    return sorted(found, key=lambda effect: -effect.change.value)


def effects_table(found: Sequence[Effect]) -> Table:
    """A line an effect, those that this sample can tell first."""
    lines = tuple((one.option, one.technology, wording.threat_name(one.threat), one.said(one.worst), one.said(one.best),
                   wording.points_of(one.change.value), wording.interval(one.change),
                   "" if one.turn is None else one.values[one.turn]) for one in sorted(
                       by_size(found), key=lambda one: one.is_open))
    note = ("Points: best less worst; the 95 % interval holds for all pairs of values at once, since best and worst "
            "are picked after the fact. It turns where accuracy is visibly above, or below, that at both ends.")
    columns = ("option", "technology", "threat", "worst", "best", "points", "95 %", "turns at")
    return Table("What the options do", columns, lines, (note,))
