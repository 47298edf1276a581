"""How far something has come: a bar in a notebook or a terminal, and where there is neither a line a minute."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from html import escape

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from mapping.errors import printable

Progress = Callable[[object, int, int], None]   # hears what was done last, by its str(), how many are, of how many
EVERY_S = 60.0   # between two lines


def progress(description: str) -> AbstractContextManager[Progress]:
    """A function that shows how far something has come, on stderr or in the cell of a notebook; a failure wipes a bar
    out.
    """
    if _notebook():
        return _cell(description)
    console = Console(stderr=True)
    return bar(description, console) if console.is_terminal else lines(description)


def _notebook() -> bool:
    """Whether a notebook's kernel runs this."""
    known = sys.modules.get("IPython")
    shell = known and known.get_ipython()
    return hasattr(shell, "kernel")


@contextmanager
def bar(description: str, console: Console) -> Iterator[Progress]:
    """In a terminal."""
    columns = TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    shown = Bar(*columns, console=console)
    task = shown.add_task(description)

    def show(what: object, number: int, total: int) -> None:
        shown.update(task, completed=number, total=total, description=printable(str(what)))

    shown.start()
    try:
        yield show
    except BaseException:
        shown.live.transient = True   # what failed says so in one line
        shown.live.stop()
        raise
    shown.stop()


@contextmanager
def lines(description: str, clock: Callable[[], float] = time.monotonic) -> Iterator[Progress]:
    """Where nobody may be watching: a log, or another program."""
    started = said = clock()

    def show(what: object, number: int, total: int) -> None:
        nonlocal said
        if (now := clock()) >= said + EVERY_S:
            said = now
            print(f"{description}: {number} of {total} after {(now - started) / 60:.0f} min; {printable(str(what))}",
                  file=sys.stderr, flush=True)

    yield show


@contextmanager
def _cell(description: str) -> Iterator[Progress]:
    """In the output of a notebook's cell."""
    from IPython.display import HTML, display

    started = time.monotonic()

    def drawn(what: object, number: int, total: int) -> HTML:
        value = f'value="{number}" max="{total}"' if total else ""
        return HTML(f"<progress {value}></progress> {number} of {total}, {time.monotonic() - started:.0f} s: "
                    f"{escape(printable(str(what)))}")

    handle = display(drawn(description, 0, 0), display_id=True)

    def show(what: object, number: int, total: int) -> None:
        handle.update(drawn(what, number, total))

    yield show
