"""`ep-hw compare`: finished evaluations side by side."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ep_hw.cli.application import app
from ep_hw.cli.options import seeded
from ep_hw.cli.printing import print_table, say
from mapping.program import Table


@app.command(examples=("compare run-1 run-2", "compare run-1 run-2 --out compared.json"))
def compare(runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="folders of evaluations")],
            baseline: Annotated[str | None, typer.Option(help="folder of the evaluation that the mCE is relative "
                                                         "to")] = None,
            on: Annotated[str, typer.Option(help="machine of the baseline")] = "reference",
            seed: Annotated[int, seeded("of the bootstrap")] = 0,
            out: Annotated[Path | None, typer.Option(help="JSON file for the numbers, a page beside it "
                                                    "[default: they are only printed]")] = None):
    """Show finished runs side by side.

    Means over runs (of several seeds); two runs are also compared image by image, on those that both saw.
    """
    numbers, tables = _compared(runs, baseline, on, seed)
    for table in tables:
        print_table(table)
    if out is not None:
        _write(out, numbers, tables, runs)


def _compared(runs: list[str], baseline: str | None, on: str, seed: int) -> tuple[dict, list[Table]]:
    """The numbers, and their tables."""
    from ep_hw.analysis import comparison as compared

    finished = [compared.FinishedRun.of(folder) for folder in runs]
    against = [compared.FinishedRun.of(baseline)] if baseline is not None else []
    numbers: dict = {"networks": compared.networks_of([*finished, *against])}
    tables: list[Table] = []
    if len(finished) == 2:
        first, second = finished
        numbers["paired"] = compared.paired(first, second, seed)
        tables.append(compared.paired_table(numbers["paired"], first, second))
    if baseline is None or len(finished) > 1:
        numbers["over_runs"] = compared.over_runs(finished)
        tables.append(compared.over_runs_table(numbers["over_runs"], finished))
    for other in against:
        numbers["corruptions"] = compared.corruption_means(finished, other, on)
        tables.append(compared.corruption_table(numbers["corruptions"], other, on))
    last = tables.pop()
    return numbers, [*tables, replace(last, notes=(*last.notes, *compared.feedback_gains(numbers["networks"])))]


def _write(out: Path, numbers: dict, tables: list[Table], runs: list[str]) -> None:
    """The numbers and their page."""
    from ep_hw.evaluation.folders import command_line
    from ep_hw.report.compared import story_of
    from ep_hw.report.story import told
    from mapping.files import write_atomically

    write_atomically(out, json.dumps(numbers, indent=1).encode() + b"\n")
    page = out.with_suffix(".html")
    write_atomically(page, told(story_of(numbers, tables, runs, command_line())).encode())
    say(out)
    say(page)
