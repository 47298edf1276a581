"""From a program to a graph of Lava processes. One Lava time step is one step of simulators.relaxation.

    Image -> ForwardConnection -> Neurons 1 <-> Connection <-> Neurons 2 ... Neurons L <-> Readout

Where a coupling feeds nothing back it is a ForwardConnection too; in a feed-forward network nothing leads downwards.
Where weights learn, the first connection hears population 1 as well: a synapse sees both its ends.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.run_configs import Loihi2SimCfg

from mapping.graph import EPGraph
from simulators.loihi.arithmetic import Arithmetic, LavaProgram
from simulators.loihi.clock import Clock
from simulators.loihi.plastic import Plastic
from simulators.loihi.processes.connections import Connection, ForwardConnection
from simulators.loihi.processes.image import Image
from simulators.loihi.processes.neurons import Neurons
from simulators.loihi.processes.readout import Readout
from simulators.loihi.shared_arrays import SharedArrays


@dataclass(frozen=True)
class Wired:
    """The processes of a program, from the image on."""

    image: Image
    couplings: tuple[ForwardConnection, ...]
    populations: tuple[Neurons, ...]
    readout: Readout

    def __iter__(self) -> Iterator[AbstractProcess]:
        return iter((self.image, *self.couplings, *self.populations, self.readout))


def wire(graph: EPGraph, arithmetic: Arithmetic, shared: SharedArrays, plastic: Sequence[Plastic] = ()) -> Wired:
    """All processes of a program, connected.

    Args:
        graph: of the program.
        arithmetic: of the program.
        shared: arrays that host and processes share.
        plastic: what learns, one a coupling, the readout's last; none where nothing does.
    """
    clock, period = Clock(shared["clock"]), graph.period
    events, batch = arithmetic.events, len(shared["image"])
    learns: Sequence[Plastic | None] = plastic or [None] * (len(graph.couplings) + 1)
    image = Image(name="image", pixels=shared["image"], clock=clock, events=events)
    populations = tuple(
        Neurons(name=p.name, history=shared[f"history.{n}"], delta_threshold=arithmetic.delta_threshold,
                turn=n % period, sent=shared[f"{'sent' if events else 'history'}.{n}"], period=period,
                clock=clock, activation=arithmetic.activations[n], plastic=learns[n])
        for n, p in enumerate(graph.populations))
    couplings = tuple(_connection(gain > 0, own, name=c.name, synapses=s, batch=batch, clock=clock, events=events)
                      for c, s, gain, own in zip(graph.couplings, arithmetic.synapses, graph.gains, learns))
    readout = Readout(name="readout", readout=arithmetic.readout, shape=populations[-1].up.shape,
                      board=shared["logits"], target=shared["target"], beta=shared["beta"], clock=clock, events=events,
                      plastic=learns[-1])
    wired = Wired(image, couplings, populations, readout)
    _connect(wired, graph)
    return wired


def _connect(wired: Wired, graph: EPGraph) -> None:
    """States go up and down; what a coupling makes of them goes to the drives at its ends."""
    senders: tuple[Image | Neurons, ...] = wired.image, *wired.populations
    for below, coupling, above, gain in zip(senders, wired.couplings, wired.populations, graph.gains):
        below.up.connect(coupling.below_in)
        coupling.above_out.connect(above.drive)
        if isinstance(coupling, Connection):
            above.down.connect(coupling.above_in)
            if gain and isinstance(below, Neurons):
                coupling.below_out.connect(below.drive)
    top = wired.populations[-1]
    top.up.connect(wired.readout.state)
    if graph.has_feedback:
        wired.readout.pull.connect(top.drive)


def _connection(feeds_back: bool, plastic: Plastic | None, **settings) -> ForwardConnection:
    """One that hears the population above where it feeds back, or learns."""
    if feeds_back or plastic:
        return Connection(feeds_back=feeds_back, plastic=plastic, **settings)
    return ForwardConnection(**settings)


def run_config(program: LavaProgram, arithmetic: Arithmetic) -> Loihi2SimCfg:
    """Lava's own configuration for a program: number format, and which model its connections have."""
    return Loihi2SimCfg(select_tag=arithmetic.tag, select_sub_proc_model=program.target.model == "structural")
