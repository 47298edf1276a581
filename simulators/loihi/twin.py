"""The Loihi program in torch, bit for bit, and the rungs between it and the reference.

Integers travel as float32: every partial sum is proven below 2^23, where float32 is exact. Roundings pass gradients
straight through, so that attackers can differentiate the twin.
"""

import contextlib
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from mapping.graph import Coupling
from mapping.loihi.integers import ERROR_BITS, EXPONENTIAL, gap_shift, rescale
from mapping.loihi.program import IntegerLayer, LoihiProgram
from mapping.loihi.target import LoihiTarget
from mapping.program import FloatProgram
from simulators.loihi.energy import mean_cost
from simulators.loihi.events import full_activity
from simulators.loihi.grid import QuantisedStates, from_integers, quantise_image, straight_through, to_integers
from simulators.machine import Cost, InProcessMachine
from simulators.reference import FloatProjection, FloatSubstrate
from simulators.relaxation import Nudge, Read, Repeat, Residual, States, Stop, Substrate


def exact_convolutions(device: str) -> AbstractContextManager:
    """On CUDA, convolutions as plain float32 matrix products: no TF32, no Winograd, no FFT."""
    if torch.device(device).type != "cuda":
        return contextlib.nullcontext()
    torch.backends.cuda.matmul.allow_tf32 = False
    return torch.backends.cudnn.flags(enabled=False)


class IntegerProjection(FloatProjection):
    """A coupling in integers: equation (11) of mapping.loihi.program without its bias, which belongs to the population.

    Args:
        layer: its integers.
        coupling: the network's own, for padding and pooling.
        backward_factor: see `LoihiProgram.backward_factors`.
        device: "cpu" or "cuda".
    """

    def __init__(self, layer: IntegerLayer, coupling: Coupling, backward_factor: np.ndarray, device: str):
        weight = torch.tensor(layer.weight, device=device, dtype=torch.float32)
        super().__init__(weight, None, coupling.window, 1.0 if coupling.feedback_gain else 0.0)
        self.device = device
        self.forward_factor = 2.0**layer.forward_shift
        self.backward_factor = torch.tensor(backward_factor, device=device)

    def forward(self, s_pre: Tensor, generator: torch.Generator | None = None) -> Read:
        with exact_convolutions(self.device):
            u, winners = super().forward(s_pre)
        return u * self.forward_factor, winners

    def backward(self, s_post: Tensor, winners: Tensor | None, generator: torch.Generator | None = None) -> Tensor:
        with exact_convolutions(self.device):
            return super().backward(s_post, winners) * self.backward_factor


