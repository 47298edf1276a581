"""Lava's own interpreter: builds a program's processes, runs steps on request, dies with its host.

Its arguments are the descriptors of a socket and of a memory file. Commands and replies are JSON lines on the socket,
arrays lie in the memory. No torch is loaded here: Lava forks its actors, and torch's threads do not survive a fork.
"""

import json
import multiprocessing
import signal
import socket
import sys
import traceback
from collections.abc import Iterable
from importlib import import_module
from typing import Any

from mapping.loihi.plasticity import Learning
from mapping.loihi.program import LoihiProgram
from mapping.loihi.target import LoihiTarget
from mapping.program import FloatProgram, unpack_graph
from mapping.registry import parse
from simulators.loihi.arithmetic import LavaProgram, arithmetic_of
from simulators.loihi.lifeline import bind_children, die_with_host, end_group
from simulators.loihi.plastic import Plastic, plastic_of
from simulators.loihi.shared_arrays import SharedArrays

NEEDS = ((lambda: multiprocessing.get_context("fork").Semaphore(), "a writable /dev/shm, where Lava's semaphores are "
          "made", "mount one, or choose loihi, the bit-exact twin"),
         (lambda: import_module("simulators.loihi.guard"), "lava-nc 0.10 on Python 3.10",
          "install lava-nc under Python 3.10"))


def main():
    control, memory = socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])
    lines = control.makefile("r")
    die_with_host(control.fileno())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    start = json.loads(lines.readline())
    shared_arrays = SharedArrays(start["layout"], memory)
    if obstacle := _obstacle():
        _reply(control, refused=obstacle)
        return
    from simulators.loihi.guard import ActorDied, LavaGraph

    bind_children()
    try:
        program = unpack(start, shared_arrays)
        _serve(control, lines, LavaGraph(program, arithmetic_of(program), shared_arrays, start["deadline_s"],
                                         _plastic(program, start["learning"], shared_arrays)))
    except ActorDied as death:
        _reply(control, process=death.process, error=death.what, trace=death.trace)
    except Exception as error:
        _reply(control, process="Lava", error=f"{type(error).__name__}: {error}", trace=traceback.format_exc())
    finally:
        end_group()


def unpack(start: dict[str, Any], shared_arrays: SharedArrays) -> LavaProgram:
    """The program that the host described in its first line and laid into the shared arrays."""
    arrays = {name: shared_arrays[name] for name in shared_arrays}
    graph, target = unpack_graph(start["network"], arrays), parse(start["target"])
    assert isinstance(target, LoihiTarget), "the host runs nothing else on Lava"
    kind = LoihiProgram if start["kind"] == LoihiProgram.kind else FloatProgram
    return kind.unpack(target, graph, arrays, start["settings"])


def _plastic(program: LavaProgram, learning: dict | None, shared_arrays: SharedArrays) -> tuple[Plastic, ...]:
    """What learns, where anything does."""
    if learning is None or not isinstance(program, LoihiProgram):
        return ()
    return plastic_of(program, Learning.of(learning), shared_arrays)


def _serve(control: socket.socket, lines: Iterable[str], lava: Any):
    """Answer each command; the host's end of file is the end."""
    assert "torch" not in sys.modules, "torch must not be loaded before Lava forks"
    _reply(control, ready=True)
    for line in lines:
        command = json.loads(line)
        lava.run(command["steps"], command["deadline_s"])
        _reply(control, ran=command["steps"])


def _obstacle() -> dict[str, str] | None:
    """Why Lava cannot run here, as a Refusal says it."""
    for make_sure, allowed, remedy in NEEDS:
        try:
            make_sure()
        except (ImportError, OSError) as error:
            return {"what": "Lava is not available", "got": str(error), "allowed": allowed, "remedy": remedy}
    return None


def _reply(control: socket.socket, **answer):
    control.sendall(json.dumps(answer).encode() + b"\n")
