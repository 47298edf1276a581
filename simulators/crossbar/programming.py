"""Programming a chip: from target conductances to the cells that a relaxation finds, one cause after the other.

Frozen randomness comes from the chip seed alone, a generator for each layer and each cause, so that machines of the
same chip share every cause that they have in common: /aged is the chip of /programmed, later.
"""

import hashlib
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from mapping.crossbar.program import CrossbarLayer
from mapping.crossbar.target import CrossbarTarget
from mapping.errors import Refusal
from simulators.crossbar.array import Array, Cells
from simulators.crossbar.curves import Curve
from simulators.crossbar.devices import Device, Frozen, clipped_sigma_us

READ_V = 0.2   # on a device that is read, in volts
BOLTZMANN_J_K = 1.380649e-23


def program_array(layer: CrossbarLayer, target: CrossbarTarget, model: Device, chip_seed: int,
                  device: str | torch.device = "cpu", array: str = "forward") -> Array:
    """The cells of one layer on one chip.

    Args:
        layer: compiled; its targets are already rounded to the device's levels.
        target: says which causes are part of the machine, the age and the relaxation's duration.
        model: the device model.
        chip_seed: which chip.
        device: where the cells are read ("cpu", "cuda").
        array: "forward", or "feedback" for the second array of a machine that has separate ones.

    Raises:
        Refusal: a device model that gives what is no conductance.
    """
    wanted, where, relaxation_s = torch.tensor(layer.stored.g_us), _where(layer, array), target.dynamics.relaxation_time

    def normal(cause: str) -> Tensor:
        return torch.randn(wanted.shape, generator=seeded(chip_seed, *where, cause))

    def held(g_us: Tensor, method: str) -> Tensor:
        return torch.where(on, target.g_max_us, torch.where(off, target.g_min_us, _physical(g_us, model, method)))

    frozen = Frozen(normal("programming"), normal("drift"))
    on, off = stuck_cells(layer, target, chip_seed, array)
    programmed = held(model.program(wanted, frozen) if target.includes("programmed") else wanted, "program")
    drifted = noisy = programmed
    if target.includes("aged"):
        drifted = held(model.drift(programmed, wanted, target.device.age, frozen), "drift")
        slow_us = model.slow_sigma_us(drifted, programmed, target.device.age, relaxation_s)
        noisy = drifted + _physical(slow_us, model, "slow_sigma_us") * normal("slow noise")
    fresh_us = None
    if target.includes("read"):
        fresh_us = read_sigma_us(target, model, drifted, programmed)
        fresh_us = clipped_sigma_us(noisy, fresh_us, *model.limits_us).to(device) if fresh_us.any() else None
    if not target.includes("aged"):
        return array_of(layer, target, programmed.to(device), fresh_us)
    now = array_of(layer, target, noisy.clamp(*model.limits_us).to(device), fresh_us)
    if not target.array.drift_compensation:
        return now
    return _compensated(array_of(layer, target, programmed.to(device)), now, target.array.drift_compensation)


def _compensated(then: Array, now: Array, how: str | bool) -> Array:
    """An aged array with what undoes its drift since it was programmed, by column or as a whole."""
    if how == "column":
        return column_compensated(then, now)
    return replace(now, compensation=drift_compensation(then, now))


def read_sigma_us(target: CrossbarTarget, model: Device, drifted_us: Tensor, programmed_us: Tensor) -> Tensor:
    """Standard deviation of fresh noise a read: the device's own, and what its temperature T adds,

        sigma = sqrt(4 k T g / (2 t_read)) / V                                                              (1)

    of a current that is averaged over t_read, as a conductance at V = `READ_V`.

    Args:
        target: T, t_read and the relaxation's duration.
        model: the device's own noise.
        drifted_us: g.
        programmed_us: before drift.

    Source: Johnson, Phys. Rev. 32, 97 (1928); Nyquist, Phys. Rev. 32, 110 (1928).
    """
    own = _physical(model.fresh_sigma_us(drifted_us, programmed_us, target.dynamics.relaxation_time), model,
                    "fresh_sigma_us")
    if target.device.temperature is None:
        return own
    t_read_s = cast(float, target.preset.constants["t_read_s"])
    thermal_a2 = 4 * BOLTZMANN_J_K * target.device.temperature * drifted_us * 1e-6 / (2 * t_read_s)
    return (own.square() + thermal_a2 / READ_V**2 * 1e12).sqrt()


