"""A population of EP neurons: sends its states first, receives its drive second, updates when its turn comes."""

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


class Population(AbstractProcess):
    """Neurons of one layer.

    Args:
        history: (R, B, C, H, W): this layer's last R states, in a ring; slot t mod R holds the state at time t. The
            host writes slot 0 and reads the ring as a probe; other processes see states only through ports.
        activation: new state from the sum of drives.
        turn, period: the layer updates at times t with t mod period == turn.
    """

    def __init__(self, *, name: str, history: np.ndarray, activation, turn: int, period: int, clock: Clock):
        super().__init__(name=name, history=history, activation=activation, turn=turn, period=period, clock=clock)
        self.drive = InPort(history.shape[1:])
        self.up, self.down = OutPort(history.shape[1:]), OutPort(history.shape[1:])


class _PopulationModel(PyLoihiProcessModel):
    def __init__(self, proc_params):
        super().__init__(proc_params)
        for key in ("history", "activation", "turn", "period", "clock"):
            setattr(self, key, proc_params[key])

    def run_spk(self):
        t, ring = self.clock.time(self.time_step), len(self.history)
        state = self.history[t % ring]
        self.up.send(state)
        self.down.send(state)
        drive = self.drive.recv()
        active = not self.clock.hold and t % self.period == self.turn
        self.history[(t + 1) % ring] = self.activation(drive) if active else state


@implements(Population, LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PopulationFixed(_PopulationModel):
    drive: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    up: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    down: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)


@implements(Population, LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PopulationFloat(_PopulationModel):
    drive: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.float32)
    up: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.float32)
    down: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.float32)
