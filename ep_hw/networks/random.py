"""Untrained networks with random weights from a fixed seed: to see what a machine makes of a network's size.

They are named like packaged models and every command takes them; their answers mean nothing.
"""

from dataclasses import dataclass, replace

import torch

from ep_hw.networks.network import EPNetwork, NetworkSpec

SEED = 0
CALIBRATION_IMAGES = 4   # uniform noise: sizes converters, as training images do for a trained network

# The shape of the CIFAR-10 network whose robustness was studied on GPUs, its schedule, and the data's mean and three
# standard deviations.
PAPER = NetworkSpec(image_shape=(3, 32, 32), channels=(128, 256, 512, 512), paddings=(1, 1, 1, 0), pools=(2, 2, 2, 2),
                    classes=10, mean=(0.4914, 0.4822, 0.4465), scale=(0.7410, 0.7305, 0.7848),
                    schedule="synchronous", steps=250)


@dataclass(frozen=True)
class RandomNetwork:
    """A network to be given random weights.

    Attributes:
        spec: its shape.
        data: the data set whose images fit it.
    """

    spec: NetworkSpec
    data: str


RANDOM_NETWORKS = {"cifar10-paper-random": RandomNetwork(PAPER, "cifar10")}


def random_network(name: str) -> EPNetwork:
    """The network of a name in `RANDOM_NETWORKS`, without provenance."""
    spec, generator = RANDOM_NETWORKS[name].spec, torch.Generator().manual_seed(SEED)
    images = torch.rand((CALIBRATION_IMAGES, *spec.image_shape), generator=generator)
    return replace(EPNetwork.initialise(spec, SEED), name=name, calibration=images)
