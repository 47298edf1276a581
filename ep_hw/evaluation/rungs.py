"""Ladders: the machines from the reference to a target, each adding one cause of error to the one before."""

from dataclasses import dataclass, replace
from itertools import pairwise, takewhile

from mapping.graph import EPGraph
from mapping.program import FloatProgram, Program
from mapping.registry import REGISTRY, Rungs
from mapping.targets import ReferenceTarget, Target


def rungs_of(target: Target) -> Rungs:
    """(machine, cause) from the reference to the target, each machine adding one cause; see `register_machine`.

    The target's label is its own: rungs on the way have none.
    """
    return [(replace(machine, label=target.label if machine == target else ""), cause)
            for machine, cause in REGISTRY[target.name].rungs(target)]


def named(rungs: Rungs) -> list[tuple[str, str]]:
    """The rungs with the names that their machines have in results."""
    return [(str(machine), cause) for machine, cause in rungs]


@dataclass(frozen=True, eq=False)
class Rung:
    """One machine of a ladder, as a program, and what it adds to the rung before."""

    program: Program
    cause: str

    @property
    def name(self) -> str:
        return self.program.target.shown


def ladder(program: Program, graph: EPGraph) -> list[Rung]:
    """From the reference to a program; the rungs between hold the program's own arrays (`Program.on_rung`).

    Args:
        program: the ladder's end.
        graph: the network as it was lowered, which the reference runs.
    """
    return [Rung(FloatProgram(machine, graph) if isinstance(machine, ReferenceTarget)
                 else program.on_rung(machine, graph), cause)
            for machine, cause in rungs_of(program.target)]


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
