"""How far a tile's converters must reach: DACs by construction, ADCs by what calibration images send through them.

In a forward read a tile (r, c) senses, for every output channel of c and every position,

    p = sum over input channels of r and kernel places of w x                                        (1)

and in a backward one, for every row (input channel, kernel place) of r and every position, before overlap-add,

    q = sum over output channels of c of w z,    z = the unpooled state above                         (2)

Where a signed drive takes two phases, they are sums over its positive or its negative part alone; where drives are read
bit by bit, of each bit at the full drive, and R is that of the bit that needs most. The ADC of a direction spans
[-R, R] with R = margin x the PERCENTILE of |p| or |q| over the calibration images. The DACs of a layer without a
ceiling span [0, R] alike, of its states. The margin leaves room for what is not in the images: transients, attacks,
and programming errors. A feedback gain is digital, after the ADC: q is free of it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mapping.crossbar.encoding import Cuts
from mapping.crossbar.target import ConverterOptions
from mapping.graph import Activity, Coupling, EPGraph, Window
from mapping.kernels import convolve, max_pool, patches, rounded_product, unpool

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
        row_cuts: inputs (first, past the last) of each row tile, see `mapping.crossbar.program.unrolled`.
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

    @property
    def lines(self) -> tuple[int, int, int]:
        """(slices, row tiles, column tiles): each has ADCs of its own."""
        return len(self.slices), len(self.row_cuts), len(self.column_cuts)

    def tile(self, s: int, r: int, c: int) -> np.ndarray:
        """(columns, inputs, k_h, k_w) weights of a slice of a tile."""
        (first, last), (left, right) = self.row_cuts[r], self.column_cuts[c]
        return np.ascontiguousarray(self.slices[s, left:right, first:last])


def feeds_back(graph: EPGraph) -> tuple[bool, ...]:
    """Of each coupling and then the readout, whether its tiles are laid out to be read backward.

    Nothing drives the image: the first coupling only follows the ones above it. A nudge drives the readout.
    """
    above = [gain > 0 for gain in graph.gains[1:-1]]
    return (any(above) if above else graph.has_feedback), *above, graph.has_feedback


def calibrate(graph: EPGraph, activity: Activity, layers: Sequence[Placed],
              converters: ConverterOptions) -> list[tuple[Span, ...]]:
    """Spans of all layers, the readout last: forward, then backward of those that are read so.

    Args:
        graph: the network.
        activity: what it does on calibration images.
        layers: couplings from the image on, then the readout.
        converters: how far they reach beyond the percentile, and how lines are driven.
    """
    margin, driven = converters.adc_margin, _phases if converters.two_phase else np.asarray
    image = (activity.images - graph.mean[:, None, None]) / graph.scale[:, None, None]
    states = (image, *activity.states)
    dacs = [image_peak(graph), *(state_peak(p.ceiling, s, margin) for p, s in zip(graph.populations, activity.states))]
    spans: list[tuple[Span, ...]] = []
    for n, (coupling, layer, back) in enumerate(zip((*graph.couplings, graph.readout), layers, feeds_back(graph))):
        below, scale = states[n] if n else driven(image), layer.column_scale[:, None, None]
        adc = _forward_reach(layer, _bits(below, dacs[n], converters.planes(not n)), coupling.window, dacs[n], margin)
        span = Span(dacs[n], signed=not n, adc=adc)
        if not back:
            spans.append((span,))
        elif coupling is graph.readout:
            errors = driven(_readout_errors(graph, below, layer.weight))
            adc = _backward_reach(layer, _bits(errors * scale, 1.0, converters.planes(True)), 1.0, margin)
            spans.append((span, Span(1.0, signed=True, adc=adc)))
        else:
            drive = _above(coupling, layer, states[n:n + 2]) * scale
            above = _bits(drive, dacs[n + 1], converters.planes(False))
            reach = _backward_reach(layer, above, dacs[n + 1], margin)
            spans.append((span, Span(dacs[n + 1], signed=False, adc=reach)))
    return spans


def input_span(layer: Placed, inputs: np.ndarray, window: Window, converters: ConverterOptions) -> Span:
    """Full scales of a forward read by what drives the layer on calibration images, which may have a sign.

    Args:
        layer: as its tiles hold it.
        inputs: (N, C, H, W).
        window: how its kernel meets its map.
        converters: how far they reach beyond the percentile, and how lines are driven.
    """
    margin = converters.adc_margin
    signed, dac = bool((inputs < 0).any()), state_peak(math.inf, np.abs(inputs), margin)
    below = _phases(inputs) if signed and converters.two_phase else inputs
    return Span(dac, signed, _forward_reach(layer, _bits(below, dac, converters.planes(signed)), window, dac, margin))


def _above(coupling: Coupling, layer: Placed, states: Sequence[np.ndarray]) -> np.ndarray:
    """Of the states (below, above) of a coupling, those above at the winners of its pool windows."""
    below, above = states
    drive = convolve(below, layer.weight.reshape(coupling.weight.shape), coupling.padding, coupling.stride)
    winners = max_pool(drive + coupling.bias[:, None, None], coupling.pool)[1]
    return unpool(above, winners, coupling.pool, coupling.unpooled)


def _phases(drive: np.ndarray) -> np.ndarray:
    """(2 N, ...) magnitudes that a signed drive (N, ...) has in its two phases."""
    return np.concatenate([np.maximum(drive, 0), np.maximum(-drive, 0)])


def _bits(drive: np.ndarray, dac: float, planes: int) -> list[np.ndarray]:
    """What drives the lines in each read of a drive: itself, or each bit of its codes at the full drive."""
    if planes == 1:
        return [drive]
    codes = np.minimum(np.round(np.abs(drive) * ((2**planes - 1) / dac)), 2**planes - 1).astype(np.int64)
    return [(np.sign(drive) * (codes >> b & 1) * dac).astype(np.float32) for b in range(planes)]


def image_peak(graph: EPGraph) -> float:
    """Largest magnitude that a normalised image in [0, 1] can have."""
    return float(np.max(np.maximum(graph.mean, 1 - graph.mean) / graph.scale))


def state_peak(ceiling: float, states: np.ndarray, margin: float) -> float:
    """Full scale of what is driven by states: their ceiling, or where they have none what calibration images cause."""
    if math.isfinite(ceiling):
        return ceiling
    return margin * _percentile(states) or float(states.max()) or 1.0


def _readout_errors(graph: EPGraph, top: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(N K, K, 1, 1) errors target - softmax(logits): labels are not recorded, so every class is the target once."""
    logits = convolve(top, weight.reshape(graph.readout.weight.shape), 0)[:, :, 0, 0] + graph.readout.bias
    odds = np.exp((logits - logits.max(1, keepdims=True)).astype(np.float64))
    softmax = odds / odds.sum(1, keepdims=True)
    errors = np.eye(graph.classes)[None] - softmax[:, None]
    return errors.reshape(-1, graph.classes, 1, 1).astype(np.float32)


