"""What commands print: lines, tables, progress on stderr, and the names of the files they wrote.

Everything that a command shows passes here: names show as they are, whatever they mean to rich or to a terminal.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import typer
from rich.console import Console
from rich.table import Column
from rich.table import Table as RichTable
from rich.text import Text

from ep_hw.progress import progress
from mapping.errors import printable
from mapping.program import Table

if TYPE_CHECKING:   # load torch and matplotlib
    from matplotlib.figure import Figure


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


def track_points(points: Iterable[Point], total: int, description: str) -> Iterator[Point]:
    """The points; while they are made, how far that has come."""
    with progress(description) as show:
        for number, point in enumerate(points, 1):
            show(description, number, total)
            yield point


def save_measurement(out: Path, name: str, settings: dict, rows: list[dict], table: Table, figure: "Figure") -> None:
    """Print a measurement and write its files into the folder `out`."""
    from ep_hw.report.exports import write_measurement

    print_table(table)
    for path in write_measurement(out, name, settings, rows, figure):
        say(path)
