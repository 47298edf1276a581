"""What commands print: lines, tables, progress on stderr, and the names of the files they wrote.

Everything that a command shows passes here: names show as they are, whatever they mean to rich or to a terminal.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, track
from rich.table import Column
from rich.table import Table as RichTable
from rich.text import Text

from mapping.errors import printable
from mapping.program import Table

if TYPE_CHECKING:   # load torch and matplotlib
    from matplotlib.figure import Figure

    from ep_hw.evaluation.execution import Progress as CellProgress

Point = TypeVar("Point")


def say(text: object, err: bool = False):
    """A line on stdout, or on stderr."""
    typer.echo(printable(str(text)), err=err)


def _shown(value: object) -> Text:
    """A value in a table."""
    return Text(f"{value:.4g}" if isinstance(value, float) else printable(str(value)))


def print_table(table: Table):
    """A table on stdout, its notes below it."""
    columns = (Column(_shown(name), overflow="fold") for name in table.columns)   # what is too wide is not cut
    rich = RichTable(*columns, title=_shown(table.title), title_justify="left")
    for row in table.rows:
        rich.add_row(*map(_shown, row))
    console = Console()
    console.print(rich, highlight=False) if console.is_terminal else Console(width=160).print(rich)
    for note in table.notes:
        say(note)


def track_points(points: Iterable[Point], total: int, description: str) -> Iterable[Point]:
    """The points, with a progress bar on stderr while they are made."""
    return track(points, description, total=total, console=Console(stderr=True), transient=True)


@contextmanager
def cell_progress(description: str) -> Iterator["CellProgress"]:
    """A progress bar on stderr, as the function that evaluations call whenever something is done; a failure wipes it
    out.
    """
    columns = TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    bar = Progress(*columns, console=Console(stderr=True))
    task = bar.add_task(description)

    def show(what: object, number: int, total: int) -> None:
        bar.update(task, completed=number, total=total, description=printable(str(what)))

    bar.start()
    try:
        yield show
    except BaseException:
        bar.live.transient = True   # what failed says so in one line
        bar.live.stop()
        raise
    bar.stop()


def save_measurement(out: Path, name: str, settings: dict, rows: list[dict], table: Table, figure: "Figure") -> None:
    """Print a measurement and write its files into the folder `out`."""
    from ep_hw.report.exports import write_measurement

    print_table(table)
    for path in write_measurement(out, name, settings, rows, figure):
        say(path)
