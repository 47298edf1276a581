"""Tables in as many columns as a terminal has: no word of theirs is broken, and nothing is left out.

A table that is too wide gets narrower columns, then a part for each value of its first column, and last a line for each
of its values. A machine's name may go on in a new line between two of its options.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter

from rich.box import HEAVY_HEAD, Box
from rich.cells import cell_len
from rich.table import Column
from rich.table import Table as RichTable
from rich.text import Text

from mapping.errors import printable
from mapping.program import Table

_BREAKS = re.compile(r"(?<= )|(?<=,)(?! )|(?=\[)|(?<=\]:)|(?<=transfer:)")
INDENT = 2
Cells = Sequence[str]


def shown(value: object) -> str:
    """A value in a table."""
    return f"{value:.4g}" if isinstance(value, float) else printable(str(value))


def pieces(text: str) -> list[str]:
    """Parts of a text that stay whole, spaces at their ends."""
    return _BREAKS.split(text)


def wrapped(text: str, width: int) -> str:
    """A text in lines of at most so many columns, where its pieces allow it."""
    lines = [""]
    for piece in pieces(text):
        if lines[-1] and cell_len(lines[-1] + piece.rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines)


def fitted(table: Table, width: int) -> Iterator[RichTable | Text]:
    """A table as it is printed on lines of so many columns.

    Args:
        table: without its notes.
        width: columns of the terminal.
    """
    rows = [[shown(value) for value in row] for row in table.rows]
    columns = [shown(name) for name in table.columns]
    yield Text(wrapped(shown(table.title), width), "italic")
    if widths := _widths([columns, *rows], width - 1, 3):
        yield _grid(columns, rows, widths, HEAVY_HEAD)
    elif widths := _widths([line[1:] for line in (columns, *rows)], width, INDENT):
        for name, part in groupby(rows, itemgetter(0)):
            yield Text(wrapped(f"{columns[0]} {name}".strip(), width), "bold")
            yield _grid(columns[1:], [row[1:] for row in part], widths)
    else:
        yield from (_line(name, value, width, INDENT * (n > 0))
                    for row in rows for n, (name, value) in enumerate(zip(columns, row)))


def _line(name: str, value: str, width: int, indent: int) -> Text:
    """A value after its column's name; what goes on in a new line is indented further."""
    text = wrapped(f"{name}: {value}", width - indent - INDENT)
    return Text(" " * indent + text.replace("\n", "\n" + " " * (indent + INDENT)))


def _widths(lines: Sequence[Cells], room: int, between: int) -> list[int]:
    """Widths of columns that fit into the room, the widest made narrower; none where their words do not.

    Args:
        lines: of cells, the head first.
        room: columns of the terminal.
        between: columns of it that each column takes besides its width.
    """
    by_column = list(zip(*lines))
    widths = [max(map(cell_len, cells)) for cells in by_column]
    least = [max(cell_len(piece.rstrip()) for cell in cells for piece in pieces(cell)) for cells in by_column]
    excess = sum(widths) + between * len(widths) - room
    while excess > 0 and (wide := [n for n, width in enumerate(widths) if width > least[n]]):
        widths[max(wide, key=widths.__getitem__)] -= 1
        excess -= 1
    return [] if excess > 0 else widths


def _grid(columns: Cells, rows: Sequence[Cells], widths: Sequence[int], box: Box | None = None) -> RichTable:
    """Cells in columns of these widths; without a box they are indented."""
    grid = RichTable(*(Column(Text(wrapped(name, width)), width=width, no_wrap=True)
                       for name, width in zip(columns, widths)), box=box, padding=(0, 1) if box else (0, 0, 0, INDENT))
    for row in rows:
        grid.add_row(*(Text(wrapped(cell, width)) for cell, width in zip(row, widths)))
    return grid
