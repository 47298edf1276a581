"""What of a Loihi program is alive where a share of its neurons is dead, or a core is lost with all that lies on it."""

from dataclasses import dataclass

import numpy as np

from mapping.graph import EPGraph
from mapping.loihi.parts import FEEDBACK, FORWARD
from mapping.loihi.placement import blocks_of_core
from mapping.loihi.target import LoihiTarget


@dataclass(frozen=True, eq=False)
class Alive:
    """Bool arrays, False where a unit is dead.

    Attributes:
        neurons: (C, H, W) of each layer; states of dead ones stay 0.
        sums: (C, H, W) of each coupling's feedback to the layer below; dead ones pass nothing on.
        logits: (K,); dead ones stay 0, whatever their bias, pass no nudge on and learn nothing.
    """

    neurons: tuple[np.ndarray, ...]
    sums: tuple[np.ndarray, ...]
    logits: np.ndarray


def alive_of(graph: EPGraph, target: LoihiTarget) -> Alive | None:
    """What is alive on a target; None where everything is.

    Raises:
        Refusal: there is no core that could be lost.
    """
    if not target.dead and target.lost_core is None:
        return None
    alive = Alive(tuple(np.random.default_rng([target.dead_seed, n]).random(p.shape) >= (target.dead or 0)
                        for n, p in enumerate(graph.populations)),
                  tuple(np.ones(c.pre, bool) for c in graph.couplings), np.ones(graph.classes, bool))
    maps = {(c.name, FORWARD): own for c, own in zip(graph.couplings, alive.neurons)}
    maps |= {(c.name, FEEDBACK): own for c, own in zip(graph.couplings, alive.sums)}
    maps[graph.readout.name, FORWARD] = alive.logits[:, None, None]
    for block in () if target.lost_core is None else blocks_of_core(graph, target, target.lost_core):
        maps[block.layer, block.part][tuple(map(slice, *zip(block.channels, block.rows, block.columns)))] = False
    return alive
