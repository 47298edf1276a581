"""What commands print: lines, tables, progress on stderr, and the names of the files they wrote.

Everything that a command shows passes here: names show as they are, whatever they mean to rich or to a terminal.
"""

import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import typer
from rich.console import Console

from ep_hw.cli.tables import fitted, wrapped
from ep_hw.evaluation.progress import progress
from mapping.errors import printable
from mapping.program import Table

if TYPE_CHECKING:   # load torch and matplotlib
    from matplotlib.figure import Figure

    from ep_hw.report.frame import Drawn
    from ep_hw.report.story import Told


Point = TypeVar("Point")
PAGE = 160   # columns of a file or of another program


def say(text: object, err: bool = False):
    """A line on stdout, or on stderr."""
    typer.echo(printable(str(text)), err=err)


def print_table(table: Table):
    """A table on stdout, its notes below it; what is no terminal has `PAGE` columns."""
    console = Console()
    width = console.width if console.is_terminal else PAGE
    for part in fitted(table, width):
        Console(width=width).print(part, highlight=False, no_wrap=True, overflow="ignore", crop=False)
    for note in table.notes:
        for line in wrapped(note, width).split("\n") if console.is_terminal else (note,):
            say(line)


def track_points(points: Iterable[Point], total: int, description: str) -> Iterator[Point]:
    """The points; while they are made, how far that has come."""
    with progress(description) as show:
        for number, point in enumerate(points, 1):
            show(description, number, total)
            yield point


@contextmanager
def remarks_last() -> Iterator[None]:
    """What is logged within is said at the end; a refusal comes without it."""
    kept = MemoryHandler(sys.maxsize, flushLevel=sys.maxsize, target=logging.lastResort, flushOnClose=False)
    logging.getLogger().addHandler(kept)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(kept)
    kept.flush()


def save_measurement(out: Path, name: str, settings: dict, rows: list[dict], table: Table, figure: "Figure",
                     told: "Told", pictures: "Sequence[Drawn]") -> None:
    """Print a measurement and write its files and its page into the folder `out`."""
    from ep_hw.evaluation.folders import command_line
    from ep_hw.report.story import write_told

    print_table(table)
    for path in write_told(out, name, settings, rows, table, figure, told, command_line(), pictures):
        say(path)
