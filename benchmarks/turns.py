"""Timing side by side: peers take turns, so that whatever else the machine does meets all of them."""

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial


@dataclass(frozen=True)
class Row:
    """One comparison of seconds: without a peer, ours alone against a goal in seconds.

    Attributes:
        what: both sides in words. ours, theirs: medians.
        goal: for ours / theirs, at most; with `faster`, for theirs / ours, at least.
    """

    what: str
    ours: float
    theirs: float | None
    goal: float
    faster: bool = False

    @property
    def value(self) -> float:
        """What the goal is about."""
        if self.theirs is None:
            return self.ours
        return self.theirs / self.ours if self.faster else self.ours / self.theirs

    def __str__(self):
        met = self.value >= self.goal if self.faster else self.value <= self.goal
        theirs = "" if self.theirs is None else f"{self.theirs * 1e3:.1f}"
        return (f"{self.what:66} {self.ours * 1e3:9.1f} {theirs:>9} {self.value:8.2f}  {'>=' if self.faster else '<='} "
                f"{self.goal:<5g} {'met' if met else 'MISSED'}")


HEADER = f"{'medians, ms':66} {'ours':>9} {'theirs':>9} {'ratio':>8}  goal"


def take_turns(repeats: int, *peers: Callable[[], tuple[float, ...]]) -> list[tuple[float, ...]]:
    """Each peer's medians of what it returns (seconds), over several rounds after one that does not count."""
    rounds = [[peer() for peer in peers] for _ in range(repeats + 1)][1:]
    return [tuple(map(statistics.median, zip(*taken))) for taken in zip(*rounds)]


def timed(work: Callable) -> tuple[float, float]:
    """Wall and CPU seconds of this process."""
    start = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start[0], time.process_time() - start[1]


def cpu_seconds(repeats: int, *works: Callable) -> list[float]:
    """Median CPU seconds of each work, in turns."""
    return [cpu for _, cpu in take_turns(repeats, *(partial(timed, work) for work in works))]


def help_if_asked(page: str | None) -> None:
    """Show what a benchmark says of itself, and end, where the command line asks for that."""
    if {"-h", "--help"} & {*sys.argv[1:]}:
        print(page)
        sys.exit()
