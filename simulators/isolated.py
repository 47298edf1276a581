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

_ROOT = Path(__file__).parents[1]
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}   # environment of every worker


def command(module: str, *arguments: object, python: str = sys.executable) -> list[str]:
    """The command that calls `module.main()` in an isolated interpreter.

    A file of the current folder that is called like a module of the standard library, or like one of ours, stays
    unread, whatever `sys.path` holds here.

    Args:
        module: of `mapping`, `simulators` or `ep_hw`.
        arguments: in its `sys.argv`.
        python: another interpreter may have other versions of all packages: of this one's it finds `mapping` and
            `simulators` alone.
    """
    finding = _path() if python == sys.executable else _ours()
    return [python, *_flags(), "-I", "-c", f"import sys; {finding}; from {module} import main; main()",
            *map(str, arguments)]


def _path() -> str:
    path = [str(folder) for folder in map(Path.absolute, map(Path, sys.path)) if folder.resolve() != Path.cwd()]
    return f"sys.path[:] = {[*path, str(_ROOT)]!a}"


def _ours() -> str:
    return ("import importlib.machinery as machinery; sys.meta_path.insert(0, type('Ours', (), {'find_spec': "
            "staticmethod(lambda name, *_: machinery.PathFinder.find_spec(name, "
            f"[{str(_ROOT)!a}]) if name in ('mapping', 'simulators') else None)}}))")


def _flags() -> list[str]:
    """-W, -X and the like, of which -P is part of -I and not known to every Python."""
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # no stub
    return [flag for flag in flags if flag != "-P"]


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
