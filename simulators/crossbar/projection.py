"""A coupling on tiles: its array or arrays with the converters of both directions, and the digital sums.

Slices and tiles are converted one by one and added digitally. Backward every position senses all its rows, each row is
converted, and only then are rows that overlap added. Large batches are read in parts, which bound the memory of what
lies between two conversions, many times a map.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from itertools import repeat

import torch
from torch import Tensor

from mapping.graph import Window
from simulators.crossbar.array import Array, Sensed, with_noise
from simulators.crossbar.kernels import Product
from simulators.crossbar.overlap import inside, overlap_add, padded_map, windows
from simulators.crossbar.periphery import Converter, OutputNoise
from simulators.reference import pool, pooled, unpool
from simulators.relaxation import Projection, Read

Convert = Callable[[Tensor], Tensor]
SENSED_AT_ONCE = 2**20   # values that a line senses of as many images as are read together, at most
KEPT = 2**23   # values that a relaxation keeps of what lines sense of its images


@dataclass(frozen=True, eq=False)
class Periphery:
    """What stands between the digital side and the lines of one direction.

    Attributes:
        dac: on what drives the array.
        adcs: one a slice of a row tile (forward) or of a column tile (backward).
        two_phase: the positive and the negative part of a drive are read one after the other and subtracted.
        noises: on what each ADC is given; none if empty.
        planes: bits of a code's magnitude, which are read one after the other, converted, shifted and added; 1 where
            a code is read at once.
    """

    dac: Convert
    adcs: tuple[Convert, ...]
    two_phase: bool = False
    noises: tuple[OutputNoise, ...] = ()
    planes: int = 1

    @property
    def reads(self) -> int:
        """How many reads a drive takes."""
        return self.planes * (1 + self.two_phase)

    def drives(self, values: Tensor, spent: bool = False) -> list[tuple[float, torch.Tensor]]:
        """(share with its sign, what the lines are driven by) of each read that `values` take.

        Where nobody needs these after it, they are `spent`, and what they are converted to may take their memory.
        """
        phases = [(1.0, self._converted(values, spent))] if not self.two_phase else [
            (sign, self._converted((sign * values).clamp(min=0), spent=True)) for sign in (1.0, -1.0)]
        return [(sign * share, plane) for sign, drive in phases for share, plane in self._bits(drive)]

    def _converted(self, values: Tensor, spent: bool) -> Tensor:
        return self.dac.add(None, (values, None)) if spent and isinstance(self.dac, Converter) else self.dac(values)

    def _bits(self, drive: Tensor) -> list[tuple[float, Tensor]]:
        """(share, drive) of each bit of a converted drive, at full scale or 0; each passes the drive's gradient on."""
        if self.planes == 1:
            return [(1.0, drive)]
        assert isinstance(self.dac, Converter), "bits are a converter's"
        high, step = self.dac.high, self.dac.step
        codes = (drive.detach().abs() / step).round().long()
        full = drive.detach().sign() * (step * high)
        straight = drive - drive.detach()
        return [(2**b / high, (codes >> b & 1) * full + straight) for b in range(self.planes)]

    def sums(self, drives: Sequence[tuple[float, Tensor]], read: Callable[[int, Tensor], Sensed],
             generator: torch.Generator | None = None,
             products: Callable[[int, Tensor], Product | None] = lambda line, drive: None) -> Tensor:
        """What all reads sense, converted and added.

        Args:
            drives: see `drives`.
            read: senses a line (its number) under a drive.
            generator: of noise.
            products: what kernels could sense as well, where they can.
        """
        total = None
        for share, drive in drives:
            for line, adc in enumerate(self.adcs):
                if share == 1 and isinstance(adc, Converter) and not self.noises:
                    product = products(line, drive)
                    if product is not None and adc.takes(product, generator):
                        total = adc.read(product, generator, product.room if total is None else total, total)
                        continue
                sensed = read(line, drive)
                if self.noises:
                    sensed = self.noises[line](with_noise(sensed, generator), generator), None
                if share == 1 and isinstance(adc, Converter):
                    total = adc.add(total, sensed, generator)
                else:
                    values = share * adc(with_noise(sensed, generator))
                    total = values if total is None else total + values
        assert total is not None, "an array has lines"
        return total


