"""Versions of the code that decides a cell's outcome, one number a kind; each is part of the key of its cells.

Machines, attacks and corruptions are registered with their own. Raise a number whenever the outcome of its kind
changes: cells made before are then computed again instead of being taken for new ones. A test keeps an outcome of each
kind beside its number, and fails where only the outcome moved. What users bring has no number that anyone would raise:
their files, and the numbers of their devices, are part of the keys as they are.
"""

import inspect
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from importlib.metadata import version
from itertools import chain
from pathlib import Path

import ep_hw
from ep_hw.threats.registry import code_versions
from ep_hw.threats.sources import PROJECT, digest
from ep_hw.threats.threat import CLEAN, Threat
from mapping import registry
from mapping.crossbar.target import CrossbarTarget
from mapping.targets import ReferenceTarget
from simulators.crossbar.models import model_of
from simulators.module import AnyProgram, ModuleProgram
from simulators.registry import opener_of

VERDICT = 7      # of a cell itself: votes, noise of the attack's size, what its rows hold and take from other cells
MODULE = 1       # of machines that are modules; that of others is registered with them
TRAINING, TUNING = 2, 1   # of a run that may be continued
TEMPORAL = 1     # accuracy over attack time and prediction step
ENVELOPE = 12    # adversarial success over effort and strength
LIBRARIES = ("numpy", "scipy", "pillow", "torch", "pyautoattack")


def machines() -> dict[str, int]:
    """Kind of machine -> version of the code that decides what it answers."""
    return {"module": MODULE, **registry.versions()}


def machine_kind(program: AnyProgram) -> str:
    """The entry of `machines` that runs a program."""
    plain = isinstance(program, ModuleProgram) and isinstance(program.target, ReferenceTarget)
    return "module" if plain else registry.REGISTRY[program.target.name].kind


def code_of(programs: Sequence[AnyProgram], threat: Threat) -> dict[str, int | str]:
    """Name -> version of all code of ours and of users that makes a cell; `libraries` are part of its key too.

    Args:
        programs: of the machine under test and of those that it is compared with.
        threat: that the machine meets.
    """
    kinds, known = {machine_kind(program) for program in programs}, machines()
    return {"verdict": VERDICT, **{kind: known[kind] for kind in sorted(kinds)}, **dict([threat.code]),
            **{name: digest for program in programs for name, digest in registry.contents(program.target).items()},
            **_files(chain(*map(_parts_of, programs), _parts_of_threat(threat)))}


def _parts_of(program: AnyProgram) -> Iterator[Callable]:
    """Functions and classes that decide what a machine answers; those of a user are in files of theirs."""
    yield opener_of(program)
    if isinstance(program, ModuleProgram):
        yield type(program.module)
    if program.target.name in registry.REGISTRY:
        yield from (type(program.target), registry.REGISTRY[program.target.name].compile)
    if isinstance(program.target, CrossbarTarget):
        yield type(model_of(program.target))


def _parts_of_threat(threat: Threat) -> Iterator[Callable]:
    if threat != CLEAN:
        yield threat.definition.maker


def _files(parts: Iterable[Callable]) -> dict[str, str]:
    """Name -> sha256 of the files that hold some functions and classes, and of what these import; see
    `ep_hw.threats.sources`. Those of the project are left out.
    """
    own = (part for part in parts if part.__module__.partition(".")[0] not in PROJECT)
    found: dict[str, str] = {}
    for name, held in dict.fromkeys(map(_held, own)):
        found[name] = found.get(name, "") + held   # of all files of that name
    return found


def _held(part: Callable) -> tuple[str, str]:
    """Name and sha256 of the file that holds a function or class; its own where it stands in a notebook."""
    try:
        file = inspect.getfile(part)
    except (TypeError, OSError):
        file = ""
    if Path(file).is_file():
        return Path(file).name, digest(file)
    return f"{part.__module__}.{part.__qualname__}", _unread(part)


@cache
def _unread(part: Callable) -> str:
    """What stands for code that no file holds: once it is typed again, its cells are made again."""
    return secrets.token_hex(32)


def all_code() -> dict[str, int | str]:
    """Every version there is."""
    return {"ep_hw": ep_hw.__version__, "verdict": VERDICT, "temporal": TEMPORAL, "envelope": ENVELOPE,
            "training": TRAINING, "tuning": TUNING, **machines(), **code_versions(), **libraries()}


@cache
def libraries() -> dict[str, str]:
    """Library -> its version, of those whose arithmetic reaches an outcome."""
    return {name: version(name) for name in LIBRARIES}
