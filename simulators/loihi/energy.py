"""Energy and latency of a relaxation on Loihi, from the events it takes: published figures, and what none gives.

    E = sum over steps of  e_syn M + e_update N_on + e_idle N_off + e_spike S + e_msg K,  and p_core t a core     (16)
    t = sum over steps of  t_step + max over cores of (t_syn M + t_update N_on + t_idle N_off)                  (17)
    t >= sum over steps of  max(t_step, max over cores of t_syn M, max over cores of t_update N_on,
                                K b / (chips B))                                                                (18)
    E = HALA_POINT_J M                                                                                          (19)

M synaptic operations, N_on and N_off neurons of parts that the step updates and does not, S events, K messages of at
least b bytes: an event is one to each core of each neighbouring layer's part that hears it, in the mean over units. A
part's operations fall on its cores as its synapses do (mapping.loihi.placement). What a feedback core sends on to the
layer below, one message a unit, is not counted.

(16) and (17) are Loihi 1's: its operations `DESIGNED`, and `MEASURED`. (18) is Loihi 2's: the max-affine lower bound of
Timcheck et al. 2026, whose terms bind one at a time, neuron operations, synaptic operations, the network and the
barrier (synaptic memory, a fifth, passes a byte 40 times faster than an operation takes). Its own rates are printed as
a figure only, so that `PEAK` takes those that Hala Point reaches over all of its cores: no core does an operation
faster. It holds where a step is bound by one of these, not by a core's microcode, a link that many share, input and
output. No energy of an operation of Loihi 2 is published. `SCALED` assumes a quarter of Loihi 1's; (19), all that Hala
Point takes at full rate over its synaptic operations, neurons, network and idle power included, is its upper neighbour.

Sources: Davies et al., IEEE Micro 38(1), 2018, table 2 (Loihi 1 at 0.75 V, circuit simulation); Boyle et al., SANA-FE,
2023 (Loihi 1, fitted to a Nahuku board); Frady et al., 2020 (leakage); Timcheck, Pierro and Shrestha,
arXiv:2601.10035, 2026 (within r = 0.97 of silicon); Intel, Loihi 2 technology brief, 2021 (the barrier); Intel, Hala
Point, 2024 (2,600 W, 1,152 chips of 140,544 cores together, 380e12 synaptic and 240e12 neuron operations and 3.5e15
bytes between cores a second).
"""

from dataclasses import dataclass

import numpy as np

from mapping.graph import EPGraph
from mapping.loihi.parts import parts_of
from mapping.loihi.placement import Placement, place
from mapping.loihi.program import LoihiProgram
from simulators.loihi.events import EventCount
from simulators.machine import Cost
from simulators.relaxation import active_layers

_HOPS = 4   # mean distance of two of the 8 x 4 tiles of a chip, each hop 3 pJ (east, west) or 4 pJ (north, south)


@dataclass(frozen=True)
class OperationEnergies:
    """What one operation takes in joules, and p_core what a core leaks in watts."""

    e_syn: float
    e_update: float
    e_idle: float
    e_spike: float
    e_msg: float
    p_core: float


@dataclass(frozen=True)
class OperationTimes:
    """What one operation takes in seconds."""

    t_syn: float
    t_update: float
    t_idle: float
    t_step: float


@dataclass(frozen=True)
class PeakTimes:
    """The least that one operation takes in seconds, t_byte a byte between cores, over all links of a chip."""

    t_syn: float
    t_update: float
    t_byte: float
    t_step: float


_LEAK = 104e-3 / 128   # a chip's static power over its cores
# dense synapses; a neuron is read (51.2 pJ) and, if due, updated (21.6 pJ more); a spike leaves its neuron and its core
DESIGNED = OperationEnergies(e_syn=23.6e-12, e_update=81e-12, e_idle=52e-12, e_spike=0.0,
                             e_msg=1.7e-12 + _HOPS * 3.5e-12, p_core=_LEAK)
