"""How far a tile's converters must reach: DACs by construction, ADCs by what calibration images send through them.

In a forward read a tile (r, c) senses, for every output channel of c and every position,

    p = sum over input channels of r and kernel places of w x                                        (1)

and in a backward one, for every row (input channel, kernel place) of r and every position, before overlap-add,

    q = sum over output channels of c of w z,    z = the unpooled state above                         (2)

Where a signed drive takes two phases, they are sums over its positive or its negative part alone. The ADC of a
direction spans [-R, R] with R = margin x the PERCENTILE of |p| or |q| over the calibration images.
The margin leaves room for what is not in them: transients, attacks, and programming errors.
"""

from dataclasses import dataclass

import numpy as np

from mapping.crossbar.encoding import Cuts
from mapping.graph import Activity, EPGraph
from mapping.kernels import convolve, max_pool, unpool

PERCENTILE = 99.9


@dataclass(frozen=True, eq=False)
class Span:
    """Full scales of a layer's converters in one direction.

    Attributes:
        dac: largest magnitude driven, in units of state (of the readout's error from the logits).
        signed: drives within [-dac, dac], bipolar or in two phases; else within [0, dac].
        adc: (slices, row tiles, column tiles) float32, R of each tile's ADC in units of weight x state; it spans
            [-R, R].
    """

    dac: float
    signed: bool
    adc: np.ndarray


@dataclass(frozen=True, eq=False)
class Placed:
    """A layer as its tiles hold it.

    Attributes:
        row_cuts: input channels (first, past the last) of each row tile.
        column_cuts: output channels (first, past the last) of each column tile.
        slices: (slices, C_out, C_in, k_h, k_w) weights as stored, before column scaling.
        column_scale: (C_out,) digital factor of each column.
    """

    row_cuts: Cuts
    column_cuts: Cuts
    slices: np.ndarray
    column_scale: np.ndarray

    @property
    def weight(self) -> np.ndarray:
        return self.slices.sum(0) * self.column_scale[:, None, None, None]


def calibrate(graph: EPGraph, activity: Activity, layers: list[Placed], margin: float,
              two_phase: bool = False) -> list[tuple[Span, Span]]:
    """Spans (forward, backward) of all layers, the readout last.

    Args:
        graph: the network.
        activity: what it does on calibration images.
        layers: couplings from the image on, then the readout.
        margin: how far an ADC reaches beyond the percentile.
        two_phase: what has a sign is driven in two phases.
    """
    driven = _phases if two_phase else np.asarray
    states = activity.states
    image = (activity.images - graph.mean[:, None, None]) / graph.scale[:, None, None]
    spans: list[tuple[Span, Span]] = []
    dac = image_peak(graph)
    for coupling, layer, pre, post in zip(graph.couplings, layers, (image, *states[:-1]), states):
        drive = convolve(pre, layer.weight, coupling.padding)
        winners = max_pool(drive + coupling.bias[:, None, None], coupling.pool)[1]
        above = unpool(post, winners, coupling.pool, coupling.unpooled)
        below = pre if spans else driven(pre)
        forward, backward = _reaches(layer, below, above, coupling.padding, dac, margin)
        spans.append((Span(dac, signed=not spans, adc=forward), Span(1.0, signed=False, adc=backward)))
        dac = 1.0
    errors = driven(_readout_errors(graph, states[-1], layers[-1].weight))
    forward, backward = _reaches(layers[-1], states[-1], errors, 0, dac, margin)
    return [*spans, (Span(dac, signed=False, adc=forward), Span(1.0, signed=True, adc=backward))]


def _phases(drive: np.ndarray) -> np.ndarray:
    """(2 N, ...) magnitudes that a signed drive (N, ...) has in its two phases."""
    return np.concatenate([np.maximum(drive, 0), np.maximum(-drive, 0)])


def image_peak(graph: EPGraph) -> float:
    """Largest magnitude that a normalised image in [0, 1] can have."""
    return float(np.max(np.maximum(graph.mean, 1 - graph.mean) / graph.scale))


def _readout_errors(graph: EPGraph, top: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(N K, K, 1, 1) errors target - softmax(logits): labels are not recorded, so every class is the target once."""
    logits = convolve(top, weight, 0)[:, :, 0, 0] + graph.readout.bias
    odds = np.exp(logits - logits.max(1, keepdims=True))
    softmax = odds / odds.sum(1, keepdims=True)
    errors = np.eye(graph.classes, dtype=np.float32)[None] - softmax[:, None]
    return errors.reshape(-1, graph.classes, 1, 1)


def _reaches(layer: Placed, below: np.ndarray, above: np.ndarray, padding: int, dac: float,
             margin: float) -> tuple[np.ndarray, np.ndarray]:
    """(forward, backward) ADC ranges of a layer's tiles, from what drives its rows (`below`) and columns (`above`)."""
    above = above * layer.column_scale[:, None, None]
    forward, backward = np.empty((2, len(layer.slices), len(layer.row_cuts), len(layer.column_cuts)), np.float32)
    for s, r, c in np.ndindex(forward.shape):
        (first, last), (left, right) = layer.row_cuts[r], layer.column_cuts[c]
        tile = np.ascontiguousarray(layer.slices[s, left:right, first:last])
        flat = tile.reshape(right - left, -1)
        sums, largest = convolve(below[:, first:last], tile, padding), dac * np.abs(flat).sum(1).max()
        forward[s, r, c] = _reach(sums, largest, margin)
        sums, largest = above[:, left:right].transpose(0, 2, 3, 1) @ flat, np.abs(flat).sum(0).max()
        backward[s, r, c] = _reach(sums, largest, margin)
    return forward, backward


def _reach(sums: np.ndarray, bound: float, margin: float) -> float:
    """Range of an ADC; the largest sum that can occur where the calibration images caused none at all."""
    magnitude = np.abs(sums)
    reach = margin * float(np.percentile(magnitude, PERCENTILE)) or float(magnitude.max())
    return min(reach, float(bound)) or float(bound) or 1.0
