"""A coupling on tiles: its array or arrays with the converters of both directions, and the digital sums.

Slices and tiles are converted one by one and added digitally. Backward every position senses all its rows, each row is
converted, and only then are rows that overlap added. A few images go all the way before the next few, so that what lies
between two conversions, many times a map, stays in the processor's cache.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from itertools import product, repeat

import torch
from torch import Tensor

from mapping.graph import Window
from simulators.crossbar.array import Array, Sensed, with_noise
from simulators.crossbar.periphery import Converter, OutputNoise
from simulators.reference import pool, unpool
from simulators.relaxation import Projection, Read

Convert = Callable[[Tensor], Tensor]
SENSED_AT_ONCE = 2**19   # values that all lines sense for as many images as are read together
KEPT = 2**23   # values that a relaxation keeps of what lines sense of its images


def overlap_add(rows: Tensor, window: Window) -> Tensor:
    """Row outputs (B, H', W', k_h k_w C) to the map below (B, C, H, W), each added where its kernel place lies.

    One slice a kernel place: five times faster on a CPU than F.fold, which wants another memory order.
    """
    b, h, w, lines = rows.shape
    (k_h, k_w), padding, stride = window.kernel, window.padding, window.stride
    rows = rows.view(b, h, w, k_h, k_w, lines // (k_h * k_w))
    height, width = (length + 2 * padding for length in window.pre[1:])
    out = rows.new_zeros(b, height, width, rows.shape[-1])
    for y, x in product(range(k_h), range(k_w)):
        out[:, y:y + stride * h:stride, x:x + stride * w:stride] += rows[:, :, :, y, x]
    return out[:, padding:height - padding, padding:width - padding].permute(0, 3, 1, 2)


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

    def drives(self, values: Tensor) -> list[tuple[float, torch.Tensor]]:
        """(share with its sign, what the lines are driven by) of each read that `values` take."""
        phases = [(1.0, self.dac(values))] if not self.two_phase else [
            (sign, self.dac((sign * values).clamp(min=0))) for sign in (1.0, -1.0)]
        return [(sign * share, plane) for sign, drive in phases for share, plane in self._bits(drive)]

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
             generator: torch.Generator | None = None) -> Tensor:
        """What all reads sense, converted and added.

        Args:
            drives: see `drives`.
            read: senses a line (its number) under a drive.
            generator: of noise.
        """
        total = None
        for share, drive in drives:
            for line, adc in enumerate(self.adcs):
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


def _images(sensed: int) -> int:
    """How many images are read together where so many values are sensed of each."""
    return max(1, SENSED_AT_ONCE // sensed)


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
        values, winners = zip(*(pool(part, self.window.pool) for part in self._parts(s_pre, generator)))
        return _joined(values), None if winners[0] is None else _joined(winners)

    def forward_at(self, s_pre: Tensor, winners: Tensor | None, generator: torch.Generator | None = None) -> Read:
        """Like `forward`, with the winners of the pool windows given."""
        sums = _joined([*self._parts(s_pre, generator)])
        return (sums if winners is None else sums.flatten(2).gather(2, winners.flatten(2)).view_as(winners)), winners

    @property
    def _at_once(self) -> int:
        """How many images are read forward together."""
        _, h, w = self.window.unpooled
        return _images(len(self.forward_periphery.adcs) * self.bias.numel() * h * w)

    def _parts(self, s_pre: Tensor, generator: torch.Generator | None) -> Iterator[Tensor]:
        """Drives (B, C_out, H', W') before the pool, a few images after the other."""
        known = iter(self._kept or ())
        return (self._sums_of(part, known, generator) for part in s_pre.split(self._at_once))

    def _sums_of(self, s_pre: Tensor, known: Iterator[Sensed], generator: torch.Generator | None) -> Tensor:
        def sense(line: int, drive: Tensor) -> Sensed:
            if (sensed := next(known, None)) is None:
                sensed = self.forward_array.sense_forward(line, drive, self.window, generator)
                if self._kept is None:
                    return sensed
                self._kept.append(sensed)
            return _copied(sensed)

        total = self.forward_periphery.sums(self.forward_periphery.drives(s_pre), sense, generator)
        return torch.addcmul(self.bias, total, self._scale(self.forward_array), value=self.forward_array.compensation)

    def backward(self, s_post: Tensor, winners: Tensor | None, generator: torch.Generator | None = None) -> Tensor:
        (_, h, w), inputs = self.window.unpooled, math.prod(self.backward_array.conductance_us.shape[3:])
        few = _images(len(self.backward_periphery.adcs) * h * w * inputs)
        places = repeat(None) if winners is None else winners.split(few)
        return _joined([self._backward_of(s, own, generator) for s, own in zip(s_post.split(few), places)])

    def _backward_of(self, s_post: Tensor, winners: Tensor | None, generator: torch.Generator | None) -> Tensor:
        periphery, array = self.backward_periphery, self.backward_array
        drives = [(share, unpool(drive, winners, self.window.unpooled))
                  for share, drive in periphery.drives(s_post * self._scale(array))]
        rows = periphery.sums(drives, array.sense_backward, generator)
        if array.conductance_us.shape[4:] != self.window.kernel:   # rows are inputs of their own
            rows = rows.unflatten(-1, (-1, *self.window.kernel)).movedim(3, -1).flatten(3)
        return overlap_add(rows, self.window) * array.compensation

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
