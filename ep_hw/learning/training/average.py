"""An exponential average of a network's weights, which answers better than any one of them while rates are high.

    a <- r a + (1 - r) w,    r = min(share, (1 + k) / (10 + k)) at update k = 0, 1, ...                    (1)

so that the random weights of the start are soon forgotten.
Source: Polyak and Juditsky 1992 (averaging); the growing share is that of TensorFlow's ExponentialMovingAverage.
"""

from dataclasses import replace

import torch
from torch import Tensor

from ep_hw.networks.network import EPNetwork


class Average:
    """Equation (1) over all tensors of a network.

    Args:
        net: whose tensors are updated in place.
        share: of the average that stays at each update, in [0, 1).
    """

    def __init__(self, net: EPNetwork, share: float):
        self.net, self.share = net, share
        self.kept = {name: tensor.clone() for name, tensor in net.tensors().items()}
        self.updates = torch.zeros((), dtype=torch.int64)

    @torch.no_grad()
    def update(self):
        """After each batch."""
        k = int(self.updates)
        share = min(self.share, (1 + k) / (10 + k))
        for name, tensor in self.net.tensors().items():
            self.kept[name].lerp_(tensor, 1 - share)
        self.updates += 1

    def network(self) -> EPNetwork:
        """The network with the averaged weights."""
        depth = len(self.net.weights)
        weights, biases = ([self.kept[f"{kind}{n}"] for n in range(depth)] for kind in ("weight", "bias"))
        return replace(self.net, weights=weights, biases=biases)

    def tensors(self) -> dict[str, Tensor]:
        """What an unfinished run keeps of it; they are updated in place."""
        return {"average.updates": self.updates} | {f"average.{name}": tensor for name, tensor in self.kept.items()}
