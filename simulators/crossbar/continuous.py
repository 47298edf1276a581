"""The relaxation as a circuit does it: in continuous time, every neuron a capacitor charged through its devices.

    tau ds/dt = clamp(slope g(s), 0, ceiling) - s,    tau = C / G,    G = G_column + G_row                       (1)

for every neuron, where G_column is the conductance of all devices through which it is driven from below, and G_row of
those through which it is driven from above and drives others. The fixed points are those of the discrete relaxation.
States are voltages s V against virtual grounds, so that the devices turn into heat

    P = V^2 sum_neurons s^2 G + V^2 sum_pixels x^2 G_row                                                  (2)

Every position of a convolution has devices of its own here (a fully unrolled array), and amplifiers cost nothing.
Source: continuous Hopfield dynamics, Hopfield, PNAS 81, 3088 (1984); resistive networks trained by equilibrium
propagation, Kendall et al., arXiv:2006.01981.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mapping.errors import Refusal
from simulators.crossbar.chip import CrossbarMachine
from simulators.crossbar.projection import CrossbarProjection
from simulators.relaxation import States, relax

_US = 1e-6


@dataclass(frozen=True)
class Circuit:
    """What equations (1) and (2) need beyond the programmed devices.

    Attributes:
        capacitance_f: C of a neuron's node, in farads.
        read_v: V of a state of 1, in volts.
    """

    capacitance_f: float = 1e-12
    read_v: float = 0.2

    def __post_init__(self):
        for name, value, unit in (("capacitance_f", self.capacitance_f, "F"), ("read_v", self.read_v, "V")):
            if not 0 < value < float("inf"):
                raise Refusal("not a circuit", where=name, got=f"{value:g} {unit}", allowed=f"above 0 {unit}, finite",
                              remedy="choose a physical value")


@dataclass(frozen=True, eq=False)
class Settled:
    """Where images came to rest in continuous time.

    Attributes:
        states: one (B, C, H, W) tensor a population.
        logits: (B, K), read from them.
        settling_s: (B,) until every neuron was within the tolerance of where it is pulled.
        energy_j: (B,) until then, see equation (2).
        converged: (B,), whether this happened within the time allowed.
        tau_s: (shortest, longest) time constant of a neuron.
    """

    states: tuple[torch.Tensor, ...]
    logits: torch.Tensor
    settling_s: torch.Tensor
    energy_j: torch.Tensor
    converged: torch.Tensor
    tau_s: tuple[float, float]


def settle(machine: CrossbarMachine, images: Tensor, circuit: Circuit | None = None, *, tolerance: float = 1e-3,
           longest: float = 200.0, step: float = 0.5) -> Settled:
    """Integrate equation (1) from zero states by exponential Euler steps, exact where the pull p does not change:

        s(t + h) = s + (1 - exp(-h / tau)) (p(s) - s)                                                     (3)

    An infinite h is the discrete synchronous relaxation.

    Args:
        machine: without fresh read noise.
        images: (B, C, H, W) in [0, 1].
        tolerance: an image has settled when |clamp(slope g) - s| is at most this for all its neurons.
        longest: time allowed, in the longest tau.
        step: h in the shortest tau; the error goes with it.

    Raises:
        Refusal: a noisy machine, devices with curves, or drives from above that pass a digital gain or are not there.
    """
    _check_circuit(machine)
    circuit, substrate = circuit or Circuit(), machine.substrate
    shown, (nodes_us, image_us) = images.to(substrate.mean), conductances_us(machine)
    tau = [circuit.capacitance_f / (g_us * _US) for g_us in nodes_us]
    fastest, slowest = min(t.min().item() for t in tau), max(t.max().item() for t in tau)
    h, share = step * fastest, [1 - torch.exp(-step * fastest / t) for t in tau]
    states, seconds = substrate.start(shown), shown.new_zeros(len(shown), dtype=torch.float64)
    energy, live = torch.zeros_like(seconds), torch.ones_like(seconds, dtype=torch.bool)
    constant = (substrate.encode(shown).square() * image_us).sum((1, 2, 3))
    for _ in range(int(longest * slowest / h)):
        pull = _pull(machine, shown, states)
        live &= torch.stack([(p - s).abs().flatten(1).amax(1) for p, s in zip(pull, states)]).amax(0) > tolerance
        if not live.any():
            break
        heat = constant + sum((s.square() * g_us).sum((1, 2, 3)) for s, g_us in zip(states, nodes_us))
        seconds += h * live
        energy += h * circuit.read_v**2 * _US * heat * live
        moving = live[:, None, None, None]
        states = tuple(torch.where(moving, s + k * (p - s), s) for s, k, p in zip(states, share, pull))
    return Settled(tuple(s.to(images.device) for s in states), substrate.logits(states[-1]).to(images.device),
                   seconds, energy, ~live, (fastest, slowest))


def _check_circuit(machine: CrossbarMachine):
    """Refuse what is no circuit of equation (1): neurons driven from above through devices alone, each read at all
    times by a current in proportion to its voltage.
    """
    gains = {coupling.feedback_gain for coupling in machine.graph.couplings[1:]} or {1.0}
    if not machine.has_feedback or gains != {1.0}:
        raise Refusal("a digital gain of the feedback has no continuous time", where=machine.name,
                      got=f"feedback gains {', '.join(f'{gain:g}' for gain in sorted(gains))}", allowed="1",
                      remedy="settle a network whose feedback gains are all 1")
    if machine.arrays[0].curves:
        raise Refusal("devices with curves have no one time constant", where=machine.name,
                      got=f"sinh_v={machine.program.target.device.sinh_v:g}", allowed="currents in proportion",
                      remedy="leave it out, as in without=curves")
    if not machine.deterministic:
        raise Refusal("noise of separate reads has no continuous time", where=machine.name,
                      got="fresh noise at every read", allowed="machines without it",
                      remedy="leave it out, as in crossbar:pcm[without=read]")


def _pull(machine: CrossbarMachine, images: Tensor, states: States) -> States:
    """clamp(slope g(s), 0, ceiling) of every neuron: one synchronous step without memory."""
    moved = relax(machine.substrate, images, schedule="synchronous", steps=1, states=states).states
    return tuple(s + (m - s) / machine.substrate.dt for s, m in zip(states, moved))


def conductances_us(machine: CrossbarMachine) -> tuple[list[Tensor], Tensor]:
    """G of every neuron, a (C, H, W) map a population, and G_row of every pixel."""
    columns = [_column_us(projection) for projection in machine.substrate.projections]
    rows = [_row_us(projection) for projection in machine.projections]
    return [column + row for column, row in zip(columns, rows[1:])], rows[0]


def _column_us(projection: CrossbarProjection) -> Tensor:
    """Conductance from below into each neuron of the layer above, (C, H, W); the mean over a pool window."""
    cells, window = _cells_us(projection), projection.window
    full = F.conv2d(cells.new_ones(1, *window.pre), cells, None, window.stride, window.padding)
    return (F.avg_pool2d(full, window.pool) if window.pool > 1 else full)[0]


def _row_us(projection: CrossbarProjection) -> Tensor:
    """Conductance of the rows that each neuron below drives, (C, H, W)."""
    cells, window = _cells_us(projection), projection.window
    spread = cells.new_ones(1, *window.unpooled)
    return F.conv_transpose2d(spread, cells, None, window.stride, window.padding, window.uncovered)[0]


def _cells_us(projection: CrossbarProjection) -> Tensor:
    """(C_out, C_in, k_h, k_w) devices of each weight together."""
    g_us, outputs, window = projection.forward_array.conductance_us, len(projection.bias), projection.window
    return g_us[:, :, :outputs].sum((0, 1)).view(outputs, window.pre[0], *window.kernel)
