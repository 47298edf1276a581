"""From a program to a graph of Lava processes. One Lava time step is one step of simulators.relaxation.

    Image -> ImageCoupling -> Population 1 <-> Coupling <-> Population 2 ... Population L <-> Readout
"""

from simulators.loihi.arena import Arena
from simulators.loihi.arithmetic import Arithmetic
from simulators.loihi.clock import Clock
from simulators.loihi.processes.image import Image
from simulators.loihi.processes.population import Population
from simulators.loihi.processes.readout import Readout
from simulators.loihi.processes.synapses import Coupling, ImageCoupling


def wire(graph, arithmetic: Arithmetic, arena: Arena) -> list:
    """All processes of a program, connected."""
    clock, period = Clock(arena["clock"]), 1 if graph.schedule == "synchronous" else 2
    batch = len(arena["image"])
    image = Image(name="image", pixels=arena["image"])
    populations = [Population(name=p.name, history=arena[f"history.{n}"], activation=arithmetic.activations[n],
                              turn=n % period, period=period, clock=clock) for n, p in enumerate(graph.populations)]
    couplings = [(Coupling if n else ImageCoupling)(name=c.name, synapses=arithmetic.synapses[n], batch=batch)
                 for n, c in enumerate(graph.couplings)]
    readout = Readout(name="readout", readout=arithmetic.readout, shape=populations[-1].up.shape, clock=clock,
                      logits=arena["logits"], target=arena["target"], beta=arena["beta"])
    for below, coupling, above in zip([image, *populations], couplings, populations):
        below.up.connect(coupling.below_in)
        coupling.above_out.connect(above.drive)
        if below is not image:
            above.down.connect(coupling.above_in)
            coupling.below_out.connect(below.drive)
    populations[-1].up.connect(readout.state)
    readout.pull.connect(populations[-1].drive)
    return [image, *couplings, *populations, readout]
