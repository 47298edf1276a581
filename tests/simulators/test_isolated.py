"""Our workers start in isolated interpreters: what lies in the current folder is not run by them."""

import subprocess
import sys

import pytest
import torch

import mapping
from simulators.isolated import command
from simulators.loihi.lava import LavaMachine

NAMES = ("socket", "json", "struct", "signal", "random", "numpy", "mapping", "simulators", "sitecustomize")


@pytest.fixture(params=["", ".", "whole"])
def hostile_folder(request, tmp_path, monkeypatch):
    """The current folder, on this process's path as `python -c`, PYTHONPATH or `python -m` put it. What runs says so.
    """
    for name in NAMES:
        (tmp_path / f"{name}.py").write_text(f"open('ran-{name}', 'w')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path) if request.param == "whole" else request.param, *sys.path])
    monkeypatch.setenv("PYTHONPATH", ".")
    return tmp_path


def test_nothing_of_the_current_folder_runs(hostile_folder):
    start = [part.replace("main()", "print(main.__module__)") for part in command("simulators.loihi.worker")]
    started = subprocess.run(start, capture_output=True, text=True, check=False)
    assert (started.stdout, started.stderr) == ("simulators.loihi.worker\n", "")
    assert not list(hostile_folder.glob("ran-*"))


def test_it_would_run_otherwise(hostile_folder):
    subprocess.run([sys.executable, "-c", "import socket"], capture_output=True, check=False)
    assert (hostile_folder / "ran-socket").exists()


@pytest.mark.parametrize("hostile_folder", [""], indirect=True)
def test_lava_relaxes_beside_a_users_own_mapping_py(hostile_folder, random_graph):
    with LavaMachine(mapping.compile(random_graph(0), "lava"), batch=1) as machine:
        assert machine.relax(torch.zeros(1, *machine.graph.image_shape), 2).steps.tolist() == [2]
    assert not list(hostile_folder.glob("ran-*"))


def test_a_workers_warnings_and_optimisation_are_this_processes(monkeypatch):
    code = "import sys; print(sys.flags.optimize, sys.warnoptions, sys.flags.isolated)"
    start = "from simulators.isolated import command; import subprocess; " \
            "subprocess.run([p.split(';')[0] + '; ' + CODE if 'sys.path' in p else p for p in command('mapping')])"
    ran = subprocess.run([sys.executable, "-O", "-W", "ignore", "-c", f"CODE = {code!r}; {start}"], capture_output=True,
                         text=True, check=True)
    assert ran.stdout == "1 ['ignore'] 1\n"
