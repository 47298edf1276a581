"""The cells of a layer, read both ways, and the arm they form with their converters.

    w = (g+ - g-) / us_per_weight,    v = (sigma_+^2 + sigma_-^2) / us_per_weight^2                      (1)

are the effective weights and the variances of their fresh noise. A read of any tile by drives x, in either direction,
senses

    y = w x + sqrt(v x^2) n,    n ~ N(0, 1) for every output of every read                               (2)

which has the distribution of fresh independent noise on every device, at the price of one more product. Upwards x are
input channels and the product is a convolution. Downwards x are the unpooled states of one position: every position
senses all its C_in k_h k_w rows, each row is converted, and only then are rows that overlap added digitally.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, reduce
from itertools import product

import torch
import torch.nn.functional as F

from mapping.crossbar import Cuts
from simulators.reference import pool, unpool
from simulators.relaxation import Arm


@dataclass(frozen=True, eq=False)
class Cells:
    """Weights of one tile line and the variances of their fresh noise, None if they have none; equal shapes."""

    weight: torch.Tensor
    variance: torch.Tensor | None

    def map(self, view) -> "Cells":
        return Cells(view(self.weight), None if self.variance is None else view(self.variance))

    def read(self, operation, drive, generator):
        """Equation (2). The noise is a constant to autograd: its size depends on the drive, its mean does not."""
        current = operation(drive, self.weight)
        if self.variance is None:
            return current
        if generator is None:
            raise ValueError("a noisy read needs a generator")
        with torch.no_grad():
            sigma = operation(drive.square(), self.variance).clamp_(min=0).sqrt_()
            noise = _normal_like(sigma, generator).mul_(sigma)
        return current + noise


@dataclass(frozen=True, eq=False)
class Array:
    """One layer's devices. Both directions read `conductance_us`: they have no other source of weights.

    Attributes:
        conductance_us: (2, C_out, C_in, k_h, k_w), g+ and g- as a relaxation finds them.
        fresh_us: the same shape, standard deviation of fresh noise a read; None without any.
        us_per_weight: microsiemens that a weight of 1 takes.
        compensation: digital factor on everything sensed, which undoes the mean drift.
        row_cuts, column_cuts: input and output channels of each row and column tile.
    """

    conductance_us: torch.Tensor
    fresh_us: torch.Tensor | None
    us_per_weight: float
    compensation: float
    row_cuts: Cuts
    column_cuts: Cuts

    @cached_property
    def cells(self) -> Cells:
        """Equation (1), each (C_out, C_in, k_h, k_w)."""
        plus, minus = self.conductance_us / self.us_per_weight
        noisy = self.fresh_us is not None
        return Cells(plus - minus, (self.fresh_us / self.us_per_weight).square().sum(0) if noisy else None)

    @cached_property
    def _row_lines(self) -> list[Cells]:
        return [self.cells.map(lambda w, a=a, b=b: w[:, a:b].contiguous(memory_format=torch.channels_last))
                for a, b in self.row_cuts]

    @cached_property
    def _column_lines(self) -> list[Cells]:
        return [self.cells.map(lambda w, a=a, b=b: w[a:b].permute(0, 2, 3, 1).flatten(1).contiguous())
                for a, b in self.column_cuts]

    def read_up(self, r: int, drive, padding: int, generator=None):
        """Partial sums (B, C_out, H', W') that row tile `r` adds, all its columns side by side."""
        first, last = self.row_cuts[r]

        def convolve(x, w):
            return F.conv2d(x, w, padding=padding).contiguous(memory_format=torch.channels_last)

        return self._row_lines[r].read(convolve, drive[:, first:last], generator)

    def read_down(self, c: int, drive, generator=None):
        """(B, H', W', k_h k_w C_in) row outputs of every position that column tile `c` drives, not yet overlapped."""
        left, right = self.column_cuts[c]
        return self._column_lines[c].read(torch.matmul, drive[:, left:right].permute(0, 2, 3, 1), generator)


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
        dac: on what drives the array. adcs: one per row tile (upwards) or column tile (downwards).
    """

    dac: Callable
    adcs: tuple[Callable, ...]


class CrossbarArm(Arm):
    """A coupling on one `Array`: bias, pooling, compensation and sums over tiles are digital.

    Args:
        array: the cells. up, down: converters of the two directions.
        bias: (C_out,). padding, pool, unpooled: as in `mapping.graph.Coupling`.
    """

    def __init__(self, array: Array, up: Periphery, down: Periphery, bias, padding: int, pool: int,
                 unpooled: tuple[int, int, int]):
        self.array, self.up, self.down = array, up, down
        self.bias, self.padding, self.pool, self.unpooled = bias.view(-1, 1, 1), padding, pool, unpooled

    def forward(self, s_pre, generator=None):
        drive = self.up.dac(s_pre)
        sums = (adc(self.array.read_up(r, drive, self.padding, generator)) for r, adc in enumerate(self.up.adcs))
        total = reduce(torch.add, sums)
        return pool(torch.add(self.bias, total, alpha=self.array.compensation), self.pool)

    def backward(self, s_post, winners, generator=None):
        drive = unpool(self.down.dac(s_post), winners, self.unpooled)
        rows = (adc(self.array.read_down(c, drive, generator)) for c, adc in enumerate(self.down.adcs))
        below = overlap_add(reduce(torch.add, rows), self.array.conductance_us.shape[-2:], self.padding)
        return below * self.array.compensation
