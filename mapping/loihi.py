"""The Loihi 2 compiler: integers for every weight, state and shift, proven free of overflow.

States are S = 0 .. 2^p - 1 for s = S 2^-p, weights W = w 2^q, the image X = x 2^{p_in} after normalisation. With
the accumulator of layer n counted in 2^-E_n, E_n the finer of its two drives' scales, a step of equations (1) to (3) is

    A_n = 2^{f_n} maxpool(W_n * S_{n-1}) + 2^{b_n} conv_transpose(unpool(S_{n+1}), W_{n+1}) + B_n         (11)
    S_n <- clamp((A_n + 2^{shift_n - 1}) >> shift_n, 0, 2^p - 1),    2^-shift_n = slope_n 2^{p - E_n}      (12)

Weights take the largest exponent that clips none. The state bits are the most, from 16 down to 4, for which every
accumulator is proven to stay below 2^23 (mapping.loihi_bound); then the image's bits are the most, 16 to 8.
"""

from dataclasses import asdict, dataclass, replace
from typing import ClassVar

import numpy as np

from mapping.errors import Refusal
from mapping.graph import Coupling, EPGraph
from mapping.integers import BETA_BITS, ERROR_BITS, quantise, round_half_up
from mapping.loihi_bound import ACCUMULATOR_LIMIT, feedback_reach, forward_reach, signed_sums, total_bound
from mapping.loihi_report import loihi_report
from mapping.program import Program
from mapping.targets import LoihiTarget

STATE_BITS = range(16, 3, -1)
INPUT_BITS = range(16, 7, -1)


@dataclass(frozen=True, eq=False)
class IntegerLayer:
    """Integers of one coupling and of the population it drives (for the readout: of the logits).

    Attributes:
        weight: (C_out, C_in, k, k) int8, w = weight 2^-exponent.
        bias: (C_out,) int64 at the accumulator's scale, b = bias 2^-scale.
        up, down: left shifts of the forward drive and of the feedback from the layer above.
        shift: right shift from the accumulator to the state.
        bound: proven largest magnitude of the accumulator, rounding half and all partial sums included.
    """

    name: str
    weight: np.ndarray
    bias: np.ndarray
    exponent: int
    scale: int
    up: int
    down: int
    shift: int
    bound: int

    @property
    def half(self) -> int:
        """What is added before the shift, so that it rounds half up."""
        return 1 << self.shift >> 1


@dataclass(frozen=True, eq=False)
class LoihiProgram(Program):
    """Integers of every layer, for Lava, for the bit-exact twin, and for the rungs between it and the reference.

    Attributes:
        layers: one a coupling; `readout`: the logits, in units of 2^-readout.scale.
        state_bits, input_bits: p and p_in.
        largest_beta: strongest nudge for which the top accumulator is proven safe.
    """

    kind: ClassVar[str] = "loihi"
    layers: tuple[IntegerLayer, ...]
    readout: IntegerLayer
    state_bits: int
    input_bits: int
    largest_beta: float

    @property
    def top(self) -> int:
        """Largest state."""
        return 2**self.state_bits - 1

    @property
    def held_back(self) -> int | None:
        """Largest change of a state, in 2^-p, that a population keeps to itself; None where it sends whole states."""
        return None if self.target.threshold is None else int(self.target.threshold * 2**self.state_bits)

    @property
    def nudge_shift(self) -> int:
        """Right shift of beta W_out^T error to the top accumulator's scale."""
        return self.readout.exponent + ERROR_BITS + BETA_BITS - self.layers[-1].scale

    def dequantised(self) -> EPGraph:
        """The graph with its weights as the integers have them, w = W 2^-q; biases as they were."""
        def exact(coupling, layer):
            return replace(coupling, weight=np.float32(layer.weight * 2.0**-layer.exponent))

        return replace(self.graph, couplings=tuple(map(exact, self.graph.couplings, self.layers)),
                       readout=exact(self.graph.readout, self.readout))

    def pack(self):
        arrays, rows = {}, []
        for layer in (*self.layers, self.readout):
            row = asdict(layer)
            arrays |= {f"loihi.{layer.name}.{key}": row.pop(key) for key in ("weight", "bias")}
            rows.append(row)
        return arrays, {"layers": rows, "state_bits": self.state_bits, "input_bits": self.input_bits,
                        "largest_beta": self.largest_beta}

    @classmethod
    def unpack(cls, target, graph, arrays, settings):
        rest = dict(settings)
        layers = [IntegerLayer(**row, **{key: arrays[f"loihi.{row['name']}.{key}"] for key in ("weight", "bias")})
                  for row in rest.pop("layers")]
        return cls(target, graph, tuple(layers[:-1]), layers[-1], **rest)

    def report(self):
        return loihi_report(self)


