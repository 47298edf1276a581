"""Connections as they would lie on cores: one sub-process a map, winners on a port of their own.

        below -> Convolution -> MaxPool -> above
                                   | winners
        below <- TransposedConvolution <- Unpool <- above

All sub-processes receive first and send second; the populations at both ends send first: nothing waits for itself.
"""

from lava.magma.core.decorator import implements
from lava.magma.core.model.sub.model import AbstractSubProcessModel
from lava.magma.core.process.process import AbstractProcess

from simulators.loihi.processes.backward import TransposedConvolution, Unpool
from simulators.loihi.processes.connections import Connection, ForwardConnection
from simulators.loihi.processes.forward import Convolution, MaxPool


class _Forward(AbstractSubProcessModel):
    """Convolution and max-pooling."""

    def __init__(self, process: AbstractProcess):
        self.name, settings = process.name, process.proc_params
        self.shared = {key: settings[key] for key in ("synapses", "batch")}
        self.timed = self.shared | {key: settings[key] for key in ("clock", "events")}
        self.convolution = Convolution(name=f"{self.name}.convolution", **self.timed)
        self.max_pool = MaxPool(name=f"{self.name}.max_pool", **self.shared)
        process.below_in.connect(self.convolution.below)
        self.convolution.drive.connect(self.max_pool.drive)
        self.max_pool.above.connect(process.above_out)


@implements(ForwardConnection)
class ForwardConnectionStructure(_Forward):
    """Forward only."""


@implements(Connection)
class ConnectionStructure(_Forward):
    """Between two populations: with unpooling and transposed convolution backward."""

    def __init__(self, process: AbstractProcess):
        super().__init__(process)
        self.unpool = Unpool(name=f"{self.name}.unpool", **self.timed)
        self.feedback = TransposedConvolution(name=f"{self.name}.feedback", **self.shared)
        process.above_in.connect(self.unpool.above)
        if process.proc_params["synapses"].coupling.pool > 1:
            self.max_pool.winners.connect(self.unpool.winners)
        self.unpool.spread.connect(self.feedback.spread)
        self.feedback.below.connect(process.below_out)
