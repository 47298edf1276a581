"""Published accuracies beside measured ones: only where data set, attack and strength are the same."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isclose

import numpy as np

from ep_hw.analysis import paper
from ep_hw.analysis.points import Estimate, Point, Points
from ep_hw.analysis.series import machines
from ep_hw.threats.threat import CLEAN, Threat


@dataclass(frozen=True)
class PublishedRow:
    """One printed model, or one machine that was measured.

    Attributes:
        name: the paper's name of its model, or model and machine.
        printed: which of the two.
        n: images; None for printed rows, whose table does not say.
        cells: label -> accuracy; printed ones have no interval, and None was not run.
    """

    name: str
    printed: bool
    n: int | None
    cells: Mapping[str, Estimate | float | None]


@dataclass(frozen=True)
class PublishedTable:
    """One table of the paper for one data set.

    Attributes:
        name: of its files.
        title: above it.
        strengths: label -> what was run, None for clean images and means.
        rows: printed ones, then measured ones.
    """

    name: str
    title: str
    strengths: dict[str, float | None]
    rows: tuple[PublishedRow, ...]


def published(model: str, dataset: str, points: Points, ensemble: str | None) -> list[PublishedTable]:
    """The paper's tables that something measured belongs into; none for a data set that it does not use.

    Args:
        model: its name in the rows.
        dataset: that it was evaluated on.
        points: of the model on the data set.
        ensemble: which AutoAttack was run; the paper's own is "paper".
    """
    tables = [_table(name, attack, strengths, model, dataset, points)
              for (name, attack), strengths in paper.STRENGTHS.items() if same_threat(attack, ensemble)]
    shown = [table for table in tables if any(not row.printed for row in table.rows)]
    return [*_means(model, dataset, points, shown), *shown] if _is_printed(dataset) else []


def datasets() -> tuple[str, ...]:
    """Data sets of the paper's tables."""
    return tuple(dict.fromkeys(p.dataset for p in paper.printed()))


def _is_printed(dataset: str) -> bool:
    return dataset in datasets()


def same_threat(attack: str, ensemble: str | None) -> bool:
    """Whether an attack of that name is the paper's: AutoAttack with its members."""
    return attack != paper.AUTOATTACK or ensemble == "paper"


def printed_rows(table: str, dataset: str) -> list[PublishedRow]:
    """The rows of one of Tables 3 to 6, none of a data set that it does not have."""
    accuracies: dict[str, dict[str, Estimate | float | None]] = {}
    for p in paper.printed():
        if (p.table, p.dataset) == (table, dataset):
            accuracies.setdefault(p.model, {})[p.label] = p.accuracy
    return [PublishedRow(model, True, None, cells) for model, cells in accuracies.items()]


def _table(name: str, attack: str, strengths: dict[str, float], model: str, dataset: str,
           points: Points) -> PublishedTable:
    columns = {CLEAN.name: None, **strengths}
    rows = printed_rows(name, dataset)
    for machine in machines(points):
        attacked = {label: at(points, machine, Threat(attack, strength)) for label, strength in strengths.items()}
        if any(attacked.values()):
            cells = {CLEAN.name: points.get((machine, CLEAN)), **attacked}
            n = max(point.n for point in cells.values() if point)
            rows.append(PublishedRow(f"{model} on {machine}", False, n, {
                label: point.accuracy if point else None for label, point in cells.items()}))
    return PublishedTable(name, f"{name.capitalize()}: {attack}", columns, tuple(rows))


def at(points: Points, machine: str, threat: Threat) -> Point | None:
    """The point of a threat whose strength may be rounded."""
    return next((point for (m, met), point in points.items() if m == machine and same_rounded(met, threat)), None)


def same_rounded(one: Threat, other: Threat) -> bool:
    """Whether two threats are the same, but for a rounded strength."""
    return one.name == other.name and isclose(one.strength, other.strength, rel_tol=1e-3)


def _means(model: str, dataset: str, points: Points, shown: Sequence[PublishedTable]) -> list[PublishedTable]:
    """Table 1, as printed and as the mean of Tables 3 to 6; machines that ran all of these join it."""
    columns = ("printed", "mean of Tables 3 to 6")
    rows = [PublishedRow(name, True, None, dict(zip(columns, (mean, paper.recomputed_mean(dataset, name)))))
            for (data, name), mean in paper.mean_robustness().items() if data == dataset]
    for machine in machines(points):
        name = f"{model} on {machine}"
        own = [row for table in shown for row in table.rows if row.name == name]
        attacked = [cell.value for row in own for label, cell in row.cells.items()
                    if label != CLEAN.name and isinstance(cell, Estimate)]
        if len(attacked) == sum(map(len, paper.STRENGTHS.values())):
            mean = float(np.mean(attacked))
            n = min(row.n for row in own if row.n)
            rows.append(PublishedRow(name, False, n, dict(zip(columns, (None, mean)))))
    title = "Table 1: mean robustness"
    return [PublishedTable(paper.TABLE_1, title, dict.fromkeys(columns), tuple(rows))] if not rows[-1].printed else []
