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
from simulators.loihi.processes.models import fixed_and_float


class ForwardConnection(AbstractProcess):
    """To a population from the image, or from a population that hears nothing of it: forward only.

    Args:
        synapses: what it computes.
        batch: images a run.
        events: the layers send changes.
    """

    def __init__(self, *, name: str, synapses: Synapses, batch: int, clock: Clock, events: bool):
        super().__init__(name=name, synapses=synapses, batch=batch, clock=clock, events=events)
        self.below_in = InPort((batch, *synapses.coupling.pre))
        self.above_out = OutPort((batch, *synapses.coupling.post))


class Connection(ForwardConnection):
    """Between two populations: forward, and backward through this moment's winners."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.above_in = InPort(self.above_out.shape)
        self.below_out = OutPort(self.below_in.shape)


class _ForwardConnectionModel(PyLoihiProcessModel):
    def __init__(self, proc_params: Mapping[str, Any]):
        super().__init__(proc_params)
        self.synapses = proc_params["synapses"]
        self.drive, self.above = (Inbox(proc_params["clock"], proc_params["events"]) for _ in range(2))

    def forward(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Receive from below: the pooled drive of the layer above, and the winners."""
        drive = self.drive.add(self.synapses.sum_forward(self.below_in.recv()), self.time_step)
        return max_pool(drive, self.synapses.coupling.pool)

    def run_spk(self):
        self.above_out.send(self.forward()[0])


class _ConnectionModel(_ForwardConnectionModel):
    def run_spk(self):
        drive, winners = self.forward()
        above = self.above.add(self.above_in.recv(), self.time_step)
        self.above_out.send(drive)
        self.below_out.send(self.synapses.backward(above, winners))


ForwardConnectionFixed, ForwardConnectionFloat = fixed_and_float(_ForwardConnectionModel, ForwardConnection,
                                                                 ins=("below_in",), outs=("above_out",))
ConnectionFixed, ConnectionFloat = fixed_and_float(_ConnectionModel, Connection, ins=("below_in", "above_in"),
                                                   outs=("above_out", "below_out"))
