"""The Loihi 2 compiler: integers for every weight, state and shift, proven free of overflow and placed on cores.

States are brought within 1 (mapping.loihi.scaling). Weights take the exponent that suits the recorded activity best
(mapping.loihi.calibration), without activity the largest that clips none. The state bits are the most, from 16 down to
4, for which every accumulator is proven to stay below 2^23 (mapping.loihi.bound); then the image's bits are the most,
16 to 8. Where no bits, or not the ones asked for, can be proven, exponents give way: the coupling that sets the scale
of the worst accumulator is coarsened by a bit, until the proof holds or nothing is left of its weights.
"""

from dataclasses import dataclass, replace

import numpy as np

from mapping.errors import Refusal
from mapping.graph import Coupling, EPGraph
from mapping.loihi.alive import alive_of
from mapping.loihi.bound import ACCUMULATOR_LIMIT, accumulator_bound, backward_reach, input_reach, signed_sums
from mapping.loihi.calibration import Recorded, best_exponent, dequantise, mean_error, record
from mapping.loihi.integers import natural_exponent, quantise, round_half_up, round_to_power
from mapping.loihi.placement import place
from mapping.loihi.program import IntegerLayer, LoihiProgram
from mapping.loihi.scaling import choose_scales, largest_states, rescaled
from mapping.loihi.target import LoihiTarget

STATE_BITS = range(16, 3, -1)
INPUT_BITS = range(16, 7, -1)


@dataclass(frozen=True, eq=False)
class _Weights:
    """Quantised weights of a coupling, what the bound needs of them, and the mean drive error they cause.

    Attributes:
        error: (C_out,) mean of e in equation (13); zeros without a record.
    """

    integers: np.ndarray
    exponent: int
    sums: np.ndarray
    backward: np.ndarray
    error: np.ndarray

    @classmethod
    def of(cls, coupling: Coupling, bits: int, exponent: int, record: Recorded | None) -> "_Weights":
        integers = quantise(coupling.weight, bits, exponent)
        error = mean_error(record, dequantise(integers, exponent)) if record else np.zeros(len(integers))
        return cls(integers, exponent, signed_sums(integers), 
                   backward_reach(integers, coupling.pool, coupling.stride), error)


def compile_loihi(graph: EPGraph, target: LoihiTarget) -> LoihiProgram:
    """Compile a graph to integers.

    Raises:
        Refusal: layers without ceilings in a network without recorded activity; a unit too large for a core or a
            program for `target.chips`; the loss of a core that there is not; state bits, given or none, that no
            exponents make safe.
    """
    place(graph, target)
    alive_of(graph, target)
    scales = choose_scales(graph)
    program = replace(_compile(rescaled(graph, scales), target), graph=graph, scales=scales)
    return replace(program, largest_beta=program.safe_beta)


def _compile(graph: EPGraph, target: LoihiTarget) -> LoihiProgram:
    """Compile a graph whose scales are 1."""
    couplings, bits = (*graph.couplings, graph.readout), target.weight_bits
    records: list[Recorded | None] = [None] * len(couplings)
    if graph.activity:
        records = [*record(graph, graph.activity)]
    exponents = [best_exponent(r, bits) if r else natural_exponent(c.weight, bits)
                 for c, r in zip(couplings, records)]
    weights = [_Weights.of(c, bits, q, r) for c, q, r in zip(couplings, exponents, records)]
    while not (program := _finest(graph, target, weights)).is_proven:
        n = _to_coarsen(program)
        if n is None or bits == 1 or np.abs(weights[n].integers).max() <= 1:
            raise _unproven(program)
        weights[n] = _Weights.of(couplings[n], bits, weights[n].exponent - 1, records[n])
    return program


def _finest(graph: EPGraph, target: LoihiTarget, weights: list[_Weights]) -> LoihiProgram:
    """The proven program with the most state bits, then input bits; the coarsest, unproven, if there is none."""
    for state_bits in STATE_BITS if target.state_bits is None else [target.state_bits]:
        for input_bits in INPUT_BITS:
            program = _fit(graph, target, weights, state_bits, input_bits)
            if program.is_proven:
                return program
    return program


def _fit(graph: EPGraph, target: LoihiTarget, weights: list[_Weights], state_bits: int,
         input_bits: int) -> LoihiProgram:
    """The program for given bits, proven or not, of which no nudge is."""
    depth = len(graph.couplings)
    layers = tuple(_layer(graph, weights, n, state_bits, input_bits) for n in range(depth))
    readout = _readout(graph, weights[-1], state_bits)
    return LoihiProgram(target, graph, layers, readout, state_bits, input_bits, 0.0, (1.0,) * depth)


def _layer(graph: EPGraph, weights: list[_Weights], n: int, state_bits: int, input_bits: int) -> IntegerLayer:
    """Scales, shifts and bound of layer n: equations (10) to (12)."""
    own, coupling = weights[n], graph.couplings[n]
    tops, gain = largest_states((p.ceiling for p in graph.populations), state_bits), graph.gains[n + 1]
    above = weights[n + 1] if gain else None
    drives = [own.exponent + (state_bits if n else input_bits), state_bits + round_to_power(graph.populations[n].slope)]
    if above:
        drives.append(above.exponent + state_bits - round_to_power(gain))
    scale = max(drives)
    forward_shift, shift = scale - drives[0], scale - drives[1]
    backward_shift = scale - drives[2] if above else 0
    bias = round_half_up((coupling.bias.astype(np.float64) - own.error) * 2.0**scale)
    backward = above.backward * tops[n + 1] if above else None
    bound = accumulator_bound(input_reach(graph, n, own.sums, tops, input_bits), forward_shift, backward,
                              backward_shift, bias, 1 << shift >> 1)
    return IntegerLayer(coupling.name, own.integers, bias, own.exponent, scale, forward_shift,
                        backward_shift, shift, bound)


def _readout(graph: EPGraph, own: _Weights, state_bits: int) -> IntegerLayer:
    """Scale and bound of the logits."""
    scale = own.exponent + state_bits
    bias = round_half_up((graph.readout.bias.astype(np.float64) - own.error) * 2.0**scale)
    tops = largest_states((p.ceiling for p in graph.populations), state_bits)
    bound = accumulator_bound(input_reach(graph, len(graph.couplings), own.sums, tops, 0), 0, None, 0, bias, 0)
    return IntegerLayer("readout", own.integers, bias, own.exponent, scale, 0, 0, 0, bound)


def _to_coarsen(program: LoihiProgram) -> int | None:
    """The coupling whose drive sets the scale of the worst accumulator; None where the states' own scale is finer."""
    worst = program.worst
    if worst.forward_shift == 0:
        return (*program.layers, program.readout).index(worst)
    above = program.layers.index(worst) + 1
    return above if worst.backward_shift == 0 and program.graph.gains[above] else None


def _unproven(program: LoihiProgram) -> Refusal:
    worst, asked = program.worst, program.target.state_bits is not None
    return Refusal(f"accumulator is not proven safe with {program.state_bits} state bits", where=f"layer {worst.name}",
                   got=f"bound {worst.bound}", allowed=f"below {ACCUMULATOR_LIMIT}",
                   remedy="leave state_bits out, or use fewer weight_bits" if asked
                   else "use fewer weight_bits, or train with weights and biases of more even size across layers")
