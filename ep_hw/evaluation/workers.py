"""Worker processes of one thread each: calls go out, what they return comes back, over a socket each.

No semaphore and no shared memory: some containers have none, and a killed process would leave its own behind. Whenever
a worker dies, its socket closes, and the host sees it at once; when the host dies, the kernel kills its workers.
"""

import contextlib
import os
import pickle
import subprocess
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing import Pipe, spawn
from multiprocessing.connection import Connection, wait

from ep_hw.evaluation.worker import join
from mapping.errors import MachineError
from simulators.isolated import ONE_THREAD, command, interrupts_held

ORIGIN = ("sys_path", "init_main_from_name", "init_main_from_path")   # what `join` needs of a main module


class _Raised(Exception):
    """The traceback of an error in a worker, as its cause."""

    def __str__(self):
        return f"\n{self.args[0]}"


class Workers:
    """Processes that make calls which may be pickled; none of them outlives `close`."""

    def __init__(self):
        self._processes: dict[Connection, subprocess.Popen] = {}

    def start(self, count: int):
        """Start `count` processes, which import what this one's main module defines."""
        prepared = spawn.get_preparation_data("worker")
        for _ in range(count):
            self._start_one()
        self.everywhere(partial(join, {key: prepared[key] for key in ORIGIN if key in prepared}))

    def everywhere(self, call: Callable):
        """Make one call in every worker."""
        for _ in self._exchange(dict.fromkeys(self._processes, call), deque()):
            pass

    def each(self, calls: Iterable[Callable]) -> Iterator:
        """What each call returns, in the order in which they end.

        Raises:
            MachineError: a worker died. Whatever a call raises.
        """
        waiting = deque(calls)
        return self._exchange({link: waiting.popleft() for link in list(self._processes)[:len(waiting)]}, waiting)

    def _exchange(self, first: dict[Connection, Callable], waiting: deque[Callable]) -> Iterator:
        """Send everyone its first call, then those that are waiting to whoever has answered; yield the answers."""
        for link, call in first.items():
            self._send(link, call)
        busy = set(first)
        while busy:
            heard = wait(self._processes)   # of an idle worker nothing but its death can be heard
            for link in (link for link in list(self._processes) if link in heard):
                value = self._receive(link)
                if waiting:
                    self._send(link, waiting.popleft())
                else:
                    busy.remove(link)
                yield value

    def close(self):
        """Kill all of them. May be called twice."""
        for worker in self._processes.values():
            worker.kill()
        while self._processes:
            link, worker = self._processes.popitem()
            worker.wait()
            link.close()

    def _start_one(self):
        with interrupts_held():
            ours, theirs = Pipe()
            with theirs:
                self._processes[ours] = subprocess.Popen(
                    command("ep_hw.evaluation.worker", os.getpid(), theirs.fileno()), stdin=subprocess.DEVNULL,
                    env={**os.environ, **ONE_THREAD}, pass_fds=(theirs.fileno(),))

    def _send(self, link: Connection, call: Callable):
        with contextlib.suppress(ConnectionError):   # the worker is dead: reading says so
            link.send_bytes(pickle.dumps(call))

    def _receive(self, link: Connection) -> object:
        try:
            value, error, trace = pickle.loads(link.recv_bytes())
        except (EOFError, OSError):
            raise MachineError("a worker process died (out of memory?); run the same command again to go on, with "
                               "fewer --jobs") from None
        if error is not None:
            raise error from _Raised(trace)
        return value


@contextmanager
def workers(count: int) -> Iterator[Workers]:
    """`count` worker processes, gone in the end, whatever brings it."""
    pool = Workers()
    try:
        pool.start(count)
        yield pool
    finally:
        pool.close()
