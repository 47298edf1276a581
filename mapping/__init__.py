"""mapping: turns an EP network's graph into a program for a machine. No torch, no simulation.

    program = mapping.compile(graph, "crossbar:pcm[age=1d]")
"""

from threadpoolctl import threadpool_limits

import mapping.machines  # noqa: F401 - registers what comes with the project
from mapping.crossbar.devices import register_devices
from mapping.crossbar.target import CrossbarTarget
from mapping.errors import Refusal
from mapping.graph import Activity, Coupling, EPGraph, Population
from mapping.loading import load_program
from mapping.loihi.target import LoihiTarget
from mapping.program import Program, Table
from mapping.registry import REGISTRY, parse, register_machine
from mapping.targets import ReferenceTarget, Target, check_one_pass

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
    "register_devices",
    "register_machine",
]


@threadpool_limits.wrap(limits=1, user_api="blas")   # sums over calibration images have the same last bits everywhere
def compile(graph: EPGraph, target: Target | str) -> Program:
    """Compile a graph for a target.

    Args:
        graph: the network.
        target: a `Target`, or its text, e.g. "loihi" or "crossbar:pcm[age=1d]".

    Raises:
        Refusal: an unknown target, a network that the target cannot hold, naming the layer, or options of a relaxation
            for a feed-forward network.
    """
    target = parse(target) if isinstance(target, str) else target
    if not graph.has_feedback:
        check_one_pass(target)
    return REGISTRY[target.name].compile(graph, target)
