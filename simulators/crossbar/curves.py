"""Devices whose current is not in proportion to their voltage, and what their tiles then sense through wires.

A device of conductance g, measured at the read voltage V_r, lets through at a voltage x V_r

    i = g V_r phi(x),    phi(x) = sinh(a x) / sinh(a),    a = V_r / v_0                                      (1)

and g V_r x where v_0 grows. With perfect wires a device sees its line's drive: a read is linear in phi of the drives.
Through wires it sees what they leave of it. With d_kj what cell (k, j) of a tile sees, in units of V_r, x_k what drives
word line k, and R the resistances that its current shares with those of other cells, in word lines and bit lines,

    F(d) = d + R i(d) - x = 0,    R = R_w + R_b,                                                             (2)
    (R_w i)_kj = r_w sum_j' (min(j, j') + 1) i_kj',    (R_b i)_kj = r_b sum_k' (rows - max(k, k')) i_k'j

which Newton's method solves, D = di/dd being diagonal and R symmetric:

    d <- d - F + R D^1/2 A^-1 D^1/2 F,    A = 1 + D^1/2 R D^1/2                                              (3)

A is symmetric with eigenvalues from 1 on, so that conjugate gradients find A^-1 with two running sums a product. The
gradient of the sensed currents I_j = sum_k i_kj is that of the operating point itself, not of the steps that led to it:
with y_j the gradient by I_j, A at the solution and S' y the map that has y_j in every row,

    gradient by x_k = sum_j (D^1/2 A^-1 D^1/2 S' y)_kj                                                       (4)

Where drives are pulses, x_k says how long line k is at V_r (or -V_r), of the longest pulse. All begin together, and a
line that has ended is grounded. Between two ends nothing changes, wires being charged far faster than a pulse lasts, so
that an integrating ADC takes in

    Q = sum_r |x_(r)| (I(S_r) - I(S_{r-1})),    |x_(1)| >= |x_(2)| >= ...                                    (5)

with S_r the r lines of the longest pulses and I(S) what is sensed while these are driven. It is piecewise linear in x.

Source: sinh laws of filamentary and tunnelling devices, Yang et al., Nat. Nanotechnol. 3, 429 (2008).
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mapping.errors import Refusal

TOLERANCE = 1e-10   # of the largest drive, that F may be off
MOST_STEPS = 60     # of Newton's method
INNER, MOST_INNER = 1e-6, 2000   # residual that conjugate gradients leave of theirs, and their steps
AT_ONCE = 2**21     # cells that are solved together


class Curve(NamedTuple):
    """Equation (1) in units of a drive.

    Attributes:
        steepness: a.
        full: drive that is the read voltage.
        pulses: drives are lengths of pulses of the read voltage, `full` of the longest.
    """

    steepness: float
    full: float
    pulses: bool = False

    def __call__(self, drive: Tensor) -> Tensor:
        """full phi(drive / full)."""
        return (drive * (self.steepness / self.full)).sinh() * (self.full / math.sinh(self.steepness))

    def of_a_read(self, drive: Tensor) -> Tensor:
        """What a device makes of a read's drive where wires are perfect: of a pulse, its length."""
        return drive if self.pulses else self(drive)

    def slope(self, drive: Tensor) -> Tensor:
        """Its derivative."""
        a = self.steepness
        return (drive * (a / self.full)).cosh() * (a / math.sinh(a))


