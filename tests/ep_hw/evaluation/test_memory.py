"""What cells leave behind in memory."""

import ctypes
from pathlib import Path

import pytest

from ep_hw.evaluation.execution import release_memory

BLOCK, BLOCKS = 100_000, 1000   # smaller than what the C library asks the system for, and gives back, one by one


def resident() -> int:
    """Bytes of this process that are in memory."""
    return 1024 * next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines()
                       if line.startswith("VmRSS"))


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="no glibc")
def test_free_memory_below_what_is_in_use_goes_back_to_the_system():
    held = [bytearray(BLOCK) for _ in range(BLOCKS)]
    last = bytearray(BLOCK)   # above the others: without this nothing would hold them
    release_memory()
    before = resident()
    held.clear()
    assert before - resident() < BLOCK * BLOCKS / 2
    release_memory()
    assert before - resident() > BLOCK * BLOCKS * 0.8
    assert len(last) == BLOCK