def _physical(g_us: Tensor, model: Device, method: str) -> Tensor:
    """Conductances or their noise as a model gave them, refused unless all are finite and none is negative."""
    if not ((g_us >= 0) & g_us.isfinite()).all():
        raise Refusal("not conductances", where=f"{type(model).__name__}.{method}", got=f"down to {g_us.min():.3g} uS",
                      allowed="0 uS or more, finite", remedy="correct the device model")
    return g_us


def array_of(layer: CrossbarLayer, target: CrossbarTarget, conductance_us: Tensor, fresh_us: Tensor | None = None,
             compensation: float = 1.0, column_factors: Tensor | None = None) -> Array:
    """A layer's array from what its devices came to."""
    wires = target.array.wires if target.includes("wires") else None
    cells = Cells(conductance_us, layer.row_cuts, layer.column_cuts, wires, target.array.terminals == "opposite")
    return Array(cells, fresh_us, layer.stored.us_per_weight, compensation, layer.stored.base,
                 column_factors, _curves(layer, target))


def _curves(layer: CrossbarLayer, target: CrossbarTarget) -> tuple[Curve, ...]:
    """Of a layer's devices, in units of the drives of each direction: the range of a DAC is the read voltage."""
    if target.device.sinh_v is None or not (target.includes("curves") and target.has("curves")):
        return ()
    assert layer.spans is not None, "curves come with converters"
    steepness, pulses = READ_V / target.device.sinh_v, target.converters.inputs == "pulses"
    return tuple(Curve(steepness, span.dac, pulses) for span in layer.spans)


def drift_compensation(programmed: Array, aged: Array) -> float:
    """Summed magnitude of a layer's weights, read when programmed, over the same now, both through the wires.

    Source: global drift compensation, Joshi et al., Nat. Commun. 11, 2473 (2020).
    """
    then, now = (array.forward_weight.sum(0).abs().sum(dtype=torch.float64).item() for array in (programmed, aged))
    return then / now if now else 1.0


def column_compensated(programmed: Array, aged: Array) -> Array:
    """The aged array with each column's own factor, as `drift_compensation` has a layer's.

    The largest of them is the layer's, after the sums of both directions; the rest of each, at most 1, is on what
    drives its column backward, so that no drive leaves the range of its DAC. A column without weights takes it whole.
    """
    then, now = (array.forward_weight.sum(0).abs().flatten(1).sum(1, dtype=torch.float64)
                 for array in (programmed, aged))
    ratios = torch.where(now > 0, then / now, 0.0)
    largest = ratios.max().item() or 1.0
    factors = torch.where(ratios > 0, ratios / largest, 1.0).float()
    return replace(aged, compensation=largest, column_factors=factors)


def stuck_cells(layer: CrossbarLayer, target: CrossbarTarget, chip_seed: int,
                array: str = "forward") -> tuple[torch.Tensor, torch.Tensor]:
    """Which devices are stuck at the largest and at the smallest conductance, like the layer's conductances.

    A larger rate sticks more of the same devices; arguments as for `program_array`.
    """
    luck = torch.rand(layer.stored.g_us.shape, generator=seeded(chip_seed, *_where(layer, array), "stuck"))
    rates = (target.device.stuck_on, target.device.stuck_off) if target.includes("stuck") else (0.0, 0.0)
    return luck < rates[0], luck > 1 - rates[1]


def _where(layer: CrossbarLayer, array: str) -> tuple[str, ...]:
    """What the randomness of a layer's array is derived from, besides chip and cause."""
    return (layer.name,) if array == "forward" else (layer.name, array)


def seeded(chip_seed: int, *purpose: str) -> torch.Generator:
    """A generator of its own for each chip and purpose. Drawn on the CPU: a chip is the same on every device."""
    digest = hashlib.sha256(repr((chip_seed, *purpose)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
