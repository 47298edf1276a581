"""The same network with states within 1, so that integers of one range hold every layer's.

With s'_n = s_n / c_n, the image's c_0 = 1, slope'_n the power of two nearest to slope_n, and drives in units of
d_n = c_n slope'_n / slope_n, the states s' are those of the network of mapping.graph (1) to (4) that has

    w'_n = w_n c_{n-1} / d_n,    b'_n = b_n / d_n,    ceiling'_n = ceiling_n / c_n,    w'_out = w_out c_L         (18)
    gamma'_n = gamma_n c_n d_n / (c_{n-1} d_{n-1}),   and nudges of strength beta' = beta / (c_L d_L)             (19)

`choose_scales` takes c_n as near as it can to the layer's ceiling, or, where there is none, to 1.1 times its largest
state on calibration images, and never below it: without feedback all ceilings' are 1. The tenth is room for states that
no calibration image raised (measured in docs/loihi.md). Without feedback a ceiling other than 1, as of ReLU6, is
lowered to that too; with feedback a nudge may raise states far beyond what images do. Feedback that is no bare shift
would need a multiplier, so that where there is any c_n makes gamma'_n a power of two. An EP-CNN with gains and ceilings
of 1 has scales of 1.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from mapping.errors import Refusal
from mapping.graph import Activity, Coupling, EPGraph
from mapping.loihi.integers import round_to_power

MARGIN = 1.1    # of a layer whose unit its recorded states decide, over the largest of them
_FARTHEST = 9   # 2^9 is the last power of two within the gains that a graph may have


def choose_scales(graph: EPGraph) -> tuple[float, ...]:
    """c_n of every layer.

    Raises:
        Refusal: a layer without a ceiling, in a network without recorded activity.
    """
    joined: list[tuple[list[float], list[float]]] = []   # scales and largest states of layers that feedback joins
    slopes = [2.0 ** round_to_power(p.slope) / p.slope for p in graph.populations]
    for n, gain in enumerate(graph.gains[:-1]):
        largest = _largest_state(graph, n)
        if gain:
            scales, known = joined[-1]
            scales.append(_nearest_scale(scales[-1], largest, gain * slopes[n] / slopes[n - 1]))
            known.append(largest)
        else:
            joined.append(([largest], [largest]))
    return tuple(c * max(s / scale for s, scale in zip(known, scales)) for scales, known in joined for c in scales)


def _largest_state(graph: EPGraph, n: int) -> float:
    """Of layer n: its ceiling, or the largest recorded with its margin (1 where that is 0) where that may be taken."""
    population, activity = graph.populations[n], graph.activity
    kept = population.ceiling == 1 or graph.has_feedback or activity is None
    if kept and math.isfinite(population.ceiling):
        return population.ceiling
    if activity is None:
        raise Refusal("no calibration images to size the states with", where=f"layer {population.name}",
                      got="no ceiling, no recorded activity", allowed="a ceiling, or calibration images in the network",
                      remedy="store some training images with it")
    return min(MARGIN * float(activity.states[n].max(initial=0)) or 1.0, population.ceiling)


def _nearest_scale(below: float, largest: float, gain: float) -> float:
    """The c nearest to `largest` for which gain (c / below)^2 is a power of two."""
    power = round(math.log2(gain * (largest / below) ** 2))
    return below * math.sqrt(2.0 ** min(max(power, -_FARTHEST), _FARTHEST) / gain)


def largest_states(ceilings: Iterable[float], state_bits: int) -> tuple[int, ...]:
    """Each layer's largest state in units of 2^-state_bits: up to its ceiling, and up to what so many bits hold."""
    return tuple(int(min(ceiling * 2**state_bits, 2**state_bits - 1)) for ceiling in ceilings)


def drive_scales(graph: EPGraph, scales: Sequence[float]) -> tuple[float, ...]:
    """d_n of every layer."""
    return tuple(c * 2.0 ** round_to_power(p.slope) / p.slope for c, p in zip(scales, graph.populations))


def nudge_scale(graph: EPGraph, scales: Sequence[float]) -> float:
    """beta' / beta of equation (19)."""
    return 1 / (scales[-1] * drive_scales(graph, scales)[-1])


def rescaled(graph: EPGraph, scales: Sequence[float]) -> EPGraph:
    """The network of equations (18) and (19); arrays keep their types."""
    drives = drive_scales(graph, scales)
    pairs = [(1.0, 1.0), *zip(scales, drives)]
    couplings = [_scaled(coupling, below[0] / d, d, c * d / (below[0] * below[1]) if n else 1.0)
                 for n, (coupling, below, (c, d)) in enumerate(zip(graph.couplings, pairs, pairs[1:]))]
    populations = tuple(replace(p, slope=2.0 ** round_to_power(p.slope), ceiling=p.ceiling / c)
                        for p, c in zip(graph.populations, scales))
    activity = graph.activity and Activity(graph.activity.images, tuple(
        s / np.float32(c) for s, c in zip(graph.activity.states, scales)))
    return replace(graph, populations=populations, couplings=tuple(couplings),
                   readout=_scaled(graph.readout, scales[-1], 1.0, 1.0), activity=activity)


def _scaled(coupling: Coupling, weight: float, drive: float, gain: float) -> Coupling:
    """A coupling with its weights times one factor, its biases by another, and its feedback gain times a third."""
    return replace(coupling, weight=(coupling.weight.astype(np.float64) * weight).astype(coupling.weight.dtype),
                   bias=(coupling.bias.astype(np.float64) / drive).astype(coupling.bias.dtype),
                   feedback_gain=coupling.feedback_gain * gain)
