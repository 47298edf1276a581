"""How a worker and everything it forks come to their end: with their host, or with each other. Needs no Lava."""

import ctypes
import os
import select
import signal
import sys
import threading
import time

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if os.name == "posix" else None   # now: a forked child should not wait for the loader's lock
WATCH_S = 1.0   # between two looks at the parent, where no kernel watches


def die_with_host(fd: int):
    """Watch, beside the main thread, for the host's end of a socket to close; then end the group."""
    def watch():
        poll = select.poll()
        poll.register(fd, select.POLLRDHUP)
        poll.poll()
        end_group()

    threading.Thread(target=watch, daemon=True).start()


def die_with_parent(parent: int):
    """From now on the kernel kills this process when the one that started it dies; if it is dead already, end here.

    Where the kernel does no such thing, a thread looks at the parent from time to time.

    Args:
        parent: its process id.
    """
    if _LIBC is not None and hasattr(_LIBC, "prctl"):
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:   # it died before the kernel was told
        os._exit(1)


def _watch(parent: int):
    while os.getppid() == parent:
        time.sleep(WATCH_S)
    os._exit(1)


def bind_children():
    """From now on the kernel kills every forked child when this process dies."""
    parent = os.getpid()
    os.register_at_fork(after_in_child=lambda: die_with_parent(parent))


def end_group():
    """Kill this process and, where it leads its own group as a worker does, everything in it."""
    sys.stderr.flush()
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)
