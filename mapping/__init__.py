"""mapping: turns an EP network's graph into a program for a machine. No torch, no simulation.

    program = mapping.compile(graph, "crossbar:pcm[age=1d]")
"""

from threadpoolctl import threadpool_limits

from mapping.crossbar.program import compile_crossbar
from mapping.errors import Refusal
from mapping.graph import Activity, Coupling, EPGraph, Population
from mapping.loihi.compile import compile_loihi
from mapping.program import FloatProgram, Program, Table, load_program
from mapping.targets import REGISTRY, CrossbarTarget, LoihiTarget, ReferenceTarget, Target, parse

__all__ = [
    "REGISTRY",
    "Activity",
    "Coupling",
    "CrossbarTarget",
    "EPGraph",
    "LoihiTarget",
    "Population",
    "Program",
    "ReferenceTarget",
    "Refusal",
    "Table",
    "Target",
    "compile",
    "load_program",
    "parse",
]


@threadpool_limits.wrap(limits=1, user_api="blas")   # sums over calibration images have the same last bits everywhere
def compile(graph: EPGraph, target: Target | str) -> Program:
    """Compile a graph for a target.

    Args:
        target: a `Target`, or its text, e.g. "loihi" or "crossbar:pcm[age=1d]".

    Raises:
        Refusal: an unknown target, or a network that the target cannot hold, naming the layer.
    """
    target = parse(target) if isinstance(target, str) else target
    if isinstance(target, CrossbarTarget):
        return compile_crossbar(graph, target)
    if isinstance(target, LoihiTarget) and target.name != "lava:float":
        return compile_loihi(graph, target)
    return FloatProgram(target, graph)
