"""How many images of a split a network classifies correctly."""

from ep_hw.data.splits import Split
from ep_hw.networks.baselines import Baseline
from ep_hw.networks.network import EPNetwork
from simulators.machine import Machine


def accuracy(net: EPNetwork | Baseline, split: Split) -> float:
    """Fraction of the split that a network's own machine classifies correctly."""
    return hits(net.machine(), split)


def hits(machine: Machine, split: Split) -> float:
    """Fraction of the split that a machine classifies correctly."""
    right = [(machine.relax(images).prediction == labels).sum().item()
             for images, labels in zip(split.images.split(500), split.labels.split(500))]
    return sum(right) / len(split)
