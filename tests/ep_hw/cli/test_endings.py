"""However a command ends, the user reads one line."""

import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from processes import all_end, descendants, wait_until

from ep_hw.cli.commands import app
from simulators.loihi.session import LavaError

COMMAND = [sys.executable, "-m", "ep_hw.cli"]


def ending(command: str, **settings) -> tuple[int, list[str]]:
    """Exit code, and lines on stderr, of a shell command."""
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], stderr=subprocess.PIPE, text=True, check=False,
                          stdout=subprocess.DEVNULL, timeout=60, **settings)
    return done.returncode, done.stderr.splitlines()


@pytest.mark.parametrize(("output", "code", "lines"), [
    ("| true", 1, ["ep-hw: cannot go on: Broken pipe"]),
    ("> /dev/full", 1, ["ep-hw: cannot go on: No space left on device"]),
    (">&-", 0, []), (">&- 2>&-", 0, []), ("2>&1 | true", 1, [])])
def test_output_that_nobody_takes_is_told_in_one_line(output, code, lines):
    assert ending(f"{sys.executable} -m ep_hw.cli machines {output}") == (code, lines)


def test_what_libraries_do_at_the_end_is_done():
    program = ("import atexit, sys, types; from ep_hw.cli import main; "
               "sys.modules['ep_hw.cli.commands'] = types.SimpleNamespace("
               "run=lambda: atexit.register(print, 'tidied') and 3); main()")
    done = subprocess.run([sys.executable, "-E", "-c", program], capture_output=True, text=True, check=False,
                          timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (3, "tidied\n", "")


@contextmanager
def full_disk(size: int):
    """Files grow to `size` bytes and no further."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [1000, 8_000])
def test_a_full_disk_is_told_in_one_line(ep_hw, tmp_path, size):
    """At 8,000 bytes the cells are whole and the report is not."""
    with full_disk(size):
        code, _, err = ep_hw("evaluate", "digits", "--alone", "--on", "reference", "--images", 2, "--jobs", 1)
    lines = [line for line in err.splitlines() if line.startswith("ep-hw: ")]
    assert (code in (1, 2), len(lines), "Traceback" in err) == (True, 1, False)
    assert "File too large" in lines[0]
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("ask", [lambda: np.empty(2**50), lambda: torch.empty(2**50), lambda: [0] * 2**50])
def test_too_little_memory_is_told_in_one_line(ep_hw, monkeypatch, ask):
    monkeypatch.setattr(app, "registered_commands", list(app.registered_commands))
    app.command("greedy")(ask)
    code, _, err = ep_hw("greedy")
    assert (code, len(err.splitlines())) == (1, 1)
    assert "ep-hw: not enough memory" in err


def test_an_error_of_our_own_keeps_its_traceback(ep_hw, monkeypatch):
    monkeypatch.setattr(app, "registered_commands", list(app.registered_commands))
    app.command("faulty")(lambda: torch.ones(2) @ torch.ones(3))
    with pytest.raises(RuntimeError, match="size"):
        ep_hw("faulty")


def test_a_failed_lava_process_is_told_without_its_traceback(ep_hw, monkeypatch):
    def fail():
        raise LavaError("conv1", "ValueError: wrong", "Traceback ...")

    monkeypatch.setattr(app, "registered_commands", list(app.registered_commands))
    app.command("failing")(fail)
    assert ep_hw("failing") == (1, "", "ep-hw: conv1: ValueError: wrong\n")


def test_ctrl_c_in_an_import_that_swallows_it_is_told_in_one_line(tmp_path):
    (tmp_path / "typer.py").write_text(textwrap.dedent("""
        import os, signal
        try:
            os.kill(os.getpid(), signal.SIGINT)
            import nowhere
        except BaseException:
            pass
        """))
    code, lines = ending(" ".join(COMMAND), env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert (code, len(lines)) == (130, 1)
    assert lines[0].startswith("ep-hw: interrupted; what was finished is kept")


HOST = """
    import sys, time
    from functools import partial
    from ep_hw import cli
    from ep_hw.cli import commands
    from ep_hw.evaluation.workers import workers

    def wait():
        with workers(3) as pool:
            list(pool.each([partial(time.sleep, 0.01)] * 10_000))

    if __name__ == "__main__":
        commands.run = wait
        cli.main()
    """


def test_ctrl_c_while_workers_start_is_told_in_one_line(tmp_path):
    """Pressed at six moments, side by side, and more than once; a terminal sends it to the workers too."""
    (tmp_path / "host.py").write_text(textwrap.dedent(HOST))
    hosts = [subprocess.Popen([sys.executable, tmp_path / "host.py"], stderr=subprocess.PIPE, text=True,
                              start_new_session=True) for _ in range(6)]
    for number, host in enumerate(hosts):
        assert wait_until(lambda: len(descendants(host.pid)) > number % 3 + 1, 30)   # noqa: B023 - called at once
        family = descendants(host.pid)
        for _ in range(1 + number // 3):
            os.killpg(host.pid, signal.SIGINT)
            time.sleep(0.02)
        _, words = host.communicate(timeout=10)
        assert (host.returncode, len(words.splitlines())) == (130, 1), words
        assert all_end(family)
