"""Every process computes the same in two number formats: its model once, for both of Lava's run configurations."""

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

FORMATS = (("Fixed", "fixed_pt", np.int32), ("Float", "floating_pt", np.float32))


def fixed_and_float(model: type, process: type, *, ins: tuple[str, ...] = (), outs: tuple[str, ...] = ()) -> list[type]:
    """The process models that Lava selects by its tags `fixed_pt` (int32 messages) and `floating_pt` (float32).

    Args:
        model: what they do, a PyLoihiProcessModel.
        process: the Process that they implement; they are called after it, and Lava looks for them under these
            names (`NameFixed`, `NameFloat`) in the module of `model`.
        ins: names of its in-ports.
        outs: names of its out-ports.
    """
    made = []
    for suffix, name, number in FORMATS:
        ports = {port: LavaPyType(PyInPort.VEC_DENSE, number) for port in ins}
        ports |= {port: LavaPyType(PyOutPort.VEC_DENSE, number) for port in outs}
        cls = type(process.__name__ + suffix, (model,), {"__module__": model.__module__, **ports})
        made.append(implements(process, LoihiProtocol)(requires(CPU)(tag(name)(cls))))
    return made
