"""The machines that come with the project, each registered as one of your own would be."""

from mapping.crossbar.devices import register_published
from mapping.digital import DigitalTarget, compile_digital, digital_rungs
from mapping.loihi.compile import compile_loihi
from mapping.loihi.rungs import loihi_rungs
from mapping.loihi.target import LoihiTarget
from mapping.program import compile_floats
from mapping.registry import from_reference, register_machine
from mapping.targets import REFERENCE, ReferenceTarget

_INTEGERS = {
    "loihi:weights": "integer weights, float states",
    "loihi:states": "float weights, integer states",
    "loihi": "integer weights and states: bit-exact twin of the Lava program, proven free of overflow",
    "lava": "the same program on lava-nc processes, fixed point",
}

register_machine(ReferenceTarget(REFERENCE), "the network in floating point, on CPU or CUDA", compile=compile_floats,
                 rungs=from_reference)
for _name, _meaning in _INTEGERS.items():
    register_machine(LoihiTarget(_name), _meaning, compile=compile_loihi, rungs=loihi_rungs)
register_machine(LoihiTarget("lava:float"), "the network on lava-nc processes, floating point", compile=compile_floats,
                 rungs=loihi_rungs)
register_machine(DigitalTarget("digital/weights"), "weights of few bits, float states", compile=compile_digital,
                 rungs=digital_rungs, kind="digital")
register_machine(DigitalTarget("digital"), "a digital accelerator with few bits a weight and a state",
                 compile=compile_digital, rungs=digital_rungs)
register_published()
