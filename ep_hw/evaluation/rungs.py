"""Ladders: the machines from the reference to a target, each adding one cause of error to the one before.

    reference --8-bit weights--> loihi:weights --integer states--> loihi --Lava processes--> lava
"""

from dataclasses import dataclass, replace
from itertools import pairwise, takewhile

from mapping.crossbar.program import CrossbarProgram, compile_crossbar
from mapping.graph import EPGraph
from mapping.program import FloatProgram, Program
from mapping.targets import REFERENCE, CrossbarTarget, LoihiTarget, ReferenceTarget, Target, parse

_CROSSBAR_CAUSES = {"mapped": "mapping to tiles", "levels": "conductance levels", "stuck": "stuck cells",
                    "programmed": "programming noise", "aged": "drift and slow noise",
                    "read": "read noise, fixed steps", "converters": "DAC and ADC", "wires": "resistance of the wires"}


def rungs_of(target: Target) -> list[tuple[str, str]]:
    """(machine, cause) from the reference to the target, each machine adding one cause."""
    if isinstance(target, CrossbarTarget):
        programmed = _crossbar_rungs(replace(target, tuned=False))
        return [*programmed, (str(target), "tuning in situ")] if target.tuned else programmed
    return _from_reference(target.steps) + (_loihi_rungs(target) if isinstance(target, LoihiTarget) else [])


def _from_reference(steps: int | None) -> list[tuple[str, str]]:
    """The reference, and again with the target's own number of steps where a user set one."""
    shorter = [(f"{REFERENCE}[steps={steps}]", f"{steps} steps")] if steps else []
    return [(REFERENCE, "digital reference"), *shorter]


def _loihi_rungs(target: LoihiTarget) -> list[tuple[str, str]]:
    whole = LoihiTarget("loihi", weight_bits=target.weight_bits, state_bits=target.state_bits, steps=target.steps)
    rungs = []
    if target.quantises_weights:
        rungs.append((str(replace(whole, name="loihi:weights")), f"{target.weight_bits}-bit weights"))
    if target.quantises_states:
        rungs.append((str(whole if target.quantises_weights else target), "integer states"))
    if target.quantises_weights and target.threshold is not None:
        rungs.append((str(replace(whole, threshold=target.threshold)), "changes held back"))
    return rungs + ([(str(target), "Lava processes")] if target.on_lava else [])


def _crossbar_rungs(target: CrossbarTarget) -> list[tuple[str, str]]:
    ideal = CrossbarTarget.named("crossbar:ideal").having(tile=target.array.tile, steps=target.dynamics.steps)
    rungs = [*_from_reference(target.dynamics.steps), (str(ideal), _CROSSBAR_CAUSES["mapped"])]
    last = (target.rung, *target.rungs)[-1]
    for rung in target.rungs:
        if rung != last:
            rungs.append((str(replace(target, name=f"crossbar:{target.preset.name}/{rung}")), _CROSSBAR_CAUSES[rung]))
    return rungs if str(target) == str(ideal) else [*rungs, (str(target), _CROSSBAR_CAUSES[last])]


@dataclass(frozen=True, eq=False)
class Rung:
    """One machine of a ladder, as a program, and what it adds to the rung before."""

    program: Program
    cause: str

    @property
    def name(self) -> str:
        return str(self.program.target)


def ladder(program: Program, graph: EPGraph) -> list[Rung]:
    """From the reference to a program.

    The rungs between hold the program's own arrays, not freshly compiled ones: what is wrong in the program then shows
    at the first rung whose cause it belongs to.

    Args:
        graph: the network as it was lowered, which the reference runs.
    """
    return [Rung(_at(parse(name), program, graph), cause) for name, cause in rungs_of(program.target)]


def _at(target: Target, program: Program, graph: EPGraph) -> Program:
    if isinstance(target, ReferenceTarget):
        return FloatProgram(target, graph)
    if not isinstance(program, CrossbarProgram):
        return replace(program, target=target)
    if target.tuned:
        return program
    if program.target.device.levels and program.target.includes("levels") and not target.includes("levels"):
        return compile_crossbar(graph, target)
    converted = target.includes("converters")
    layers = (layer if converted else replace(layer, spans=None) for layer in program.layers)
    return CrossbarProgram(target, program.graph, tuple(layers))


@dataclass(frozen=True, eq=False)
class Step:
    """From one machine of a path to the next: `upper` is the one with the cause, wherever the path comes from."""

    before: Rung
    after: Rung
    lower: Rung
    upper: Rung

    @property
    def cause(self) -> str:
        return self.upper.cause + (", undone" if self.upper is self.before else "")


def path(first: list[Rung], second: list[Rung]) -> list[Step]:
    """Steps from the end of one ladder to the end of another: down to their last common rung, then up."""
    same = takewhile(lambda pair: pair[0].program.digest() == pair[1].program.digest(), zip(first, second))
    shared = len(list(same))
    down, up = first[shared - 1:], second[shared - 1:]
    return [Step(b, a, a, b) for a, b in reversed(list(pairwise(down)))] + [
        Step(a, b, a, b) for a, b in pairwise(up)]
