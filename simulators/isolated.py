"""Fresh interpreters for our own workers: they import from where this one does, but never from the current folder.

Importing this loads neither torch nor Lava.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}   # environment of every worker


def command(module: str, *arguments: object) -> list[str]:
    """The command that calls `module.main()` in an isolated interpreter.

    A file of the current folder that is called like a module of the standard library, or like one of ours, stays
    unread, whatever `sys.path` holds here.
    """
    path = [str(folder) for folder in map(Path.absolute, map(Path, sys.path)) if folder.resolve() != Path.cwd()]
    path.append(str(Path(__file__).parents[1]))
    code = f"import sys; sys.path[:] = {path!a}; from {module} import main; main()"
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # -W, -X and the like: no stub
    return [sys.executable, *flags, "-I", "-c", code, *map(str, arguments)]


def processors() -> int:
    """How many processors this process may use; all there are where the system does not tell."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Ctrl-C waits until the end; a process started within never hears of it. Without signal masks it does not wait."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
