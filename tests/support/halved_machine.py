"""The other half of the machine of one's own, in `simulators`."""

from halved import HalvedProgram

import simulators
from simulators.reference import ReferenceMachine


def open_halved(program, chip_seed, device):
    return ReferenceMachine(program.halved_graph(), device, name=str(program.target), steps=program.planned)


simulators.register_machine(HalvedProgram, open_halved)
