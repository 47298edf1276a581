"""The causes of a technology's errors in two orders, and how far they depend on each other.

    forward_j = accuracy with causes 1 .. j     - accuracy with causes 1 .. j-1                            (1)
    reverse_j = accuracy with causes j .. n     - accuracy with causes j+1 .. n                            (2)
    interaction_j = forward_j - reverse_j                                                                  (3)

Both sum to the same total. Where a cause costs as much alone as on top of the others, its interaction is zero. Its four
machines meet the same images on the same chips, so that the interval of (3) is that of its value image by image, and
chip by chip wherever that is wider.
"""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from ep_hw.analysis.points import Estimate, Points, WaterfallStep, waterfall
from ep_hw.analysis.statistics import difference_interval, student
from ep_hw.evaluation.rungs import named, rungs_of
from ep_hw.evaluation.summary import Outcomes
from ep_hw.threats.threat import Threat
from mapping.crossbar.target import Causes, CrossbarTarget
from mapping.registry import Rungs
from mapping.targets import Target


@dataclass(frozen=True)
class Interaction:
    """Equations (1) to (3) of one cause: fractions, each with its 95 % interval."""

    cause: str
    forward: Estimate
    reverse: Estimate
    interaction: Estimate


def reversed_rungs_of(target: Target) -> Rungs:
    """(machine, cause) from the reference to a crossbar, the last cause of its own ladder first; [] for others."""
    if not isinstance(target, CrossbarTarget) or not target.rungs:
        return []
    forward = rungs_of(target)
    before, names = forward[:-len(target.rungs)], dict(zip(target.rungs, (c for _, c in forward[-len(target.rungs):])))
    rungs, missing = list(before), list(target.rungs)
    while missing:
        cause = missing.pop()
        rungs.append((replace(target, without=Causes((*target.without, *missing))), names[cause]))
    return rungs


def interactions(target: Target, points: Points, outcomes: Outcomes, threat: Threat) -> list[Interaction]:
    """One for each cause, in the ladder's order; [] where a rung was not evaluated under this threat."""
    orders = rungs_of(target), reversed_rungs_of(target)
    forward, reverse = (_changes(rungs, points, outcomes, threat) for rungs in orders)
    count = len(target.rungs) if isinstance(target, CrossbarTarget) and forward and reverse else 0
    causes = [cause for _, cause in orders[0][-count:]] if count > 1 else []   # of one cause there is but one order
    return [Interaction(c, forward[c][0], reverse[c][0], _estimate(forward[c][1] - reverse[c][1])) for c in causes]


def _changes(rungs: Rungs, points: Points, outcomes: Outcomes,
             threat: Threat) -> dict[str, tuple[Estimate, np.ndarray]]:
    """What each cause changes: the accuracy, and -1, 0 or 1 for every (chip, image)."""
    def right(step: WaterfallStep) -> np.ndarray:
        return _met(outcomes, step.machine, threat).astype(float)

    return {after.cause: (after.change, right(after) - right(before))
            for before, after in pairwise(waterfall(named(rungs), points, threat)) if after.change}


def _met(outcomes: Outcomes, machine: str, threat: Threat) -> np.ndarray:
    """What a machine made of a threat; the machine that made transferred images met them in its own attack."""
    return outcomes[machine, replace(threat, source=None) if machine == threat.source else threat]


def _estimate(differences: np.ndarray) -> Estimate:
    """Mean of (chips, images) differences between -2 and 2."""
    ends = [difference_interval(differences.mean(0))]
    if len(differences) > 1:
        ends.append(student(differences.mean(1)))
    return Estimate(float(differences.mean()), max(-2.0, min(low for low, _ in ends)),
                    min(2.0, max(high for _, high in ends)))
