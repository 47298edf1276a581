"""Memory that this process frees: kept for what it asks for next, or given back to the system.

Both speak to glibc's allocator; where the C library is another, nothing happens.
"""

import ctypes
from contextlib import suppress

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3   # parameters of mallopt, in glibc's malloc.h


def keep_freed():
    """Keep freed memory from here on: a relaxation asks for the same maps at every step, and new pages from the system
    would take a tenth of its time.
    """
    with suppress(AttributeError, OSError, TypeError):
        library = ctypes.CDLL(None)
        library.mallopt(MMAP_THRESHOLD, 2**30)
        library.mallopt(TRIM_THRESHOLD, 2**31 - 1)


def give_back():
    """Give back what is free: batches that shrink leave holes, and a large network's memory would grow cell by cell."""
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
