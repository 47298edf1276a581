"""Untrained networks whose weights are drawn from a fixed seed: to see what a machine makes of a network's size.

They are named like packaged models and every command takes them; nothing they say of an image means anything.
"""

from dataclasses import dataclass

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
class Drawn:
    """A network to draw, and the data set whose images fit it."""

    spec: NetworkSpec
    data: str


DRAWN = {"cifar10-paper-random": Drawn(PAPER, "cifar10")}


def draw(name: str) -> EPNetwork:
    """The network of a name in `DRAWN`, without provenance."""
    spec = DRAWN[name].spec
    net = EPNetwork.initialise(spec, SEED)
    net.name = name
    net.calibration = torch.rand((CALIBRATION_IMAGES, *spec.image_shape),
                                 generator=torch.Generator().manual_seed(SEED))
    return net
