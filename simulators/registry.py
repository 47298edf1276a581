"""Which simulator runs which program: a machine for each type of program, known types registered below."""

from collections.abc import Callable
from typing import TypeVar

import torch

from mapping.crossbar.program import CrossbarProgram
from mapping.crossbar.tuned import TunedProgram
from mapping.definitions import is_again
from mapping.digital import DigitalProgram
from mapping.errors import Refusal
from mapping.loihi.program import LoihiProgram
from mapping.loihi.target import LoihiTarget
from mapping.program import FloatProgram, Program
from simulators.crossbar.chip import CrossbarMachine
from simulators.crossbar.programmed import kept_chip
from simulators.crossbar.tiled import TiledMachine, TiledProgram
from simulators.digital import DigitalMachine
from simulators.loihi.lava import LavaMachine
from simulators.loihi.twin import open_twin
from simulators.machine import Machine
from simulators.module import ModuleMachine, ModuleProgram
from simulators.reference import ReferenceMachine

P = TypeVar("P", bound=Program | ModuleProgram)
Opener = Callable[[P, int, str], Machine]
_OPENERS: dict[type, Opener] = {}


def register_machine(program: type[P], opens: Opener[P]):
    """Say which machine runs a type of program, and those that inherit from it and are not registered themselves.

    Args:
        program: what a compiler makes, see `mapping.register_machine`.
        opens: the machine of a program, a chip seed, and a device ("cpu" or "cuda").

    Raises:
        Refusal: the type is known to be run by another machine.
    """
    if not is_again(opens, _OPENERS.setdefault(program, opens)):
        raise Refusal("the type of program is registered already, and otherwise", where="register_machine",
                      got=program.__name__, allowed="a new type, or the same machine again",
                      remedy="inherit from it, with a kind of its own")
    _OPENERS[program] = opens


def open_machine(program: Program | ModuleProgram, *, chip_seed: int, device: str) -> Machine:
    """See `simulators.open`."""
    check_device(device)
    return opener_of(program)(program, chip_seed, device)


def opener_of(program: Program | ModuleProgram) -> Opener:
    """What opens a program, see `register_machine`.

    Raises:
        TypeError: nothing is registered that does.
    """
    opens = next((_OPENERS[kind] for kind in type(program).__mro__ if kind in _OPENERS), None)
    if opens is None:
        raise TypeError(f"no simulator runs a {type(program).__name__}: see simulators.register_machine")
    return opens


def on_lava(program: Program | ModuleProgram) -> bool:
    """Whether Lava's processes run a program."""
    return isinstance(program.target, LoihiTarget) and program.target.on_lava


def check_device(device: str):
    """Refuse a device that this machine does not have."""
    available = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
    if device not in available:
        raise Refusal("no such device here", where="device", got=device, allowed=", ".join(available),
                      remedy="leave --device out")


def _floats(program: FloatProgram, chip_seed: int, device: str) -> Machine:
    if on_lava(program):
        return LavaMachine(program)
    return ReferenceMachine(program.graph, device, steps=program.target.steps)


def _integers(program: LoihiProgram, chip_seed: int, device: str) -> Machine:
    return LavaMachine(program) if on_lava(program) else open_twin(program, device)


def _tuned(program: TunedProgram, chip_seed: int, device: str) -> Machine:
    return CrossbarMachine(program, device=device, chip=kept_chip(program, chip_seed, device))


def _module(program: ModuleProgram, chip_seed: int, device: str) -> Machine:
    return ModuleMachine(program.module, program.interface.image_shape, program.interface.classes, device=device)


register_machine(FloatProgram, _floats)
register_machine(LoihiProgram, _integers)
register_machine(CrossbarProgram, CrossbarMachine)
register_machine(TunedProgram, _tuned)
register_machine(DigitalProgram, DigitalMachine)
register_machine(ModuleProgram, _module)
register_machine(TiledProgram, TiledMachine)