def _copied(sensed: Sensed) -> Sensed:
    """The same in memory of its own, since conversions take that of what they convert."""
    current, variance = sensed
    return current.clone(), None if variance is None else variance.clone()


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Maps of all images; of one part itself."""
    return parts[0] if len(parts) == 1 else torch.cat([*parts])


def _images(batch: int, sensed: int) -> int:
    """How many images of a batch are read together where a line senses so many values of each: equal parts of it."""
    parts = -(-batch * sensed // SENSED_AT_ONCE)
    return max(1, -(-batch // max(1, parts)))


class CrossbarProjection(Projection):
    """A coupling on tiles: bias, pooling, compensation, column scales and sums over tiles and slices are digital.

    Args:
        arrays: the cells that each direction reads, (forward, backward), the same object where they share them;
            (forward,) where the coupling is never read backward.
        peripheries: the converters of each direction, alike.
        bias: (C_out,).
        column_scale: (C_out,), digital factor of each output channel.
        window: how the kernel meets its map.
        feedback_gain: digital factor of the backward drive, see `Projection`.
    """

    def __init__(self, arrays: Sequence[Array], peripheries: Sequence[Periphery], bias: Tensor, column_scale: Tensor,
                 window: Window, feedback_gain: float = 1.0):
        self.forward_array, self.forward_periphery, self._backward = arrays[0], peripheries[0], None
        if len(arrays) > 1:
            self._backward = arrays[1], peripheries[1]
        self.bias, self.window, self.feedback_gain = bias.view(-1, 1, 1), window, feedback_gain
        self.column_scale = column_scale.view(-1, 1, 1)
        self._kept: list[Sensed] | None = None   # what lines sense, where forward reads are all of the same drive

    def driven_by(self, s_pre: Tensor) -> "CrossbarProjection":
        """The same for forward reads of nothing but `s_pre`: what its lines sense before their noise is kept.

        Not where it has that noise already, or where it would take much memory.
        """
        _, h, w = self.window.unpooled
        array, periphery = self.forward_array, self.forward_periphery
        lines = len(periphery.adcs) * periphery.reads
        if array.adds_noise or len(s_pre) * lines * self.bias.numel() * h * w > KEPT:
            return self
        other = copy(self)
        other._kept = []
        return other

    def forward(self, s_pre: Tensor, generator: torch.Generator | None = None) -> Read:
        values, winners = zip(*(pool(self._scaled(part), self.window.pool) for part in self._parts(s_pre, generator)))
        return _joined(values), None if winners[0] is None else _joined(winners)

    def drive(self, s_pre: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return _joined([self._scaled(pooled(part, self.window.pool)) for part in self._parts(s_pre, generator)])

    def forward_at(self, s_pre: Tensor, winners: Tensor | None, generator: torch.Generator | None = None) -> Read:
        """Like `forward`, with the winners of the pool windows given."""
        sums = _joined([*map(self._scaled, self._parts(s_pre, generator))])
        return (sums if winners is None else sums.flatten(2).gather(2, winners.flatten(2)).view_as(winners)), winners

    def _parts(self, s_pre: Tensor, generator: torch.Generator | None) -> Iterator[Tensor]:
        """Sums (B, C_out, H', W') over lines, a few images after the other."""
        known, (_, h, w) = iter(self._kept or ()), self.window.unpooled
        few = _images(len(s_pre), self.bias.numel() * h * w)
        return (self._sums_of(part, known, generator) for part in s_pre.split(few))

    def _sums_of(self, s_pre: Tensor, known: Iterator[Sensed], generator: torch.Generator | None) -> Tensor:
        def sense(line: int, drive: Tensor) -> Sensed:
            if (sensed := next(known, None)) is None:
                sensed = self.forward_array.sense_forward(line, drive, self.window, generator)
                if self._kept is None:
                    return sensed
                self._kept.append(sensed)
            return _copied(sensed)

        def product(line: int, drive: Tensor) -> Product | None:
            return self.forward_array.forward_product(line, drive, self.window) if self._kept is None else None

        return self.forward_periphery.sums(self.forward_periphery.drives(s_pre), sense, generator, product)

    def _scaled(self, sums: Tensor) -> Tensor:
        """Drives of the layer above; no factor is negative, so that maxima may be taken before or after."""
        array = self.forward_array
        scale = self._scale(array)
        inplace = not (torch.is_grad_enabled() and (sums.requires_grad or scale.requires_grad))
        return torch.addcmul(self.bias, sums, scale, value=array.compensation, out=sums if inplace else None)

    def backward(self, s_post: Tensor, winners: Tensor | None, generator: torch.Generator | None = None) -> Tensor:
        (_, h, w), inputs = self.window.unpooled, math.prod(self.backward_array.conductance_us.shape[3:])
        few = _images(len(s_post), h * w * inputs)
        places = repeat(None) if winners is None else winners.split(few)
        return _joined([self._backward_of(s, own, generator) for s, own in zip(s_post.split(few), places)])

    def _backward_of(self, s_post: Tensor, winners: Tensor | None, generator: torch.Generator | None) -> Tensor:
        periphery, array = self.backward_periphery, self.backward_array
        drives = [(share, unpool(drive, winners, self.window.unpooled))
                  for share, drive in periphery.drives(s_post * self._scale(array), spent=True)]
        if array.conductance_us.shape[4:] != self.window.kernel:   # rows are inputs of their own
            rows = periphery.sums(drives, array.sense_backward, generator, array.backward_product)
            rows = rows.unflatten(-1, (-1, *self.window.kernel)).movedim(3, -1).flatten(3)
            return overlap_add(rows, self.window) * array.compensation
        return self._overlapped(drives, generator) * array.compensation

    def _overlapped(self, drives: list[tuple[float, Tensor]], generator: torch.Generator | None) -> Tensor:
        """Rows converted and overlapped, in one pass over memory where a single line is read once."""
        periphery, array = self.backward_periphery, self.backward_array
        (_, drive), adc = drives[0], periphery.adcs[0]
        if len(drives) * len(periphery.adcs) > 1 or periphery.noises or not isinstance(adc, Converter):
            rows = periphery.sums(drives, array.sense_backward, generator, array.backward_product)
            return overlap_add(rows, self.window)
        product = array.backward_product(0, drive)
        if product is not None and adc.takes(product, generator):
            out = padded_map(drive, self.window)
            return inside(adc.read(product, generator, out, overlap=windows(self.window)), self.window)
        sensed = array.sense_backward(0, drive)
        out = padded_map(sensed[0], self.window)
        if adc.overlap(sensed, windows(self.window), out, generator):
            return inside(out, self.window)
        return overlap_add(adc.add(None, sensed, generator), self.window)

    @property
    def is_read_backward(self) -> bool:
        """Whether there is anything to read backward."""
        return self._backward is not None

    @property
    def is_quiet(self) -> bool:
        """Whether the same drive is always answered alike."""
        fresh = any(noise.errors.are_fresh for noise in self.forward_periphery.noises)
        return self.forward_array.fresh_us is None and not fresh

    @property
    def sides(self) -> list[tuple[Array, Periphery]]:
        """Cells and converters of each direction that is read, forward first."""
        return [(self.forward_array, self.forward_periphery), *([self._backward] if self._backward else [])]

    @property
    def is_linear(self) -> bool:
        """Whether its lines sense products and read noise alone: devices have no curves, outputs no errors."""
        return not any(array.curves or periphery.noises for array, periphery in self.sides)

    @property
    def backward_array(self) -> Array:
        """The cells that the backward direction reads."""
        assert self._backward is not None, "a coupling that feeds nothing back"
        return self._backward[0]

    @property
    def backward_periphery(self) -> Periphery:
        """The converters of the backward direction."""
        assert self._backward is not None, "a coupling that feeds nothing back"
        return self._backward[1]

    @property
    def forward_weight(self) -> torch.Tensor:
        """(C_out, C_in, k_h, k_w) weight that the forward read multiplies by, digital factors included."""
        return self._effective(self.forward_array, self.forward_array.forward_weight)

    @property
    def backward_weight(self) -> torch.Tensor:
        """The same of the backward read."""
        return self._effective(self.backward_array, self.backward_array.backward_weight)

    def _effective(self, array: Array, slices: Tensor) -> Tensor:
        weight = slices.sum(0) * array.compensation * self._scale(array)[..., None]
        return weight.view(-1, self.window.pre[0], *self.window.kernel)

    def _scale(self, array: Array) -> Tensor:
        """(C_out, 1, 1): digital factors of each output, beside those of the whole layer."""
        factors = array.column_factors
        return self.column_scale if factors is None else self.column_scale * factors.view(-1, 1, 1)

    @property
    def asymmetry(self) -> float | None:
        """||W_f - W_b|| / ||W_f|| of what the two directions multiply by: 0 where they share cells and terminals.

        None where it is never read backward.
        """
        if self._backward is None:
            return None
        if self.backward_array is self.forward_array and self.forward_array.is_symmetric:
            return 0.0
        return ((self.forward_weight - self.backward_weight).norm() / self.forward_weight.norm()).item()