@dataclass(frozen=True, eq=False)
class _Weights:
    """Quantised weights of a coupling and what the bound needs of them (see mapping.loihi_bound)."""

    integers: np.ndarray
    exponent: int
    sums: np.ndarray
    feedback: np.ndarray

    @classmethod
    def of(cls, coupling: Coupling, bits: int) -> "_Weights":
        integers, exponent = quantise(coupling.weight, bits)
        return cls(integers, exponent, signed_sums(integers), feedback_reach(integers, coupling.pool))


def compile_loihi(graph: EPGraph, target: LoihiTarget) -> LoihiProgram:
    """Compile a graph to integers.

    Raises:
        Refusal: a slope that is not a power of two; state bits, given or none, that cannot be proven safe.
    """
    _check_slopes(graph)
    weights = [_Weights.of(c, target.weight_bits) for c in (*graph.couplings, graph.readout)]
    for state_bits in STATE_BITS if target.state_bits is None else [target.state_bits]:
        for input_bits in INPUT_BITS:
            program = _fit(graph, target, weights, state_bits, input_bits)
            if all(layer.bound < ACCUMULATOR_LIMIT for layer in (*program.layers, program.readout)):
                return program
    raise _unproven(program)


def _check_slopes(graph: EPGraph):
    for population in graph.populations:
        if np.frexp(population.slope)[0] != 0.5:
            raise Refusal("slope is not a power of two", where=f"layer {population.name}", got=population.slope,
                          allowed="0.25, 0.5, 1, ...", remedy="train with a slope of 0.5, or rescale weights and bias")


def _fit(graph: EPGraph, target: LoihiTarget, weights, state_bits: int, input_bits: int) -> LoihiProgram:
    """The program for given bits, proven or not."""
    depth = len(graph.couplings)
    layers = tuple(_layer(graph, weights, n, state_bits, input_bits) for n in range(depth))
    readout = _readout(graph, weights[-1], state_bits)
    # |error| sums to at most 2 and a rounding unit a class; the drive is rounded once more
    swing = (2 + graph.classes * 2.0**-ERROR_BITS) * np.abs(weights[-1].integers.astype(np.int64)).max()
    room = max(ACCUMULATOR_LIMIT - 2 - layers[-1].bound, 0) * 2.0 ** (readout.exponent - layers[-1].scale)
    beta = np.floor(2.0**BETA_BITS * min(room / max(swing, 1), 1024)) / 2.0**BETA_BITS
    return LoihiProgram(target, graph, layers, readout, state_bits, input_bits, float(beta))


def _layer(graph: EPGraph, weights, n: int, state_bits: int, input_bits: int) -> IntegerLayer:
    """Scales, shifts and bound of layer n: equations (10) to (12)."""
    own, coupling = weights[n], graph.couplings[n]
    slope_bits = int(np.frexp(graph.populations[n].slope)[1]) - 1
    below = input_bits if n == 0 else state_bits
    drives = [own.exponent + below, state_bits + slope_bits]
    if n + 1 < len(graph.couplings):
        drives.append(weights[n + 1].exponent + state_bits)
    scale = max(drives)
    up, shift = scale - drives[0], scale - drives[1]
    down = scale - drives[2] if len(drives) == 3 else 0
    bias = round_half_up(coupling.bias.astype(np.float64) * 2.0**scale)
    reaches = [(forward_reach(own.sums, *_limits(graph, n, state_bits, input_bits)), up)]
    if len(drives) == 3:
        reaches.append((weights[n + 1].feedback * (2**state_bits - 1), down))
    bound = total_bound(reaches, bias + (1 << shift >> 1))
    return IntegerLayer(coupling.name, own.integers, bias, own.exponent, scale, up, down, shift, bound)


def _limits(graph: EPGraph, n: int, state_bits: int, input_bits: int) -> tuple[np.ndarray, np.ndarray]:
    """(C_in,) lowest and highest integers that coupling n reads (the readout counts as the last coupling)."""
    if n:
        channels = graph.populations[n - 1].shape[0]
        return np.zeros(channels, np.int64), np.full(channels, 2**state_bits - 1)
    ends = [(np.float32(image) - graph.mean) / graph.scale for image in (0, 1)]
    return tuple(round_half_up(x * np.float32(2**input_bits)) for x in ends)


def _readout(graph: EPGraph, own: _Weights, state_bits: int) -> IntegerLayer:
    """Scale and bound of the logits."""
    scale = own.exponent + state_bits
    bias = round_half_up(graph.readout.bias.astype(np.float64) * 2.0**scale)
    limits = _limits(graph, len(graph.couplings), state_bits, 0)
    bound = total_bound([(forward_reach(own.sums, *limits), 0)], bias)
    return IntegerLayer("readout", own.integers, bias, own.exponent, scale, 0, 0, 0, bound)


def _unproven(program: LoihiProgram) -> Refusal:
    worst = max((*program.layers, program.readout), key=lambda layer: layer.bound)
    return Refusal(f"accumulator is not proven safe with {program.state_bits} state bits", where=f"layer {worst.name}",
                   got=f"bound {worst.bound}", allowed=f"below {ACCUMULATOR_LIMIT}",
                   remedy="leave state_bits out, or use fewer weight_bits")
