"""Measured accuracies beside those that the paper printed: only where data set, attack and strength are the same."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isclose

import numpy as np

from ep_hw.analysis import paper
from ep_hw.analysis.points import Estimate, Point, Points
from ep_hw.analysis.series import CLEAN, machines


@dataclass(frozen=True)
class BesideRow:
    """One printed model, or one machine that was measured.

    Attributes:
        name: the paper's name of its model, or model and machine. printed: which of the two.
        n: images; None for printed rows, whose table does not say.
        cells: label -> accuracy; printed ones have no interval, and None was not run.
    """

    name: str
    printed: bool
    n: int | None
    cells: dict[str, Estimate | float | None]


@dataclass(frozen=True)
class BesideTable:
    """One table of the paper for one data set. strengths: label -> what was run, None for clean images and means."""

    name: str
    title: str
    strengths: dict[str, float | None]
    rows: tuple[BesideRow, ...]


def beside(model: str, dataset: str, points: Points, ensemble: str | None) -> list[BesideTable]:
    """The paper's tables that something measured can be laid beside; none for a data set that it does not use.

    Args:
        points: of one model on one data set. ensemble: which AutoAttack was run; the paper's own is "paper".
    """
    tables = [_table(name, attack, strengths, model, dataset, points)
              for (name, attack), strengths in paper.STRENGTHS.items() if same_threat(attack, ensemble)]
    shown = [table for table in tables if any(not row.printed for row in table.rows)]
    return [*_means(model, dataset, points, shown), *shown] if _is_printed(dataset) else []


def meets_labels(points: Points) -> bool:
    """Whether anything was run at a strength of the paper's tables."""
    return any(at(points, machine, attack, strength) for machine in machines(points)
               for (_, attack), strengths in paper.STRENGTHS.items() for strength in strengths.values())


def datasets() -> tuple[str, ...]:
    """Data sets of the paper's tables."""
    return tuple(dict.fromkeys(p.dataset for p in paper.printed()))


def _is_printed(dataset: str) -> bool:
    return dataset in datasets()


def same_threat(attack: str, ensemble: str | None) -> bool:
    """Whether an attack of that name is the paper's: AutoAttack with its members."""
    return not attack.startswith("autoattack") or ensemble == "paper"


def printed_rows(table: str, dataset: str) -> list[BesideRow]:
    """The rows of one of Tables 3 to 6, none of a data set that it does not have."""
    found = {}
    for p in paper.printed():
        if (p.table, p.dataset) == (table, dataset):
            found.setdefault(p.model, {})[p.label] = p.accuracy
    return [BesideRow(model, True, None, cells) for model, cells in found.items()]


def _table(name: str, attack: str, strengths: dict[str, float], model: str, dataset: str,
           points: Points) -> BesideTable:
    columns = {CLEAN[0]: None, **strengths}
    rows = printed_rows(name, dataset)
    for machine in machines(points):
        attacked = {label: at(points, machine, attack, strength) for label, strength in strengths.items()}
        if any(attacked.values()):
            cells = {CLEAN[0]: points.get((machine, *CLEAN)), **attacked}
            n = max(point.n for point in cells.values() if point)
            rows.append(BesideRow(f"{model} on {machine}", False, n, {
                label: point and point.accuracy for label, point in cells.items()}))
    return BesideTable(name, f"{name.capitalize()}: {attack}", columns, tuple(rows))


def at(points: Points, machine: str, attack: str, strength: float) -> Point | None:
    """The point of a strength that may be rounded."""
    return next((point for (m, threat, s), point in points.items()
                 if (m, threat) == (machine, attack) and isclose(s, strength, rel_tol=1e-3)), None)


def _means(model: str, dataset: str, points: Points, shown: Sequence[BesideTable]) -> list[BesideTable]:
    """Table 1, as printed and as the mean of Tables 3 to 6; machines that ran all of these join it."""
    columns = ("printed", "mean of Tables 3 to 6")
    rows = [BesideRow(name, True, None, dict(zip(columns, (mean, paper.recomputed_mean(dataset, name)))))
            for (data, name), mean in paper.mean_robustness().items() if data == dataset]
    for machine in machines(points):
        name = f"{model} on {machine}"
        cells = [cell for table in shown for row in table.rows if row.name == name
                 for label, cell in row.cells.items() if label != CLEAN[0]]
        if len(cells) == sum(map(len, paper.STRENGTHS.values())) and all(cells):
            mean = float(np.mean([cell.value for cell in cells]))
            n = min(row.n for table in shown for row in table.rows if row.name == name)
            rows.append(BesideRow(name, False, n, dict(zip(columns, (None, mean)))))
    title = "Table 1: mean robustness"
    return [BesideTable(paper.TABLE_1, title, dict.fromkeys(columns), tuple(rows))] if not rows[-1].printed else []
