"""Equilibrium propagation in integers: what synapses, neurons and the readout add up, and how they write themselves.

At the end of a nudged phase every process sees one more step of the states, held still, and adds to accumulators of
its own, over the images of the batch and the places of a map,

    A_n += +- conv_weight(x_{n-1}, unpool(x_n, I_n)),    a_n += +- x_n,    x = (S + 2^{k-1}) >> k         (21)
    A_out += e x_L^T,    a_out += e,    e = target - softmax in 2^-15, mapping.loihi.integers (9)         (22)

with the sign of the nudge; x are traces of the states S, rounded to as many bits as keep every partial sum within 32
bits. At the end of the second phase a process writes, with u of its own generator uniform in 0 .. 2^r - 1,

    W <- clip(W + floor((m A + u) / 2^r), -(2^{bits-1} - 1), 2^{bits-1} - 1),    m = 128 .. 255           (23)

so that a change smaller than one unit of a weight happens with the probability that makes its mean right. m 2^-r is

    rate 2^{q_n} u_{n-1} u_n / (2 beta' B gamma'_{n+1} .. gamma'_L),    of the readout rate 2^q 2^-15 u_L / (2 B)   (24)

with u_n what a trace of 1 stands for and beta', gamma' in the units of mapping.loihi.scaling (19); of biases the same
with the accumulator's scale E in place of q and without u_{n-1}.

Source: Scellier and Bengio 2017 (the rule, `ep_hw.learning.rule`); Davies et al. 2018 (Loihi: sums of products of
traces, stochastic rounding of 8-bit weights); Steele et al. 2014 (the generator, splitmix64).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import frexp, prod

import numpy as np

from mapping.errors import Refusal
from mapping.kernels import patches
from mapping.loihi.integers import ERROR_BITS, rescale
from mapping.loihi.program import LoihiProgram

SIGNS = (1, -1)      # of the nudges of a batch, in this order; the second one's end is when all write
SUM_LIMIT = 2**31    # of the accumulators that learn
MULTIPLIER_BITS = 8
_GOLDEN, _MIX, _REMIX = (np.uint64(c) for c in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


@dataclass(frozen=True)
class Step:
    """A learning rate in integers: multiplier 2^-shift; a shift below 0 is to the left."""

    multiplier: int
    shift: int

    @classmethod
    def of(cls, factor: float) -> "Step":
        """The nearest one; of 0 that which writes nothing."""
        if factor == 0:
            return cls(0, 0)
        mantissa, exponent = frexp(factor)
        multiplier = round(mantissa * 2**MULTIPLIER_BITS)
        if multiplier == 2**MULTIPLIER_BITS:
            multiplier, exponent = multiplier // 2, exponent + 1
        return cls(multiplier, MULTIPLIER_BITS - exponent)

    @property
    def factor(self) -> float:
        return self.multiplier * 2.0**-self.shift


@dataclass(frozen=True)
class Plasticity:
    """How a coupling, and the population above it, learn; for the readout: the logits' weights and biases.

    Attributes:
        before: k of the states that the coupling reads.
        after: k of the states above; of the readout that of its errors, 0.
        weight: step of its weights.
        bias: step of the biases of the population above.
        bound: proven largest magnitude of its accumulators.
    """

    before: int
    after: int
    weight: Step
    bias: Step
    bound: int


@dataclass(frozen=True)
class Learning:
    """How a program learns.

    Attributes:
        layers: one a coupling, the readout last.
        phases: of each batch.
        seed: of stochastic rounding.
    """

    layers: tuple[Plasticity, ...]
    phases: "Phases"
    seed: int

    @classmethod
    def of(cls, content: dict) -> "Learning":
        """From what `dataclasses.asdict` says."""
        layers = (Plasticity(**{**own, "weight": Step(**own["weight"]), "bias": Step(**own["bias"])})
                  for own in content["layers"])
        return cls(tuple(layers), Phases(**content["phases"]), content["seed"])


@dataclass(frozen=True, kw_only=True)
class Phases:
    """What a program learns from.

    Attributes:
        batch: images between two writes.
        free_steps: time steps of the free phase.
        nudged_steps: time steps of each nudged phase, from where the free one ended.
        beta: strength of the nudges, as `simulators.relaxation.Nudge` counts it.
    """

    batch: int
    free_steps: int
    nudged_steps: int
    beta: float


class Rounding:
    """The generator of one process: splitmix64 from its own seed, in integers that are the same everywhere.

    Args:
        seed: of the learning.
        name: of the process.
    """

    def __init__(self, seed: int, name: str):
        digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
        self._state = np.frombuffer(digest[:8], np.uint64)[0]

    def draw(self, count: int, bits: int) -> np.ndarray:
        """(count,) int64, uniform in 0 .. 2^bits - 1; bits at most 62, none or less give zeros."""
        with np.errstate(over="ignore"):
            z = self._state + _GOLDEN * np.arange(1, count + 1, dtype=np.uint64)
            self._state += _GOLDEN * np.uint64(count)
            z = (z ^ (z >> np.uint64(30))) * _MIX
            z = (z ^ (z >> np.uint64(27))) * _REMIX
        z ^= z >> np.uint64(31)
        return (z >> np.uint64(64 - bits)).astype(np.int64) if bits > 0 else np.zeros(count, np.int64)


class Accumulator:
    """Integers that learn, and what was added up since they were last written.

    Args:
        value: the integers; written in place.
        step: of (23).
        limit: largest magnitude of the integers, None for biases.
        rounding: the generator of the process.
    """

    def __init__(self, value: np.ndarray, step: Step, limit: int | None, rounding: Rounding):
        self.value, self.step, self.limit, self.rounding = value, step, limit, rounding
        self.sum = np.zeros(value.shape, np.int64)

    def add(self, products: np.ndarray, sign: int = 1):
        """Equations (21) and (22), of one phase."""
        self.sum += sign * products.reshape(self.sum.shape)

    def write(self, cooling: int = 0):
        """Equation (23), with steps 2^-cooling as large."""
        shift = self.step.shift + cooling
        drawn = self.rounding.draw(self.sum.size, shift).reshape(self.sum.shape)
        change = (self.step.multiplier * self.sum + drawn) >> max(shift, 0) << max(-shift, 0)
        value = self.value.astype(np.int64) + change
        self.value[...] = value if self.limit is None else np.clip(value, -self.limit, self.limit)
        self.sum[...] = 0


def weight_products(below: np.ndarray, spread: np.ndarray, kernel: tuple[int, int], padding: int,
                    stride: int) -> np.ndarray:
    """conv_weight of (21): (C_out, C_in, k_h, k_w) int64, exact as every partial sum stays within 2^53.

    Args:
        below: (B, C_in, H, W) traces.
        spread: (B, C_out, H', W') traces at their winners.
        kernel: (k_h, k_w).
        padding: of the coupling.
        stride: of the coupling.
    """
    rows = patches(below.astype(np.float64), *kernel, padding, stride)
    columns = spread.transpose(0, 2, 3, 1).reshape(len(rows), -1).astype(np.float64)
    return (columns.T @ rows).astype(np.int64).reshape(spread.shape[1], below.shape[1], *kernel)


def plan_learning(program: LoihiProgram, *, rates: Sequence[float], phases: Phases, seed: int) -> Learning:
    """Traces, steps and proofs.

    Args:
        program: that learns.
        rates: learning rate of each coupling, the readout's last, in units of mapping.loihi.scaling (18); 0 leaves a
            layer as it is, and so does a nudge that does not reach it.
        phases: of each batch.
        seed: of stochastic rounding.

    Raises:
        Refusal: a network that has no feedback, or sends changes of states; a nudge that is not proven safe.
    """
    _check_learns(program)
    program.integer_beta(phases.beta)
    graph = program.graph
    batch, depth, unit = phases.batch, len(graph.couplings), 2.0**-program.state_bits
    gains = program.scaled.gains
    felt = [prod(gains[n + 1:depth]) for n in range(depth)]
    shared = 2 * phases.beta * program.nudge_scale * batch
    ends = [(np.float32(image) - graph.mean) / graph.scale for image in (0, 1)]
    brightest = int(np.ceil(np.abs(ends).max() * 2**program.input_bits))
    layers = []
    for n, (layer, population) in enumerate(zip(program.layers, graph.populations)):
        top = program.tops[n - 1] if n else brightest
        sites = batch * population.shape[1] * population.shape[2]
        before, after = _trace_shifts(top, program.tops[n], sites)
        below, above = 2.0**(before - (program.state_bits if n else program.input_bits)), 2.0**after * unit
        share = rates[n] / (shared * felt[n]) if felt[n] else 0.0
        layers.append(Plasticity(before, after, Step.of(share * 2.0**layer.exponent * below * above),
                                 Step.of(share * 2.0**layer.scale * above),
                                 sites * _trace(top, before) * max(_trace(program.tops[n], after), 1)))
    return Learning((*layers, _readout_plasticity(program, rates[-1], batch)), phases, seed)


def _check_learns(program: LoihiProgram):
    """Refuse a network without feedback, or one that sends changes of states."""
    if not program.graph.has_feedback or program.delta_threshold is not None:
        raise Refusal("this program cannot learn by equilibrium propagation", where=str(program.target),
                      got="no feedback" if not program.graph.has_feedback else "a threshold on changes of states",
                      allowed="a network with feedback that sends whole states",
                      remedy="choose loihi or lava as they are")


def _readout_plasticity(program: LoihiProgram, rate: float, batch: int) -> Plasticity:
    """Of the readout, whose sums are of errors and of traces of the top layer's states."""
    readout, unit = program.readout, 2.0**-program.state_bits
    before, share = 0, rate * 2.0**-ERROR_BITS / (2 * batch)
    while (bound := 2 * batch * 2**ERROR_BITS * _trace(program.tops[-1], before)) >= SUM_LIMIT:
        before += 1
    return Plasticity(before, 0, Step.of(share * 2.0**readout.exponent * 2.0**before * unit),
                      Step.of(share * 2.0**readout.scale), bound)


