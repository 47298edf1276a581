"""The expectation of each rung: a table from the kind of machine to how far its cause may change what.

An expectation looks at the rung's program and the machine that runs it; where the rung changes a chip, also at the
machine of the rung below, without the cause.
"""

from collections.abc import Callable

from ep_hw.diagnosis import cells, integers, reads
from ep_hw.diagnosis.finding import Finding, Scene
from ep_hw.evaluation.rungs import Rung
from mapping.crossbar.program import CrossbarProgram
from mapping.loihi.program import LoihiProgram
from mapping.loihi.target import LoihiTarget
from mapping.program import Program
from simulators.crossbar.chip import CrossbarMachine
from simulators.machine import Machine

LAVA = ("lava", "lava:float")
INTEGERS: dict[str, Callable[[LoihiProgram, Machine, Scene], list[Finding]]] = {
    "loihi:weights": integers.integer_weights,
    "loihi:states": integers.rounded_states,
    "loihi": integers.integer_states,
    "dead": integers.dead_units,
    "held back": integers.delta_threshold,
}
WEIGHTS: dict[str, Callable[[CrossbarProgram, CrossbarMachine, Scene], list[Finding]]] = {
    "mapped": cells.mapped,
    "levels": cells.levels,
}
CELLS: dict[str, Callable[[CrossbarProgram, CrossbarMachine, CrossbarMachine], list[Finding]]] = {
    "stuck": cells.stuck,
    "programmed": cells.programmed,
    "aged": cells.aged,
    "wires": cells.wires,
}
READS: dict[str, Callable[[CrossbarProgram, CrossbarMachine, CrossbarMachine, Scene], list[Finding]]] = {
    "read": reads.read,
    "converters": reads.converters,
    "curves": reads.curves,
}


def examine(rung: Rung, machine: Machine, below: Machine, scene: Scene) -> list[Finding]:
    """Compare what a rung's cause did, layer by layer, with its expectation.

    Args:
        rung: to be examined.
        machine: of the rung.
        below: machine of the rung before it, without the cause.
        scene: network and images.

    Returns:
        Nothing for rungs without an expectation: the reference, and what a chip learned.
    """
    program, kind = rung.program, kind_of(rung.program)
    if kind in LAVA:
        return integers.lava_processes(program, machine, scene)
    if isinstance(program, LoihiProgram):
        return INTEGERS[kind](program, machine, scene)
    if isinstance(program, CrossbarProgram) and isinstance(machine, CrossbarMachine):
        return _of_a_chip(kind, program, machine, below, scene)
    return []


def _of_a_chip(kind: str, program: CrossbarProgram, machine: CrossbarMachine, below: Machine,
               scene: Scene) -> list[Finding]:
    if kind in WEIGHTS:
        return WEIGHTS[kind](program, machine, scene)
    if not isinstance(below, CrossbarMachine):
        return []
    if kind in CELLS:
        return CELLS[kind](program, machine, below)
    return READS[kind](program, machine, below, scene) if kind in READS else []


def kind_of(program: Program) -> str:
    """The name of a rung's expectation."""
    target = program.target
    if isinstance(program, CrossbarProgram):
        return "tuned" if program.target.tuned else program.target.rung
    if isinstance(target, LoihiTarget) and target.name == "loihi" and target.threshold is not None:
        return "held back"
    if isinstance(target, LoihiTarget) and target.name == "loihi" and (target.dead or target.lost_core is not None):
        return "dead"
    return target.name
