"""Lava's Python: this one where it holds Lava, else the one EP_HW_LAVA_PYTHON names, else one that uv makes, once.

Lava is archived and knows no Python but 3.10. Beside it the worker needs what `mapping` imports, and nothing else of
ours. Importing this loads neither torch nor Lava.
"""

import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from mapping.errors import Refusal
from mapping.files import LONGEST_REASON, reason

VARIABLE, PYTHON = "EP_HW_LAVA_PYTHON", "3.10"
PACKAGES = ("lava-nc==0.10.0", "numpy==1.26.4", "scipy==1.15.3", "networkx==2.8.7", "scikit-learn==1.7.2",
            "asteval==0.9.33", "pydantic==2.14.3", "safetensors==0.8.0", "threadpoolctl==3.8.0", "tomli==2.5.0")
MODULES = ("lava", "numpy", "pydantic", "safetensors", "threadpoolctl", "tomli")
_UNSET = f"leave {VARIABLE} out, and uv makes one"
PATIENCE_S = 1800   # for packages to arrive
_ASK = f"""
import json, sys
from importlib.metadata import distributions
from importlib.util import find_spec
print(json.dumps(["%d.%d" % sys.version_info[:2], [name for name in {MODULES} if find_spec(name) is None],
                  [one.version for one in distributions(name="lava-nc")]]))
"""


def lava_python() -> str:
    """The interpreter that Lava's processes run in. uv may have to make it first, which takes half a minute.

    Raises:
        Refusal: the system is not Linux, the interpreter that was named lacks something, or none can be made.
    """
    if not hasattr(os, "memfd_create"):
        raise Refusal("Lava's processes need Linux", where="machine lava", got=sys.platform,
                      allowed="linux, for memory that processes share", remedy="use loihi, its bit-exact twin")
    if f"{sys.version_info[0]}.{sys.version_info[1]}" == PYTHON and find_spec("lava"):
        return sys.executable
    return _named(named) if (named := os.environ.get(VARIABLE)) else _kept()


def lava_version() -> str:
    """The version of lava-nc in Lava's interpreter; empty where there is none of either."""
    with suppress(Refusal):
        return " ".join(_ask(lava_python())[2])
    return ""


@cache
def _ask(python: str) -> tuple[str, list[str], list[str]]:
    """An interpreter's version, those of `MODULES` that it lacks, and its versions of lava-nc: one or none.

    Raises:
        Refusal: it is no interpreter.
    """
    with _refusing(f"{VARIABLE}={python}", _UNSET):
        version, missing, lava = json.loads(_run(python, "-I", "-c", _ASK))
        return version, missing, lava


def _named(python: str) -> str:
    version, missing, _ = _ask(python)
    if version != PYTHON or missing:
        raise _none(f"{VARIABLE}={python}, which is Python {version} and lacks {', '.join(missing) or 'nothing'}",
                    _UNSET)
    return python


def _kept() -> str:
    """The interpreter that uv made before, or makes now: whole or not at all, and once, however many ask."""
    name = f"lava-{hashlib.sha256(' '.join((PYTHON, *PACKAGES)).encode()).hexdigest()[:12]}"
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ep-hw"
    python = folder / name / "bin" / "python"
    if not python.exists():
        with _refusing(f"none made in {folder}", "let uv reach a package index this once"), _alone(folder, name):
            if not python.exists():
                _make(folder / name)
    return str(python)


@contextmanager
def _alone(folder: Path, name: str) -> Iterator[None]:
    """One process at a time."""
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make(place: Path):
    uv = _uv()
    logging.getLogger(__name__).warning("Lava needs a Python %s of its own: uv makes it, once, in %s", PYTHON, place)
    with TemporaryDirectory(dir=place.parent, prefix=".making-") as scratch:
        made = Path(scratch) / "made"
        _run(uv, "venv", "--quiet", "--no-project", "--python", PYTHON, made, folder=scratch)
        _run(uv, "pip", "install", "--quiet", "--python", made / "bin" / "python", *PACKAGES, folder=scratch)
        shutil.rmtree(place, ignore_errors=True)   # one whose Python was removed
        made.rename(place)


def _uv() -> str:
    """The first uv that runs: the one that runs this process, that of a module, that of a command."""
    for uv in filter(None, (os.environ.get("UV"), *_of_module(), shutil.which("uv"))):
        with suppress(OSError, subprocess.SubprocessError):
            _run(uv, "--version")
            return uv
    raise _none(f"Python {sys.version.split()[0]}, no {VARIABLE}, no uv", "pip install uv, which makes one")


def _of_module() -> list[str]:
    if not find_spec("uv"):
        return []
    import uv

    return [uv.find_uv_bin()]


def _run(*command: object, folder: str | None = None) -> str:
    """What a command prints. It knows nothing of our environment; pyenv, where there is one, finds its Python too.

    Raises:
        OSError, subprocess.SubprocessError: it cannot be run, fails or takes too long.
    """
    ours = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    return subprocess.run(list(map(str, command)), cwd=folder, env={**ours, "PYENV_VERSION": _pyenv()}, check=True,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE_S).stdout


@cache
def _pyenv() -> str:
    """Versions whose commands pyenv's shims find: Lava's Python, then those of here, one of which may have uv."""
    here = ""
    with suppress(OSError, subprocess.SubprocessError):
        here = subprocess.run(["pyenv", "version-name"], check=True, stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=PATIENCE_S).stdout.strip()
    return ":".join(filter(None, (PYTHON, here)))


@contextmanager
def _refusing(what: str, remedy: str) -> Iterator[None]:
    try:
        yield
    except Refusal:
        raise
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        said = " ".join((getattr(error, "stderr", None) or reason(error)).split())[-LONGEST_REASON:]
        raise _none(f"{what}: {said}", remedy) from None


def _none(got: str, remedy: str) -> Refusal:
    return Refusal("no interpreter for Lava", where="machine lava", got=got,
                   allowed=f"Python {PYTHON} with {', '.join(MODULES)}",
                   remedy=f"{remedy}, or set {VARIABLE} to one with {' '.join(PACKAGES)}; loihi, the bit-exact twin, "
                          "needs none")
