"""Memory that this process frees: kept for what it asks for next, or given back to the system.

Both speak to glibc's allocator; where the C library is another, nothing happens.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3   # parameters of mallopt, in glibc's malloc.h
LEARNT = 2**25                            # bytes of the largest piece that glibc learns to keep by itself


@contextmanager
def kept() -> Iterator[None]:
    """Keep freed memory within: a relaxation asks for the same maps at every step, and new pages from the system would
    take a tenth of its time. Also a decorator. In the end it is given back; glibc cannot return the free end of its
    heap after other code of the process has moved that end, and keeps that part for what comes next.
    """
    _set(2**30, 2**31 - 1)
    try:
        yield
    finally:
        _set(LEARNT, 2 * LEARNT)
        give_back()


def give_back():
    """Give back what is free: batches that shrink leave holes, and a large network's memory would grow cell by cell."""
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def _set(mapped: int, trimmed: int):
    """Thresholds in bytes: larger pieces are the system's own, more free memory than `trimmed` goes back."""
    with suppress(AttributeError, OSError, TypeError):
        library = ctypes.CDLL(None)
        library.mallopt(MMAP_THRESHOLD, mapped)
        library.mallopt(TRIM_THRESHOLD, trimmed)
