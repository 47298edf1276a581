"""The parts of a Loihi program that are placed on cores, and what a block of one of them needs.

Coupling n has two parts, both grids of sites (channel, row, column):

    forward    a site is a unit of population n with the units of its pool window, each fed by C_in k_h k_w synapses
    feedback   a site sums what reaches one unit of population n-1 from the winners above: C_out k_h k_w synapses

A coupling whose feedback gain is 0 has the forward part alone. The readout is a forward part without pooling. Units
that no window covers (odd maps) can never win and are not built.
Rows and columns separate: a block of c channels, rows R and columns V has

    synapses = c C sum_{r in R} taps_r sum_{v in V} taps_v,    axons = C |sources(R)| |sources(V)| + m c |R| |V|  (20)

with C the channels of the sources and taps the kernel rows (columns) of a site that do not fall into the padding;
m is 1 where a site also hears its feedback part, else 0.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np

from mapping.graph import Coupling, EPGraph, Window
from mapping.loihi.limits import limit

N = TypeVar("N", int, np.ndarray)
SHARED, UNROLLED = "shared", "unrolled"
FORWARD, FEEDBACK = "forward", "feedback"   # kinds of parts


@dataclass(frozen=True, eq=False)
class SiteAxis:
    """Rows (or columns) of a part's sites: taps of each, and the sources first .. last that they read; all (n,).

    A stride longer than the kernel leaves out sources between, and no source is then read twice.
    """

    taps: np.ndarray
    first: np.ndarray
    last: np.ndarray

    def __len__(self) -> int:
        return len(self.taps)

    def reads(self, start: N, stop: N) -> N:
        """Number of distinct sources of sites start .. stop-1, which may be arrays of the same shape."""
        span = np.maximum(self.last[stop - 1] - self.first[start] + 1, 0)
        return np.minimum(span, self._taps_below[stop] - self._taps_below[start])

    @cached_property
    def _taps_below(self) -> np.ndarray:
        """(n + 1,) taps of all sites before one."""
        return np.concatenate([[0], np.cumsum(self.taps)])


def forward_axis(size: int, kernel: int, window: Window) -> SiteAxis:
    """Pool windows over an input of `size` along one axis of the kernel."""
    pool, windows = window.pool, _outputs(size, kernel, window) // window.pool
    start = np.arange(windows * pool) * window.stride - window.padding
    first, last = np.maximum(start, 0), np.minimum(start + kernel, size) - 1
    taps = np.maximum(last - first + 1, 0).reshape(windows, pool).sum(1)
    return SiteAxis(taps, first[::pool], last[pool - 1::pool])


def _outputs(size: int, kernel: int, window: Window) -> int:
    return (size + 2 * window.padding - kernel) // window.stride + 1


def backward_axis(size: int, kernel: int, window: Window) -> SiteAxis:
    """Inputs of a layer, read backwards: sources are the outputs that lie in a pool window."""
    covered = _outputs(size, kernel, window) // window.pool * window.pool
    place = np.arange(size) + window.padding
    first = np.maximum(-((kernel - 1 - place) // window.stride), 0)
    last = np.minimum(place // window.stride, covered - 1)
    return SiteAxis(np.maximum(last - first + 1, 0), first, last)


@dataclass(frozen=True)
class Need:
    """What a block of sites takes from its core; `weights` are stored ones, memory is in bits."""

    neurons: int
    synapses: int
    weights: int
    axons: int
    memory_bits: int


@dataclass(frozen=True, eq=False)
class Part:
    """A grid of sites of one coupling.

    Attributes:
        layer: the coupling's name.
        kind: "forward" or "feedback", as reports call the backward direction.
        channels: of the sites.
        sources: channels of what they read.
        rows: geometry of the sites.
        columns: geometry of the sites.
        kernel: k_h k_w.
        neurons: a site.
        hears: m of equation (20).
        weight_bits: as the target has them.
        weights: as the target holds them.
    """

    layer: str
    kind: str
    channels: int
    sources: int
    rows: SiteAxis
    columns: SiteAxis
    kernel: int
    neurons: int
    hears: int
    weight_bits: int
    weights: str

    def need(self, channels: int, rows: tuple[int, int], columns: tuple[int, int]) -> Need:
        """Equation (20) for a block of sites; `rows` and `columns` are (start, stop)."""
        taps = self.rows.taps[slice(*rows)].sum() * self.columns.taps[slice(*columns)].sum()
        sites = channels * (rows[1] - rows[0]) * (columns[1] - columns[0])
        synapses = int(channels * self.sources * taps)
        weights = channels * self.sources * self.kernel if self.weights == SHARED else synapses
        axons = int(self.sources * self.rows.reads(*rows) * self.columns.reads(*columns)) + self.hears * sites
        neurons = sites * self.neurons
        memory = weights * self.weight_bits + 8 * (neurons * limit("memory a neuron")
                                                   + axons * limit("memory an input axon"))
        return Need(neurons, synapses, weights, axons, memory)


def parts_of(graph: EPGraph, weight_bits: int, weights: str) -> list[Part]:
    """All parts of a graph, layer by layer; nothing is fed back to the image, nor from the readout."""
    parts = []
    for coupling, gain, gain_above in zip(graph.couplings, graph.gains, graph.gains[1:]):
        # a pooled site holds its window's units and itself; an unpooled one is its own unit
        neurons = coupling.pool**2 + 1 if coupling.pool > 1 else 1
        parts.append(_forward(coupling, neurons, int(gain_above > 0), weight_bits, weights))
        if gain:
            parts.append(_feedback(coupling, weight_bits, weights))
    return [*parts, _forward(graph.readout, 1, 0, weight_bits, weights)]


def _forward(c: Coupling, neurons: int, hears: int, weight_bits: int, weights: str) -> Part:
    c_out, c_in, *kernel = c.weight.shape
    rows, columns = (forward_axis(size, k, c.window) for size, k in zip(c.pre[1:], kernel))
    return Part(c.name, FORWARD, c_out, c_in, rows, columns, kernel[0] * kernel[1], neurons, hears, weight_bits,
                weights)


def _feedback(c: Coupling, weight_bits: int, weights: str) -> Part:
    c_out, c_in, *kernel = c.weight.shape
    rows, columns = (backward_axis(size, k, c.window) for size, k in zip(c.pre[1:], kernel))
    return Part(c.name, FEEDBACK, c_in, c_out, rows, columns, kernel[0] * kernel[1], 1, 0, weight_bits, weights)
