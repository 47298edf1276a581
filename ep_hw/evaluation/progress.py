"""How far something has come, and how long the rest will take: a bar in a notebook or a terminal, and where there is
neither a line a minute.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from html import escape

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from mapping.errors import printable

Progress = Callable[[object, int, int], None]
# hears what was done last, by its str(), how many are, of how many; or, with 0 of 0, which part begins
EVERY_S = 60.0   # between two lines


class Pace:
    """How long the rest will take, by the mean time of what was done here; a part that begins has a pace of its own."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self.clock, self.number = clock, 0
        self.started = self.seen = clock()
        self.before: int | None = None   # done when this part began

    def left(self, number: int, total: int) -> str:
        """In words; nothing where nothing is known, or nothing left.

        Args:
            number: done by now, those of earlier runs among them.
            total: of all; 0 where another part begins.
        """
        if self.before is None or number <= self.number:
            self.started, self.before = self.seen, number - 1
        self.seen, self.number = self.clock(), number
        if not total:
            self.before = None
        if self.before is None or number >= total:
            return ""
        return f"about {_time((self.seen - self.started) / (number - self.before) * (total - number))} left"


def _time(seconds: float) -> str:
    """In whole seconds, minutes or tenths of hours."""
    return (f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min" if seconds < 6000 else
            f"{seconds / 3600:.1f} h")


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
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
               TextColumn("{task.fields[left]}", markup=False))
    shown, pace = Bar(*columns, console=console), Pace()
    task = shown.add_task(description, left="")

    def show(what: object, number: int, total: int) -> None:
        if not total:
            console.print(printable(str(what)), markup=False, highlight=False)
        now = printable(str(what)) if total else description
        shown.update(task, completed=number, total=total or None, description=now, left=pace.left(number, total))

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
    pace = Pace(clock)

    def show(what: object, number: int, total: int) -> None:
        nonlocal said
        left = pace.left(number, total)
        if total and (now := clock()) >= said + EVERY_S:
            said = now
            print(f"{description}: {number} of {total} after {(now - started) / 60:.0f} min{left and f', {left}'}; "
                  f"{printable(str(what))}", file=sys.stderr, flush=True)

    yield show


@contextmanager
def _cell(description: str) -> Iterator[Progress]:
    """In the output of a notebook's cell."""
    from IPython.display import HTML, display

    started, pace = time.monotonic(), Pace()

    def drawn(what: object, number: int, total: int) -> HTML:
        value = f'value="{number}" max="{total}"' if total else ""
        left = pace.left(number, total)
        return HTML(f"<progress {value}></progress> {number} of {total}, {time.monotonic() - started:.0f} s"
                    f"{left and f', {left}'}: {escape(printable(str(what)))}")

    handle = display(drawn(description, 0, 0), display_id=True)

    def show(what: object, number: int, total: int) -> None:
        handle.update(drawn(what, number, total))

    yield show