MEASURED = OperationEnergies(e_syn=35.5e-12, e_update=72.8e-12, e_idle=51.2e-12, e_spike=69.3e-12,
                             e_msg=111e-12 + _HOPS * 3.6e-12, p_core=_LEAK)
SCALED = OperationEnergies(**{name: value / 4 for name, value in vars(DESIGNED).items()})
DESIGNED_TIMES = OperationTimes(t_syn=3.5e-9, t_update=8.4e-9, t_idle=5.3e-9, t_step=465e-9)
MEASURED_TIMES = OperationTimes(t_syn=3.8e-9, t_update=9.7e-9, t_idle=6.0e-9, t_step=1.8e-6)
PEAK = PeakTimes(t_syn=140_544 / 380e12, t_update=140_544 / 240e12, t_byte=1_152 / 3.5e15, t_step=200e-9)
HALA_POINT_J = 2_600 / 380e12
SOURCE = ("Loihi 1 by design (Davies et al. 2018). High: Loihi 1 as measured (Boyle et al. 2023). Low: of its energy a "
          "quarter, assumed, for none of Loihi 2 is published; as latency the lower bound of Loihi 2's max-affine "
          "model (Timcheck et al. 2026) at the peak rates of Hala Point's cores (Intel 2024). With the leakage of the "
          "cores in use (Frady et al. 2020); without idle cores, host, input, output and traffic jams. Hala Point: "
          "6.8 pJ a synaptic operation, its 2,600 W at full rate, all included.")


def mean_cost(program: LoihiProgram, count: EventCount) -> Cost:
    """Equations (16) to (19) for counted images: mean over them, with the range of the published figures."""
    work = _ChipWork.of(program, count)
    times = [work.least_s(PEAK), work.latency_s(DESIGNED_TIMES), work.latency_s(MEASURED_TIMES)]
    energies = [work.energy_j(costs, t) for costs, t in zip((SCALED, DESIGNED, MEASURED), times)]
    energy, latency = ([float(np.mean(values)) for values in found] for found in (energies, times))
    operations = float(count.operations.mean())
    return Cost(operations, energy[1], latency[1], SOURCE, (min(energy), max(energy)), (min(latency), max(latency)),
                neighbour_j=HALA_POINT_J * operations)


