"""What each Lava process computes, in numpy, for integers (fixed_pt) and floats (floating_pt).

Integers pass through float32 matrix products, exact below 2^23 (proven by mapping.loihi.bound), and leave as int32;
floats through float64 ones (mapping.kernels says why).
"""

from dataclasses import dataclass, replace

import numpy as np

from mapping.graph import Coupling, EPGraph
from mapping.kernels import convolve, convolve_transpose, max_pool, unpool
from mapping.loihi.integers import ERROR_BITS, margin_error, nudge_pull, round_half_up, softmax_error
from mapping.loihi.program import LoihiProgram
from mapping.loihi.target import LoihiTarget
from mapping.program import FloatProgram

LavaProgram = LoihiProgram | FloatProgram[LoihiTarget]   # for `lava`, for `lava:float`


@dataclass(frozen=True, eq=False)
class Synapses:
    """Weights of a coupling, read in two directions.

    Attributes:
        weight: (C_out, C_in, k_h, k_w), in the type that sums are made in.
        coupling: the network's own, for its window.
        forward_factor: power of two that aligns the forward drive; 1 for floats.
        backward_factor: of the backward drive, `LoihiProgram.backward_factors`; for floats its gain.
    """

    weight: np.ndarray
    coupling: Coupling
    forward_factor: int = 1
    backward_factor: float | np.ndarray = 1.0

    def sum_forward(self, below: np.ndarray) -> np.ndarray:
        """Drive of the population above before pooling, in the dtype of `below`."""
        drive = convolve(below, self.weight, self.coupling.padding, self.coupling.stride)
        return (drive * self.forward_factor).astype(below.dtype, copy=False)

    def sum_backward(self, spread: np.ndarray) -> np.ndarray:
        """Drive of the population below from unpooled states, in their dtype."""
        own = self.coupling.window
        drive = convolve_transpose(spread, self.weight, own.padding, own.stride, own.uncovered)
        return (drive * self.backward_factor).astype(spread.dtype, copy=False)

    def forward(self, below: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Pooled drive of the population above, in the dtype of `below`, and the winners."""
        return max_pool(self.sum_forward(below), self.coupling.pool)

    def backward(self, above: np.ndarray, winners: np.ndarray | None) -> np.ndarray:
        """Drive of the population below from the states above and the winners of this moment."""
        return self.sum_backward(unpool(above, winners, self.coupling.pool, self.coupling.unpooled))


@dataclass(frozen=True, eq=False)
class IntegerActivation:
    """Equation (12) of mapping.loihi.program: `bias` (C, 1, 1) int32 holds the half that rounds; `alive` (C, H, W)
    int32 is 0 where a neuron is dead, or None where none is.
    """

    bias: np.ndarray
    shift: int
    top: int
    alive: np.ndarray | None = None

    def with_bias(self, bias: np.ndarray) -> "IntegerActivation":
        """With another bias, (C,) int64 without the half."""
        return replace(self, bias=(bias + (1 << self.shift >> 1)).astype(np.int32).reshape(-1, 1, 1))

    def __call__(self, drive: np.ndarray) -> np.ndarray:
        state = np.clip((drive + self.bias) >> self.shift, 0, self.top)
        return state if self.alive is None else state * self.alive


@dataclass(frozen=True, eq=False)
class FloatActivation:
    """Equation (3) of mapping.graph with its bias (C, 1, 1)."""

    bias: np.ndarray
    slope: np.float32
    ceiling: np.float32

    def __call__(self, drive: np.ndarray) -> np.ndarray:
        return np.clip((drive + self.bias) * self.slope, 0, self.ceiling)


@dataclass(frozen=True, eq=False)
class IntegerReadout:
    """Logits in units of 2^-scale and the integer nudge (9); `alive` (K,) is 0 where a logit is dead."""

    weight: np.ndarray
    bias: np.ndarray
    scale: int
    shift: int
    alive: np.ndarray

    def logits(self, state: np.ndarray) -> np.ndarray:
        flat = self.weight.reshape(len(self.weight), -1).astype(np.int64)
        return (state.reshape(len(state), -1) @ flat.T + self.bias) * self.alive

    def error(self, logits: np.ndarray, target: np.ndarray) -> np.ndarray:
        """target - softmax, in 2^-15; 0 where a logit is dead."""
        return softmax_error(logits, self.scale, target) * self.alive

    def pull(self, logits: np.ndarray, target: np.ndarray, beta: np.ndarray, loss: str) -> np.ndarray:
        error = margin_error(logits, target) * self.alive if loss == "margin" else self.error(logits, target)
        return nudge_pull(error, self.weight, int(beta), self.shift)


@dataclass(frozen=True, eq=False)
class FloatReadout:
    """Equation (4) of mapping.graph and the nudge of simulators.relaxation.Nudge."""

    weight: np.ndarray
    bias: np.ndarray

    def logits(self, state: np.ndarray) -> np.ndarray:
        return state.reshape(len(state), -1) @ self.weight.reshape(len(self.weight), -1).T + self.bias

    def pull(self, logits: np.ndarray, target: np.ndarray, beta: np.ndarray, loss: str) -> np.ndarray:
        if loss == "margin":
            error = margin_error(logits, target) * np.float32(2.0**-ERROR_BITS)
        else:
            e = np.exp(logits - logits.max(1, keepdims=True))
            error = target - e / e.sum(1, keepdims=True)
        drive = np.float32(beta) * error @ self.weight.reshape(len(self.weight), -1)
        return drive.reshape(len(error), *self.weight.shape[1:])


@dataclass(frozen=True)
class Arithmetic:
    """All layers of a program.

    Attributes:
        tag: Lava's name for the process models to use.
        state: dtype of states.
        sum: dtype of logits.
        strength: dtype of beta.
        delta_threshold: largest change of a state that its population does not send; None where it sends whole states.
        units: what a state of 1 of each layer stands for.
        logit_bits: logits count in 2^-logit_bits.
    """

    tag: str
    state: type
    sum: type
    strength: type
    synapses: tuple[Synapses, ...]
    activations: tuple[IntegerActivation | FloatActivation, ...]
    readout: IntegerReadout | FloatReadout
    units: tuple[float, ...]
    delta_threshold: int | None = None
    logit_bits: int = 0

    @property
    def events(self) -> bool:
        """Whether layers send each other changes."""
        return self.delta_threshold is not None


def arithmetic_of(program: LavaProgram) -> Arithmetic:
    """The arithmetic of a program: integers for `lava`, floats for `lava:float`."""
    return _integers(program) if isinstance(program, LoihiProgram) else _floats(program.graph)


def encode(program: LavaProgram, images: np.ndarray) -> np.ndarray:
    """Images (B, C, H, W) in [0, 1] as the first coupling reads them: simulators.loihi.grid.quantise_image in numpy."""
    mean, scale = (x.astype(np.float32).reshape(-1, 1, 1) for x in (program.graph.mean, program.graph.scale))
    x = (images.astype(np.float32) - mean) / scale
    return round_half_up(x * np.float32(2**program.input_bits)) if isinstance(program, LoihiProgram) else x


def _integers(program: LoihiProgram) -> Arithmetic:
    synapses = tuple(Synapses(layer.weight.astype(np.float32), coupling, 2**layer.forward_shift, factor)
                     for layer, coupling, factor in zip(program.layers, program.graph.couplings,
                                                        program.backward_factors))
    alive = [a.astype(np.int32) for a in program.alive.neurons] if program.alive else [None] * len(program.layers)
    activations = tuple(IntegerActivation(np.zeros(0), layer.shift, top, a).with_bias(layer.bias)
                        for layer, top, a in zip(program.layers, program.tops, alive))
    last, logits = program.readout, program.alive.logits if program.alive else np.ones(program.graph.classes, bool)
    return Arithmetic("fixed_pt", np.int32, np.int64, np.int64, synapses, activations,
                      IntegerReadout(last.weight, last.bias, last.scale, program.nudge_shift, logits), program.units,
                      program.delta_threshold, last.scale)


def _floats(graph: EPGraph) -> Arithmetic:
    return Arithmetic("floating_pt", np.float32, np.float32, np.float64,
                      tuple(Synapses(c.weight.astype(np.float64), c, backward_factor=c.feedback_gain)
                            for c in graph.couplings),
                      tuple(FloatActivation(c.bias.reshape(-1, 1, 1), np.float32(p.slope), np.float32(p.ceiling))
                            for c, p in zip(graph.couplings, graph.populations)),
                      FloatReadout(graph.readout.weight, graph.readout.bias), (1.0,) * len(graph.populations))
