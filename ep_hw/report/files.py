"""What a run leaves: report.html, figures/*.png and *.svg, tables/*.csv, cards/*.json, each whole or not at all."""

import json
from collections.abc import Iterator
from pathlib import Path

from ep_hw.analysis.points import Estimate
from ep_hw.analysis.rows import spelled
from ep_hw.report.exports import csv_of, write_figure
from ep_hw.report.model_results import ModelResults, results_of
from ep_hw.report.models import Models
from ep_hw.report.page import render
from ep_hw.report.published import PublishedTable
from ep_hw.report.record import RunRecord
from mapping.files import slugs, write_atomically
from mapping.program import Table


def write_report(folder: Path, run: RunRecord, models: Models | None = None):
    """Write the report of a run and the files that go with it; the same record gives the same bytes.

    Args:
        folder: where to write.
        run: the record.
        models: the model's family side by side, None where it was evaluated alone.

    Raises:
        Refusal: a file cannot be written.
    """
    shown = results_of(run)
    write_atomically(folder / "report.html", render(run, shown, models).encode())
    compared = models.exhibits if models else ()
    success = run.envelopes.exhibits if run.envelopes else ()
    exhibits = (*compared, *success, *run.measurements, *(exhibit for study in shown for exhibit in study.exhibits()))
    for file, exhibit in zip(slugs(exhibit.name for exhibit in exhibits), exhibits):
        write_figure(folder / "figures", file, exhibit.figure)
    named = (*tables(run, shown), *_model_tables(models))
    for file, (_, rows) in zip(slugs(name for name, _ in named), named):
        write_atomically(folder / "tables" / f"{file}.csv", csv_of(rows))
    for file, (_, card) in zip(slugs(name for name, _ in run.cards), run.cards):
        write_atomically(folder / "cards" / f"{file}.json", (json.dumps(card, indent=1) + "\n").encode())
    if models:
        write_atomically(folder / "comparison.json", (json.dumps(models.content(), indent=1) + "\n").encode())


def tables(run: RunRecord, shown: list[ModelResults]) -> Iterator[tuple[str, list[dict]]]:
    """(name, rows) of every table, fractions as they are; those without rows are left out."""
    for study in shown:
        named = [("accuracy", accuracy_rows(study)), ("worst", _worst_rows(study)),
                 ("corruption_means", _mean_rows(study)), *((t.name, _published_rows(t)) for t in study.published)]
        yield from ((f"{study.model}-{name}", rows) for name, rows in named if rows)
    yield from ((table.title, _plain(table)) for table in run.mapping if table.rows)
    if run.envelopes:
        yield from ((name, rows) for name, rows in run.envelopes.rows.items() if rows)


def _model_tables(models: Models | None) -> list[tuple[str, list[dict]]]:
    return [(table.name, _published_rows(table)) for table in models.tables] if models else []


def accuracy_rows(study: ModelResults) -> list[dict]:
    """A row a machine, threat and strength, chips pooled."""
    return [{"machine": p.machine, **spelled(p.threat), "images": p.n, "chips": len(p.chips),
             **_estimate(p.accuracy), "agreement": p.agreement, "to_wrong": p.to_wrong, "to_right": p.to_right,
             "p_value": None if row.own else p.p_value} for row in study.rows for p in row.points.values() if p]


def _worst_rows(study: ModelResults) -> list[dict]:
    return [{"machine": w.machine, "norm": w.norm, "budget": w.budget, "images": w.n, **_estimate(w.accuracy),
             "attacks": " ".join(w.names)} for w in study.worst]


def _mean_rows(study: ModelResults) -> list[dict]:
    if not study.corruptions:
        return []
    rows = [{"corruption": row.name, "severities": len(points), "machine": machine, "value": row.mean(machine)}
            for row in study.corruptions for machine, points in row.cells.items() if points]
    return rows + [{"corruption": name, "severities": None, "machine": machine, "value": value}
                   for machine, named in study.means.items() for name, value in named.items() if value is not None]


def _published_rows(table: PublishedTable) -> list[dict]:
    return [{"row": row.name, "printed": row.printed, "images": row.n, "label": label,
             "strength_run": table.strengths[label], **_estimate(cell)}
            for row in table.rows for label, cell in row.cells.items()]


def _estimate(cell: Estimate | float | None) -> dict:
    if isinstance(cell, Estimate):
        return {"accuracy": cell.value, "low": cell.low, "high": cell.high}
    return {"accuracy": cell, "low": None, "high": None}


def _plain(table: Table) -> list[dict]:
    return [dict(zip(table.columns, row)) for row in table.rows]
