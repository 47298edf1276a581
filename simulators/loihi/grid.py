"""Rounding states and images to a program's grid, with gradients that pass straight through.

Forward the rounded value, backward the identity. Source: Bengio, Leonard and Courville 2013.
"""

import torch

from mapping.loihi.program import LoihiProgram
from simulators.reference import FloatSubstrate


class _StraightThrough(torch.autograd.Function):
    """Value of the first argument, gradient of the second."""

    @staticmethod
    def forward(ctx, exact, smooth):
        return exact.clone()

    @staticmethod
    def backward(ctx, gradient):
        return None, gradient


def straight_through(exact, smooth):
    """`exact`, differentiated as if it were `smooth`."""
    return _StraightThrough.apply(exact.detach(), smooth) if smooth.requires_grad else exact


def quantise_image(images, mean, scale, bits: int):
    """The normalised image in units of 2^-bits, rounded half up once, on the host."""
    x = ((images.to(mean.dtype) - mean) / scale) * 2.0**bits
    rounded = (x.detach().double() + 0.5).floor().to(x.dtype)
    return straight_through(rounded, x).contiguous(memory_format=torch.channels_last)


def on_grid(program: LoihiProgram, states) -> tuple[torch.Tensor, ...]:
    """Real states rounded half up to multiples of 2^-p, within 0 .. 1 - 2^-p; gradients pass straight through."""
    grid = 2.0**program.state_bits
    return tuple(straight_through((s * grid + 0.5).floor().clamp(0, program.top) / grid, s) for s in states)


class QuantisedStates(FloatSubstrate):
    """Float weights, states and image rounded to the program's grids."""

    def __init__(self, program: LoihiProgram, device: str):
        plain = FloatSubstrate.of(program.graph, device)
        super().__init__(plain.projections, plain.readout, plain.slopes, plain.shapes, plain.mean, plain.scale)
        self.program = program

    def encode(self, images):
        bits = self.program.input_bits
        return quantise_image(images, self.mean, self.scale, bits) * 2.0**-bits

    def activate(self, n, drive):
        grid = 2.0**self.program.state_bits
        state = drive * (self.slopes[n] * grid)
        return straight_through((state + 0.5).floor(), state).clamp(0, self.program.top) / grid
