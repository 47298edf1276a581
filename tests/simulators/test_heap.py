"""Memory that is freed: kept for what comes next, or given back."""

import ctypes
import os
import subprocess
import sys

import pytest

BLOCK, BLOCKS = 100_000, 1000   # smaller than what the C library asks the system for, and gives back, one by one
START = f"""
from pathlib import Path
from simulators.heap import give_back, kept
def resident():
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
def blocks():
    return [bytearray({BLOCK}) for _ in range({BLOCKS})]
"""
glibc = pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="no glibc")


def printed(program: str) -> list[int]:
    """What a program prints in an interpreter of its own: other tests leave threads, and memory that others hold."""
    return [int(word) for word in subprocess.run([sys.executable, "-c", program], check=True, capture_output=True,
                                                 text=True, timeout=120).stdout.split()]


@glibc
def test_free_memory_below_what_is_in_use_goes_back_to_the_system():
    freed, given_back = printed(f"""{START}
held = blocks()
last = bytearray({BLOCK})   # above the others: without this nothing would hold them
before = resident()
held.clear()
print(before - resident())
give_back()
print(before - resident())""")
    assert freed < BLOCK * BLOCKS / 2
    assert given_back > BLOCK * BLOCKS * 0.8


@glibc
@pytest.mark.parametrize("kept", [False, True])
def test_a_map_of_the_size_of_the_last_needs_no_new_pages_from_the_system(kept):
    megabytes, first, rounds = 48, 5, 4   # more than the 32 that glibc learns to keep by itself; rounds that count
    [faults] = printed(f"""
import resource
from contextlib import nullcontext
from simulators.heap import kept
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
with kept() if {kept} else nullcontext():
    for number in range({first + rounds}):
        before = faults() if number == {first} else 0 if number < {first} else before
        one = bytearray({megabytes} * 2**20); two = bytearray(one); del one, two
    print(faults() - before)""")
    pages = 2 * rounds * megabytes * 2**20 // os.sysconf("SC_PAGE_SIZE")
    assert (faults < pages / 4) == kept


@glibc
def test_what_was_kept_goes_back_in_the_end():
    freed, given_back = printed(f"""{START}
with kept():
    held = blocks()
    before = resident()
    held.clear()
    print(before - resident())
print(before - resident())""")
    assert freed < BLOCK * BLOCKS / 2
    assert given_back > BLOCK * BLOCKS * 0.8
