"""The readout: logits of the top states at every step and, in a nudged phase, the pull towards the target."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess

from simulators.loihi.arithmetic import FloatReadout, IntegerReadout
from simulators.loihi.clock import Clock
from simulators.loihi.messages import Inbox
from simulators.loihi.plastic import Plastic
from simulators.loihi.processes.models import fixed_and_float


class Readout(AbstractProcess):
    """Linear readout outside the energy.

    Args:
        readout: logits and pull.
        shape: (B, C, H, W) of the top states.
        board: (B, K), where the host reads the last logits; the port `logits` sends them at every step.
        target: (B, K) and beta: (1,), where the host writes a nudge.
        events: the top population sends changes.
        plastic: its weights and biases where they learn.
    """

    def __init__(self, *, name: str, readout: IntegerReadout | FloatReadout, shape: tuple, board: np.ndarray,
                 target: np.ndarray, beta: np.ndarray, clock: Clock, events: bool, plastic: Plastic | None = None):
        super().__init__(name=name, readout=readout, board=board, target=target, beta=beta, clock=clock, events=events,
                         plastic=plastic)
        self.state = InPort(shape)
        self.pull, self.logits = OutPort(shape), OutPort(board.shape)


class _ReadoutModel(PyLoihiProcessModel):
    def __init__(self, proc_params: Mapping[str, Any]):
        super().__init__(proc_params)
        self.readout: Any = proc_params["readout"]
        for key in ("board", "target", "beta", "clock", "plastic"):
            setattr(self, key, proc_params[key])
        self.inbox = Inbox(self.clock, proc_params["events"])

    def run_spk(self):
        state = self.inbox.add(self.state.recv(), self.time_step)
        self.board[...] = self.readout.logits(state)
        self.logits.send(self.board)
        pull = np.zeros_like(state)
        if self.clock.loss:
            pull[...] = self.readout.pull(self.board, self.target, self.beta[0], self.clock.loss)
        self.pull.send(pull)
        if self.plastic and self.clock.learn:
            self.plastic.see_errors(state, self.readout.error(self.board, self.target))
            if self.clock.cooling is not None:
                self.plastic.weight.write(self.clock.cooling)
                self.plastic.bias.write(self.clock.cooling)
                self.readout = replace(self.readout, weight=self.plastic.weight.value, bias=self.plastic.bias.value)


ReadoutFixed, ReadoutFloat = fixed_and_float(_ReadoutModel, Readout, ins=("state",), outs=("pull", "logits"))
