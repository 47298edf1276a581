"""From a program to a graph of Lava processes. One Lava time step is one step of simulators.relaxation.

    Image -> ImageCoupling -> Population 1 <-> Coupling <-> Population 2 ... Population L <-> Readout
"""

from collections.abc import Iterator
from dataclasses import dataclass

from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.run_configs import Loihi2SimCfg

from mapping.graph import EPGraph
from simulators.loihi.arithmetic import Arithmetic, LavaProgram
from simulators.loihi.clock import Clock
from simulators.loihi.processes.image import Image
from simulators.loihi.processes.population import Population
from simulators.loihi.processes.readout import Readout
from simulators.loihi.processes.synapses import Coupling, ImageCoupling
from simulators.loihi.shared_arrays import SharedArrays


@dataclass(frozen=True)
class Wired:
    """The processes of a program, from the image on."""

    image: Image
    couplings: tuple[ImageCoupling, ...]
    populations: tuple[Population, ...]
    readout: Readout

    def __iter__(self) -> Iterator[AbstractProcess]:
        return iter((self.image, *self.couplings, *self.populations, self.readout))


def wire(graph: EPGraph, arithmetic: Arithmetic, shared: SharedArrays) -> Wired:
    """All processes of a program, connected."""
    clock, period = Clock(shared["clock"]), 1 if graph.schedule == "synchronous" else 2
    events, batch = arithmetic.events, len(shared["image"])
    image = Image(name="image", pixels=shared["image"], clock=clock, events=events)
    populations = tuple(
        Population(name=p.name, history=shared[f"history.{n}"], delta_threshold=arithmetic.delta_threshold,
                   turn=n % period, sent=shared[f"{'sent' if events else 'history'}.{n}"], period=period,
                   clock=clock, activation=arithmetic.activations[n]) for n, p in enumerate(graph.populations))
    first, *rest = zip(graph.couplings, arithmetic.synapses)
    ground = ImageCoupling(name=first[0].name, synapses=first[1], batch=batch, clock=clock, events=events)
    between = [Coupling(name=c.name, synapses=s, batch=batch, clock=clock, events=events) for c, s in rest]
    readout = Readout(name="readout", readout=arithmetic.readout, shape=populations[-1].up.shape,
                      board=shared["logits"], target=shared["target"], beta=shared["beta"], clock=clock, events=events)
    image.up.connect(ground.below_in)
    ground.above_out.connect(populations[0].drive)
    for below, coupling, above in zip(populations, between, populations[1:]):
        below.up.connect(coupling.below_in)
        coupling.above_out.connect(above.drive)
        above.down.connect(coupling.above_in)
        coupling.below_out.connect(below.drive)
    populations[-1].up.connect(readout.state)
    readout.pull.connect(populations[-1].drive)
    return Wired(image, (ground, *between), populations, readout)


def run_config(program: LavaProgram, arithmetic: Arithmetic) -> Loihi2SimCfg:
    """Lava's own configuration for a program: number format, and which model its connections have."""
    return Loihi2SimCfg(select_tag=arithmetic.tag, select_sub_proc_model=program.target.model == "structural")
