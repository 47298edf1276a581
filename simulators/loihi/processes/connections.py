"""Connections between two layers, each one Process; these models compute all of one at once, the fast way.

The other models, sub-processes as they would lie on cores, are in structure.py; Lava's run configuration chooses.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess

from mapping.kernels import max_pool
from simulators.loihi.arithmetic import Synapses
from simulators.loihi.clock import Clock
from simulators.loihi.messages import Inbox
from simulators.loihi.plastic import Plastic
from simulators.loihi.processes.models import fixed_and_float


class ForwardConnection(AbstractProcess):
    """To a population from the image, or from a population that hears nothing of it: forward only.

    Args:
        synapses: what it computes.
        batch: images a run.
        events: the layers send changes.
    """

    def __init__(self, *, name: str, synapses: Synapses, batch: int, clock: Clock, events: bool, **learning):
        super().__init__(name=name, synapses=synapses, batch=batch, clock=clock, events=events, **learning)
        self.below_in = InPort((batch, *synapses.coupling.pre))
        self.above_out = OutPort((batch, *synapses.coupling.post))


class Connection(ForwardConnection):
    """Between two populations: forward, and backward through this moment's winners.

    Args:
        settings: see `ForwardConnection`.
        plastic: its weights where they learn.
        feeds_back: False where it hears the population above only to learn.
    """

    def __init__(self, *, plastic: Plastic | None = None, feeds_back: bool = True, **settings):
        super().__init__(plastic=plastic, feeds_back=feeds_back, **settings)
        self.above_in = InPort(self.above_out.shape)
        self.below_out = OutPort(self.below_in.shape)


class _ForwardConnectionModel(PyLoihiProcessModel):
    def __init__(self, proc_params: Mapping[str, Any]):
        super().__init__(proc_params)
        self.synapses = proc_params["synapses"]
        self.drive, self.above = (Inbox(proc_params["clock"], proc_params["events"]) for _ in range(2))

    def forward(self, below: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """From the message from below: the pooled drive of the layer above, and the winners."""
        drive = self.drive.add(self.synapses.sum_forward(below), self.time_step)
        return max_pool(drive, self.synapses.coupling.pool)

    def run_spk(self):
        self.above_out.send(self.forward(self.below_in.recv())[0])


class _ConnectionModel(_ForwardConnectionModel):
    def __init__(self, proc_params: Mapping[str, Any]):
        super().__init__(proc_params)
        self.plastic, self.feeds_back = proc_params["plastic"], proc_params["feeds_back"]
        self.clock = proc_params["clock"]

    def run_spk(self):
        below = self.below_in.recv()
        drive, winners = self.forward(below)
        above = self.above.add(self.above_in.recv(), self.time_step)
        self.above_out.send(drive)
        if self.feeds_back:
            self.below_out.send(self.synapses.backward(above, winners))
        if self.plastic and self.clock.learn:
            self.plastic.see_states(self.synapses, below, above, winners, self.clock.learn)
            if self.clock.cooling is not None:
                self.plastic.weight.write(self.clock.cooling)
                self.synapses.weight[...] = self.plastic.weight.value


ForwardConnectionFixed, ForwardConnectionFloat = fixed_and_float(_ForwardConnectionModel, ForwardConnection,
                                                                 ins=("below_in",), outs=("above_out",))
ConnectionFixed, ConnectionFloat = fixed_and_float(_ConnectionModel, Connection, ins=("below_in", "above_in"),
                                                   outs=("above_out", "below_out"))
