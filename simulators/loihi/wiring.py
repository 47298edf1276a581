"""From a program to a graph of Lava processes. One Lava time step is one step of simulators.relaxation.

    Image -> ImageCoupling -> Population 1 <-> Coupling <-> Population 2 ... Population L <-> Readout
"""

from dataclasses import dataclass

from lava.magma.core.run_configs import Loihi2SimCfg

from mapping.program import Program
from simulators.loihi.arithmetic import Arithmetic
from simulators.loihi.clock import Clock
from simulators.loihi.processes.image import Image
from simulators.loihi.processes.population import Population
from simulators.loihi.processes.readout import Readout
from simulators.loihi.processes.synapses import Coupling, ImageCoupling
from simulators.loihi.shared_arrays import SharedArrays


@dataclass(frozen=True)
class Wired:
    """The processes of a program, from the image upwards."""

    image: Image
    couplings: tuple[ImageCoupling, ...]
    populations: tuple[Population, ...]
    readout: Readout

    def __iter__(self):
        return iter((self.image, *self.couplings, *self.populations, self.readout))


def wire(graph, arithmetic: Arithmetic, shared: SharedArrays) -> Wired:
    """All processes of a program, connected."""
    clock, period = Clock(shared["clock"]), 1 if graph.schedule == "synchronous" else 2
    common = {"clock": clock, "events": arithmetic.events}
    image = Image(name="image", pixels=shared["image"], **common)
    populations = tuple(
        Population(name=p.name, history=shared[f"history.{n}"], delta_threshold=arithmetic.delta_threshold,
                   turn=n % period, sent=shared[f"{'sent' if arithmetic.events else 'history'}.{n}"], period=period,
                   clock=clock, activation=arithmetic.activations[n]) for n, p in enumerate(graph.populations))
    couplings = tuple((Coupling if n else ImageCoupling)(name=c.name, synapses=arithmetic.synapses[n],
                                                         batch=len(shared["image"]), **common)
                      for n, c in enumerate(graph.couplings))
    readout = Readout(name="readout", readout=arithmetic.readout, shape=populations[-1].up.shape,
                      board=shared["logits"], target=shared["target"], beta=shared["beta"], **common)
    for below, coupling, above in zip((image, *populations), couplings, populations):
        below.up.connect(coupling.below_in)
        coupling.above_out.connect(above.drive)
        if below is not image:
            above.down.connect(coupling.above_in)
            coupling.below_out.connect(below.drive)
    populations[-1].up.connect(readout.state)
    readout.pull.connect(populations[-1].drive)
    return Wired(image, couplings, populations, readout)


def run_config(program: Program, arithmetic: Arithmetic) -> Loihi2SimCfg:
    """Lava's own configuration for a program: number format, and which model its connections have."""
    return Loihi2SimCfg(select_tag=arithmetic.tag, select_sub_proc_model=program.target.model == "structural")
