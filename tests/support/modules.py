"""Random torch modules that are chains of layers: `from modules import random_module`."""

import numpy as np
import torch
from torch import nn

from ep_hw.networks.baselines.modules import Normalise

Shape = tuple[int, ...]


def random_module(seed: int) -> tuple[nn.Sequential, Shape]:
    """A chain of up to three convolutions and up to two hidden dense layers, and the shape of its images.

    Kernels, strides, paddings, pools of all kinds, batch norms before and after activations, and ceilings are random.
    """
    rng = np.random.default_rng(seed)
    image = (int(rng.integers(1, 4)), *(int(n) for n in rng.integers(8, 15, 2)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers: list[nn.Module] = [Normalise(*rng.uniform(0.3, 1.2, (2, image[0])).tolist())]
        for _ in range(rng.integers(0, 4)):
            padded = not isinstance(layers[-1], nn.AvgPool2d | nn.BatchNorm2d)   # where it folds in exactly
            layers += _convolution(rng, after(layers, image), padded)
        layers += [*([nn.AdaptiveAvgPool2d(1)] if rng.random() < 0.3 else []), nn.Flatten()]
        hidden = int(rng.integers(0 if any(isinstance(layer, nn.Conv2d) for layer in layers) else 1, 3))
        for _ in range(hidden):
            width = int(rng.integers(3, 9))
            layers += [nn.Linear(*after(layers, image), width), *_batch_norm(rng, nn.BatchNorm1d(width)),
                       _activation(rng), nn.Dropout(0.5)]
        return nn.Sequential(*layers, nn.Linear(*after(layers, image), 4)).eval(), image


def after(layers: list[nn.Module], shape: Shape) -> Shape:
    """Shape of what layers give, of images of `shape`."""
    with torch.no_grad():
        return tuple(nn.Sequential(*layers).eval()(torch.zeros(2, *shape)).shape[1:])


def _convolution(rng: np.random.Generator, shape: Shape, padded: bool) -> list[nn.Module]:
    """A convolution, its activation, and what may stand around them."""
    channels, room = int(rng.integers(2, 6)), min(4, *shape[1:])
    kernel = tuple(int(k) for k in rng.integers(1, room + 1, 2))
    layers = [nn.Conv2d(shape[0], channels, kernel, int(rng.integers(1, 3)), int(rng.integers(0, 3)) * padded,
                        bias=bool(rng.integers(2))), *_batch_norm(rng, nn.BatchNorm2d(channels))]
    pool = _pool(rng, min(after(layers, shape)[1:]))
    activation = [_activation(rng), nn.Dropout2d(0.5), nn.Identity()]
    upper = pool + activation if rng.integers(2) else activation + pool
    return layers + upper + (_batch_norm(rng, nn.BatchNorm2d(channels)) if rng.random() < 0.3 else [])


def _pool(rng: np.random.Generator, room: int) -> list[nn.Module]:
    """A pool of a map whose smaller side is `room`, or none."""
    pools = [nn.Identity(), nn.MaxPool2d(2), nn.AvgPool2d(2), nn.AvgPool2d((3, 2), 1)]
    return [pools[rng.integers(room + 1 if room < 3 else 4)]] if room > 1 else []


def _batch_norm(rng: np.random.Generator, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> list[nn.Module]:
    """Of random statistics and weights, or none."""
    ranges = ((norm.running_mean, (-1, 1)), (norm.running_var, (0.2, 3)), (norm.weight, (0.3, 2)), (norm.bias, (-1, 1)))
    for tensor, limits in ranges:
        nn.init.uniform_(tensor, *limits)
    return [norm] if rng.random() < 0.6 else []


def _activation(rng: np.random.Generator) -> nn.Module:
    return [nn.ReLU(), nn.ReLU6(), nn.Hardtanh(0, float(rng.uniform(0.2, 2)))][rng.integers(3)]
