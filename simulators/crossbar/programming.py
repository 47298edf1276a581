"""Programming a chip: from target conductances to the cells that a relaxation finds, one cause after the other.

Frozen randomness comes from the chip seed alone, a generator for each layer and each cause, so that machines of the
same chip share every cause that they have in common: /aged is the chip of /programmed, later.
"""

import hashlib

import torch

from mapping.crossbar import CrossbarLayer
from mapping.targets import CrossbarTarget
from simulators.crossbar.array import Array
from simulators.crossbar.devices import Device


def program_array(layer: CrossbarLayer, target: CrossbarTarget, model: Device, chip_seed: int, device="cpu") -> Array:
    """The cells of one layer on one chip.

    Args:
        layer: compiled; its targets are already rounded to the device's levels.
        target: says which causes are part of the machine, the age and the relaxation's duration.
        model: the device model. chip_seed: which chip. device: where the cells are read ("cpu", "cuda").
    """
    def draws(cause):
        return seeded(chip_seed, layer.name, cause)

    wanted = programmed = torch.tensor(layer.g_us)
    if target.includes("programmed"):
        programmed = model.program(wanted, draws("programming"))
    drifted = aged = programmed
    if target.includes("aged"):
        drifted = model.drift(programmed, wanted, target.age, draws("drift"))
        slow_us = model.slow_sigma_us(drifted, programmed, target.age, target.relaxation_time)
        aged = (drifted + slow_us * torch.randn(drifted.shape, generator=draws("slow noise"))).clamp(min=0)
    fresh_us = None
    if target.includes("read"):
        fresh_us = model.fresh_sigma_us(drifted, programmed, target.relaxation_time).to(device)
    compensation = drift_compensation(programmed, aged) if target.drift_compensation else 1.0
    return Array(aged.to(device), fresh_us, layer.us_per_weight, compensation, layer.row_cuts, layer.column_cuts)


def drift_compensation(programmed_us, aged_us) -> float:
    """Summed magnitude of a layer's weights, read when programmed, over the same now.

    Source: global drift compensation, Joshi et al., Nat. Commun. 11, 2473 (2020).
    """
    then, now = ((g[0] - g[1]).abs().sum().item() for g in (programmed_us, aged_us))
    return then / now if now else 1.0


def seeded(chip_seed: int, *purpose: str) -> torch.Generator:
    """A generator of its own for each chip and purpose. Drawn on the CPU: a chip is the same on every device."""
    digest = hashlib.sha256(repr((chip_seed, *purpose)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
