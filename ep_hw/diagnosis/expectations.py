"""Which expectation belongs to which rung: a table from the kind of machine to what its cause may do."""

from collections.abc import Callable

from ep_hw.diagnosis import analog, integers
from ep_hw.diagnosis.finding import Finding, Scene
from ep_hw.evaluation.rungs import Rung
from mapping.crossbar.target import CrossbarTarget
from mapping.loihi.target import LoihiTarget
from simulators.machine import Machine

Expectation = Callable[[Rung, Machine, Machine, Scene], list[Finding]]

EXPECTATIONS: dict[str, Expectation] = {
    "loihi:weights": integers.integer_weights,
    "loihi:states": integers.rounded_states,
    "loihi": integers.integer_states,
    "held back": integers.delta_threshold,
    "lava": integers.lava_processes,
    "lava:float": integers.lava_processes,
    "mapped": analog.mapped,
    "levels": analog.levels,
    "stuck": analog.stuck,
    "programmed": analog.programmed,
    "aged": analog.aged,
    "read": analog.read,
    "converters": analog.converters,
    "wires": analog.wires,
}


def examine(rung: Rung, machine: Machine, below: Machine, scene: Scene) -> list[Finding]:
    """What a rung's cause did, layer by layer, against what it may do.

    Args:
        machine: of the rung. below: of the rung before it, without the cause.
    """
    return EXPECTATIONS[kind](rung, machine, below, scene) if (kind := kind_of(rung)) in EXPECTATIONS else []


def kind_of(rung: Rung) -> str:
    """The expectation's name for a rung; the reference's own rungs have none, nor has what a chip learned."""
    target = rung.program.target
    if isinstance(target, CrossbarTarget):
        return "tuned" if target.tuned else target.rung
    if isinstance(target, LoihiTarget) and target.name == "loihi" and target.threshold is not None:
        return "held back"
    return target.name
