"""Writing: from the updates that learning asks for to pulses, and from pulses to conductances.

An update of a weight is owed until it fills a step; then it is written blindly, nothing is verified:

    n = trunc(owed / (d span)),    owed <- owed - n d span                                               (1)

with d the step and span = g_max - g_min. A pair takes n > 0 as pulses up on its first device and n < 0 as pulses up on
its second: a device at the bottom of its range could not be depressed, and half of them are. One device beside an
offset column takes pulses up and down. With x = (g - g_min) / span, asymmetry a, saturation c and write noise s,

    a pulse up:    x <- x + d (1 + a) (1 - c x) + s d N(0, 1)                                            (2)
    a pulse down:  x <- x - d (1 - a) (1 - c (1 - x)) + s d N(0, 1)

n pulses of one direction come at once. With y = x upwards and 1 - x downwards, e = d (1 +- a) and r = 1 - c e

    y_n = y + (1 - c y) (1 - r^n) / c,    var = (s d)^2 (1 - r^2n) / (1 - r^2)                           (3)

(n e and n (s d)^2 where c = 0). Pulses up and down in turn lead, whatever the start, to x* = a / c + (1 - a) / 2, where
they are equal. Stuck devices take pulses and stay.

Source: accumulated updates, Nandakumar et al., Front. Neurosci. 14, 406 (2020); soft bounds, Fusi and Abbott, Nat.
Neurosci. 10, 485 (2007).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mapping.crossbar.target import CrossbarTarget
from mapping.crossbar.writing import Writing
from mapping.errors import Refusal


@dataclass(frozen=True, eq=False)
class Written:
    """An array's devices and their record.

    Attributes:
        conductance_us: (1, planes, columns, C_in, k_h, k_w) as `simulators.crossbar.array.Array` has it.
        owed_us: (C_out, C_in, k_h, k_w) update of each weight that is not yet written.
        pulses: like `conductance_us`, int32, pulses that each device has taken.
    """

    conductance_us: torch.Tensor
    owed_us: torch.Tensor
    pulses: torch.Tensor


def unwritten(conductance_us: Tensor, outputs: int) -> Written:
    """Devices as programming left them, of an array with that many output channels."""
    return Written(conductance_us, torch.zeros_like(conductance_us[0, 0, :outputs]),
                   torch.zeros_like(conductance_us, dtype=torch.int32))


def write(now: Written, update_us: Tensor, writing: Writing, target: CrossbarTarget, stuck: Tensor,
          generator: torch.Generator | None) -> Written:
    """The devices after an update.

    Args:
        update_us: (C_out, C_in, k_h, k_w) change asked of each weight's conductance.
        stuck: like the conductances, bool: devices that nothing moves.
        generator: of write noise.

    Raises:
        Refusal: bit slices, or an offset column of devices that take pulses up only.
    """
    check_writable_cells(target, writing)
    owed = now.owed_us + update_us
    if not writing.step:
        moved = (now.conductance_us + _planes(owed, now.pulses)).clamp(target.g_min_us, target.g_max_us)
        moved = torch.where(stuck | (_planes(owed, now.pulses) == 0), now.conductance_us, moved)
        return Written(moved, torch.zeros_like(owed), now.pulses)
    step_us = writing.step * (target.g_max_us - target.g_min_us)
    count = torch.trunc(owed / step_us)
    pulses = _planes(count, now.pulses)
    moved = pulsed(now.conductance_us, pulses, writing, target.g_min_us, target.g_max_us, generator)
    return Written(torch.where(stuck, now.conductance_us, moved), owed - count * step_us,
                   now.pulses + pulses.abs().to(torch.int32))


def pulsed(g_us: Tensor, pulses: Tensor, writing: Writing, g_min_us: float, g_max_us: float,
           generator: torch.Generator | None) -> Tensor:
    """Equation (3): conductances after whole numbers of pulses each, up where positive; within the range."""
    up, n = pulses > 0, pulses.abs()
    x = (g_us - g_min_us) / (g_max_us - g_min_us)
    y, e = torch.where(up, x, 1 - x), writing.step * (1 + writing.asymmetry * pulses.sign().to(g_us))
    share, variance = _accumulated(n, e, writing.saturation)
    moved = y + (1 - writing.saturation * y).clamp(min=0) * share
    if writing.noise:
        noise = torch.randn(g_us.shape, generator=generator).to(g_us)
        moved = moved + writing.noise * writing.step * variance.sqrt() * noise
    moved = torch.minimum(torch.maximum(moved, y.clamp(max=0)), y.clamp(min=1))
    back = torch.where(up, moved, 1 - moved)
    return torch.where(n > 0, g_min_us + (g_max_us - g_min_us) * back, g_us)


def check_writable_cells(target: CrossbarTarget, writing: Writing):
    """Refuse cells that are not written pulse by pulse.

    Raises:
        Refusal: see `write`.
    """
    if target.array.encoding == "slices":
        raise Refusal("bit slices cannot be tuned", where=str(target), got="encoding=slices", allowed="pair, offset",
                      remedy="compile for another encoding")
    if target.array.encoding == "offset" and not writing.depresses:
        raise Refusal("a weight on one device must be lowered too", where=f"{target}, {writing}",
                      got="encoding=offset with pulses up only", allowed="encoding=pair, or devices that depress",
                      remedy="leave the encoding out")


def _planes(update: Tensor, pulses: Tensor) -> Tensor:
    """An update of weights (C_out, ...) spread over the devices in the shape of `pulses`, see (1)."""
    if pulses.shape[1] == 2:
        return torch.stack([update.clamp(min=0), (-update).clamp(min=0)])[None]
    references = update.new_zeros(pulses.shape[2] - len(update), *update.shape[1:])
    return torch.cat([update, references])[None, None]


def _accumulated(n: Tensor, e: Tensor, saturation: float) -> tuple[Tensor, Tensor]:
    """((1 - r^n) / c, (1 - r^2n) / (1 - r^2)) of equation (3)."""
    if not saturation:
        return n * e, n
    log_r = torch.log1p(-saturation * e)
    return -torch.expm1(n * log_r) / saturation, torch.expm1(2 * n * log_r) / torch.expm1(2 * log_r)
