"""What processes leave behind in shared memory."""

import contextlib
import os
import time
from pathlib import Path

from processes import wait_until

_MOMENT_S = 0.5   # longer than a process needs between naming a block and mapping it
_TIDYING_S = 20.0   # within which what a killed process named is removed by its resource tracker


def abandoned_memory() -> set[str]:
    """Blocks and semaphores in /dev/shm, named as multiprocessing names them, that no living process has mapped.

    Those of tests that run beside are in use.
    """
    if unmapped := _unmapped():
        time.sleep(_MOMENT_S)
        unmapped &= _unmapped()
    return unmapped


def left_since(before: set[str]) -> set[str]:
    """What was abandoned after `before` and stays so; other tests kill processes whose semaphores go a little later."""
    left = abandoned_memory() - before

    def gone() -> bool:
        left.intersection_update(abandoned_memory())
        return not left

    wait_until(gone, _TIDYING_S)
    return left


def _unmapped() -> set[str]:
    names = {name for name in os.listdir("/dev/shm") if name.startswith(("psm_", "sem.mp-"))}
    for maps in Path("/proc").glob("[0-9]*/maps") if names else ():
        with contextlib.suppress(OSError):
            names -= {line.rpartition("/")[2] for line in maps.read_text().splitlines() if "/dev/shm/" in line}
    return names
