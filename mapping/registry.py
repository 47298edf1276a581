"""The registry of machines: what each name means, how it is compiled, and the ladder of causes that leads to it.

A machine of your own is a `Target`, and a `Program` where none of those here holds what it needs:

    mapping.register_machine(MineTarget("mine"), "what it computes", compile=compile_mine)
    simulators.register_machine(MineProgram, MineMachine)
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from mapping.definitions import is_again
from mapping.errors import Refusal
from mapping.graph import EPGraph
from mapping.labels import split_label
from mapping.names import suggesting
from mapping.options import parse_options
from mapping.program import Program
from mapping.targets import REFERENCE, ReferenceTarget, Target

T = TypeVar("T", bound=Target)
Rungs = list[tuple[Target, str]]   # (machine, the cause of error that it adds to the machine before)
_NAME = re.compile("[a-z][a-z0-9_]*(:[a-z0-9_]+)?(/[a-z0-9_]+)?")


def from_reference(target: Target) -> Rungs:
    """How a ladder begins: the reference, and again with the target's own number of steps where a user set one."""
    reference, steps = ReferenceTarget(REFERENCE), target.steps
    shorter: Rungs = [(ReferenceTarget(REFERENCE, steps=steps), f"{steps} steps")] if steps else []
    return [(reference, "digital reference"), *shorter]


def straight(target: Target) -> Rungs:
    """The ladder of a machine that no others lead to."""
    return [*from_reference(target), (target, "the machine itself")]


@dataclass(frozen=True)
class Registered(Generic[T]):
    """What is known of a machine, see `register_machine`."""

    target: T
    meaning: str
    compile: Callable[[EPGraph, T], Program[T]]
    rungs: Callable[[T], Rungs]
    version: int
    kind: str
    content: str = ""

    def is_made_again(self, other: "Registered") -> bool:
        """Whether a notebook made the other one in its place; its rungs may change with it."""
        own: list[Callable] = [type(self.target), self.compile, self.rungs]
        new: list[Callable] = [type(other.target), other.compile, other.rungs]
        return all(map(is_again, new, own)) and "__main__" in (part.__module__ for part in own)


REGISTRY: dict[str, Registered] = {}


def register_machine(target: T, meaning: str, *, compile: Callable[[EPGraph, T], Program[T]],
                     rungs: Callable[[T], Rungs] = straight, version: int = 1, kind: str | None = None,
                     content: str = ""):
    """Make a machine known by its name, on the command line as well.

    Args:
        target: with its name and every option as it is where a user sets none.
        meaning: what the machine computes, in a line.
        compile: from a network and the target with a user's options to the program; Refusal where it does not fit.
        rungs: the ladder from the reference to the target with a user's options, itself last.
        version: of the code that decides what machines of this kind answer; cells made by another are made again.
        kind: what machines of the same code have in common; the name up to its colon if None.
        content: digest of what defines the machine beside code, as a user's numbers do; cells made by another are made
            again.

    Raises:
        Refusal: a name that none could write, or a name or kind that is known by another definition.
    """
    name = target.name
    entry = Registered(target, meaning, compile, rungs, version, kind or name.partition(":")[0], content)
    if not _NAME.fullmatch(name):
        raise Refusal("not a machine's name", where="register_machine", got=repr(name),
                      allowed="small letters, digits and _, as kind, kind:name or kind:name/rung",
                      remedy="choose another name")
    other = REGISTRY.get(name, entry)
    known = next((one.version for one in REGISTRY.values() if one.kind == entry.kind and one is not other), version)
    if not (other == entry or other.is_made_again(entry)) or known != version:
        raise Refusal("the machine is registered already, and otherwise", where="register_machine", got=name,
                      allowed="a new name, or the same definition again; one version a kind",
                      remedy="choose another name")
    REGISTRY[name] = entry


def versions() -> dict[str, int]:
    """Kind of machine -> version of its code."""
    return {entry.kind: entry.version for entry in REGISTRY.values()}


def contents(target: Target) -> dict[str, str]:
    """Name of a machine -> digest of what defines it beside code; empty where nothing does."""
    own = REGISTRY[target.name].content
    return {target.name: own} if own else {}


def parse(text: str) -> Target:
    """The target named by `text`, e.g. "crossbar:pcm[age=1d,adc_bits=6]", or with a label "mine=crossbar:pcm".

    Raises:
        Refusal: unknown machine or option, an option out of range, or a label that is none, see `labelled`.
    """
    label, machine = split_label(text.strip())
    name, bracket, rest = machine.partition("[")
    if name not in REGISTRY or (bracket and not rest.endswith("]")):
        known = _rungs_of(name.partition("/")[0]) if "/" in name else []
        raise Refusal("unknown machine", where="machine", got=repr(machine), **suggesting(
            name, known or REGISTRY, allowed=None if known else _devices(),
            remedy="run 'ep-hw machines' for their meaning; options go in brackets, as loihi[weight_bits=6]; machines "
                   "of your own come by --devices or --plugin"))
    return labelled(parse_options(REGISTRY[name].target, rest[:-1]), label)


def labelled(target: T, label: str) -> T:
    """The target under a label.

    Raises:
        Refusal: the label is a machine's name, or the target is the reference, which is found by its name.
    """
    if label in REGISTRY or (label and str(target) == REFERENCE):
        raise Refusal("the label is a machine's name" if label in REGISTRY else "the reference takes no label",
                      where="machine", got=repr(f"{label}={target}"),
                      allowed="a name of its own, of another machine than the reference",
                      remedy="call it something else, or leave the label out")
    return replace(target, label=label)


def _rungs_of(device: str) -> list[str]:
    """A device and its rungs; empty where there is no such device."""
    return [known for known in REGISTRY if known == device or known.startswith(f"{device}/")]


def _devices() -> str:
    """Every machine without its rungs."""
    return ", ".join(known for known in REGISTRY if "/" not in known) + ", rungs as crossbar:pcm/aged"
