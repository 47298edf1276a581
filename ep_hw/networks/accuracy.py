"""The share of a split that a machine classifies correctly."""

from torch import Generator

from ep_hw.data.held import HeldSplit
from ep_hw.data.splits import Split
from simulators.machine import Machine


def accuracy(machine: Machine, split: Split | HeldSplit, *, batch: int = 500,
             generator: Generator | None = None) -> float:
    """Fraction of the images that are classified correctly.

    Args:
        machine: that classifies.
        split: the images.
        batch: images relaxed at once, on which read noise depends.
        generator: of read noise, where the machine has any.
    """
    right = [(machine.relax(part.images, generator=generator).prediction == part.labels).sum().item()
             for part in split.parts(batch)]
    return sum(right) / len(split)