def forward_currents(g_us: Tensor, drives: Tensor, curve: Curve, wire_ohm: tuple[float, float]) -> Tensor:
    """What a tile senses at its operating points, word lines driven at the first column, bit lines sensed at the last
    row.

    Args:
        g_us: (planes, rows, columns) microsiemens; each plane has wires of its own.
        drives: (N, rows), in units of the curve.
        curve: of the devices.
        wire_ohm: of a segment of word lines and of bit lines.

    Returns:
        (N, planes, columns) float64, microsiemens x drive.
    """
    if curve.pulses:
        few = max(1, AT_ONCE // drives.shape[1]**2)
        return torch.cat([_pulsed(g_us, part, curve, wire_ohm) for part in drives.double().split(few)])
    few = max(1, AT_ONCE // g_us.numel())
    return torch.cat([_Sensed.apply(part, g_us.double(), curve, wire_ohm) for part in drives.double().split(few)])


def _pulsed(g_us: Tensor, drives: Tensor, curve: Curve, wire_ohm: tuple[float, float]) -> Tensor:
    """Equation (5), arguments as for `forward_currents`; lines that are never driven matter to the gradient alone."""
    sign = torch.where(drives < 0, -1.0, 1.0).double()
    lengths, order = (drives * sign / curve.full).sort(descending=True)
    rows = drives.shape[1]
    used = torch.ones_like(lengths, dtype=torch.bool) if drives.requires_grad else lengths > 0
    voltages = curve.full * sign.gather(1, order)[:, None] * torch.ones(rows, rows).to(drives).tril()
    lines = torch.zeros_like(voltages).scatter(2, order[:, None].expand(-1, rows, -1), voltages)
    sensed = drives.new_zeros(*lengths.shape, g_us.shape[0], g_us.shape[2])
    if used.any():
        sensed[used] = forward_currents(g_us, lines[used], curve._replace(pulses=False), wire_ohm)
    added = torch.diff(sensed, dim=1, prepend=torch.zeros_like(sensed[:, :1]))
    return torch.einsum("nr,nrpj->npj", lengths, added.detach())


def backward_currents(g_us: Tensor, drives: Tensor, curve: Curve, wire_ohm: tuple[float, float],
                      opposite: bool = False) -> Tensor:
    """The same with bit lines driven (N, columns) and word lines sensed, (N, planes, rows).

    Args:
        opposite: at the other ends of the lines than `forward_currents` drives and senses.
    """
    exchanged = wire_ohm[1], wire_ohm[0]
    if opposite:
        return forward_currents(g_us.mT, drives, curve, exchanged)
    return forward_currents(g_us.mT.flip(-1, -2), drives.flip(-1), curve, exchanged).flip(-1)


class _Sensed(torch.autograd.Function):
    """Currents at the operating point; the way back is equation (4), at the point that is solved again."""

    @staticmethod
    def forward(ctx: Any, drives: Tensor, g_us: Tensor, curve: Curve, wire_ohm: tuple[float, float]) -> Tensor:
        ctx.save_for_backward(drives, g_us)
        ctx.curve, ctx.wire_ohm = curve, wire_ohm
        return (g_us * curve(operating_point(g_us, drives, curve, wire_ohm))).sum(-2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (drives, g_us), curve, wires = ctx.saved_tensors, ctx.curve, ctx.wire_ohm
        root = (g_us * curve.slope(operating_point(g_us, drives, curve, wires))).sqrt()
        found = root * _inverse(root, root * gradient[..., None, :], wires)
        return found.sum((1, -1)), None, None, None


def operating_point(g_us: Tensor, drives: Tensor, curve: Curve, wire_ohm: tuple[float, float]) -> Tensor:
    """d of equation (2), (N, planes, rows, columns) in units of the curve; arguments as for `forward_currents`.

    Raises:
        Refusal: none is found.
    """
    wanted = drives[:, None, :, None].expand(-1, *g_us.shape)
    seen, allowed = wanted, TOLERANCE * float(drives.abs().max())
    for _ in range(MOST_STEPS):
        off = seen + _lost(g_us * curve(seen), wire_ohm) - wanted
        if float(off.abs().max()) <= allowed:
            return seen
        root = (g_us * curve.slope(seen)).sqrt()
        seen = seen - off + _lost(root * _inverse(root, root * off, wire_ohm), wire_ohm)
    raise Refusal("a tile without an operating point", where="wires of devices with curves",
                  got=f"still off by {float(off.abs().max()):.2g} of {float(drives.abs().max()):.2g}",
                  allowed=f"at most {allowed:.2g}", remedy="choose a larger sinh_v, or less resistance")


def _lost(currents: Tensor, wire_ohm: tuple[float, float]) -> Tensor:
    """R i of equation (2), of (..., rows, columns) microamperes a volt."""
    word, bit = (1e-6 * ohm for ohm in wire_ohm)
    ahead = currents.flip(-1).cumsum(-1).flip(-1)   # through each segment of a word line
    return word * ahead.cumsum(-1) + bit * currents.cumsum(-2).flip(-2).cumsum(-2).flip(-2)


def _inverse(root: Tensor, wanted: Tensor, wire_ohm: tuple[float, float]) -> Tensor:
    """A^-1 wanted of equation (3), for each of (N, planes) by itself."""
    found, left = torch.zeros_like(wanted), wanted
    along, size = left, _dot(left, left)
    allowed = INNER**2 * size
    for _ in range(MOST_INNER):
        if bool((size <= allowed).all()):
            break
        ahead = along + root * _lost(root * along, wire_ohm)
        step = size / _dot(along, ahead).clamp(min=1e-300)
        found, left = found + step * along, left - step * ahead
        now = _dot(left, left)
        along, size = left + now / size.clamp(min=1e-300) * along, now
    return found


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """(N, planes, 1, 1)."""
    return (a * b).sum((-1, -2), keepdim=True)
