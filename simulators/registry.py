"""Which simulator runs which program: dispatch by type, unknown types raise."""

from functools import singledispatch

import torch

from mapping.crossbar.program import CrossbarProgram
from mapping.crossbar.tuned import TunedProgram
from mapping.errors import Refusal
from mapping.loihi.program import LoihiProgram
from mapping.program import FloatProgram, Program
from simulators.crossbar.chip import CrossbarMachine
from simulators.crossbar.programmed import kept_chip
from simulators.loihi.lava import LavaMachine
from simulators.loihi.twin import open_twin
from simulators.machine import Machine
from simulators.module import ModuleMachine, ModuleProgram
from simulators.reference import ReferenceMachine


def open_machine(program: Program, *, chip_seed: int, device: str) -> Machine:
    """See `simulators.open`."""
    check_device(device)
    return _open(program, chip_seed, device)


def check_device(device: str):
    """Refuse a device that this machine does not have."""
    available = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
    if device not in available:
        raise Refusal("no such device here", where="device", got=device, allowed=", ".join(available),
                      remedy="leave --device out")


@singledispatch
def _open(program, chip_seed, device) -> Machine:
    raise TypeError(f"no simulator runs a {type(program).__name__}")


@_open.register
def _(program: FloatProgram, chip_seed, device):
    if program.target.name == "lava:float":
        return LavaMachine(program)
    return ReferenceMachine(program.graph, device, steps=program.target.steps)


@_open.register
def _(program: LoihiProgram, chip_seed, device):
    return LavaMachine(program) if program.target.on_lava else open_twin(program, device)


@_open.register
def _(program: CrossbarProgram, chip_seed, device):
    return CrossbarMachine(program, chip_seed, device)


@_open.register
def _(program: TunedProgram, chip_seed, device):
    return CrossbarMachine(program, device=device, chip=kept_chip(program, chip_seed, device))


@_open.register
def _(program: ModuleProgram, chip_seed, device):
    return ModuleMachine(program.module, program.interface.image_shape, program.interface.classes, device=device)
