"""A probe: remembers the last messages of any out-port, for the host to read between runs."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess

from simulators.loihi.processes.models import fixed_and_float
from simulators.loihi.shared_arrays import SharedArrays


class Probe(AbstractProcess):
    """Attach with `Probe(port=population.up, length=16)`: no further connection is needed.

    Args:
        port: whose messages to remember.
        length: how many steps.
    """

    def __init__(self, *, port: OutPort, length: int, name: str = ""):
        shared_arrays = SharedArrays({"record": ("float64", (length, *port.shape)), "steps": ("int64", (1,))})
        shared_arrays.close_file()
        super().__init__(name=name or f"probe of {port.process.name}.{port.name}", record=shared_arrays["record"],
                         steps=shared_arrays["steps"])
        self.message = InPort(port.shape)
        port.connect(self.message)

    @property
    def record(self) -> np.ndarray:
        """(n, *shape) float64: the last n messages, oldest first; n = steps run, at most `length`."""
        ring, steps = self.proc_params["record"], int(self.proc_params["steps"][0])
        return ring[np.arange(max(steps - len(ring), 0), steps) % len(ring)]


class _ProbeModel(PyLoihiProcessModel):
    def __init__(self, proc_params: Mapping[str, Any]):
        super().__init__(proc_params)
        self.ring, self.steps = proc_params["record"], proc_params["steps"]

    def run_spk(self):
        self.ring[self.steps[0] % len(self.ring)] = self.message.recv()
        self.steps[0] += 1


ProbeFixed, ProbeFloat = fixed_and_float(_ProbeModel, Probe, ins=("message",))
