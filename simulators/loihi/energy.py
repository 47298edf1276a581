"""Energy and latency of a relaxation on Loihi 2, from the events it takes: a range between published figures.

    E = sum over steps of  e_syn M + e_update N_on + e_idle N_off + e_msg K,  and p_core t for each core         (16)
    t = sum over steps of  t_step + max over cores of (t_syn M + t_update N_on + t_idle N_off)                  (17)

M synaptic operations, N_on and N_off neurons of parts that the step updates and does not, K messages (an event is one
to each neighbouring layer that hears it). A part's operations fall on its cores as its synapses do
(mapping.loihi.placement), and the busiest core ends the step. No energy of an operation of Loihi 2 is published, and
its speed only in ratios to Loihi 1, so every figure is given three times: `STATED` (low), `DESIGNED`, `MEASURED`
(high).

Sources: Davies et al., IEEE Micro 38(1), 2018, table 2 (Loihi 1 at 0.75 V, circuit simulation); Boyle et al., SANA-FE,
2023 (Loihi 1, fitted to a Nahuku board); Intel, Loihi 2 technology brief, 2021 (ratios); Frady et al., 2020 (leakage).
"""

from dataclasses import dataclass

import numpy as np

from mapping.loihi.placement import place
from mapping.loihi.program import LoihiProgram
from simulators.loihi.events import EventCount
from simulators.machine import Cost
from simulators.relaxation import active_layers

_HOPS = 4   # mean distance of two of the 8 x 4 tiles of a chip, each hop 3 pJ (east, west) or 4 pJ (north, south)


@dataclass(frozen=True)
class OperationCosts:
    """What one operation takes, e_ in joules and t_ in seconds, and p_ what a core leaks, in watts."""

    e_syn: float
    e_update: float
    e_idle: float
    e_msg: float
    t_syn: float
    t_update: float
    t_idle: float
    t_step: float
    p_core: float


_LEAK = 104e-3 / 128   # a chip's static power over its cores
DESIGNED = OperationCosts(
    e_syn=23.6e-12, e_update=81e-12, e_idle=52e-12, e_msg=1.7e-12 + _HOPS * 3.5e-12, t_syn=3.5e-9, t_update=8.4e-9,
    t_idle=5.3e-9, t_step=465e-9, p_core=_LEAK)
# dense synapses; a neuron is read (51.2 pJ) and, if due, updated (21.6 pJ more); a spike leaves its neuron and its core
MEASURED = OperationCosts(
    e_syn=35.5e-12, e_update=72.8e-12, e_idle=51.2e-12, e_msg=(69.3 + 111) * 1e-12 + _HOPS * 3.6e-12, t_syn=3.8e-9,
    t_update=9.7e-9, t_idle=6.0e-9, t_step=1.8e-6, p_core=_LEAK)
# Intel: synapses 5 times, neurons twice as fast as Loihi 1, steps under 200 ns; ours: a quarter of its energies
STATED = OperationCosts(
    e_syn=DESIGNED.e_syn / 4, e_update=DESIGNED.e_update / 4, e_idle=DESIGNED.e_idle / 4, e_msg=DESIGNED.e_msg / 4,
    t_syn=DESIGNED.t_syn / 5, t_update=DESIGNED.t_update / 2, t_idle=DESIGNED.t_idle / 2, t_step=200e-9,
    p_core=_LEAK / 4)
SOURCE = ("Loihi 1 by design (Davies et al. 2018). Low: its speed by Intel's ratios for Loihi 2 and, for want of any "
          "published figure, a quarter of its energy. High: Loihi 1 as measured (Boyle et al. 2023). With the leakage "
          "of the cores in use (Frady et al. 2020); without idle cores, host, input, output and traffic jams.")


def mean_cost(program: LoihiProgram, count: EventCount) -> Cost:
    """Equations (16) and (17) for counted images: mean over them, with the range of the published figures."""
    work = _ChipWork.of(program, count)
    energy, latency = ([float(np.mean(quantity(rates))) for rates in (STATED, DESIGNED, MEASURED)]
                       for quantity in (work.energy_j, work.latency_s))
    return Cost(float(count.operations.mean()), energy[1], latency[1], SOURCE, (min(energy), max(energy)),
                (min(latency), max(latency)))


@dataclass(frozen=True, eq=False)
class _ChipWork:
    """What falls on the parts of a program.

    Attributes:
        operations: (B, T + 1, P) synaptic operations on each part.
        messages: (B,).
        active: (T + 1, P), whether a step updates the part.
        alive: (B, T + 1), whether the image still relaxes.
        synapses: (cores, P), fraction of the part's synapses on each core.
        neurons: (cores, P), of its neurons.
    """

    operations: np.ndarray
    messages: np.ndarray
    active: np.ndarray
    alive: np.ndarray
    synapses: np.ndarray
    neurons: np.ndarray

    @classmethod
    def of(cls, program: LoihiProgram, count: EventCount) -> "_ChipWork":
        graph, depth = program.graph, len(program.layers)
        parts = [(c.name, "forward") for c in (*graph.couplings, graph.readout)]
        fed_back = [n for n, gain in enumerate(graph.gains) if gain]
        parts += [(graph.couplings[n].name, "feedback") for n in fed_back]
        alive = np.flip(np.maximum.accumulate(np.flip(count.units.any(2), 1), 1), 1)
        ends = alive.sum(1) - 1
        readout = np.zeros((*alive.shape, 1), np.int64)
        readout[np.arange(len(ends)), ends, 0] = count.readout
        backward = count.backward[:, :, [n + 1 for n in fed_back]]
        operations = np.concatenate([count.forward[:, :, :-1], readout, backward], 2)
        heard = np.array([1] + [(n < depth - 1) + (n in fed_back) for n in range(depth)])
        targets = [*range(depth), None, *(n - 1 for n in fed_back)]   # the layer whose units a part belongs to
        steps = [active_layers(graph.schedule, t - 1, depth) if t else () for t in range(alive.shape[1])]
        active = np.array([[n in layers for n in targets] for layers in steps])
        return cls(operations, (count.events * heard).sum((1, 2)), active, alive, *_spread(program, parts))

    def energy_j(self, rates: OperationCosts) -> np.ndarray:
        """(B,), equation (16)."""
        on = self.active @ self.neurons.sum(0)
        updates = on * rates.e_update + (self.neurons.sum() - on) * rates.e_idle
        dynamic = self.operations.sum((1, 2)) * rates.e_syn + self.alive @ updates + self.messages * rates.e_msg
        return dynamic + rates.p_core * len(self.neurons) * self.latency_s(rates)

    def latency_s(self, rates: OperationCosts) -> np.ndarray:
        """(B,), equation (17)."""
        on = self.active @ self.neurons.T
        neurons = on * rates.t_update + (self.neurons.sum(1) - on) * rates.t_idle
        busiest = np.stack([(image @ self.synapses.T * rates.t_syn + neurons).max(1) for image in self.operations])
        return ((busiest + rates.t_step) * self.alive).sum(1)


def _spread(program: LoihiProgram, parts: list[tuple[str, str]]) -> tuple[np.ndarray, np.ndarray]:
    """(cores, P): fractions of each part's synapses, and numbers of its neurons, by core."""
    placement = place(program.graph, program.target)
    synapses, neurons = (np.zeros((placement.cores, len(parts))) for _ in range(2))
    for block in placement.blocks:
        column = parts.index((block.layer, block.part))
        synapses[block.core, column] += block.need.synapses
        neurons[block.core, column] += block.need.neurons
    return synapses / synapses.sum(0), neurons
