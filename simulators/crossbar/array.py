"""The cells of a layer, read both ways, and the arm they form with their converters.

    w_s = (what a weight's cells sense) / (us_per_weight base^s),    v_s = its variance in the same units   (1)

are the effective weights of slice s and the variances of their fresh noise. A read of any tile by drives x, in either
direction, senses

    y = w x + sqrt(v x^2) n,    n ~ N(0, 1) for every output of every read                               (2)

which has the distribution of fresh independent noise on every device, at the price of one more product. With an offset
column, its noise is the same for all columns of a tile upwards; downwards it is driven by minus the sum of the drives.
Upwards x are input channels and the product is a convolution. Downwards x are the unpooled states of one position:
every position senses all its C_in k_h k_w rows, each row is converted, and only then are rows that overlap added
digitally. Slices and tiles are converted one by one and added digitally.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, reduce
from itertools import product

import torch
import torch.nn.functional as F

from mapping.encoding import Cuts, difference, owners
from simulators.crossbar.wires import through_wires
from simulators.reference import pool, unpool
from simulators.relaxation import Arm


@dataclass(frozen=True, eq=False)
class Array:
    """One layer's devices.

    Attributes:
        conductance_us: (slices, planes, columns, C_in, k_h, k_w) as a relaxation finds them, see mapping.encoding.
        fresh_us: the same shape, standard deviation of fresh noise a read; None without any. Wires do not damp it.
        us_per_weight: microsiemens that a weight of 1 takes in the first slice. base: significance between slices.
        compensation: digital factor on everything sensed, which undoes the mean drift.
        row_cuts, column_cuts: input and output channels of each row and column tile.
        wire_ohm: resistance of one wire segment, None for perfect wires.
        opposite: the feedback drives and senses at the other ends of the lines.
    """

    conductance_us: torch.Tensor
    fresh_us: torch.Tensor | None
    us_per_weight: float
    compensation: float
    row_cuts: Cuts
    column_cuts: Cuts
    base: int = 1
    wire_ohm: float | None = None
    opposite: bool = False

    @cached_property
    def up_weight(self) -> torch.Tensor:
        """Equation (1) as the forward read sees it, (slices, C_out, C_in, k_h, k_w)."""
        return self._weight(opposite=False)

    @cached_property
    def down_weight(self) -> torch.Tensor:
        """Equation (1) as the feedback read sees it: by reciprocity the same at the same terminals."""
        return self._weight(opposite=True) if self.wire_ohm and self.opposite else self.up_weight

    def _weight(self, opposite: bool):
        seen_us = self.conductance_us if self.wire_ohm is None else through_wires(
            self.conductance_us, self.row_cuts, self.column_cuts, self.wire_ohm, opposite)
        return difference(seen_us, self.column_cuts) / self._unit(1)

    def _unit(self, power: int):
        """(slices, 1, 1, 1, 1): microsiemens a unit of weight, to a power."""
        slices = torch.arange(len(self.conductance_us), device=self.conductance_us.device)
        unit = self.us_per_weight * torch.tensor(float(self.base), device=slices.device) ** slices
        return (unit**power).to(self.conductance_us)[:, None, None, None, None]

    @cached_property
    def _variance(self):
        """Of equation (1): (each weight's own, each offset column's or None), None without fresh noise."""
        if self.fresh_us is None:
            return None
        v, outputs = self.fresh_us.square(), self.column_cuts[-1][1]
        own, reference = (v.sum(1), None) if v.shape[1] == 2 else (v[:, 0, :outputs], v[:, 0, outputs:])
        return own / self._unit(2), None if reference is None else reference / self._unit(2)

    @property
    def lines_up(self) -> list[tuple[int, int]]:
        """(slice, row tile) of each conversion upwards."""
        return list(product(range(len(self.conductance_us)), range(len(self.row_cuts))))

    @property
    def lines_down(self) -> list[tuple[int, int]]:
        """(slice, column tile) of each conversion downwards."""
        return list(product(range(len(self.conductance_us)), range(len(self.column_cuts))))

    @cached_property
    def _up(self):
        def kernel(weight, s, r):
            first, last = self.row_cuts[r]
            return None if weight is None else weight[s, :, first:last].contiguous(memory_format=torch.channels_last)

        return [tuple(kernel(t, s, r) for t in (self.up_weight, *(self._variance or (None, None))))
                for s, r in self.lines_up]

    @cached_property
    def _down(self):
        def matrix(weight, s, which):
            return None if weight is None else weight[s, which].permute(0, 2, 3, 1).flatten(1).contiguous()

        lines = []
        for s, c in self.lines_down:
            own, reference = self._variance or (None, None)
            columns = slice(*self.column_cuts[c])
            lines.append((matrix(self.down_weight, s, columns), matrix(own, s, columns),
                          matrix(reference, s, slice(c, c + 1))))
        return lines

    def read_up(self, line: int, drive, padding: int, generator=None):
        """Partial sums (B, C_out, H', W') that a slice of a row tile adds, all its columns side by side."""
        first, last = self.row_cuts[self.lines_up[line][1]]
        drive, (weight, own, reference) = drive[:, first:last], self._up[line]

        def convolve(x, w):
            return F.conv2d(x, w, padding=padding).contiguous(memory_format=torch.channels_last)

        current = convolve(drive, weight)
        if own is None:
            return current
        with torch.no_grad():
            squared = drive.square()
            noise = _noise(convolve(squared, own), generator)
            if reference is not None:
                noise -= _noise(convolve(squared, reference), generator)[:, owners(self.column_cuts)]
        return current + noise

    def read_down(self, line: int, drive, generator=None):
        """(B, H', W', k_h k_w C_in) row outputs of every position that a slice of a column tile drives, not overlapped.
        """
        left, right = self.column_cuts[self.lines_down[line][1]]
        drive, (weight, own, reference) = drive[:, left:right].permute(0, 2, 3, 1), self._down[line]
        current = torch.matmul(drive, weight)
        if own is None:
            return current
        with torch.no_grad():
            variance = torch.matmul(drive.square(), own)
            if reference is not None:
                variance += drive.sum(-1, keepdim=True).square() @ reference
            noise = _noise(variance, generator)
        return current + noise


def _noise(variance, generator):
    """Fresh normals of these variances (overwritten). A constant to autograd: its mean does not depend on the drive."""
    if generator is None:
        raise ValueError("a noisy read needs a generator")
    sigma = variance.clamp_(min=0).sqrt_()
    return _normal_like(sigma, generator).mul_(sigma)


def _normal_like(dense, generator):
    """Standard normals in the memory order of `dense`: drawn flat, as torch fills other orders four times slower."""
    flat = torch.randn(dense.numel(), generator=generator, dtype=dense.dtype, device=dense.device)
    return flat.as_strided(dense.shape, dense.stride())


def overlap_add(rows, kernel: tuple[int, int], padding: int):
    """Row outputs (B, H', W', k_h k_w C) to the map below (B, C, H, W), each added where its kernel place lies.

    One slice a kernel place: five times faster on a CPU than F.fold, which wants another memory order.
    """
    b, h, w, _ = rows.shape
    k_h, k_w = kernel
    rows = rows.view(b, h, w, k_h, k_w, -1)
    out = rows.new_zeros(b, h + k_h - 1, w + k_w - 1, rows.shape[-1])
    for y, x in product(range(k_h), range(k_w)):
        out[:, y:y + h, x:x + w] += rows[:, :, :, y, x]
    return out[:, padding:out.shape[1] - padding, padding:out.shape[2] - padding].permute(0, 3, 1, 2)


@dataclass(frozen=True, eq=False)
class Periphery:
    """What stands between the digital side and the lines of one direction.

    Attributes:
        dac: on what drives the array. adcs: one per slice of a row tile (upwards) or column tile (downwards).
    """

    dac: Callable
    adcs: tuple[Callable, ...]


class CrossbarArm(Arm):
    """A coupling on tiles: bias, pooling, compensation, column scales and sums over tiles and slices are digital.

    Args:
        forward_array, feedback_array: the cells read upwards and downwards; the same object when shared.
        up, down: converters of the two directions.
        bias, column_scale: (C_out,). padding, pool, unpooled: as in `mapping.graph.Coupling`.
    """

    def __init__(self, forward_array: Array, feedback_array: Array, up: Periphery, down: Periphery, bias, column_scale,
                 padding: int, pool: int, unpooled: tuple[int, int, int]):
        self.forward_array, self.feedback_array, self.up, self.down = forward_array, feedback_array, up, down
        self.bias, self.padding, self.pool, self.unpooled = bias.view(-1, 1, 1), padding, pool, unpooled
        self.column_scale = column_scale.view(-1, 1, 1)

    def forward(self, s_pre, generator=None):
        return pool(self._sums(s_pre, generator), self.pool)

    def forward_at(self, s_pre, winners, generator=None):
        """Like `forward`, with the winners of the pool windows given."""
        sums = self._sums(s_pre, generator)
        return (sums if winners is None else sums.flatten(2).gather(2, winners.flatten(2)).view_as(winners)), winners

    def _sums(self, s_pre, generator):
        drive = self.up.dac(s_pre)
        sums = (adc(self.forward_array.read_up(line, drive, self.padding, generator))
                for line, adc in enumerate(self.up.adcs))
        total = reduce(torch.add, sums)
        return torch.addcmul(self.bias, total, self.column_scale, value=self.forward_array.compensation)

    def backward(self, s_post, winners, generator=None):
        drive = unpool(self.down.dac(s_post * self.column_scale), winners, self.unpooled)
        rows = (adc(self.feedback_array.read_down(line, drive, generator)) for line, adc in enumerate(self.down.adcs))
        below = overlap_add(reduce(torch.add, rows), self.feedback_array.conductance_us.shape[-2:], self.padding)
        return below * self.feedback_array.compensation

    @property
    def up_weight(self) -> torch.Tensor:
        """(C_out, C_in, k_h, k_w) weight that the forward read multiplies by, digital factors included."""
        return self._effective(self.forward_array, self.forward_array.up_weight)

    @property
    def down_weight(self) -> torch.Tensor:
        """The same of the feedback read."""
        return self._effective(self.feedback_array, self.feedback_array.down_weight)

    def _effective(self, array: Array, slices):
        return slices.sum(0) * array.compensation * self.column_scale[..., None]

    @property
    def asymmetry(self) -> float:
        """||W_f - W_b|| / ||W_f|| of what the two directions multiply by; 0 where they share ideal wires."""
        return ((self.up_weight - self.down_weight).norm() / self.up_weight.norm()).item()
