"""The attacks and corruptions that threats may name; a user's own join them by the same two functions."""

from collections.abc import Callable
from typing import TypeVar

from ep_hw.threats.definitions import SEVERITY, AnyCorruption, Attack, Constant, Corrupting, Corruption
from mapping.definitions import is_again
from mapping.errors import Refusal
from mapping.fields import check_named

ATTACKS: dict[str, Attack] = {}
CORRUPTIONS: dict[str, AnyCorruption] = {}
CLEAN = "clean"   # the name of no threat at all
_RESERVED = set("@:[]")   # what separates the parts of a threat's name
A = TypeVar("A", bound=Attack)


def register_attack(attack: A) -> A:
    """Let threats name an attack, as `NAME@STRENGTH`; the same definition may be registered again.

    Worker processes import the main module of a script as it was imported here: register at its top level, not below
    `if __name__ == "__main__"`.

    Raises:
        Refusal: a name that cannot be one or is taken, or code of that name in another version.
    """
    _check(attack)
    ATTACKS[attack.name] = attack
    return attack


def register_corruption(constants: tuple[Constant, ...], *, random: bool, code: str | None = None,
                        version: int = 1) -> Callable[[Corrupting[Constant]], Corrupting[Constant]]:
    """Let threats name the decorated function as a corruption, `NAME@1` to `NAME@5`; see `register_attack`.

    It joins no suite and no mean: these name their members.

    Args:
        constants: the function's constant at severities 1 to 5.
        random: it draws random numbers.
        code: in keys of cells, the name of the code that makes it; the function's own if None.
        version: of that code; raised whenever what it makes changes.

    Raises:
        Refusal: see `register_attack`; or other than five constants.
    """
    def register(function: Corrupting[Constant]) -> Corrupting[Constant]:
        name = function.__name__
        corruption = Corruption(name, function, constants, random, code or name, version)
        _check(corruption)
        if len(constants) != SEVERITY.most:
            raise Refusal("a corruption has five severities", where=name, got=f"{len(constants)} constants",
                          allowed="5", remedy="give one constant (or tuple of them) a severity")
        CORRUPTIONS[name] = corruption
        return function

    return register


def _check(threat: Attack | AnyCorruption):
    """Refuse a name that is taken or cannot be read back, and two versions of the same code; what a notebook makes
    again takes the place of what it made.
    """
    name = threat.name
    check_named(name, "threat")
    other = ATTACKS.get(name) or CORRUPTIONS.get(name) or threat
    if name == CLEAN or not (other == threat or is_again(threat.maker, other.maker)) or set(name) & _RESERVED:
        raise Refusal("the threat cannot have that name", where="threat", got=repr(name),
                      allowed=f"a name of its own, without any of {' '.join(sorted(_RESERVED))}",
                      remedy="call it something else")
    every: list[Attack | AnyCorruption] = [*CORRUPTIONS.values(), *ATTACKS.values()]
    known = next((one.version for one in every if one.code == threat.code and one is not other), threat.version)
    if known != threat.version:
        raise Refusal("two versions of the same code", where=name, got=f"{threat.code} {threat.version}",
                      allowed=f"{threat.code} {known}", remedy="give the code a name of its own")


def code_versions() -> dict[str, int]:
    """Name -> version of all code that makes images."""
    return {CLEAN: 1, **{corruption.code: corruption.version for corruption in CORRUPTIONS.values()},
            **{attack.code: attack.version for attack in ATTACKS.values()}}
