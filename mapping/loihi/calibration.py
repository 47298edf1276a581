"""What rounding a coupling's weights does to the drives it makes, on recorded states.

With W the integers, w their exact weights, s the recorded states and z = unpool(s_n, winners of w), coupling n errs by

    e_n = maxpool(2^-q W * s_{n-1}) - maxpool(w * s_{n-1})        in its own layer's drive
    f_n = gamma_n conv_transpose(z, 2^-q W - w)                  in the drive of the layer below                (13)

The exponent q that makes sum e^2 + sum f^2 least is kept: with few weight bits it pays to clip some weights. The mean
of e over images and places, channel by channel, is then taken off the biases; taking off the mean of f as well was
measured not to help (docs/loihi.md).
Source of the bias correction: Nagel et al. 2019, Data-free quantization, section 4.2.
"""

from dataclasses import dataclass

import numpy as np

from mapping.graph import Activity, Coupling, EPGraph
from mapping.kernels import convolve, convolve_transpose, max_pool, unpool
from mapping.loihi.integers import natural_exponent, quantise

IMAGES = 16   # of the recorded ones: enough for means and sums of squares, bounded in time and memory
FINER, COARSER = 3, 2   # exponents tried around the natural one; coarser ones only where nothing clips, at one bit


@dataclass(frozen=True, eq=False)
class Recorded:
    """A coupling at work on calibration images: what it reads and makes in each direction.

    Attributes:
        coupling: with its weights in floats.
        below: (N, C_in, H, W) states it reads.
        drive: (N, C_out, H', W') what it makes of them, pooled.
        above: (N, C_out, H', W') states it feeds back, unpooled; None where nothing is fed back.
    """

    coupling: Coupling
    below: np.ndarray
    drive: np.ndarray
    above: np.ndarray | None

    def forward_error(self, weight: np.ndarray) -> np.ndarray:
        """e of equation (13), shaped as `drive`, for other weights."""
        own = self.coupling
        return max_pool(convolve(self.below, weight, own.padding, own.stride), own.pool)[0] - self.drive

    def backward_error(self, weight: np.ndarray) -> np.ndarray:
        """f of equation (13), (N, C_in, H, W), for other weights; a single zero where nothing is fed back."""
        if self.above is None:
            return np.zeros(1, np.float32)
        own = self.coupling
        return own.feedback_gain * convolve_transpose(self.above, weight - own.weight, own.padding, own.stride,
                                                      own.window.uncovered)


def record(graph: EPGraph, activity: Activity) -> list[Recorded]:
    """Records of all couplings, the readout last, from what the network does on calibration images."""
    states = [s[:IMAGES] for s in activity.states]
    below = (activity.images[:IMAGES] - graph.mean[:, None, None]) / graph.scale[:, None, None]
    records = []
    for coupling, state, gain in zip(graph.couplings, states, graph.gains):
        drive, winners = max_pool(convolve(below, coupling.weight, coupling.padding, coupling.stride), coupling.pool)
        above = unpool(state, winners, coupling.pool, coupling.unpooled) if gain else None
        records.append(Recorded(coupling, below, drive, above))
        below = state
    return [*records, Recorded(graph.readout, below, convolve(below, graph.readout.weight, 0), None)]


def best_exponent(record: Recorded, bits: int) -> int:
    """The exponent that makes the squared error of equation (13) least; the coarsest of equals."""
    natural = natural_exponent(record.coupling.weight, bits)
    tried = range(natural - (COARSER if bits == 1 else 0), natural + FINER + 1)
    return min(tried, key=lambda q: _squared_error(record, bits, q))


def mean_error(record: Recorded, weight: np.ndarray) -> np.ndarray:
    """(C_out,) mean of e over images and places, in float64."""
    return record.forward_error(weight).mean((0, 2, 3), dtype=np.float64)


def dequantise(integers: np.ndarray, exponent: int) -> np.ndarray:
    """The exact weights W 2^-q, float32."""
    return (integers * 2.0**-exponent).astype(np.float32)


def _squared_error(record: Recorded, bits: int, exponent: int) -> float:
    weight = dequantise(quantise(record.coupling.weight, bits, exponent), exponent)
    errors = record.forward_error(weight), record.backward_error(weight)
    return sum(float(np.square(e, dtype=np.float64).sum()) for e in errors)
