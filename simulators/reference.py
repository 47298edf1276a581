"""The digital reference: the graph's equations in floating point, on CPU or CUDA."""

from collections.abc import Iterable, Sequence
from copy import copy
from functools import reduce

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mapping.graph import Coupling, EPGraph, Population, Window
from simulators.machine import ANY, Cost, InProcessMachine, Machine
from simulators.relaxation import Decided, Nudge, Projection, Read, Residual, States, Substrate


class FloatProjection(Projection):
    """Convolution with max-pool forward, unpool with transposed convolution backward, in floats.

    Drives have the type of the states they come from, so that autocast rounds products but not their sum.

    Args:
        weight: (C_out, C_in, k_h, k_w). The tensors are used as they are, so learning may update them.
        bias: (C_out,).
        window: how the kernel meets its map.
        feedback_gain: gamma of mapping.graph (2).
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, window: Window, feedback_gain: float = 1.0):
        self.weight, self.bias, self.window, self.feedback_gain = weight, bias, window, feedback_gain

    @classmethod
    def of(cls, coupling: Coupling, device: str | torch.device, dtype: torch.dtype) -> "FloatProjection":
        weight = torch.tensor(coupling.weight, device=device, dtype=dtype).contiguous(memory_format=torch.channels_last)
        bias = torch.tensor(coupling.bias, device=device, dtype=dtype)
        return cls(weight, bias, coupling.window, coupling.feedback_gain)

    def forward(self, s_pre: Tensor, generator: torch.Generator | None = None) -> Read:
        own = self.window
        drive = F.conv2d(s_pre, self.weight, self.bias, own.stride, own.padding)
        return pool(drive.to(s_pre.dtype), own.pool)

    def backward(self, s_post: Tensor, winners: Tensor | None, generator: torch.Generator | None = None) -> Tensor:
        own = self.window
        z = unpool(s_post, winners, own.unpooled)
        return F.conv_transpose2d(z, self.weight, None, own.stride, own.padding, own.uncovered).to(s_post.dtype)


def pool(a: Tensor, side: int) -> Read:
    """Max-pool `a` by `side`: values and the flat index of each window's winner (the first of equals).

    On a CPU maps of another order go channels last and back: torch pools those more than ten times faster.
    """
    if side == 1:
        return a, None
    if not a.is_contiguous() or a.device.type != "cpu":
        return F.max_pool2d(a, side, return_indices=True)
    values, winners = F.max_pool2d(a.contiguous(memory_format=torch.channels_last), side, return_indices=True)
    return values.clone(memory_format=torch.contiguous_format), winners.clone(memory_format=torch.contiguous_format)


def pooled(a: Tensor, side: int) -> Tensor:
    """`pool` without the winners: where nothing is differentiated in two passes, which take less than half as long."""
    if a.requires_grad or side == 1:
        return pool(a, side)[0]
    for dim in (3, 2):
        whole = a.shape[dim] // side * side
        a = reduce(torch.maximum, a.narrow(dim, 0, whole).unflatten(dim, (-1, side)).unbind(dim + 1))
    return a


def unpool(s: Tensor, winners: Tensor | None, unpooled: tuple[int, int, int]) -> Tensor:
    """Put each value of `s` at its window's winner in a map of zeros of shape `unpooled`.

    torch.nn.functional.max_unpool2d is the same operation behind checks that import sympy, two seconds' worth.
    """
    return s if winners is None else torch.ops.aten.max_unpool2d(s, winners, unpooled[1:])


class FloatSubstrate(Substrate):
    """Equations (1) to (4) of mapping.graph in floats.

    Args:
        projections: one a population; their tensors may be shared with a network that is being trained.
        readout: of the logits, alike.
        populations: one a projection.
        mean: (C,), of the image's normalisation.
        scale: (C,), of the image's normalisation.
    """

    def __init__(self, projections: Iterable[Projection], readout: Projection, populations: Iterable[Population],
                 mean: Tensor, scale: Tensor):
        self.projections, self.readout, self.populations = tuple(projections), readout, tuple(populations)
        self.mean, self.scale = mean.view(-1, 1, 1), scale.view(-1, 1, 1)

    @classmethod
    def of(cls, graph: EPGraph, device: str | torch.device = "cpu",
           dtype: torch.dtype = torch.float32) -> "FloatSubstrate":
        def tensor(array: np.ndarray) -> Tensor:
            return torch.tensor(array, device=device, dtype=dtype)

        *projections, readout = (FloatProjection.of(c, device, dtype) for c in (*graph.couplings, graph.readout))
        return cls(projections, readout, graph.populations, tensor(graph.mean), tensor(graph.scale))

    def encode(self, images: Tensor) -> Tensor:
        return ((images - self.mean) / self.scale).contiguous(memory_format=torch.channels_last)

    def start(self, images: Tensor) -> States:
        return tuple(images.new_zeros((len(images), *population.shape)) for population in self.populations)

    def activate(self, n: int, drive: Tensor) -> Tensor:
        moved, ceiling = drive * self.populations[n].slope, self.populations[n].ceiling
        return moved.clamp(0, ceiling) if moved.requires_grad else moved.clamp_(0, ceiling)

    def pull(self, s_top: Tensor, nudge: Nudge, generator: torch.Generator | None = None) -> Tensor:
        error = nudge.error(self.logits(s_top))
        return nudge.beta * self.readout.backward(error[:, :, None, None], None)

    def logits(self, s_top: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self.readout.forward(s_top)[0].flatten(1)


def energy(substrate: FloatSubstrate, image: torch.Tensor, states: Sequence[torch.Tensor]) -> torch.Tensor:
    """What the alternating schedule never raises where both directions share their weights, of each image:

        E(s) = sum_n c_n (|s_n|^2 / (2 slope_n) - <s_n, u_n(s_{n-1})>),    c_1 = 1, c_{n+1} = gamma_{n+1} c_n   (1)

    with u_n and gamma_n of mapping.graph (1) and (2).

    Args:
        substrate: whose forward drives u_n are.
        image: as `substrate.encode` gives it.
        states: one (B, C, H, W) tensor a population.

    Returns:
        (B,) float64.
    """
    total, share = image.new_zeros(len(image), dtype=torch.float64), 1.0
    for n, (projection, below, state) in enumerate(zip(substrate.projections, (image, *states[:-1]), states)):
        share *= projection.feedback_gain if n else 1.0
        half = state.double() / (2 * substrate.populations[n].slope)
        total += share * (state.double() * (half - projection.forward(below)[0])).sum((1, 2, 3))
    return total


class ReferenceMachine(InProcessMachine):
    """The network in floats. Stops each sample when it has converged.

    Args:
        graph: the network.
        device: "cpu" or "cuda".
        dtype: torch.float32 or torch.float64.
        steps: longest free phase; the graph's if None.
        decided: stop a sample already when its margin outweighs so many times the last change (`Decided`): for classes
            alone, since neither states nor gradients are then those at rest. 20 changes one answer of 360 on digits.
    """

    def __init__(self, graph: EPGraph, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32,
                 name: str = "reference", steps: int | None = None, decided: float | None = None):
        substrate = FloatSubstrate.of(graph, device, dtype)
        rest = Residual(graph.tolerance)
        stop = rest if decided is None else Decided(rest, substrate.logits, decided)
        super().__init__(graph, name, substrate, steps=steps or graph.steps, stop=stop)

    @property
    def unclipped(self) -> Machine:
        free = copy(self)
        free.pixels = ANY
        return free

    def cost(self) -> Cost:
        sweeps = self.steps if self.graph.has_feedback else 1
        return Cost(float(sweeps * sweep_operations(self.graph)), None, None,
                    "multiply-accumulates of one image, feedback counted densely, for the longest relaxation")


def sweep_operations(graph: EPGraph) -> int:
    """Multiply-accumulates of one synchronous step: every coupling forward, and backward where it feeds back."""
    def positions(c: Coupling) -> int:
        return c.unpooled[1] * c.unpooled[2]

    forward = [c.weight.size * positions(c) for c in graph.couplings]
    return sum(forward) + sum(n for n, c in zip(forward[1:], graph.couplings[1:]) if c.feedback_gain)
