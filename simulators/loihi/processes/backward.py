"""Downwards, in two processes: states put back to the winners' places, then transposed convolution synapses."""

from collections.abc import Mapping
from typing import Any

from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess

from mapping.kernels import unpool
from simulators.loihi.arithmetic import Synapses
from simulators.loihi.clock import Clock
from simulators.loihi.messages import Inbox
from simulators.loihi.processes.models import fixed_and_float


class Unpool(AbstractProcess):
    """States of the layer above at the places of this moment's winners, zeros elsewhere.

    Winners change while states do not, so that where changes arrive it holds the states themselves: one layer's.

    Args:
        synapses: whose feedback this is.
        batch: images a run.
        events: the layer above sends changes.
    """

    def __init__(self, *, name: str, synapses: Synapses, batch: int, clock: Clock, events: bool):
        super().__init__(name=name, coupling=synapses.coupling, clock=clock, events=events)
        self.above, self.winners = (InPort((batch, *synapses.coupling.post)) for _ in range(2))
        self.spread = OutPort((batch, *synapses.coupling.unpooled))


class TransposedConvolution(AbstractProcess):
    """Drive of the layer below, through the same weights as the convolution."""

    def __init__(self, *, name: str, synapses: Synapses, batch: int):
        super().__init__(name=name, synapses=synapses)
        self.spread = InPort((batch, *synapses.coupling.unpooled))
        self.below = OutPort((batch, *synapses.coupling.pre))


class _UnpoolModel(PyLoihiProcessModel):
    def __init__(self, proc_params: Mapping[str, Any]):
        super().__init__(proc_params)
        self.coupling = proc_params["coupling"]
        self.inbox = Inbox(proc_params["clock"], proc_params["events"])

    def run_spk(self):
        above = self.inbox.add(self.above.recv(), self.time_step)
        winners = self.winners.recv() if self.coupling.pool > 1 else None
        self.spread.send(unpool(above, winners, self.coupling.pool, self.coupling.unpooled))


class _TransposedConvolutionModel(PyLoihiProcessModel):
    def __init__(self, proc_params: Mapping[str, Any]):
        super().__init__(proc_params)
        self.synapses = proc_params["synapses"]

    def run_spk(self):
        self.below.send(self.synapses.sum_backward(self.spread.recv()))


UnpoolFixed, UnpoolFloat = fixed_and_float(_UnpoolModel, Unpool, ins=("above", "winners"), outs=("spread",))
TransposedConvolutionFixed, TransposedConvolutionFloat = fixed_and_float(
    _TransposedConvolutionModel, TransposedConvolution, ins=("spread",), outs=("below",))
