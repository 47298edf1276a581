"""Converters: DACs that drive lines, ADCs that sense them.

    code = clip(round(v / step), low, high),    value = step code                                        (1)
    bipolar, n bits:  high = 2^(n-1) - 1, low = -high        unipolar, n bits:  high = 2^n - 1, low = 0
    step = full scale / high

The gradient is straight through: one where the code was not clipped, zero where it was.

What an ADC is given may have errors beside what its line senses, y, all normal:

    y <- y (1 + gain_error e) + R offset o + sqrt((gain_noise y)^2 + (R noise)^2) n                        (2)

R its full scale, e and o drawn once a chip for every output, n new at every read. Those of a gain depend on what is
read, the others do not. Source: output noise of Lammie et al., Nat. Commun. 16, 1756 (2025).
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mapping.crossbar.target import OutputErrors
from simulators.crossbar.array import noise_of


@dataclass(frozen=True)
class Saturation:
    """How often a converter was asked for more than its range.

    Attributes:
        layer: the coupling's name.
        converter: "dac" or "adc".
        direction: "forward" or "backward".
        clipped: codes cut off since the machine was opened.
        conversions: all codes since then.
    """

    layer: str
    converter: str
    direction: str
    clipped: int
    conversions: int

    @property
    def fraction(self) -> float:
        return self.clipped / self.conversions if self.conversions else 0.0


class Converter:
    """Equation (1), with a count of clipped codes kept on the device where the values are.

    Args:
        full_scale: tensor that broadcasts against the values, the largest magnitude of each line's range.
        bits: resolution.
        signed: bipolar or unipolar.
    """

    def __init__(self, full_scale: torch.Tensor, bits: int, signed: bool):
        self.high = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
        self.low = -self.high if signed else 0
        self.step = full_scale / self.high
        self.clipped = torch.zeros((), dtype=torch.int64, device=full_scale.device)
        self.conversions = 0

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        self.conversions += values.numel()
        return _Convert.apply(values, self)


@dataclass(frozen=True, eq=False)
class OutputNoise:
    """Equation (2) of one line.

    Attributes:
        gain: 1 + gain_error e of each output.
        offset: R offset o of each.
        full_scale: R, as `Converter` has it.
        errors: the standard deviations.
    """

    gain: Tensor
    offset: Tensor
    full_scale: Tensor
    errors: OutputErrors

    @classmethod
    def of(cls, full_scale: Tensor, errors: OutputErrors, generator: torch.Generator) -> "OutputNoise":
        """Draw what is frozen, on the CPU, so that a chip is the same on every device."""
        e, o = (torch.randn(full_scale.shape, generator=generator).to(full_scale) for _ in range(2))
        return cls(1 + errors.gain_error * e, full_scale * errors.offset * o, full_scale, errors)

    def __call__(self, sensed: Tensor, generator: torch.Generator | None) -> Tensor:
        off = sensed * self.gain + self.offset
        if not self.errors.are_fresh:
            return off
        with torch.no_grad():
            variance = (self.errors.gain_noise * sensed).square() + (self.errors.noise * self.full_scale).square()
            noise = noise_of(variance, generator)
        return off + noise


class _Convert(torch.autograd.Function):
    """Works in place on its own copy of the codes: conversions are a good part of a noisy relaxation's time."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, converter: Converter) -> Tensor:
        codes = (values * (1 / converter.step)).round_()
        if codes.numel() and codes.device.type == "cpu":   # elsewhere, asking would wait for the device
            low, high = codes.as_strided((codes.numel(),), (1,)).aminmax()   # of another memory order it makes a copy
            if low >= converter.low and high <= converter.high:
                ctx.inside = True
                return codes.mul_(converter.step)
        middle, half = (converter.high + converter.low) / 2, (converter.high - converter.low) / 2
        outside = (codes - middle).abs_().gt_(half)
        converter.clipped += outside.sum().long()
        ctx.inside = False
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(outside.bool())
        return codes.clamp_(converter.low, converter.high).mul_(converter.step)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return (gradient if ctx.inside else gradient.masked_fill(ctx.saved_tensors[0], 0)), None
