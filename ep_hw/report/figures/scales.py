"""Axes of the page's charts: where a value lies between 0 and 1, and which ticks are written."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log

from matplotlib.ticker import MaxNLocator

DECADE = 10.0   # budgets that span more than this factor lie on a logarithmic axis
NEAR = 0.07     # distance of ticks below which the next one is left out
WIDE = 0.16     # the same of axes that may be narrow
CLEAN_END = 0.1   # share of a logarithmic axis that leads from 0 to its smallest value


@dataclass(frozen=True)
class Scale:
    """An axis.

    Attributes:
        place: value -> where it lies, 0 to 1.
        ticks: (value, text), rising.
        near: distance below which the next tick is left out.
    """

    place: Callable[[float], float]
    ticks: tuple[tuple[float, str], ...]
    near: float = NEAR

    @property
    def spaced(self) -> list[tuple[float, str]]:
        """(place, text) of the ticks that leave room for each other."""
        shown: list[tuple[float, str]] = []
        for value, text in self.ticks:
            place = self.place(value)
            if not shown or place - shown[-1][0] >= self.near:
                shown.append((place, text))
        return shown


def linear(low: float, high: float, count: int = 5) -> Scale:
    """From low to high, with about so many round ticks."""
    span = (high - low) or 1.0
    round_ones = MaxNLocator(count, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    ticks = tuple((float(tick), f"{tick:.6g}") for tick in round_ones if low - 1e-9 <= tick <= high + 1e-9)
    return Scale(lambda value: (value - low) / span, ticks, WIDE)


PERCENT = linear(0, 100)


def fitting(values: Sequence[float], least: float = 4.0) -> Scale:
    """Percentages that were met, with room on both sides, within 0 to 100."""
    low, high = min(values), max(values)
    room = max(0.06 * (high - low), (least - (high - low)) / 2, 0.5)
    return linear(max(0.0, low - room), min(100.0, high + room))


def strengths(values: Sequence[float]) -> Scale:
    """Strengths, 0 at the left end; logarithmic above it where they span more than a decade."""
    met = sorted(set(values))
    positive = [value for value in met if value > 0]
    if len(positive) < 2 or positive[-1] <= DECADE * positive[0]:
        top = met[-1] or 1.0
        return Scale(lambda value: value / top, tuple((value, f"{value:.3g}") for value in met))
    first, last = log(positive[0]), log(positive[-1])

    def place(value: float) -> float:
        return CLEAN_END + (1 - CLEAN_END) * (log(value) - first) / (last - first) if value > 0 else 0.0

    return Scale(place, tuple((value, f"{value:.3g}") for value in met))


def ordered(texts: Sequence[str]) -> Scale:
    """Values without numbers, side by side at equal distances; a value is its number in the order."""
    last = max(len(texts) - 1, 1)
    return Scale(lambda value: value / last if len(texts) > 1 else 0.5, tuple(enumerate(texts)))
