"""The cells of a layer, read both ways.

    w_s = (what a weight's cells sense) / (us_per_weight base^s),    v_s = its variance in the same units   (1)

are the effective weights of slice s and the variances of their fresh noise. Through wires a device of conductance g is
sensed as T (simulators.crossbar.wires) and a change of it by dg as (T / g)^2 dg, as if its way were a resistance in
series: it sees T / g of the drive, and T / g of what it adds is sensed. A read of any tile by drives x, in either
direction, senses

    y = w x + sqrt(v x^2) n,    n ~ N(0, 1) for every output of every read                               (2)

which has the distribution of fresh independent noise on every device, at the price of one more product. With an offset
column, its noise is the same for all columns of a tile in a forward read; in a backward one the column is driven by
minus the sum of the drives. In a forward read x are input channels and the product is a convolution; where a channel
has more rows than a tile (`mapping.crossbar.program.unrolled`), x are the rows of every place of the kernel. In a
backward one x are the unpooled states of one position: every position senses all its C_in k_h k_w rows.

Where devices have curves (simulators.crossbar.curves) x is what they make of the drive, in (2) and in its noise;
through wires, w x is then what tiles sense at their operating points, or of pulses at one after the other.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from mapping.crossbar.encoding import Cuts, difference, owners
from mapping.graph import Window
from simulators.crossbar.curves import Curve, backward_currents, forward_currents
from simulators.crossbar.kernels import Product, drawing, kernels
from simulators.crossbar.products import PackedLine, of_channels, of_positions
from simulators.crossbar.wires import through_wires, tile_of

Sensed = tuple[Tensor, Tensor | None]   # what lines sense, and the variance of noise that is still to be added
Line = tuple[Tensor, Tensor | None, Tensor | None]   # of a conversion: weights, own variance, offset column's variance


@dataclass(frozen=True, eq=False)
class Cells:
    """One layer's devices on their tiles.

    Attributes:
        conductance_us: (slices, planes, columns, C_in, k_h, k_w) as a relaxation finds them, see
            mapping.crossbar.encoding.
        row_cuts: inputs of each row of tiles.
        column_cuts: output channels of each column of tiles.
        wire_ohm: resistance of one segment of word lines and of bit lines, None for perfect wires.
        opposite: the backward read drives and senses at the other ends of the lines.
    """

    conductance_us: torch.Tensor
    row_cuts: Cuts
    column_cuts: Cuts
    wire_ohm: tuple[float, float] | None = None
    opposite: bool = False

    @cached_property
    def forward_us(self) -> torch.Tensor:
        """As the forward read senses them, in the shape of `conductance_us`."""
        return self._seen(opposite=False)

    @cached_property
    def backward_us(self) -> torch.Tensor:
        """As the backward read senses them: by reciprocity the same at the same terminals."""
        return self._seen(opposite=True) if self.wire_ohm and self.opposite else self.forward_us

    def _seen(self, opposite: bool) -> torch.Tensor:
        return self.conductance_us if self.wire_ohm is None else through_wires(
            self.conductance_us, self.row_cuts, self.column_cuts, self.wire_ohm, opposite)


@dataclass(frozen=True, eq=False)
class Array:
    """One layer's cells and what they stand for.

    Attributes:
        cells: the devices.
        fresh_us: like their conductances, standard deviation of fresh noise a read; None without any.
        us_per_weight: microsiemens that a weight of 1 takes in the first slice.
        compensation: digital factor on everything sensed, which undoes the mean drift.
        base: significance between slices.
        column_factors: (C_out,) digital factors of its outputs on top, at most 1; None for ones.
        curves: of its devices, in units of the drives of each direction in which it is read; empty where currents are
            in proportion to voltages.
    """

    cells: Cells
    fresh_us: torch.Tensor | None
    us_per_weight: float
    compensation: float
    base: int = 1
    column_factors: torch.Tensor | None = None
    curves: tuple[Curve, ...] = ()

    @property
    def conductance_us(self) -> torch.Tensor:
        """See `Cells`."""
        return self.cells.conductance_us

    @property
    def row_cuts(self) -> Cuts:
        """See `Cells`."""
        return self.cells.row_cuts

    @property
    def column_cuts(self) -> Cuts:
        """See `Cells`."""
        return self.cells.column_cuts

    @property
    def factors(self) -> torch.Tensor:
        """(C_out,) float32: all digital factors that undo the mean drift, of each output."""
        outputs = self.column_cuts[-1][1]
        own = self.conductance_us.new_ones(outputs) if self.column_factors is None else self.column_factors
        return own * self.compensation

    @property
    def is_symmetric(self) -> bool:
        """Whether both directions sense the same."""
        return self.cells.backward_us is self.cells.forward_us

    @property
    def adds_noise(self) -> bool:
        """Whether `sense_forward` has drawn the noise: an offset column's is the same for all columns of its tile."""
        return self.fresh_us is not None and self.conductance_us.shape[1] == 1

    @cached_property
    def forward_weight(self) -> torch.Tensor:
        """Equation (1) of the forward read, (slices, C_out, C_in, k_h, k_w)."""
        return difference(self.cells.forward_us, self.column_cuts) / self._unit(1)

    @cached_property
    def backward_weight(self) -> torch.Tensor:
        """Equation (1) of the backward read."""
        return self.forward_weight if self.is_symmetric else (
            difference(self.cells.backward_us, self.column_cuts) / self._unit(1))

    def _unit(self, power: int) -> Tensor:
        """(slices, 1, 1, 1, 1): microsiemens a unit of weight, to a power."""
        slices = torch.arange(len(self.conductance_us), device=self.conductance_us.device)
        unit = self.us_per_weight * torch.tensor(float(self.base), device=slices.device) ** slices
        return (unit**power).to(self.conductance_us)[:, None, None, None, None]

    def _variance(self, seen_us: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Of equation (1): (each weight's own, each offset column's or None); None without fresh noise."""
        if self.fresh_us is None:
            return None, None
        kept = torch.where(self.conductance_us > 0, (seen_us / self.conductance_us).clamp(max=1), 1.0)
        v, outputs = (self.fresh_us * kept.square()).square(), self.column_cuts[-1][1]
        own, reference = (v.sum(1), None) if v.shape[1] == 2 else (v[:, 0, :outputs], v[:, 0, outputs:])
        return own / self._unit(2), None if reference is None else reference / self._unit(2)

    @property
    def forward_lines(self) -> list[tuple[int, int]]:
        """(slice, row tile) of each conversion of a forward read."""
        return list(product(range(len(self.conductance_us)), range(len(self.row_cuts))))

    @property
    def backward_lines(self) -> list[tuple[int, int]]:
        """(slice, column tile) of each conversion of a backward read."""
        return list(product(range(len(self.conductance_us)), range(len(self.column_cuts))))

    @cached_property
    def _forward(self) -> list[Line]:
        def kernel(weight: Tensor, s: int, r: int) -> Tensor:
            first, last = self.row_cuts[r]
            return _channels_last(weight[s, :, first:last])

        own, reference = self._variance(self.cells.forward_us)
        return [(kernel(self.forward_weight, s, r), None if own is None else kernel(own, s, r),
                 None if reference is None else kernel(reference, s, r)) for s, r in self.forward_lines]

    @cached_property
    def _backward(self) -> list[Line]:
        def matrix(weight: Tensor, s: int, which: slice) -> Tensor:
            return _channels_last(weight[s, which].permute(2, 3, 1, 0).flatten(0, 2)[..., None, None])

        lines: list[Line] = []
        own, reference = self._variance(self.cells.backward_us)
        for s, c in self.backward_lines:
            columns = slice(*self.column_cuts[c])
            lines.append((matrix(self.backward_weight, s, columns), None if own is None else matrix(own, s, columns),
                          None if reference is None else matrix(reference, s, slice(c, c + 1))))
        return lines

    def forward_product(self, line: int, drive: Tensor, window: Window) -> Product | None:
        """What `sense_forward` gives, left to kernels; None where they cannot have it."""
        (first, last), kept = self.row_cuts[self.forward_lines[line][1]], self._forward[line]
        if window.kernel != kept[0].shape[2:]:
            return None
        return self._product(True, line, drive[:, first:last], of_channels(window, last - first, len(kept[0])), kept)

    def backward_product(self, line: int, drive: Tensor) -> Product | None:
        """What `sense_backward` gives, left to kernels; None where they cannot have it."""
        drive, kept = drive[:, slice(*self.column_cuts[self.backward_lines[line][1]])], self._backward[line]
        return self._product(False, line, drive, of_positions(drive, len(kept[0])), kept)

    def _product(self, forward: bool, line: int, drive: Tensor, window: Window, kept: Line) -> Product | None:
        (weight, own, reference), compiled = kept, kernels()
        differentiated = torch.is_grad_enabled() and (drive.requires_grad or weight.requires_grad)
        if self.curves or reference is not None or differentiated or compiled is None:
            return None
        if drive.device.type != "cpu" or not drive.dtype == weight.dtype == torch.float32:
            return None
        if (key := (forward, line, window)) not in self._packed:
            self._packed[key] = PackedLine(compiled, weight, own, window)
        packed = self._packed[key]
        return packed.product(drive, forward) if packed.agrees(compiled, len(drive)) else None

    @cached_property
    def _packed(self) -> dict[tuple[bool, int, Window], PackedLine]:
        """Lines as kernels take them, forward or backward, that were read."""
        return {}

    def read_forward(self, line: int, drive: Tensor, window: Window,
                     generator: torch.Generator | None = None) -> Tensor:
        """Partial sums (B, C_out, H', W') that a slice of a row tile adds, all its columns side by side."""
        return with_noise(self.sense_forward(line, drive, window, generator), generator)

    def sense_forward(self, line: int, drive: Tensor, window: Window,
                      generator: torch.Generator | None = None) -> Sensed:
        """`read_forward` before the noise of the weights' own devices, channels last."""
        inputs, (weight, own, reference) = self.row_cuts[self.forward_lines[line][1]], self._forward[line]
        whole = window.kernel == weight.shape[2:]
        drive = drive[:, slice(*inputs)] if whole else _rows(drive, window, *inputs)
        drive = drive.contiguous(memory_format=torch.channels_last)   # a convolution of side by side channels is faster

        def convolve(x: Tensor, w: Tensor) -> Tensor:
            sums = F.conv2d(x, w, None, window.stride, window.padding) if whole else F.conv2d(x, w)
            return sums.contiguous(memory_format=torch.channels_last)

        if self.curves:
            drive, given = self.curves[0].of_a_read(drive), drive
        if self.curves and self.cells.wire_ohm:
            current = self._settled_forward(line, given, window if whole else None)
        else:
            current = convolve(drive, weight)
        if own is None:
            return current, None
        with torch.no_grad():
            squared = drive.square()
            variance = convolve(squared, own)
            if reference is None:
                return current, variance
            noise = noise_of(variance, generator)
            noise -= noise_of(convolve(squared, reference), generator)[:, owners(self.column_cuts)]
        return current + noise, None

    def read_backward(self, line: int, drive: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(B, H', W', k_h k_w C_in) row outputs of every position that a slice of a column tile drives, not overlapped.

        Rows that are inputs of their own come in their order, (B, H', W', C_in k_h k_w).
        """
        return with_noise(self.sense_backward(line, drive), generator)

    def sense_backward(self, line: int, drive: Tensor) -> Sensed:
        """`read_backward` before the noise."""
        left, right = self.column_cuts[self.backward_lines[line][1]]
        drive, (weight, own, reference) = drive[:, left:right], self._backward[line]
        drive = drive.contiguous(memory_format=torch.channels_last)
        if self.curves:
            drive, given = self.curves[-1].of_a_read(drive), drive
        if self.curves and self.cells.wire_ohm:
            current = self._settled_backward(line, given.permute(0, 2, 3, 1))
        else:
            current = _at_each_position(drive, weight)
        if own is None:
            return current, None
        with torch.no_grad():
            variance = _at_each_position(drive.square(), own)
            if reference is not None:
                variance += _at_each_position(drive.sum(1, keepdim=True).square(), reference)
        return current, variance

    def _settled_forward(self, line: int, drive: Tensor, window: Window | None) -> Tensor:
        """What a slice of a row tile senses at its operating point, (B, C_out, H', W'), channels last.

        Args:
            drive: (B, inputs of the tile, H, W).
            window: how its kernel meets the map; None where rows are inputs of their own.
        """
        s, r = self.forward_lines[line]
        if window is not None:
            rows = F.unfold(drive, window.kernel, padding=window.padding, stride=window.stride)
            drive = rows.unflatten(2, window.unpooled[1:])
        rows, tiles = drive.movedim(1, -1), range(len(self.column_cuts))
        currents = [forward_currents(self._tile(s, r, c), rows.flatten(0, -2), self.curves[0], self._wires)
                    for c in tiles]
        sums = torch.cat([planes[:, 0] - planes[:, 1] for planes in currents], -1) / self._unit(1)[s].flatten()
        return sums.to(drive).unflatten(0, rows.shape[:-1]).movedim(-1, 1)

    def _settled_backward(self, line: int, drive: Tensor) -> Tensor:
        """The same of a slice of a column tile, from what drives its columns, (B, H', W', columns)."""
        s, c = self.backward_lines[line]
        currents = [backward_currents(self._tile(s, r, c), drive.flatten(0, -2), self.curves[-1], self._wires,
                                      self.cells.opposite) for r in range(len(self.row_cuts))]
        places = self.conductance_us.shape[4:]
        sums = [(planes[:, 0] - planes[:, 1]).unflatten(-1, (-1, *places)) for planes in currents]
        rows = torch.cat(sums, 1).permute(0, 2, 3, 1).flatten(1) / self._unit(1)[s].flatten()
        return rows.to(drive).unflatten(0, drive.shape[:-1])

    def _tile(self, s: int, r: int, c: int) -> Tensor:
        """(planes, rows, columns) cells of a slice of a tile."""
        return tile_of(self.conductance_us, self.row_cuts, self.column_cuts, r, c)[s]

    @property
    def _wires(self) -> tuple[float, float]:
        assert self.cells.wire_ohm is not None, "only through wires"
        return self.cells.wire_ohm


def _channels_last(kernels: Tensor) -> Tensor:
    """(C_out, C_in, k_h, k_w), channels last by its strides, also where there is one input: oneDNN goes by them."""
    return kernels.movedim(1, -1).clone(memory_format=torch.contiguous_format).movedim(-1, 1)


def _at_each_position(drive: Tensor, kernels: Tensor) -> Tensor:
    """(B, H, W, rows), dense, of drives (B, columns, H, W): a convolution of one place, faster than a product."""
    return F.conv2d(drive, kernels).permute(0, 2, 3, 1).contiguous()


def _rows(drive: Tensor, window: Window, first: int, last: int) -> Tensor:
    """(B, last - first, H', W'): what drives the rows from `first` on at each place of the kernel."""
    (k_h, k_w), (_, h, w) = window.kernel, window.unpooled
    channels = slice(first // (k_h * k_w), -(-last // (k_h * k_w)))
    rows = F.unfold(drive[:, channels], window.kernel, padding=window.padding, stride=window.stride)
    skipped = channels.start * k_h * k_w
    return rows[:, first - skipped:last - skipped].unflatten(2, (h, w))


def with_noise(sensed: Sensed, generator: torch.Generator | None) -> Tensor:
    """What was sensed with its noise drawn; the variances are overwritten."""
    current, variance = sensed
    return current if variance is None else current + noise_of(variance, generator)


def noise_of(variance: Tensor, generator: torch.Generator | None) -> Tensor:
    """Fresh normals of these variances (overwritten). A constant to autograd: its mean does not depend on the drive."""
    sigma = variance.clamp_(min=0).sqrt_()
    return normal_like(sigma, drawn_by(generator)).mul_(sigma)


def drawn_by(generator: torch.Generator | None) -> torch.Generator:
    """The generator of a read with noise, which cannot do without."""
    if generator is None:
        raise ValueError("a noisy read needs a generator")
    return generator


def normal_like(dense: Tensor, generator: torch.Generator | None) -> Tensor:
    """Standard normals in the memory order of `dense`: drawn flat, as torch fills other orders four times slower."""
    if generator is not None and (own := drawing(dense, generator)):
        return own.normals(torch.empty_like(dense), generator)
    flat = torch.randn(dense.numel(), generator=generator, dtype=dense.dtype, device=dense.device)
    return flat.as_strided(dense.shape, dense.stride())
