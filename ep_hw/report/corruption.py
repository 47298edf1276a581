"""Accuracy by corruption: its mean over severities, plain means over 15 and 19 corruptions, and the mCE.

    CE_c = sum over severities of (1 - accuracy)      mCE = mean over the 15 of CE_c / CE_c(baseline)      (1)

The means need every corruption of their set at all five severities. Source: Hendrycks and Dietterich 2019 (1).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ep_hw.corruptions import CORRUPTIONS, MAIN
from ep_hw.report.points import REFERENCE, Point, Points
from ep_hw.report.series import machines

SEVERITIES = (1, 2, 3, 4, 5)
ALL = tuple(CORRUPTIONS)


@dataclass(frozen=True)
class CorruptionRow:
    """One corruption. cells: machine -> its points by rising severity, none where it was not run."""

    name: str
    cells: dict[str, tuple[Point, ...]]

    def mean(self, machine: str) -> float | None:
        """Mean accuracy over the severities that were run."""
        values = [point.accuracy.value for point in self.cells[machine]]
        return float(np.mean(values)) if values else None


def corruption_rows(points: Points) -> list[CorruptionRow]:
    """A row a corruption that was run, in the order of the published sets."""
    met = {threat for _, threat, _ in points}
    return [CorruptionRow(name, {machine: tuple(sorted(
        (p for (m, threat, _), p in points.items() if (m, threat) == (machine, name)), key=lambda p: p.strength))
        for machine in machines(points)}) for name in ALL if name in met]


def means(rows: Sequence[CorruptionRow], machine: str) -> dict[str, float | None]:
    """Plain means over 15 and 19 corruptions and the mCE of equation (1); None where the set is not complete.

    The baseline is the digital reference of the same network, which the name says.
    """
    return {"mean of the 15": _mean(rows, machine, MAIN), "mean of all 19": _mean(rows, machine, ALL),
            f"mCE against {REFERENCE}": _mce(rows, machine)}


def _complete(rows: Sequence[CorruptionRow], machine: str, names: Sequence[str]) -> list[CorruptionRow] | None:
    by_name = {row.name: row for row in rows if tuple(p.strength for p in row.cells.get(machine, ())) == SEVERITIES}
    return [by_name[name] for name in names] if set(names) <= set(by_name) else None


def _mean(rows, machine: str, names) -> float | None:
    found = _complete(rows, machine, names)
    return float(np.mean([row.mean(machine) for row in found])) if found else None


def _mce(rows, machine: str) -> float | None:
    ours, baseline = (_complete(rows, name, MAIN) for name in (machine, REFERENCE))
    if not (ours and baseline) or any(row.mean(REFERENCE) == 1 for row in baseline):
        return None
    return float(np.mean([(1 - row.mean(machine)) / (1 - row.mean(REFERENCE)) for row in ours]))