def _forward_reach(layer: Placed, below: Sequence[np.ndarray], window: Window, dac: float, margin: float) -> np.ndarray:
    """Ranges of the ADCs of a layer's tiles in forward reads, from what drives its rows."""
    reaches = np.empty(layer.lines, np.float32)
    for s, r, c in np.ndindex(reaches.shape):
        tile = layer.tile(s, r, c)
        bound = dac * float(np.abs(tile).reshape(len(tile), -1).sum(1).max())
        reaches[s, r, c] = max(_reach(_sums(drive, tile, layer.row_cuts[r], window), bound, margin) for drive in below)
    return reaches


def _sums(below: np.ndarray, tile: np.ndarray, inputs: tuple[int, int], window: Window) -> np.ndarray:
    """What a tile's columns sense at every place of the kernel, in any order."""
    if tile.shape[2:] == window.kernel:
        return convolve(below[:, slice(*inputs)], tile, window.padding, window.stride)
    rows = patches(below, *window.kernel, window.padding, window.stride)
    return rounded_product(rows[:, slice(*inputs)], tile[:, :, 0, 0].T)


def _backward_reach(layer: Placed, above: Sequence[np.ndarray], dac: float, margin: float) -> np.ndarray:
    """The same of backward reads, from what drives its columns, their digital factors included."""
    reaches = np.empty(layer.lines, np.float32)
    for s, r, c in np.ndindex(reaches.shape):
        left, right = layer.column_cuts[c]
        flat = layer.tile(s, r, c).reshape(right - left, -1)
        bound = dac * float(np.abs(flat).sum(0).max())
        reaches[s, r, c] = max(_reach(rounded_product(drive[:, left:right].transpose(0, 2, 3, 1), flat), bound, margin)
                               for drive in above)
    return reaches


def _reach(sums: np.ndarray, bound: float, margin: float) -> float:
    """Range of an ADC; the largest sum that can occur where the calibration images caused none at all."""
    magnitude = np.abs(sums)
    reach = margin * _percentile(magnitude) or float(magnitude.max())
    return min(reach, bound) or bound or 1.0


def _percentile(values: np.ndarray) -> float:
    """The PERCENTILE, interpolated in float64 whatever the type: numpy 1 and 2 then give the same bits."""
    return float(np.percentile(values.astype(np.float64), PERCENTILE))
