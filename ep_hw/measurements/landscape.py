"""A slice of the loss around images: along an attacker's gradient g and along a random direction r.

    L(a, b) = mean over images of loss(x + a g/|g| + b r/|r|),    clipped to [0, 1]                           (1)

Where gradients can be trusted, the loss rises faster along g than along r. Source: Carlini et al. 2019, section 4.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ep_hw.data.splits import Split
from ep_hw.threats.attacks.gradients import Gradient, loss_of
from ep_hw.threats.attacks.norms import direction
from mapping.program import Table
from simulators.machine import Machine

STEPS = 7   # places along each direction


@dataclass(frozen=True, eq=False)
class Slice:
    """One machine.

    Attributes:
        places: (STEPS,), a and b, l2 distances.
        loss: (a, b), equation (1), cross-entropy.
        aimed: fraction of images whose loss, a step away, is higher along g than along r.
    """

    machine: str
    gradient: str
    places: np.ndarray
    loss: np.ndarray
    aimed: float
    images: int

    def rows(self) -> list[dict]:
        """A row a place, plain values."""
        return [{"machine": self.machine, "gradient": self.gradient, "images": self.images, "aimed": self.aimed,
                 "along_gradient": float(self.places[i]), "along_random": float(self.places[j]), "loss": float(value)}
                for (i, j), value in np.ndenumerate(self.loss)]


def measure_slice(machine: Machine, split: Split, gradient: Gradient, reach: float, seed: int) -> Slice:
    """Evaluate equation (1) on a grid from -reach to reach.

    Args:
        reach: l2 distance.
        seed: of the random direction and of the machine's reads.
    """
    generator = torch.Generator().manual_seed(seed)
    x, y = split.images, split.labels
    uphill = direction(gradient(machine, x, y, generator), "l2")
    away = direction(torch.randn(x.shape, generator=generator).to(x), "l2")
    places = np.linspace(-reach, reach, STEPS)

    def losses(a: float, b: float) -> torch.Tensor:
        moved = (x + a * uphill + b * away).clamp(0, 1)
        return loss_of(machine.relax(moved, generator=generator).logits, y, "cross_entropy")

    grid = [[losses(float(a), float(b)) for b in places] for a in places]
    middle = STEPS // 2
    aimed = (grid[middle + 1][middle] > grid[middle][middle + 1]).float().mean()
    return Slice(machine.name, str(gradient), places, np.array([[float(v.mean()) for v in row] for row in grid]),
                 float(aimed), len(split))


def slice_table(slices: Sequence[Slice]) -> Table:
    """A line a machine: the loss at the image, and at both ends of each direction."""
    m = STEPS // 2
    rows = tuple((s.machine, s.images, f"{s.loss[m, m]:.3g}", f"{s.loss[0, m]:.3g}", f"{s.loss[-1, m]:.3g}",
                  f"{s.loss[m, 0]:.3g}", f"{s.loss[m, -1]:.3g}", f"{100 * s.aimed:.0f}") for s in slices)
    columns = ("machine", "images", "loss", "against g", "along g", "against r", "along r", "g beats r, %")
    note = ("Mean cross-entropy. A gradient that beats a random direction on about half of the images or fewer is "
            "masked.")
    title = f"loss {slices[0].places[-1]:g} away, along {slices[0].gradient} and a random direction"
    return Table(title, columns, rows, (note,))
