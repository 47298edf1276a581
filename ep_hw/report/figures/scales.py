"""Axes of the page's charts: where a value lies between 0 and 1, and which ticks are written."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, floor, log, log10

from matplotlib.ticker import MaxNLocator

DECADE = 10.0   # budgets that span more than this factor lie on a logarithmic axis
NEAR = 0.07     # distance of ticks below which the next one is left out
WIDE = 0.16     # the same of axes that may be narrow
CLEAN_END = 0.1   # share of a logarithmic axis that leads from 0 to its smallest value
POINT = 0.01      # of accuracies, which are written in percent
FEW = 2.5         # decades below which a logarithmic axis has ticks between its powers of ten


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


def linear(low: float, high: float, unit: float = 1.0, count: int = 5) -> Scale:
    """From low to high, with about so many round ticks, which are written in a unit."""
    span, (first, last) = (high - low) or 1.0, (low / unit, high / unit)
    round_ones = MaxNLocator(count, steps=[1, 2, 2.5, 5, 10]).tick_values(first, last)
    ticks = tuple((float(tick) * unit, f"{tick:.6g}".replace("-", "\u2212")) for tick in round_ones
                  if first - 1e-9 <= tick <= last + 1e-9)
    return Scale(lambda value: (value - low) / span, ticks, WIDE)


PERCENT = linear(0, 1, POINT)


def fitting(values: Sequence[float], within: tuple[float, float] = (0.0, 1.0), unit: float = POINT) -> Scale:
    """What was met, with room on both sides: at least four units, and half of one on either side."""
    low, high = min(values), max(values)
    room = max(0.06 * (high - low), 2 * unit - (high - low) / 2, unit / 2)
    return linear(max(within[0], low - room), min(within[1], high + room), unit)


def decades(values: Sequence[float], unit: float = 1.0) -> Scale:
    """Positive numbers on a logarithmic axis that fits them; ticks are powers of ten, those of a few decades 1, 2, 5.
    """
    low, high = (log10(end / unit) for end in (min(values), max(values)))
    room = max(0.04 * (high - low), 0.05)
    low, high = low - room, high + room
    steps = (1, 2, 5) if high - low < FEW else (1,)
    met = [step * 10.0**power for power in range(floor(low), ceil(high) + 1) for step in steps]
    ticks = tuple((tick * unit, f"{tick:g}") for tick in met if low <= log10(tick) <= high)
    return Scale(lambda value: (log10(value / unit) - low) / (high - low), ticks)


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
