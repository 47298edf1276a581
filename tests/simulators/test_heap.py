"""Memory that is freed: kept for what comes next, or given back."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from simulators.heap import give_back, kept

BLOCK, BLOCKS = 100_000, 1000   # smaller than what the C library asks the system for, and gives back, one by one


def resident() -> int:
    """Bytes of this process that are in memory."""
    return 1024 * next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines()
                       if line.startswith("VmRSS"))


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="no glibc")
def test_free_memory_below_what_is_in_use_goes_back_to_the_system():
    held = [bytearray(BLOCK) for _ in range(BLOCKS)]
    last = bytearray(BLOCK)   # above the others: without this nothing would hold them
    give_back()
    before = resident()
    held.clear()
    assert before - resident() < BLOCK * BLOCKS / 2
    give_back()
    assert before - resident() > BLOCK * BLOCKS * 0.8
    assert len(last) == BLOCK


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="no glibc")
@pytest.mark.parametrize("kept", [False, True])
def test_a_map_of_the_size_of_the_last_needs_no_new_pages_from_the_system(kept):
    megabytes, first, rounds = 48, 5, 10   # more than the 32 that glibc learns to keep by itself; rounds that count
    faults = subprocess.run([sys.executable, "-c", f"""
import resource
from contextlib import nullcontext
import torch
from simulators.heap import kept
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
with kept() if {kept} else nullcontext():
    for number in range({first + rounds}):
        before = faults() if number == {first} else 0 if number < {first} else before
        one = torch.ones(2**18, {megabytes}); two = one + 1; del one, two
    print(faults() - before)"""], check=True, capture_output=True, text=True, timeout=120).stdout
    pages = 2 * rounds * megabytes * 2**20 // os.sysconf("SC_PAGE_SIZE")
    assert (int(faults) < pages / 4) == kept


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="no glibc")
def test_what_was_kept_goes_back_in_the_end():
    with kept():
        held = [bytearray(BLOCK) for _ in range(BLOCKS)]
        before = resident()
        held.clear()
        assert before - resident() < BLOCK * BLOCKS / 2
    assert before - resident() > BLOCK * BLOCKS * 0.8
