"""Upwards, in two processes: convolution synapses, then max-pooling with winners."""

from collections.abc import Mapping
from typing import Any

from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess

from mapping.kernels import max_pool
from simulators.loihi.arithmetic import Synapses
from simulators.loihi.clock import Clock
from simulators.loihi.messages import Inbox
from simulators.loihi.processes.models import fixed_and_float


class Convolution(AbstractProcess):
    """Drive before pooling. Where changes arrive, it holds the drive and adds to it what they bring.

    Args:
        synapses: what it computes.
        batch: images a run.
        events: the layer below sends changes.
    """

    def __init__(self, *, name: str, synapses: Synapses, batch: int, clock: Clock, events: bool):
        super().__init__(name=name, synapses=synapses, clock=clock, events=events)
        self.below = InPort((batch, *synapses.coupling.pre))
        self.drive = OutPort((batch, *synapses.coupling.unpooled))


class MaxPool(AbstractProcess):
    """The largest drive of each window, and which it was: 0 .. side^2 - 1, the first of equals."""

    def __init__(self, *, name: str, synapses: Synapses, batch: int):
        super().__init__(name=name, pool=synapses.coupling.pool)
        self.drive = InPort((batch, *synapses.coupling.unpooled))
        self.above, self.winners = (OutPort((batch, *synapses.coupling.post)) for _ in range(2))


class _ConvolutionModel(PyLoihiProcessModel):
    def __init__(self, proc_params: Mapping[str, Any]):
        super().__init__(proc_params)
        self.synapses = proc_params["synapses"]
        self.inbox = Inbox(proc_params["clock"], proc_params["events"])

    def run_spk(self):
        self.drive.send(self.inbox.add(self.synapses.sum_forward(self.below.recv()), self.time_step))


class _MaxPoolModel(PyLoihiProcessModel):
    def __init__(self, proc_params: Mapping[str, Any]):
        super().__init__(proc_params)
        self.pool = proc_params["pool"]

    def run_spk(self):
        drive, winners = max_pool(self.drive.recv(), self.pool)
        self.above.send(drive)
        if winners is not None:
            self.winners.send(winners)


ConvolutionFixed, ConvolutionFloat = fixed_and_float(_ConvolutionModel, Convolution, ins=("below",), outs=("drive",))
MaxPoolFixed, MaxPoolFloat = fixed_and_float(_MaxPoolModel, MaxPool, ins=("drive",), outs=("above", "winners"))
