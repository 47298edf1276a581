"""The host's side of a Lava session: a fresh interpreter, shared arrays, deadlines, and an end that leaves nothing."""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import weakref
from dataclasses import asdict
from typing import IO

from mapping.errors import MachineError, Refusal
from mapping.loihi.plasticity import Learning
from mapping.loihi.program import LoihiProgram
from mapping.program import pack_graph
from simulators.isolated import ONE_THREAD, command
from simulators.loihi.arithmetic import LavaProgram, arithmetic_of
from simulators.loihi.clock import Clock
from simulators.loihi.interpreter import lava_python
from simulators.loihi.layout import layout_of
from simulators.loihi.patience import Patience
from simulators.loihi.plastic import plastic_layout
from simulators.loihi.shared_arrays import SharedArrays

BUILD_DEADLINE_S = 120.0
LOOK_S = 0.5       # between two looks at the time
MARGIN_S = 5.0   # by how much the host outwaits its worker, which knows more about what went wrong


class LavaError(MachineError):
    """A Lava process failed, died or hung. `process` names it, `what` says how, `trace` is its own traceback."""

    def __init__(self, process: str, what: str, trace: str = ""):
        super().__init__(process, what, trace)
        self.process, self.what, self.trace = process, what, trace

    def __str__(self) -> str:
        return f"{self.process}: {self.what}" + (f"\n{self.trace}" if self.trace else "")


class LavaSession:
    """A program's processes on Lava, in a fresh interpreter without torch.

    Args:
        program: a LoihiProgram or FloatProgram.
        batch: images a run.
        learning: how its integers learn; None where nothing does.

    Raises:
        Refusal: Lava is not installed, or cannot run here. LavaError: the processes could not be built.
    """

    def __init__(self, program: LavaProgram, batch: int, learning: Learning | None = None):
        self._python = lava_python()
        start, arrays = _describe(program)
        layout = {name: (array.dtype.name, array.shape) for name, array in arrays.items()}
        layout |= layout_of(program.graph, arithmetic_of(program), batch)
        if learning and isinstance(program, LoihiProgram):
            layout |= plastic_layout(program)
        self.shared_arrays = SharedArrays(layout)
        for name, array in arrays.items():
            self.shared_arrays[name][...] = array
        self.clock = Clock(self.shared_arrays["clock"])
        self._log = os.fdopen(os.memfd_create("ep-hw log"), "w+b")
        self._spawn()
        self._ask({**start, "layout": layout, "learning": learning and asdict(learning)}, BUILD_DEADLINE_S)

    def _spawn(self):
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                command("simulators.loihi.worker", theirs.fileno(), self.shared_arrays.fd, python=self._python),
                stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, env={**os.environ, **ONE_THREAD},
                pass_fds=(theirs.fileno(), self.shared_arrays.fd), start_new_session=True)
        self._finalizer = weakref.finalize(self, _end, self._process, self._socket, self._log)
        self.shared_arrays.close_file()
        self._buffer = b""

    @property
    def leader(self) -> int:
        """Process id of the worker, which leads the group of all processes of the session."""
        return self._process.pid

    def run(self, steps: int, deadline_s: float):
        """Run all processes for a number of time steps."""
        self._ask({"steps": steps}, deadline_s)

    def close(self):
        """End the worker and all that it started. May be called twice."""
        self._finalizer()

    def _ask(self, command: dict, deadline_s: float) -> dict:
        """One command, one reply; anything that interrupts it ends the session."""
        try:
            if not self._finalizer.alive:
                raise LavaError("Lava", "the session is closed")
            answer = self._exchange({**command, "deadline_s": deadline_s}, Patience(deadline_s + MARGIN_S, 2 * LOOK_S))
        except BaseException:
            self.close()
            raise
        if "refused" in answer:
            self.close()
            raise Refusal(where="machine lava", **answer["refused"])
        if "error" in answer:
            self.close()
            raise LavaError(answer["process"], answer["error"], answer["trace"])
        return answer

    def _exchange(self, command: dict, patience: Patience) -> dict:
        with contextlib.suppress(OSError):   # the worker is gone: its last words, or their absence, are read below
            self._socket.sendall(json.dumps(command).encode() + b"\n")
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([self._socket], [], [], LOOK_S)
            if ready:
                self._buffer += self._receive()
            elif patience.is_over():
                raise self._failure("the worker gave no answer in time")
        line, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(line)

    def _receive(self) -> bytes:
        with contextlib.suppress(ConnectionResetError):
            if received := self._socket.recv(65536):
                return received
        raise self._failure("the worker died")

    def _failure(self, what: str) -> LavaError:
        """What happened, the last line that the worker printed, and what came before it."""
        self._log.seek(0)
        words = self._log.read().decode(errors="replace")[-2000:]
        return LavaError("Lava", ": ".join([what, *words.splitlines()[-1:]]), words)


def _describe(program: LavaProgram) -> tuple[dict, dict]:
    """A program as JSON and arrays, as `Program.save` writes it."""
    arrays, settings = program.pack()
    network, graph_arrays = pack_graph(program.graph)
    return ({"kind": program.kind, "target": str(program.target), "network": network, "settings": settings},
            {**graph_arrays, **arrays})


def _end(process: subprocess.Popen, link: socket.socket, log: IO[bytes]):
    """Kill a worker's group; the kernel frees the memory."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    link.close()
    log.close()
