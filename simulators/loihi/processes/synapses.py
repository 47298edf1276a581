"""Convolution synapses: one process a coupling, both directions, receiving first and sending second."""

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from simulators.loihi.arithmetic import Synapses


class ImageCoupling(AbstractProcess):
    """From the image to the first population: forward only. Args: `synapses`; `batch`: images a run."""

    def __init__(self, *, name: str, synapses: Synapses, batch: int):
        super().__init__(name=name, synapses=synapses)
        self.below_in = InPort((batch, *synapses.coupling.pre))
        self.above_out = OutPort((batch, *synapses.coupling.post))


class Coupling(ImageCoupling):
    """Between two populations: forward drive upwards, feedback through this moment's winners downwards."""

    def __init__(self, *, name: str, synapses: Synapses, batch: int):
        super().__init__(name=name, synapses=synapses, batch=batch)
        self.above_in = InPort((batch, *synapses.coupling.post))
        self.below_out = OutPort((batch, *synapses.coupling.pre))


class _ImageCouplingModel(PyLoihiProcessModel):
    def __init__(self, proc_params):
        super().__init__(proc_params)
        self.synapses = proc_params["synapses"]

    def run_spk(self):
        self.above_out.send(self.synapses.ascend(self.below_in.recv())[0])


class _CouplingModel(_ImageCouplingModel):
    def run_spk(self):
        below, above = self.below_in.recv(), self.above_in.recv()
        drive, winners = self.synapses.ascend(below)
        self.above_out.send(drive)
        self.below_out.send(self.synapses.descend(above, winners))


@implements(ImageCoupling, LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class ImageCouplingFixed(_ImageCouplingModel):
    below_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    above_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)


@implements(ImageCoupling, LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class ImageCouplingFloat(_ImageCouplingModel):
    below_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.float32)
    above_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.float32)


@implements(Coupling, LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class CouplingFixed(_CouplingModel):
    below_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    above_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    above_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    below_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)


@implements(Coupling, LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class CouplingFloat(_CouplingModel):
    below_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.float32)
    above_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.float32)
    above_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.float32)
    below_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.float32)
