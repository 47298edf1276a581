"""A worker process of `evaluation.workers`: makes the calls that its host sends, one by one, and dies with it.

Calls arrive pickled; what one returned goes back, or what it raised with its traceback. No torch is loaded before a
call needs it.
"""

import contextlib
import gc
import pickle
import sys
import traceback
from collections.abc import Callable
from multiprocessing import process, spawn
from multiprocessing.connection import Connection

from ep_hw.evaluation.own import bring_inherited
from mapping.errors import MachineError
from simulators.loihi.lifeline import die_with_parent


def main():
    parent, link = int(sys.argv[1]), Connection(int(sys.argv[2]))
    die_with_parent(parent)
    bring_inherited()
    with contextlib.suppress(EOFError, ConnectionError):   # the host is gone
        while True:
            link.send_bytes(_answer(link.recv_bytes()))


def join(origin: dict):
    """Import from where the host does, and what its main module defines, as processes that `spawn` starts do.

    Args:
        origin: of `multiprocessing.spawn.get_preparation_data`, which refuses to be called meanwhile: a main module
            that starts workers when it is imported would start them for ever.
    """
    process.current_process()._inheriting = True   # type: ignore[attr-defined]   # what `spawn` itself sets
    try:
        spawn.prepare(origin)
    finally:
        del process.current_process()._inheriting   # type: ignore[attr-defined]


def _answer(call: bytes) -> bytes:
    """What a pickled call returned, what it raised, and the traceback of that; one of them pickled."""
    try:
        return pickle.dumps((_loaded(call)(), None, ""))
    except Exception as error:
        return pickle.dumps((None, _portable(error), traceback.format_exc()))


def _loaded(call: bytes) -> Callable:
    """A call; what it needs is imported meanwhile, torch among it, of which nothing is garbage to be looked for."""
    gc.disable()
    try:
        return pickle.loads(call)
    finally:
        gc.enable()


def _portable(error: Exception) -> Exception:
    """The error, or its words where it cannot be pickled."""
    try:
        return pickle.loads(pickle.dumps(error))
    except Exception:
        return MachineError(f"{type(error).__name__}: {error}")
