"""A population of EP neurons: sends its states first, receives its drive second, updates when its turn comes."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess

from simulators.loihi.clock import Clock
from simulators.loihi.plastic import Plastic
from simulators.loihi.processes.models import fixed_and_float


class Neurons(AbstractProcess):
    """Neurons of one layer.

    Args:
        history: (R, B, C, H, W): this layer's last R states, in a ring; slot t mod R holds the state at time t. The
            host writes slot 0 and reads the ring; other processes see states only through ports.
        sent: the ring of what was sent of these states: `history` itself where whole states are sent.
        delta_threshold: largest change of a state that is not sent; None to send whole states.
        activation: new state from the sum of drives.
        turn, period: the layer updates at times t with t mod period == turn.
        plastic: its biases where they learn.
    """

    def __init__(self, *, name: str, history: np.ndarray, sent: np.ndarray, delta_threshold: int | None,
                 activation: Callable[[np.ndarray], np.ndarray], turn: int, period: int, clock: Clock,
                 plastic: Plastic | None = None):
        super().__init__(name=name, history=history, sent=sent, delta_threshold=delta_threshold,
                         activation=activation, turn=turn, period=period, clock=clock, plastic=plastic)
        self.drive = InPort(history.shape[1:])
        self.up, self.down = OutPort(history.shape[1:]), OutPort(history.shape[1:])


class _NeuronsModel(PyLoihiProcessModel):
    def __init__(self, proc_params: Mapping[str, Any]):
        super().__init__(proc_params)
        self.activation: Any = proc_params["activation"]
        for key in ("history", "sent", "delta_threshold", "turn", "period", "clock", "plastic"):
            setattr(self, key, proc_params[key])

    def run_spk(self):
        t, ring = self.clock.time(self.time_step), len(self.history)
        now, before, after = t % ring, (t - 1) % ring, (t + 1) % ring
        whole = self.delta_threshold is None or t == 0
        message = self.sent[now] if whole else self.sent[now] - self.sent[before]
        self.up.send(message)
        self.down.send(message)
        drive = self.drive.recv()
        active = not self.clock.hold and t % self.period == self.turn
        self.history[after] = self.activation(drive) if active else self.history[now]
        if self.delta_threshold is not None:
            change = self.history[after] - self.sent[now]
            self.sent[after] = np.where(np.abs(change) > self.delta_threshold, self.history[after], self.sent[now])
        if self.plastic and self.clock.learn:
            self.plastic.see_neurons(self.history[now], self.clock.learn)
            if self.clock.cooling is not None:
                self.plastic.bias.write(self.clock.cooling)
                self.activation = self.activation.with_bias(self.plastic.bias.value)


NeuronsFixed, NeuronsFloat = fixed_and_float(_NeuronsModel, Neurons, ins=("drive",), outs=("up", "down"))
