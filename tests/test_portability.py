"""Systems other than Linux, as far as one can try here: without what only Linux has everything but Lava goes on."""

import subprocess
import sys

import pytest
from networks import saved, small_network

ELSEWHERE = """
import os, signal, sys
for module, names in ((os, ("sched_getaffinity", "memfd_create", "O_NOFOLLOW", "O_CLOEXEC")),
                      (signal, ("pthread_sigmask",))):
    for name in names:
        delattr(module, name)
import ctypes
class Library:
    def __getattr__(self, name): raise AttributeError(name)
known = ctypes.CDLL
ctypes.CDLL = lambda *paths, **named: Library() if paths == (None,) else known(*paths, **named)
sys.argv = ["ep-hw", *{arguments!r}]
from ep_hw.cli import main
main()
"""


@pytest.fixture
def elsewhere(tmp_path):
    def run(*arguments):
        code = ELSEWHERE.format(arguments=list(map(str, arguments)))
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200, cwd=tmp_path)
    return run


def test_commands_answer(elsewhere, tmp_path):
    saved(small_network(5, steps=20), tmp_path)
    ended = elsewhere("evaluate", "small.safetensors", "--on", "loihi", "--images", 4, "--jobs", 2, "--out", "run")
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "run/report.html").is_file()


def test_lava_says_that_it_needs_linux(elsewhere, tmp_path):
    saved(small_network(5, steps=20), tmp_path)
    ended = elsewhere("evaluate", "small.safetensors", "--on", "lava", "--images", 4, "--jobs", 1, "--out", "run")
    assert ended.returncode == 2
    assert "Lava's processes need Linux" in ended.stderr.splitlines()[-1]
