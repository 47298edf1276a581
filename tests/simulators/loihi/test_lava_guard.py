"""Whatever kills a Lava session, the host hears of it soon and nothing is left behind."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from memory import abandoned_memory, left_since
from processes import wait_until

import mapping
from mapping.errors import Refusal
from simulators.loihi.lava import LavaMachine
from simulators.loihi.session import LavaError

HOST = """
    import os, sys, signal
    import mapping, torch
    from simulators.loihi.lava import LavaMachine
    program = mapping.load_program(sys.argv[1])
    machine = LavaMachine(program, batch=1)
    print(machine._session._process.pid, flush=True)
    images = torch.zeros(1, *program.graph.image_shape)
    {body}
    """
FOREVER = "machine._session.run(10**9, 1e6)"   # one run that only a kill ends


def group(leader: int) -> dict[int, str]:
    """Living processes of a process group: pid -> name of the thread group."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            name, _, rest = (folder / "stat").read_text().rpartition(")")
            state, _, pgrp = rest.split()[:3]
            if int(pgrp) == leader and state not in "ZX":
                found[int(folder.name)] = name
    return found


@pytest.fixture
def blocks():
    """Asserts at the end of a test that it left nothing in /dev/shm."""
    before = abandoned_memory()
    yield
    assert not left_since(before)


STRUCTURAL = "lava[model=structural]"


@pytest.fixture
def lava(request, random_graph, blocks):
    """A small Lava machine whose processes must all be gone at the end, whatever the test did to them."""
    machine = LavaMachine(mapping.compile(random_graph(0), getattr(request, "param", "lava")), batch=1)
    worker = machine._session._process.pid
    assert len(group(worker)) > 6   # the worker, six processes, a runtime service
    yield machine
    machine.close()
    assert wait_until(lambda: not group(worker))


def images_for(machine):
    return torch.zeros(1, *machine.graph.image_shape)


def fail_while_relaxing(machine) -> LavaError:
    start = time.monotonic()
    with pytest.raises(LavaError) as caught:
        machine.relax(images_for(machine), 100_000)
    assert time.monotonic() - start < 5
    return caught.value


@pytest.mark.parametrize("lava", ["lava", STRUCTURAL], indirect=True)
def test_a_killed_actor_is_named(lava):
    actors = sorted(pid for pid in group(lava._session._process.pid) if pid != lava._session._process.pid)
    os.kill(actors[1], signal.SIGKILL)
    assert "exit code -9" in str(fail_while_relaxing(lava))


def test_a_killed_worker_is_noticed_and_takes_its_actors_along(lava):
    worker = lava._session._process.pid
    os.kill(worker, signal.SIGKILL)
    assert wait_until(lambda: not group(worker))
    assert "worker died" in str(fail_while_relaxing(lava))


def broken(program, layer: int, **changes):
    layers = list(program.layers)
    layers[layer] = replace(layers[layer], **changes)
    return replace(program, layers=tuple(layers))


@pytest.mark.parametrize(("target", "process", "changes", "trace"), [
    ("lava", "layer1", {"bias": np.zeros(4, np.int64)}, "run_spk"),                  # an exception in a process model
    ("lava", "conv1", {"weight": np.zeros((4, 2, 3, 3), np.int8)}, "Mismatch"),      # a message of the wrong shape
    (STRUCTURAL, "conv1.convolution", {"weight": np.zeros((4, 2, 3, 3), np.int8)}, "Mismatch"),
])
def test_a_failing_process_is_named_and_its_traceback_arrives(random_graph, blocks, target, process, changes, trace):
    program = mapping.compile(random_graph(0), target)
    with LavaMachine(broken(program, 0, **changes), batch=1) as lava:
        worker = lava._session._process.pid
        error = fail_while_relaxing(lava)
        assert error.process == process
        assert "Traceback" in str(error)
        assert trace in str(error)
    assert wait_until(lambda: not group(worker))


def test_a_hung_process_meets_its_deadline(lava):
    actors = sorted(pid for pid in group(lava._session._process.pid) if pid != lava._session._process.pid)
    os.kill(actors[0], signal.SIGSTOP)
    with pytest.raises(LavaError, match="no answer before the deadline"):
        lava._session.run(5, 0.5)


@pytest.mark.slow
def test_a_session_that_is_stopped_and_continued_meets_its_deadline(lava):
    """Stopped for longer than it may take: only what it ran counts."""
    for delay, sent in (0.1, signal.SIGSTOP), (5.0, signal.SIGCONT):
        threading.Timer(delay, os.killpg, (lava._session.leader, sent)).start()
    begun = time.monotonic()
    lava._session.run(300, 4.0)
    assert time.monotonic() - begun > 5


def test_lava_that_cannot_be_imported_is_refused_with_a_remedy(random_graph, blocks, in_lavas_interpreter):
    in_lavas_interpreter("import sys; sys.modules['lava'] = None")
    with pytest.raises(Refusal, match=r"Lava is not available; got .*lava.*; remedy: install lava-nc"):
        LavaMachine(mapping.compile(random_graph(0), "lava"))


def test_lava_without_semaphores_is_refused_with_a_remedy(random_graph, blocks, in_lavas_interpreter):
    """As in a container whose /dev/shm cannot be written."""
    in_lavas_interpreter("""
        import _multiprocessing

        class Refused(_multiprocessing.SemLock):
            def __new__(cls, *arguments):
                raise OSError(30, "Read-only file system")

        _multiprocessing.SemLock = Refused
        """)
    with pytest.raises(Refusal, match=r"got .Errno 30. Read-only file system; .* remedy: mount one, or choose loihi"):
        LavaMachine(mapping.compile(random_graph(0), "lava"))


@contextlib.contextmanager
def started_host(tmp_path, random_graph, body: str):
    """A process that opens a machine, prints its worker's process id and does what `body` says; gone in the end."""
    mapping.compile(random_graph(0), "lava").save(tmp_path / "program")
    command = [sys.executable, "-c", textwrap.dedent(HOST).format(body=body), str(tmp_path / "program")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as host:
        try:
            yield host
        finally:
            host.kill()


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, -15), (signal.SIGINT, -2)])
def test_a_host_killed_while_relaxing_leaves_nothing(tmp_path, random_graph, blocks, sent, code):
    with started_host(tmp_path, random_graph, FOREVER) as host:
        worker = int(host.stdout.readline())
        assert group(worker)
        time.sleep(0.3)
        host.send_signal(sent)
        assert host.wait(10) == code
        assert ("KeyboardInterrupt" in host.communicate()[1]) == (sent == signal.SIGINT)
    assert wait_until(lambda: not group(worker))


@pytest.mark.slow
def test_a_host_that_forgets_to_close_leaves_nothing(tmp_path, random_graph, blocks):
    with started_host(tmp_path, random_graph, "machine.relax(images)") as host:
        worker = int(host.stdout.readline())
        assert host.wait(60) == 0
    assert wait_until(lambda: not group(worker))


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.3, 1.0, 1.6])
def test_a_host_killed_while_building_leaves_nothing(tmp_path, random_graph, blocks, delay):
    with started_host(tmp_path, random_graph, FOREVER) as host:
        assert wait_until(lambda: children(host.pid), 30)
        worker, = children(host.pid)
        time.sleep(delay)
    assert wait_until(lambda: not group(worker))


def children(parent: int) -> list[int]:
    """Living Lava workers of a process."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                found += [int(folder.name)] * (b"loihi.worker" in (folder / "cmdline").read_bytes())
    return found
