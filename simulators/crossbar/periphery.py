"""Converters: DACs that drive lines, ADCs that sense them.

    code = clip(round(v / step), low, high),    value = step code                                        (1)
    bipolar, n bits:  high = 2^(n-1) - 1, low = -high        unipolar, n bits:  high = 2^n - 1, low = 0
    step = full scale / high

An ADC may give the code below, floor in place of round. The gradient is straight through: one where the code was not
clipped, zero where it was.

What an ADC is given may have errors beside what its line senses, y, all normal:

    y <- y (1 + gain_error e) + R offset o + sqrt((gain_noise y)^2 + (R noise)^2) n                        (2)

R its full scale, e and o drawn once a chip for every output, n new at every read. Those of a gain depend on what is
read, the others do not. Source: output noise of Lammie et al., Nat. Commun. 16, 1756 (2025).
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Generator, Tensor

from mapping.crossbar.target import OutputErrors
from simulators.crossbar.array import Sensed, drawn_by, noise_of, with_noise
from simulators.crossbar.kernels import GROUP, Product, Steps, Windows, drawing, kernels, repeated


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
        floor: the code below, in place of the nearest.
    """

    def __init__(self, full_scale: torch.Tensor, bits: int, signed: bool, floor: bool = False):
        self.floor = floor
        self.high = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
        self.low = -self.high if signed else 0
        self.step = full_scale / self.high
        self.clipped = torch.zeros((), dtype=torch.int64, device=full_scale.device)
        self.conversions = 0

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        self.conversions += values.numel()
        if (torch.is_grad_enabled() and values.requires_grad) or not _fits(values, None, self, None):
            return _Convert.apply(values, None, self, None)
        out = torch.empty_like(values)
        _converted(values, None, self, None, out)
        return out

    def add(self, total: Tensor | None, sensed: Sensed, generator: Generator | None = None) -> Tensor:
        """What is sensed with its noise, converted and added to what others gave, None at first.

        Where nothing is differentiated it takes the memory of either.
        """
        current, variance = sensed
        self.conversions += current.numel()
        differentiated = torch.is_grad_enabled() and current.requires_grad
        if not differentiated and _fits(current, variance, self, generator) and (
                total is None or total.stride() == current.stride()):
            out = current if total is None else total
            _converted(current, variance, self, generator, out, before=total)
            return out
        values = _Convert.apply(current, variance, self, generator)
        return values if total is None else total + values

    def takes(self, product: Product | None, generator: Generator | None) -> bool:
        """Whether kernels can compute and convert what lines sense."""
        if product is None or self.floor or self.step.numel() not in (1, product.shape[3]):
            return False
        drawn = generator is not None and generator.device.type == "cpu" and math.prod(product.shape) >= GROUP
        return drawn or product.variance is None

    def read(self, product: Product, generator: Generator | None, out: Tensor, total: Tensor | None = None,
             overlap: Windows | None = None) -> Tensor:
        """What lines sense with its noise, converted.

        Args:
            product: what they sense, which this converter takes.
            generator: of noise.
            out: filled, in the order of memory of the sums; with `overlap` a map that they are added to.
            total: what others gave, which they are added to; may be `out`.
            overlap: see `Kernels.read`.
        """
        own, drawing = kernels(), None if product.variance is None else drawn_by(generator)
        assert own is not None, "who has a product found kernels"
        self.conversions += math.prod(product.shape)
        if clipped := own.read(product, drawing, self.steps, (self.low, self.high), out, before=total, overlap=overlap):
            self.clipped += clipped
        return out

    def overlap(self, sensed: Sensed, windows: Windows, out: Tensor, generator: Generator | None = None) -> bool:
        """What is sensed with its noise, converted and added to a map of zeros; whether that could be done so.

        Args:
            sensed: rows of each position, lines last.
            windows: where they lie in the map.
            out: the map, see `Windows`.
            generator: of noise.
        """
        current, variance = sensed
        if (torch.is_grad_enabled() and current.requires_grad) or not _fits(current, variance, self, generator):
            return False
        self.conversions += current.numel()
        _converted(current, variance, self, generator, out, overlap=windows)
        return True

    @cached_property
    def steps(self) -> Steps:
        """As `simulators.crossbar.kernels` takes them."""
        return repeated(self.step)


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
    def forward(ctx: Any, current: Tensor, variance: Tensor | None, converter: Converter,
                generator: Generator | None) -> Tensor:
        differentiated = ctx.needs_input_grad[0]
        if not _fits(current, variance, converter, generator):
            values, outside = _converted_by_torch(current, variance, converter, generator)
        else:
            values, outside = torch.empty_like(current), torch.empty_like(current, dtype=torch.bool)
            if not _converted(current, variance, converter, generator, values, outside=outside):
                outside = None
        ctx.inside = outside is None
        if outside is not None and differentiated:
            ctx.save_for_backward(outside.bool())
        return values

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        return (gradient if ctx.inside else gradient.masked_fill(ctx.saved_tensors[0], 0)), None, None, None


def _fits(current: Tensor, variance: Tensor | None, converter: Converter, generator: Generator | None) -> bool:
    """Whether the kernels of `simulators.crossbar.kernels` take such values: their lines lie side by side."""
    if converter.floor or current.device.type != "cpu" or current.dtype != torch.float32 or kernels() is None:
        return False
    last = current.ndim == 4 and converter.step.ndim == 3 and current.is_contiguous(memory_format=torch.channels_last)
    dense = last if converter.step.ndim == 3 else current.is_contiguous() or (
        converter.step.ndim == 0 and current.ndim == 4 and current.is_contiguous(memory_format=torch.channels_last))
    return dense and (variance is None or (
        variance.stride() == current.stride() and drawing(variance, generator) is not None))


def _converted(current: Tensor, variance: Tensor | None, converter: Converter, generator: Generator | None,
               out: Tensor, before: Tensor | None = None, outside: Tensor | None = None,
               overlap: Windows | None = None) -> int:
    """Values of codes by the kernels, see `Kernels.convert`: how many were clipped."""
    own, noise = kernels(), None if variance is None else (variance, drawn_by(generator))
    assert own is not None, "`_fits` found kernels"
    clipped = own.convert(current, noise, converter.steps, (converter.low, converter.high), out, before=before,
                          outside=outside, overlap=overlap)
    if clipped:
        converter.clipped += clipped
    return clipped


def _converted_by_torch(current: Tensor, variance: Tensor | None, converter: Converter,
                        generator: Generator | None) -> tuple[Tensor, Tensor | None]:
    """The same by operations of torch: values, and which were clipped, 0 or 1; None where none was."""
    codes = (with_noise((current, variance), generator) * (1 / converter.step))
    codes = codes.floor_() if converter.floor else codes.round_()
    if codes.numel() and codes.device.type == "cpu":   # elsewhere, asking would wait for the device
        low, high = codes.as_strided((codes.numel(),), (1,)).aminmax()   # of another memory order it makes a copy
        if low >= converter.low and high <= converter.high:
            return codes.mul_(converter.step), None
    middle, half = (converter.high + converter.low) / 2, (converter.high - converter.low) / 2
    outside = (codes - middle).abs_().gt_(half)
    converter.clipped += outside.sum().long()
    return codes.clamp_(converter.low, converter.high).mul_(converter.step), outside
