"""Versions of the code that decides a cell's outcome, one number a kind; each is part of the key of its cells.

Machines, attacks and corruptions are registered with their own. Raise a number whenever the outcome of its kind
changes: cells made before are then computed again instead of being taken for new ones. A test keeps an outcome of each
kind beside its number, and fails where only the outcome moved.
"""

from collections.abc import Sequence
from functools import cache
from importlib.metadata import version

import ep_hw
from ep_hw.threats.registry import code_versions
from ep_hw.threats.threat import Threat
from mapping import registry
from mapping.targets import ReferenceTarget
from simulators.module import AnyProgram, ModuleProgram

VERDICT = 2      # of a cell itself: votes, noise of the attack's size, what its rows hold and take from other machines
MODULE = 1       # of machines that are modules; that of others is registered with them
TRAINING, TUNING = 1, 1   # of a run that may be continued
TEMPORAL = 1     # accuracy over attack time and prediction step
ENVELOPE = 1     # adversarial success over effort and strength
LIBRARIES = ("numpy", "scipy", "pillow", "torch", "pyautoattack")


def machines() -> dict[str, int]:
    """Kind of machine -> version of the code that decides what it answers."""
    return {"module": MODULE, **registry.versions()}


def machine_kind(program: AnyProgram) -> str:
    """The entry of `machines` that runs a program."""
    plain = isinstance(program, ModuleProgram) and isinstance(program.target, ReferenceTarget)
    return "module" if plain else registry.REGISTRY[program.target.name].kind


def code_of(programs: Sequence[AnyProgram], threat: Threat) -> dict[str, int | str]:
    """Name -> version of all code that makes a cell.

    Args:
        programs: of the machine under test and of those that it is compared with.
        threat: that the machine meets.
    """
    kinds, known = {machine_kind(program) for program in programs}, machines()
    return {"verdict": VERDICT, **{kind: known[kind] for kind in sorted(kinds)}, **dict([threat.code]), **libraries(),
            **{name: digest for program in programs for name, digest in registry.contents(program.target).items()}}


def all_code() -> dict[str, int | str]:
    """Every version there is."""
    return {"ep_hw": ep_hw.__version__, "verdict": VERDICT, "temporal": TEMPORAL, "envelope": ENVELOPE,
            "training": TRAINING, "tuning": TUNING, **machines(), **code_versions(), **libraries()}


@cache
def libraries() -> dict[str, str]:
    """Library -> its version, of those whose arithmetic reaches an outcome."""
    return {name: version(name) for name in LIBRARIES}
