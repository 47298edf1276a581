"""simulators: machines that run programs.

    with simulators.open(program, chip_seed=3) as machine:
        equilibrium = machine.relax(images)

Importing this package is cheap and loads no torch: Lava's fresh interpreter imports it too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from mapping.program import Program
    from simulators.crossbar.devices import Device
    from simulators.machine import Machine
    from simulators.module import ModuleProgram
    from simulators.registry import Opener, P

__all__ = ["open", "register_device_model", "register_machine"]


def open(program: Program | ModuleProgram, *, chip_seed: int = 0, device: str = "cpu") -> Machine:
    """The machine that runs a program.

    Args:
        program: from `mapping.compile` or `mapping.load_program`.
        chip_seed: which chip is programmed (crossbars); read noise comes from the generator given to `relax`.
        device: "cpu" or "cuda" (machines that compute with torch).

    Raises:
        Refusal: Lava or the device is not available.
    """
    from simulators.registry import open_machine

    return open_machine(program, chip_seed=chip_seed, device=device)


def register_machine(program: type[P], opens: Opener[P]):
    """Say which machine runs a type of program, see `simulators.registry.register_machine`."""
    from simulators.registry import register_machine

    register_machine(program, opens)


def register_device_model(name: str, model: Callable[..., Device]):
    """Make a memory device's equations known by name, see `simulators.crossbar.models.register_device_model`."""
    from simulators.crossbar.models import register_device_model

    register_device_model(name, model)