def _trace(top: int, shift: int) -> int:
    """The largest trace of states up to `top`."""
    return int(rescale(np.int64(top), shift))


def _trace_shifts(below: int, above: int, sites: int) -> tuple[int, int]:
    """k of the states below and above, the smallest of like traces for which a sum over all sites is safe."""
    before = after = 0
    while sites * _trace(below, before) * _trace(above, after) >= SUM_LIMIT:
        if _trace(below, before) >= _trace(above, after):
            before += 1
        else:
            after += 1
    return before, after


def learned(program: LoihiProgram, weights: Sequence[np.ndarray], biases: Sequence[np.ndarray]) -> LoihiProgram:
    """The program with other weights and biases, proven anew.

    Args:
        program: before.
        weights: int8, one a coupling, the readout's last.
        biases: int64, alike.

    Raises:
        Refusal: an accumulator of a relaxation is no longer proven safe.
    """
    layers = [replace(layer, weight=weight.copy(), bias=bias.copy())
              for layer, weight, bias in zip((*program.layers, program.readout), weights, biases)]
    changed = replace(program, layers=tuple(layers[:-1]), readout=layers[-1])
    layers = [replace(layer, bound=bound) for layer, bound in zip(layers, changed.prove())]
    changed = replace(changed, layers=tuple(layers[:-1]), readout=layers[-1])
    if not changed.is_proven:
        worst = changed.worst
        raise Refusal("learning leaves what is proven safe", where=f"layer {worst.name}", got=f"bound {worst.bound}",
                      allowed="below 2^23", remedy="compile with fewer state_bits, or learn at a lower rate")
    return replace(changed, largest_beta=changed.safe_beta)
