"""The image, sent to the first layer's synapses at every step."""

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol


class Image(AbstractProcess):
    """Args: pixels: (B, C, H, W) encoded images, written by the host between runs."""

    def __init__(self, *, name: str, pixels: np.ndarray):
        super().__init__(name=name, pixels=pixels)
        self.up = OutPort(pixels.shape)


class _ImageModel(PyLoihiProcessModel):
    def __init__(self, proc_params):
        super().__init__(proc_params)
        self.pixels = proc_params["pixels"]

    def run_spk(self):
        self.up.send(self.pixels)


@implements(Image, LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class ImageFixed(_ImageModel):
    up: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)


@implements(Image, LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class ImageFloat(_ImageModel):
    up: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.float32)