class IntegerSubstrate(Substrate):
    """Equations (11) and (12) of mapping.loihi.program, and the integer nudge (9) of mapping.loihi.integers."""

    def __init__(self, program: LoihiProgram, device: str):
        def column(array: np.ndarray) -> Tensor:
            return torch.tensor(array, device=device, dtype=torch.float32).view(-1, 1, 1)

        self.program, self.state_scale = program, float(2**program.state_bits)
        self.projections = tuple(IntegerProjection(layer, coupling, factor, device) for layer, coupling, factor in
                                 zip(program.layers, program.graph.couplings, program.backward_factors))
        self.readout = IntegerProjection(program.readout, program.graph.readout, np.zeros((), np.float32), device)
        self.biases = tuple(column(layer.bias + layer.half) for layer in program.layers)
        self.readout_bias = column(program.readout.bias).flatten()
        self.mean, self.scale = column(program.graph.mean), column(program.graph.scale)
        self.exponential = torch.tensor(EXPONENTIAL, device=device)
        alive = program.alive
        self.alive = [torch.tensor(a, device=device, dtype=torch.float32) for a in alive.neurons] if alive else []
        self.dead_logits = torch.tensor(~alive.logits if alive else False, device=device)

    def encode(self, images: Tensor) -> Tensor:
        return quantise_image(images, self.mean, self.scale, self.program.input_bits)

    def start(self, images: Tensor) -> States:
        shapes = (p.shape for p in self.program.graph.populations)
        return tuple(self.mean.new_zeros((len(images), *shape)) for shape in shapes)

    def activate(self, n: int, drive: Tensor) -> Tensor:
        state = (drive + self.biases[n]) * 2.0**-self.program.layers[n].shift
        state = straight_through(state.floor(), state).clamp(0, self.program.tops[n])
        return state * self.alive[n] if self.alive else state

    def hold(self, states: States) -> States:
        return to_integers(self.program, states)

    def real(self, states: States) -> States:
        return from_integers(self.program, states)

    def emit(self, n: int, state: Tensor, sent: Tensor) -> Tensor:
        """Sigma-delta: a neuron sends its change since it last sent, once that exceeds the threshold."""
        delta_threshold = self.program.delta_threshold
        if delta_threshold is None:
            return state
        return straight_through(torch.where((state - sent).abs() > delta_threshold, state, sent).detach(), state)

    def logits(self, s_top: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self.integer_logits(s_top) * 2.0**-self.program.readout.scale

    def pull(self, s_top: Tensor, nudge: Nudge, generator: torch.Generator | None = None) -> Tensor:
        target, beta = integer_nudge(self.program, nudge)
        logits = self.integer_logits(s_top)
        error = self._margin_error(nudge, logits) if nudge.loss == "margin" else self.error(logits, target)
        product = error.double() @ self.readout.weight.flatten(1).double()
        drive = rescale(beta * product.long(), self.program.nudge_shift)
        return drive.view(s_top.shape).to(s_top.dtype)

    def error(self, logits: Tensor, target: Tensor) -> Tensor:
        """target - softmax in 2^-15, of logits in units of 2^-readout.scale; 0 where a logit is dead."""
        gap = rescale((logits.amax(1, keepdim=True) - logits).long(), gap_shift(self.program.readout.scale))
        e = self.exponential[gap.clamp(max=len(self.exponential) - 1)]
        softmax = torch.div(e << ERROR_BITS, e.sum(1, keepdim=True), rounding_mode="floor")
        return (target - softmax).masked_fill(self.dead_logits, 0)

    def integer_logits(self, s_top: Tensor) -> Tensor:
        """Logits in units of 2^-readout.scale, 0 where they are dead."""
        logits = self.readout.forward(s_top)[0].flatten(1) + self.readout_bias
        return logits.masked_fill(self.dead_logits, 0)

    def _margin_error(self, nudge: Nudge, logits: Tensor) -> Tensor:
        return (nudge.error(logits).long() << ERROR_BITS).masked_fill(self.dead_logits, 0)


def integer_nudge(program: LoihiProgram, nudge: Nudge) -> tuple[torch.Tensor, int]:
    """A nudge in integers: target (B, K) int64 in 2^-15, and `LoihiProgram.integer_beta`, which may refuse it."""
    return (nudge.target.double() * 2**ERROR_BITS + 0.5).floor().long(), program.integer_beta(nudge.beta)


def free_steps(program: LoihiProgram | FloatProgram[LoihiTarget]) -> int:
    """Time steps of a free phase: the target's or the network's, but at most the one pass of a feed-forward one."""
    steps = program.target.steps or program.graph.steps
    return steps if program.graph.has_feedback else min(steps, len(program.graph.populations))


class TwinMachine(InProcessMachine):
    """A Loihi program, or one of its rungs, in this process."""

    program: LoihiProgram

    def __init__(self, program: LoihiProgram, substrate: Substrate, stop: Stop | None):
        super().__init__(program.graph, program.target.shown, substrate, steps=free_steps(program), stop=stop)
        self.program = program
        if isinstance(substrate, IntegerSubstrate):
            self.largest_beta = program.largest_beta

    def cost(self) -> Cost:
        """For every unit sending at every update of the longest relaxation; `energy.mean_cost` counts real images."""
        return self._cost

    @cached_property
    def _cost(self) -> Cost:
        most = full_activity(self.program, self.steps)
        if self.program.target.is_whole:
            return mean_cost(self.program, most)
        return Cost(float(most.operations[0]), None, None, "synaptic operations at full activity for the longest "
                    "relaxation; floats on Loihi 2 have no energy")


def open_twin(program: LoihiProgram, device: str = "cpu") -> TwinMachine:
    """The twin of a program, or the rung that its target names.

    Args:
        device: "cpu" or "cuda"; both give the same bits.
    """
    if not program.target.quantises_states:
        floats = FloatSubstrate.of(program.dequantised(), device)
        return TwinMachine(program, floats, Residual(program.graph.tolerance))
    if not program.target.quantises_weights:
        return TwinMachine(program, QuantisedStates(program, device), Repeat())
    return TwinMachine(program, IntegerSubstrate(program, device), Repeat())


def twin_of(program: LoihiProgram) -> TwinMachine:
    """The twin of a program that runs on Lava."""
    return open_twin(replace(program, target=replace(program.target, name="loihi", model="behavioural")))
