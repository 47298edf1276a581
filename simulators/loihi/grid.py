"""Rounding states and images to a program's grid, with gradients that pass straight through.

Forward the rounded value, backward the identity. Source: Bengio, Leonard and Courville 2013.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mapping.loihi.program import LoihiProgram
from simulators.reference import FloatSubstrate
from simulators.relaxation import Nudge, States


class _StraightThrough(torch.autograd.Function):
    """Value of the first argument, gradient of the second."""

    @staticmethod
    def forward(ctx: Any, exact: Tensor, smooth: Tensor) -> Tensor:
        return exact.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        return None, gradient


def straight_through(exact: Tensor, smooth: Tensor) -> Tensor:
    """`exact`, differentiated as if it were `smooth`."""
    return _StraightThrough.apply(exact.detach(), smooth) if smooth.requires_grad else exact


def quantise_image(images: Tensor, mean: Tensor, scale: Tensor, bits: int) -> Tensor:
    """The normalised image in units of 2^-bits, rounded half up once, on the host."""
    x = ((images.to(mean.dtype) - mean) / scale) * 2.0**bits
    rounded = (x.detach().double() + 0.5).floor().to(x.dtype)
    return straight_through(rounded, x).contiguous(memory_format=torch.channels_last)


def to_integers(program: LoihiProgram, states: States) -> States:
    """Real states as a program counts them: rounded half up, within 0 .. top; gradients pass straight through."""
    counts = (s / unit for s, unit in zip(states, program.units))
    return tuple(straight_through((s + 0.5).floor().clamp(0, top), s) for s, top in zip(counts, program.tops))


def from_integers(program: LoihiProgram, states: States) -> States:
    """What integer states stand for."""
    return tuple(s * unit for s, unit in zip(states, program.units))


def on_grid(program: LoihiProgram, states: States) -> States:
    """Real states rounded to those that a program has."""
    return from_integers(program, to_integers(program, states))


class QuantisedStates(FloatSubstrate):
    """Float weights, states and image rounded to the program's grids, in units of mapping.loihi.scaling (18)."""

    def __init__(self, program: LoihiProgram, device: str):
        plain = FloatSubstrate.of(program.scaled, device)
        super().__init__(plain.projections, plain.readout, plain.populations, plain.mean, plain.scale)
        self.program = program

    def encode(self, images: Tensor) -> Tensor:
        bits = self.program.input_bits
        return quantise_image(images, self.mean, self.scale, bits) * 2.0**-bits

    def activate(self, n: int, drive: Tensor) -> Tensor:
        grid = 2.0**self.program.state_bits
        state = drive * (self.populations[n].slope * grid)
        return straight_through((state + 0.5).floor(), state).clamp(0, self.program.tops[n]) / grid

    def hold(self, states: States) -> States:
        return tuple(s * 2.0**-self.program.state_bits for s in to_integers(self.program, states))

    def real(self, states: States) -> States:
        return tuple(s * scale for s, scale in zip(states, self.program.scales))

    def pull(self, s_top: Tensor, nudge: Nudge, generator: torch.Generator | None = None) -> Tensor:
        return super().pull(s_top, replace(nudge, beta=nudge.beta * self.program.nudge_scale), generator)
