"""The image, sent to the first layer's synapses; it does not change, so that of its changes there is only the first."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.process.ports.ports import OutPort
from lava.magma.core.process.process import AbstractProcess

from simulators.loihi.clock import Clock
from simulators.loihi.processes.models import fixed_and_float


class Image(AbstractProcess):
    """Args: pixels: (B, C, H, W) encoded images, written by the host between runs. events: changes are sent."""

    def __init__(self, *, name: str, pixels: np.ndarray, clock: Clock, events: bool):
        super().__init__(name=name, pixels=pixels, clock=clock, events=events)
        self.up = OutPort(pixels.shape)


class _ImageModel(PyLoihiProcessModel):
    def __init__(self, proc_params: Mapping[str, Any]):
        super().__init__(proc_params)
        for key in ("pixels", "clock", "events"):
            setattr(self, key, proc_params[key])

    def run_spk(self):
        self.clock.tick(self.time_step)
        unchanged = self.events and self.clock.time(self.time_step) > 0
        self.up.send(np.zeros_like(self.pixels) if unchanged else self.pixels)


ImageFixed, ImageFloat = fixed_and_float(_ImageModel, Image, outs=("up",))
