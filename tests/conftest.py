"""Folders that tests share; one torch thread, which is fastest for networks as small as these."""

import contextlib
import os
import signal
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings
from networks import small_network

from ep_hw import cli
from mapping.errors import Refusal
from mapping.graph import Coupling, EPGraph, Population
from simulators.isolated import command
from simulators.loihi import session
from simulators.loihi.interpreter import lava_python

torch.set_num_threads(1)
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)   # interpreters that tests start, of which there are hundreds,
sys.dont_write_bytecode = False                   # find torch and Lava compiled: each starts in half the time
os.fsync = os.fstat   # tests outlive no computer: a file that is flushed must be open, and no disk is waited for
settings.register_profile("untimed", deadline=None, max_examples=50)   # an example's time is the machine's
settings.load_profile("untimed")
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:   # as background jobs are born; tests interrupt commands
    signal.signal(signal.SIGINT, signal.default_int_handler)
CIFAR_FOLDERS = (os.environ.get("EP_HW_DATA", ""), Path(__file__).parents[2] / "shared" / "data")


def pytest_sessionstart():
    """Lava's interpreter is made before any test looks at what is printed."""
    with contextlib.suppress(Refusal):   # tests of Lava will say so
        lava_python()


def pytest_collection_modifyitems(items):
    """Files with slow tests come first, so that processes that share out the files end together."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def cifar_root():
    """Folder that holds the real CIFAR-10 batches, where there is one."""
    for folder in filter(None, CIFAR_FOLDERS):
        if (Path(folder) / "cifar-10-batches-py").is_dir():
            return Path(folder)
    return pytest.skip("no CIFAR-10 folder on this machine (set EP_HW_DATA)")


@pytest.fixture
def configuration(monkeypatch, tmp_path_factory):
    """The folder of a user who has set up nothing; matplotlib may write into it."""
    folder = tmp_path_factory.mktemp("configuration")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder))
    return folder


@pytest.fixture
def ep_hw(capsys, monkeypatch, tmp_path, configuration):
    """Run a command in a folder of its own: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    for own in ("EP_HW_DEVICES", "EP_HW_PLUGINS"):   # commands add to them
        monkeypatch.setenv(own, "")
    monkeypatch.setattr(sys, "path", [*sys.path])   # plug-ins add their folders

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["ep-hw", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out = capsys.readouterr()
        return ended.value.code or 0, out.out, out.err

    return run


@pytest.fixture
def refused(ep_hw, tmp_path):
    """Run a command that ends with exit code 2, one line on stderr and nothing written: that line."""
    def there():
        """When each file was written; what Python keeps of a plug-in is not ours."""
        return {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if "__pycache__" not in path.parts}

    def run(*arguments):
        before = there()
        code, _, err = ep_hw(*arguments)
        (line,) = err.splitlines()
        assert (code, line[:7]) == (2, "ep-hw: ")
        assert there() == before
        return line

    return run


@pytest.fixture
def in_lavas_interpreter(monkeypatch):
    """Plant a fault where the processes are built: Lava's interpreter runs this code before its worker."""
    def plant(code):
        def faulty(module, *arguments, python):
            *flags, start, link, memory = command(module, *arguments, python=python)
            path, worker = start.split("; from ")
            return [*flags, f"{path}; exec({textwrap.dedent(code)!r}); from {worker}", link, memory]

        monkeypatch.setattr(session, "command", faulty)

    return plant


@pytest.fixture(scope="module")
def graph():
    """A small network of random weights, lowered."""
    return small_network(3).lower()


@pytest.fixture(scope="session")
def random_graph():
    """Maker of small random graphs: random_graph(seed, side, pools, schedule, gain)."""
    return _random_graph


def _random_graph(seed: int, side: int = 7, pools=(2, 1), schedule: str = "alternating", gain: float = 1.0) -> EPGraph:
    """Two hidden layers of random weights of different sizes; odd maps where `side` is odd."""
    rng = np.random.default_rng(seed)
    couplings, pre = [], (2, side, side)
    for n, (channels, pool) in enumerate(zip((3, 5), pools)):
        weight = np.float32(gain * 10.0 ** rng.uniform(-1, 0.3) * rng.standard_normal((channels, pre[0], 3, 3)))
        couplings.append(Coupling(f"conv{n + 1}", weight, np.float32(rng.standard_normal(channels)), 1, pool, pre))
        pre = couplings[-1].post
    weight, bias = np.float32(rng.standard_normal((4, *pre))), np.float32(rng.standard_normal(4))
    readout = Coupling("readout", weight, bias, 0, 1, pre)
    populations = tuple(Population(f"layer{n + 1}", c.post, 0.5) for n, c in enumerate(couplings))
    return EPGraph((2, side, side), np.float32([0.3, 0.5]), np.float32([0.7, 1.1]), populations, tuple(couplings),
                   readout, schedule, 60, 1e-3)
