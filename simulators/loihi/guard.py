"""A guarded Lava runtime: no block in /dev/shm, no orphan, no silent hang.

Lava's own runtime puts every channel in a named shared-memory block behind a manager process, and waits for ever for
an actor that died. Here channels live in anonymous memory, which forked actors inherit and the kernel frees; actors
die with the worker; and a heartbeat looks at the actors and at a deadline while the main thread waits.
"""

import mmap
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from lava.magma.compiler.compiler import Compiler
from lava.magma.compiler.executable import Executable
from lava.magma.core.process.message_interface_enum import ActorType
from lava.magma.core.run_conditions import RunSteps
from lava.magma.runtime.message_infrastructure.multiprocessing import MultiProcessing
from lava.magma.runtime.mgmt_token_enums import MGMT_RESPONSE, enum_equal
from lava.magma.runtime.runtime import Runtime

from simulators.loihi.arithmetic import Arithmetic, LavaProgram
from simulators.loihi.patience import Patience
from simulators.loihi.plastic import Plastic
from simulators.loihi.shared_arrays import SharedArrays
from simulators.loihi.wiring import run_config, wire

HEARTBEAT_S = 0.05
SLICE_S = 1.0   # in which some heartbeat comes through, however busy the machine
LAST_WORDS_S = 2.0   # for a failed actor's traceback to arrive after others have ended
CHANNEL_SLOTS = 2   # messages a channel holds; Lava's default of 64 costs 32 times the memory


class ActorDied(Exception):
    """A Lava process ended or hung. Args: its name; what happened, in a line; its traceback, if it left one."""

    def __init__(self, process: str, what: str, trace: str = ""):
        self.process, self.what, self.trace = process, what, trace
        super().__init__(f"{process}: {what}")


class LavaGraph:
    """A program's processes, built once and run many times.

    Args:
        deadline_s: time that building may take.
        plastic: what learns, see `wire`.
    """

    def __init__(self, program: LavaProgram, arithmetic: Arithmetic, shared_arrays: SharedArrays, deadline_s: float,
                 plastic: Sequence[Plastic] = ()):
        processes = wire(program.graph, arithmetic, shared_arrays, plastic)
        executable = Compiler({"pypy_channel_size": CHANNEL_SLOTS}).compile(
            processes.image, run_config(program, arithmetic))
        self._runtime = GuardedRuntime(executable)
        executable.assign_runtime_to_all_processes(self._runtime)
        with self._runtime.guarded(deadline_s):
            self._runtime.initialize()

    def run(self, steps: int, deadline_s: float):
        """Run all processes for a number of Lava time steps."""
        with self._runtime.guarded(deadline_s):
            self._runtime.run(steps)


class _Block:
    """Anonymous shared memory with the one attribute that Lava's channels use."""

    def __init__(self, size: int):
        self.buf = memoryview(mmap.mmap(-1, max(size, 1)))


class _AnonymousMemory:
    """Stands where Lava's shared-memory manager does."""

    def create_shared_memory(self, size: int) -> _Block:
        return _Block(size)

    def shutdown(self):
        """Nothing to give back: the kernel frees the memory with its last process."""


class _Messaging(MultiProcessing):
    def start(self):
        self._smm = _AnonymousMemory()


class GuardedRuntime(Runtime):
    """Lava's runtime on anonymous memory, with a heartbeat around building and running."""

    def __init__(self, executable: Executable):
        super().__init__(executable, ActorType.MultiProcessing)
        self._patience: Patience | None = None
        signal.signal(signal.SIGALRM, lambda *_: self._check())

    def _build_message_infrastructure(self):
        self._messaging_infrastructure = _Messaging()
        self._messaging_infrastructure.start()

    def run(self, steps: int):
        """Run all processes for a number of time steps. After an error the heartbeat ends the wait: it knows whose."""
        self.start(RunSteps(steps, blocking=False))
        service, = self.service_to_runtime
        while not enum_equal(service.recv(), MGMT_RESPONSE.DONE):
            pass
        self._is_running = False

    @contextmanager
    def guarded(self, seconds: float) -> Iterator[None]:
        """Raise `ActorDied` in the main thread when an actor dies or the time is over."""
        self._patience = Patience(seconds, SLICE_S)
        signal.setitimer(signal.ITIMER_REAL, HEARTBEAT_S, HEARTBEAT_S)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _check(self):
        """Look for the dead: one that failed is the cause; Lava then told the others to end, which they did well."""
        patience = self._patience or Patience(0.0, SLICE_S)   # the heartbeat runs within `guarded` alone
        if self._messaging_infrastructure is not None:
            ended = [(name, actor) for name, actor in zip(self._names(), self._messaging_infrastructure.actors)
                     if not actor.is_alive()]
            for name, actor in ended:
                if actor.exitcode or actor.exception:
                    signal.setitimer(signal.ITIMER_REAL, 0)
                    raise _post_mortem(name, actor)
            if ended:
                patience.shorten(LAST_WORDS_S)
        if patience.is_over():
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise ActorDied("Lava", "no answer before the deadline")

    def _names(self) -> Iterator[str]:
        """Names of the actors, in the order in which Lava's runtime starts them."""
        yield from (process.name for process in self._executable.proc_builders)
        yield from (f"runtime service {n}" for n in range(len(self._executable.runtime_service_builders)))


def _post_mortem(name: str, actor: Any) -> ActorDied:
    if actor.exception:
        error, trace = actor.exception
        return ActorDied(name, f"{type(error).__name__}: {error}", trace)
    return ActorDied(name, f"died with exit code {actor.exitcode}")
