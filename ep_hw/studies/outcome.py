"""What a study leaves: report.html, study.csv and study.json, and its figures as PNG and SVG."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from ep_hw.analysis.points import Points, pool
from ep_hw.analysis.rows import plain, spelled
from ep_hw.analysis.series import ladders, strongest
from ep_hw.evaluation.cells import Cell
from ep_hw.evaluation.plan import Plan, evaluate
from ep_hw.evaluation.rungs import named, rungs_of
from ep_hw.evaluation.summary import outcomes_of
from ep_hw.report.exports import csv_of, write_figure
from ep_hw.report.figures.plots import styles, waterfall_figure
from ep_hw.report.story import write_story
from ep_hw.studies.axes import SweptAxis
from ep_hw.studies.execution import notes_of, rows_of
from ep_hw.studies.figures import curves_figure, heat_figure, interaction_figure
from ep_hw.studies.order import Interaction, interactions, reversed_rungs_of
from ep_hw.studies.story import story_of
from ep_hw.studies.study import Study, called
from ep_hw.threats.threat import Threat
from mapping.files import slug, write_atomically
from mapping.program import Table
from mapping.registry import parse
from simulators.heap import give_back

Caused = tuple[str, Threat, Interaction]
Named = tuple[str, Figure]   # a figure by the name of its file


def run_study(study: Study, plan: Plan, out: Path, command: str = "") -> list[dict]:
    """Compute what is missing of a study and write its page, tables and figures into `out`; the rows.

    Args:
        command: that asked for it, as the page says it.
    """
    rows, points, caused = _found(study, plan, out)
    give_back()
    content = {"study": study.model_dump(mode="json", by_alias=True), "notes": notes_of(study), "rows": plain(rows),
               "orders": [_order(*one) for one in caused]}
    write_atomically(out / "study.json", json.dumps(content, indent=1).encode() + b"\n")
    write_atomically(out / "study.csv", csv_of(plain(rows)))
    for name, figure in figures_of(study, rows, points, caused):
        write_figure(out, name, figure)
    write_story(out, story_of(study, rows, points, _by_case(caused), study_table(study, rows), command))
    return rows


def _found(study: Study, plan: Plan, out: Path) -> tuple[list[dict], Points, list[Caused]]:
    """Rows, points and causes. Cells and their summary, which may be many, are let go."""
    summary, cells = evaluate(plan, out)
    points = pool(summary)
    return rows_of(study, points, summary), points, interactions_of(study, points, cells)


def figures_of(study: Study, rows: Sequence[dict], points: Points, caused: Sequence[Caused]) -> Iterator[Named]:
    """Every figure, made when its turn comes; `caused` as `interactions_of` gives it."""
    if options := study.options():
        axes = [SweptAxis.of(option, rows) for option in options]
        yield "curves", curves_figure(rows, axes[0], options[1:])
        if len(options) > 1:
            yield "heat", heat_figure(rows, axes[0], axes[1])
    if study.waterfalls:
        yield from _waterfalls(study, points)
        yield from _interactions(caused)


def _waterfalls(study: Study, points: Points) -> Iterator[Named]:
    look = styles([called(machine) for machine in study.machines])
    for machine in study.machines:
        technology, target = called(machine), parse(machine)
        for order, rungs in (("", rungs_of(target)), ("-reversed", reversed_rungs_of(target))):
            for ladder in strongest(ladders(points, {technology: named(rungs)})) if len(rungs) > 1 else ():
                name = f"waterfall-{slug(technology)}-{slug(ladder.threat.name)}{order}"
                figure = waterfall_figure(ladder, look[technology])
                figure.suptitle(f"{technology}, {ladder.threat.label}", fontsize=10, weight="bold")
                yield name, figure


def _interactions(caused: Sequence[Caused]) -> Iterator[Named]:
    for (technology, threat), ones in _by_case(caused).items():
        yield (f"interaction-{slug(technology)}-{slug(threat.label)}",
               interaction_figure(f"{technology}, {threat.label}", ones))


def _by_case(caused: Sequence[Caused]) -> dict[tuple[str, Threat], list[Interaction]]:
    """The causes of each technology under each threat."""
    groups: dict[tuple[str, Threat], list[Interaction]] = {}
    for technology, threat, one in caused:
        groups.setdefault((technology, threat), []).append(one)
    return groups


def interactions_of(study: Study, points: Points, cells: Sequence[Cell]) -> list[Caused]:
    """(technology, threat, interaction) of every cause of every technology, under each threat."""
    if not study.waterfalls:
        return []
    outcomes = outcomes_of(cells)
    return [(called(machine), threat, one) for machine in study.machines
            for threat in dict.fromkeys(threat for _, threat in points)
            for one in interactions(parse(machine), points, outcomes, threat)]


def _order(technology: str, threat: Threat, one: Interaction) -> dict:
    """A cause as plain values: its change of accuracy in both orders, their difference, and all intervals."""
    row = {"technology": technology, **spelled(threat), "cause": one.cause}
    for kind in ("forward", "reverse", "interaction"):
        estimate = getattr(one, kind)
        row |= {kind: estimate.value, f"{kind}_low": estimate.low, f"{kind}_high": estimate.high}
    return row


def study_table(study: Study, rows: Sequence[dict]) -> Table:
    """A line a machine and threat."""
    options = study.options()
    lines = tuple((r["technology"], *(r[name] for name in options),
                   r["threat"].label, f"{r['accuracy']:.3f}",
                   f"{r['ci_low']:.3f} to {r['ci_high']:.3f}",
                   "" if r["chips_low"] is None else f"{r['chips_low']:.3f} to {r['chips_high']:.3f}",
                   f"{r['agreement']:.3f}") for r in rows)
    columns = ("technology", *options, "threat", "accuracy", "95 %", "chips, 95 %", "agreement")
    return Table(study.title, columns, lines, tuple(notes_of(study)))
