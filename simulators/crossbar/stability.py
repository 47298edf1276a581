"""What becomes of the network's energy when its two directions do not share their weights.

Equation (1) of simulators.reference with u_n the pooled drive that the machine's own forward arrays give. Where the
backward read is their transpose E never rises under the alternating schedule and the states come to rest. Other
backward weights have no energy: E may rise, and states may run in a cycle for ever.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mapping.errors import Refusal
from simulators.crossbar.chip import CrossbarMachine
from simulators.reference import energy
from simulators.relaxation import States

LONGEST_CYCLE = 24   # sweeps


@dataclass(frozen=True, eq=False)
class Stability:
    """Of a batch of images.

    Attributes:
        energy: (sweeps + 1, B), from the start on.
        rest: (B,), whether the last sweep moved no state by more than the tolerance.
        period: (B,) sweeps of the cycle in which the states run, 0 at rest or where no cycle was seen.
        asymmetry: ||W_f - W_b|| / ||W_f||, the largest of all layers.
    """

    energy: torch.Tensor
    rest: torch.Tensor
    period: torch.Tensor
    asymmetry: float | None

    def rises(self, tolerance: float = 1e-6) -> torch.Tensor:
        """(B,) share of sweeps in which the energy rose by more than `tolerance` of its whole range."""
        return (self.energy.diff(dim=0) > tolerance * self._range).double().mean(0)

    @property
    def largest_rise(self) -> torch.Tensor:
        """(B,) of one sweep, as a share of the energy's whole range; 0 where it never rose."""
        return (self.energy.diff(dim=0).amax(0) / self._range).clamp(min=0)

    @property
    def _range(self) -> Tensor:
        return self.energy.amax(0) - self.energy.amin(0)


def measure_stability(machine: CrossbarMachine, images: Tensor, sweeps: int = 200,
                      tolerance: float = 1e-4) -> Stability:
    """Relax images under the alternating schedule and watch energy and states.

    Args:
        machine: without fresh read noise, which would hide both.
        images: (B, C, H, W) in [0, 1].
        sweeps: to take, more than LONGEST_CYCLE.
        tolerance: state changes up to it count as none.

    Raises:
        Refusal: a noisy machine, or a feed-forward network, which is at rest after one pass.
    """
    if not machine.has_feedback:
        raise Refusal("a feed-forward network has no energy to watch", where=machine.name, got="one pass",
                      allowed="networks with feedback", remedy="measure an EP network")
    if not machine.deterministic:
        raise Refusal("read noise hides rest and cycles", where=machine.name, got="fresh noise at every read",
                      allowed="machines without it", remedy="leave it out, as in crossbar:pcm[without=read]")
    substrate, recent = machine.substrate, []
    image = substrate.encode(images.to(substrate.mean))
    energies = [energy(substrate, image, substrate.start(image))]

    def watch(t: int, states: States):
        if t % 2 == 0:
            states = tuple(s.to(image) for s in states)
            energies.append(energy(substrate, image, states))
            recent.append(torch.cat([s.flatten(1) for s in states], 1))
            del recent[:-LONGEST_CYCLE - 1]

    machine.relax(images, steps=2 * sweeps, schedule="alternating", trace=watch)
    last = recent.pop()
    moved = torch.stack([(last - before).abs().amax(1) for before in reversed(recent)])
    rest, returned = moved[0] <= tolerance, moved <= tolerance
    period = torch.where(~rest & returned.any(0), returned.double().argmax(0) + 1, 0)
    return Stability(torch.stack(energies), rest, period, machine.asymmetry)
