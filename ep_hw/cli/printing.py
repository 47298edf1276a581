"""What commands print: tables, progress on stderr, and the names of the files they wrote."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, track
from rich.table import Table as RichTable

from mapping.program import Table


def print_table(table: Table):
    """A table on stdout, its notes below it."""
    rich = RichTable(*table.columns, title=escape(table.title), title_justify="left")
    for row in table.rows:
        rich.add_row(*(f"{v:.4g}" if isinstance(v, float) else escape(str(v)) for v in row))
    console = Console()
    console.print(rich, markup=False, highlight=False) if console.is_terminal else Console(width=160).print(rich)
    for note in table.notes:
        typer.echo(note)


def track_points(points, total: int, description: str):
    """The points, with a progress bar on stderr while they are made."""
    return track(points, description, total=total, console=Console(stderr=True), transient=True)


@contextmanager
def cell_progress(description: str) -> Iterator:
    """A progress bar on stderr, as the function that evaluations call after each cell."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(description)

        def show(cell, number: int, total: int):
            c = cell.configuration
            chip = "" if c.chip_seed is None else f" chip {c.chip_seed}"
            bar.update(task, completed=number, total=total, description=f"{c.machine}{chip}: {c.threat}")

        yield show


def save_measurement(out: Path, name: str, settings: dict, rows: list[dict], table: Table, figure):
    """Print a measurement and write its files into the folder `out`."""
    from ep_hw.measurements.files import write_measurement

    print_table(table)
    for path in write_measurement(out, name, settings, rows, figure):
        typer.echo(path)


def save_rows(out: Path | None, name: str, settings: dict, rows: list[dict]):
    """Write rows that have no figure as CSV and JSON, where a folder is named."""
    if out is not None:
        from ep_hw.measurements.files import write_rows

        for path in write_rows(out, name, settings, rows):
            typer.echo(path)
