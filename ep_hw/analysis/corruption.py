"""Accuracy by corruption: its mean over severities, plain means over 15 and 19 corruptions, and the mCE."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ep_hw.analysis.corruption_error import Accuracies, mce, mean_corruption_error
from ep_hw.analysis.points import Point, Points
from ep_hw.analysis.series import machines
from ep_hw.threats.corruptions import ALL, MAIN
from ep_hw.threats.threat import OFFICIAL
from mapping.errors import Refusal


@dataclass(frozen=True)
class CorruptionRow:
    """One corruption.

    Attributes:
        name: of its threats.
        cells: machine -> its points by rising severity, none where it was not run.
    """

    name: str
    cells: dict[str, tuple[Point, ...]]

    def mean(self, machine: str) -> float | None:
        """Mean accuracy over the severities that were run."""
        values = [point.accuracy.value for point in self.cells[machine]]
        return float(np.mean(values)) if values else None


def corruption_rows(points: Points) -> list[CorruptionRow]:
    """A row a corruption that was run: the nineteen as made here, then their published images, then all others."""
    met = [threat.name for _, threat in points if threat.is_corruption]
    names = dict.fromkeys((*ALL, *(OFFICIAL + name for name in ALL), *met))
    return [CorruptionRow(name, {machine: _ladder(points, machine, name) for machine in machines(points)})
            for name in names if name in met]


def _ladder(points: Points, machine: str, name: str) -> tuple[Point, ...]:
    """Points of one corruption by rising severity."""
    met = (point for (m, threat), point in points.items() if (m, threat.name) == (machine, name))
    return tuple(sorted(met, key=lambda p: p.strength))


def means(points: Points, machine: str, baseline: str) -> dict[str, float | None]:
    """Mean accuracies over 15 and 19 corruptions and the mCE, of published images apart; None where a set has gaps.

    Args:
        points: of one model on one data set.
        machine: one of its machines.
        baseline: the machine, or other model, that the mCE is relative to; its name says so.
    """
    accuracies = {case: point.accuracy.value for case, point in points.items()}
    origins = ["", OFFICIAL] if any(threat.is_official for _, threat in points) else [""]
    return {name: value for origin in origins for name, value in _means(accuracies, machine, baseline, origin).items()}


def _means(accuracies: Accuracies, machine: str, baseline: str, origin: str) -> dict[str, float | None]:
    main, every = ([origin + name for name in names] for names in (MAIN, ALL))
    return {f"{origin}mean of the 15": known(lambda: 1 - mean_corruption_error(accuracies, machine, main)),
            f"{origin}mean of all 19": known(lambda: 1 - mean_corruption_error(accuracies, machine, every)),
            f"{origin}mCE against {baseline}": known(lambda: mce(accuracies, machine, accuracies, baseline, main))}


def known(value: Callable[[], float]) -> float | None:
    """A mean over corruptions; None where its set has gaps, or its baseline no error."""
    try:
        return value()
    except Refusal:
        return None
