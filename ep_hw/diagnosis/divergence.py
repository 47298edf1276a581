"""Where two machines diverge: the first time step and layer at which their states differ, and how the gap grows."""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from mapping.program import Table
from simulators.machine import Equilibrium, Machine

States = tuple[Tensor, ...]   # (B, C, H, W) of each population


@dataclass(frozen=True, eq=False)
class Divergence:
    """Two relaxations of the same images, compared step by step.

    Attributes:
        first: name of a machine.
        second: name of the other one.
        layers: the populations' names.
        gaps: (steps, layers), largest absolute difference of any state over all images, in units of the state.
        logits_rmse: root mean square difference of the final logits.
        disagreements: images on which the predictions differ.
        images: how many images were compared.
        tolerance: gaps up to it count as equal.
    """

    first: str
    second: str
    layers: tuple[str, ...]
    gaps: Tensor
    logits_rmse: float
    disagreements: int
    images: int
    tolerance: float

    @property
    def place(self) -> tuple[int, int] | None:
        """(time step from 1, layer from 0) of the first gap beyond the tolerance; None where there is none."""
        beyond = (self.gaps > self.tolerance).nonzero()
        return None if not len(beyond) else (int(beyond[0, 0]) + 1, int(beyond[0, 1]))

    def sentence(self) -> str:
        """The answer in words."""
        steps = len(self.gaps)
        if self.place is None:
            return f"{self.first} and {self.second} agree to {self.tolerance:g} in every state at all {steps} steps."
        step, layer = self.place
        return (f"{self.first} and {self.second} diverge at time step {step} in {self.layers[layer]}, by up to "
                f"{self.gaps[step - 1, layer]:.2e}; at step {steps} they predict another class for "
                f"{self.disagreements} of {self.images} images.")

    def table(self) -> Table:
        """A row a layer: when it diverges, its gap then, its largest gap and its last one."""
        rows = []
        for layer, gaps in zip(self.layers, self.gaps.T):
            beyond = (gaps > self.tolerance).nonzero()
            start = int(beyond[0]) if len(beyond) else None
            rows.append((layer, "never" if start is None else start + 1,
                         *(f"{float(gap):.2e}" for gap in (gaps[start or 0], gaps.max(), gaps[-1]))))
        return Table(f"{self.first} against {self.second}",
                     ("layer", "diverges at step", "gap there", "largest gap", "last gap"), tuple(rows),
                     (f"logits differ by {self.logits_rmse:.2e} (root mean square)",))


def read_noise(seed: int) -> Generator:
    """A generator of read noise: machines that read alike see the same noise."""
    return torch.Generator().manual_seed(seed)


def traced(machine: Machine, images: Tensor, steps: int, *, states: States | None = None,
           generator: Generator | None = None) -> tuple[Equilibrium, list[States]]:
    """Relax images on a machine: the equilibrium, and the states after each step."""
    trace: list[States] = []
    end = machine.relax(images, steps, states=states, generator=generator,
                        trace=lambda t, now: trace.append(tuple(s.clone() for s in now)))
    return end, trace


def compare(first: Machine, second: Machine, images: Tensor, steps: int, *, tolerance: float = 0.0,
            seed: int = 0) -> Divergence:
    """Relax the same images on two machines for the same number of steps and compare every state.

    Args:
        first: a machine.
        second: another one.
        images: (B, C, H, W) in [0, 1].
        steps: time steps, all of them taken.
        tolerance: gaps up to it count as equal.
        seed: of the read noise, the same for both machines.
    """
    (one, seen), (other, wanted) = (traced(m, images, steps, generator=read_noise(seed)) for m in (first, second))
    gaps = torch.tensor([[float((a - b).abs().max()) for a, b in zip(*pair)] for pair in zip(seen, wanted)])
    rmse = (one.logits - other.logits).square().mean().sqrt().item()
    disagreements = int((one.prediction != other.prediction).sum())
    return Divergence(first.name, second.name, tuple(p.name for p in first.graph.populations), gaps, rmse,
                   disagreements, len(images), tolerance)
