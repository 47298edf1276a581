"""Processes that tests start, and what becomes of them."""

import contextlib
import os
import time
from pathlib import Path


def alive(pid: int) -> bool:
    """Whether a process runs or may run again; one that is dead may wait to be reaped."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def descendants(pid: int) -> list[int]:
    """A process and everything it started, however far down."""
    with contextlib.suppress(OSError):   # one that ends meanwhile has none
        children = [int(child) for task in Path(f"/proc/{pid}/task").iterdir()
                    for child in (task / "children").read_text().split()]
        return [pid, *(below for child in children for below in descendants(child))]
    return []


def wait_until(condition, seconds: float = 5.0) -> bool:
    """Whether a condition came true within a time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def all_end(pids: list[int], seconds: float = 5.0) -> bool:
    """Whether processes end within a time."""
    return wait_until(lambda: not any(map(alive, pids)), seconds)


def umask() -> int:
    """Permissions that new files of this process lack."""
    now = os.umask(0)
    os.umask(now)
    return now
