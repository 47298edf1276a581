"""What processes leave behind in shared memory."""

import contextlib
import os
import time
from pathlib import Path

_MOMENT_S = 0.5   # longer than a process needs between naming a block and mapping it


def abandoned_memory() -> set[str]:
    """Blocks and semaphores in /dev/shm, named as multiprocessing names them, that no living process has mapped.

    Those of tests that run beside are in use.
    """
    if unmapped := _unmapped():
        time.sleep(_MOMENT_S)
        unmapped &= _unmapped()
    return unmapped


def _unmapped() -> set[str]:
    names = {name for name in os.listdir("/dev/shm") if name.startswith(("psm_", "sem.mp-"))}
    for maps in Path("/proc").glob("[0-9]*/maps") if names else ():
        with contextlib.suppress(OSError):
            names -= {line.rpartition("/")[2] for line in maps.read_text().splitlines() if "/dev/shm/" in line}
    return names