@dataclass(frozen=True, eq=False)
class _ChipWork:
    """What falls on the parts of a program.

    Attributes:
        operations: (B, T + 1, P) synaptic operations on each part.
        events, messages: (B,).
        bytes_crossing: (B, T + 1), the least that parts without a common core send each other.
        active: (T + 1, P), whether a step updates the part.
        alive: (B, T + 1), whether the image still relaxes.
        synapses: (cores, P), fraction of the part's synapses on each core.
        neurons: (cores, P), of its neurons.
        chips: in use.
    """

    operations: np.ndarray
    events: np.ndarray
    messages: np.ndarray
    bytes_crossing: np.ndarray
    active: np.ndarray
    alive: np.ndarray
    synapses: np.ndarray
    neurons: np.ndarray
    chips: int

    @classmethod
    def of(cls, program: LoihiProgram, count: EventCount) -> "_ChipWork":
        graph, depth, placement = program.graph, len(program.layers), place(program.graph, program.target)
        parts = [(c.name, "forward") for c in (*graph.couplings, graph.readout)]
        fed_back = [n for n, gain in enumerate(graph.gains) if gain]
        parts += [(graph.couplings[n].name, "feedback") for n in fed_back]
        alive = np.flip(np.maximum.accumulate(np.flip(count.units.any(2), 1), 1), 1)
        ends = alive.sum(1) - 1
        readout = np.zeros((*alive.shape, 1), np.int64)
        readout[np.arange(len(ends)), ends, 0] = count.readout
        backward = count.backward[:, :, [n + 1 for n in fed_back]]
        operations = np.concatenate([count.forward[:, :, :-1], readout, backward], 2)
        listeners = [[(n + 1, "forward")] * (n < depth - 1) + [(n, "feedback")] * (n in fed_back) for n in range(depth)]
        heard = np.array([_cores_hearing(program, placement, n, ears) for n, ears in enumerate(
            [[(0, "forward")], *listeners])])
        apart = np.array([0, *(_apart(placement, graph, n, ears) for n, ears in enumerate(listeners))])
        targets = [*range(depth), None, *(n - 1 for n in fed_back)]   # the layer whose units a part belongs to
        steps = [active_layers(graph.schedule, t - 1, depth) if t else () for t in range(alive.shape[1])]
        active = np.array([[n in layers for n in targets] for layers in steps])
        return cls(operations, count.events.sum((1, 2)), (count.events * heard).sum((1, 2)),
                   count.events @ apart * (program.state_bits / 8), active, alive, *_spread(placement, parts),
                   placement.chips)

    def energy_j(self, costs: OperationEnergies, seconds: np.ndarray) -> np.ndarray:
        """(B,), equation (16), of relaxations that take so many seconds, (B,)."""
        on = self.active @ self.neurons.sum(0)
        updates = on * costs.e_update + (self.neurons.sum() - on) * costs.e_idle
        sent = self.events * costs.e_spike + self.messages * costs.e_msg
        dynamic = self.operations.sum((1, 2)) * costs.e_syn + self.alive @ updates + sent
        return dynamic + costs.p_core * len(self.neurons) * seconds

    def latency_s(self, times: OperationTimes) -> np.ndarray:
        """(B,), equation (17)."""
        on = self._updated
        neurons = on * times.t_update + (self.neurons.sum(1) - on) * times.t_idle
        busiest = np.stack([(image @ self.synapses.T * times.t_syn + neurons).max(1) for image in self.operations])
        return ((busiest + times.t_step) * self.alive).sum(1)

    def least_s(self, peak: PeakTimes) -> np.ndarray:
        """(B,), equation (18)."""
        synapses = np.stack([(image @ self.synapses.T).max(1) for image in self.operations]) * peak.t_syn
        network = self.bytes_crossing * peak.t_byte / self.chips
        floor = np.maximum(self._updated.max(1) * peak.t_update, peak.t_step)
        return (np.maximum(np.maximum(synapses, network), floor) * self.alive).sum(1)

    @property
    def _updated(self) -> np.ndarray:
        """(T + 1, cores) neurons that a step updates."""
        return self.active @ self.neurons.T


def _cores_hearing(program: LoihiProgram, placement: Placement, sender: int,
                   listeners: list[tuple[int, str]]) -> float:
    """Cores that an event reaches, mean over units and winners; sender 0 is the image, listeners (layer, part)."""
    couplings, target = program.graph.couplings, program.target
    units = float(np.prod(couplings[sender - 1].post if sender else couplings[0].pre))
    own = {(part.layer, part.kind): part.hears / part.neurons for part in parts_of(
        program.graph, target.weight_bits, target.weights)}   # axons from the feedback part, a neuron
    return sum((block.need.axons - own[block.layer, part] * block.need.neurons) / units
               / (couplings[layer].pool**2 if part == "feedback" else 1)   # one place of a window has the winner
               for layer, part in listeners for block in placement.of(couplings[layer].name, part))


def _apart(placement: Placement, graph: EPGraph, n: int, listeners: list[tuple[int, str]]) -> int:
    """Of the parts that hear layer n, as (layer, part), how many share no core with it."""
    def cores(layer: int, part: str) -> set[int]:
        return {block.core for block in placement.of(graph.couplings[layer].name, part)}
    return sum(cores(n, "forward").isdisjoint(cores(*one)) for one in listeners)


def _spread(placement: Placement, parts: list[tuple[str, str]]) -> tuple[np.ndarray, np.ndarray]:
    """(cores, P): fractions of each part's synapses, and numbers of its neurons, by core."""
    synapses, neurons = (np.zeros((placement.cores, len(parts))) for _ in range(2))
    for block in placement.blocks:
        column = parts.index((block.layer, block.part))
        synapses[block.core, column] += block.need.synapses
        neurons[block.core, column] += block.need.neurons
    return synapses / np.maximum(synapses.sum(0), 1), neurons   # a part that sees padding alone has no synapse
