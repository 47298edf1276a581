"""Packages of others that a benchmark runs beside ours, in this Python: uv brings them for the run alone."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[1]
PATIENCE_S = 900   # for packages to arrive
BROUGHT = "EP_HW_BENCHMARK_PEERS"   # set where uv has brought what it could


def bring(module: str, peers: Mapping[str, str]):
    """Go on where all peers are there; else run the module again in an environment that has them, and exit as it does.

    Args:
        module: the benchmark, which reads `sys.argv`.
        peers: name to import -> what to install for it.
    """
    lacking = [wanted for name, wanted in peers.items() if find_spec(name) is None]
    if not lacking:
        return
    reason = "uv did not bring them" if BROUGHT in os.environ else failure([*_interpreter(peers), "-c", ""], PATIENCE_S)
    if reason:
        sys.exit(f"benchmarks need packages of others: {reason}; install {' '.join(lacking)} beside ep-hw, or run it "
                 "where uv reaches a package index")
    again = subprocess.run([*_interpreter(peers), "-m", module, *sys.argv[1:]], env={**os.environ, BROUGHT: "1"},
                           cwd=ROOT)
    sys.exit(again.returncode)


def uv() -> str:
    """The uv at hand."""
    return os.environ.get("UV") or shutil.which("uv") or "uv"


def environment(python: str) -> dict[str, str]:
    """For a Python of its own: one thread, nothing of our environment; pyenv, where there is one, is asked for it."""
    ours = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    return {**ours, "OMP_NUM_THREADS": "1", "PYENV_VERSION": python}


def failure(command: list[str], patience_s: float, environment: Mapping[str, str] | None = None) -> str | None:
    """Why a command of uv's fails, None where it does not."""
    try:
        made = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=patience_s)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if made.returncode == 0:
        return None
    said = [line.strip() for line in made.stderr.splitlines() if line.strip() and not line.startswith("hint")]
    return next((line for line in said if line.startswith("error")), said[-1] if said else "uv failed")


def _interpreter(peers: Mapping[str, str]) -> list[str]:
    """The command that starts this Python with all peers."""
    return [uv(), "run", "--quiet", "--project", str(ROOT),
            *(part for wanted in peers.values() for part in ("--with", wanted)), "python"]
