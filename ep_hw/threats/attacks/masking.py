"""Whether a machine hides its gradient: then a random direction raises its loss as much."""

import torch
from torch import Generator, Tensor

from ep_hw.data.splits import Split
from ep_hw.threats.attacks.gradients import Gradient, loss_of
from ep_hw.threats.attacks.norms import direction
from simulators.machine import Machine


def aimed(machine: Machine, split: Split, gradient: Gradient, norm: str, reach: float, generator: Generator, *,
          draws: int = 1) -> Tensor:
    """(B,) whether the gradient's loss, `reach` away in the norm, is higher along it than in a random direction.

    Args:
        machine: the machine under test.
        split: images and labels.
        gradient: and its loss.
        norm: of the step.
        reach: its size.
        generator: of the random direction and of the machine's reads.
        draws: of the noise, averaged in the gradient.
    """
    x, y = split.images, split.labels
    ways = gradient(machine, x, y, generator, draws), torch.randn(x.shape, generator=generator).to(x)
    moved = [(x + reach * direction(way, norm)).clamp(0, 1) for way in ways]
    ahead, aside = (loss_of(machine.relax(z, generator=generator).logits, y, gradient.loss) for z in moved)
    return ahead > aside
