"""The causes of a technology's errors in two orders, and how far they depend on each other.

    forward_j = accuracy with causes 1 .. j     - accuracy with causes 1 .. j-1                            (1)
    reverse_j = accuracy with causes j .. n     - accuracy with causes j+1 .. n                            (2)
    interaction_j = forward_j - reverse_j                                                                  (3)

Both sum to the same total. Where a cause costs as much alone as on top of the others, its interaction is zero.
"""

from dataclasses import dataclass, replace

from ep_hw.report.points import Estimate, Points, waterfall
from ep_hw.rungs import rungs_of
from mapping.crossbar_target import Causes, CrossbarTarget
from mapping.targets import Target

Rungs = list[tuple[str, str]]


@dataclass(frozen=True)
class Interaction:
    """Equations (1) to (3) of one cause: fractions, each with its 95 % interval."""

    cause: str
    forward: Estimate
    reverse: Estimate

    @property
    def value(self) -> float:
        return self.forward.value - self.reverse.value


def reversed_rungs_of(target: Target) -> Rungs:
    """(machine, cause) from the reference to a crossbar, the last cause of its own ladder first; [] for others."""
    if not isinstance(target, CrossbarTarget) or len(target.rungs) < 2:
        return []
    forward = rungs_of(target)
    before, names = forward[:-len(target.rungs)], dict(zip(target.rungs, (c for _, c in forward[-len(target.rungs):])))
    rungs, left_out = list(before), list(target.rungs)
    while left_out:
        cause = left_out.pop()
        rungs.append((str(replace(target, without=Causes((*target.without, *left_out)))), names[cause]))
    return rungs


def interactions(target: Target, points: Points, threat: str, strength: float) -> list[Interaction]:
    """One for each cause, in the ladder's order; [] where a rung was not evaluated under this threat."""
    orders = rungs_of(target), reversed_rungs_of(target)
    forward, reverse = ({step.cause: step.change for step in waterfall(rungs, points, threat, strength)}
                        for rungs in orders)
    causes = [cause for _, cause in orders[0][-len(target.rungs):]] if forward and reverse else []
    return [Interaction(cause, forward[cause], reverse[cause]) for cause in causes]
