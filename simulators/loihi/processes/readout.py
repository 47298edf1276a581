"""The readout: logits of the top states at every step and, in a nudged phase, the pull towards the target."""

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from simulators.loihi.clock import Clock


class Readout(AbstractProcess):
    """Linear readout outside the energy.

    Args:
        readout: logits and pull. shape: (B, C, H, W) of the top states.
        logits: (B, K), where the host reads them. target: (B, K) and beta: (1,), where the host writes a nudge.
    """

    def __init__(self, *, name: str, readout, shape: tuple, logits, target, beta, clock: Clock):
        super().__init__(name=name, readout=readout, logits=logits, target=target, beta=beta, clock=clock)
        self.state = InPort(shape)
        self.pull = OutPort(shape)


class _ReadoutModel(PyLoihiProcessModel):
    def __init__(self, proc_params):
        super().__init__(proc_params)
        for key in ("readout", "logits", "target", "beta", "clock"):
            setattr(self, key, proc_params[key])

    def run_spk(self):
        state = self.state.recv()
        self.logits[...] = self.readout.logits(state)
        pull = np.zeros_like(state)
        if self.clock.loss:
            pull[...] = self.readout.pull(self.logits, self.target, self.beta[0], self.clock.loss)
        self.pull.send(pull)


@implements(Readout, LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class ReadoutFixed(_ReadoutModel):
    state: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    pull: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)


@implements(Readout, LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class ReadoutFloat(_ReadoutModel):
    state: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.float32)
    pull: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.float32)
