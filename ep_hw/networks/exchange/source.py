"""The dynamics of an imported network as its key map states them, by torch's own operations and autograd.

    Phi(s) = sum_n <s_n, pool(w_n * s_{n-1} + b_n)>,    s_n <- clamp(slope dPhi/ds_n, 0, 1)         (1)

A readout outside the energy reads the logits from the top layer. One inside is a dense layer of its own at the top of
the sum; where it is linear, its states are dPhi/ds without the activation. Nothing of our machines is used.

Source: Ernoult et al. 2019 (their equation 14, for convolutional networks); Laborieux et al. 2021 (the readouts).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ep_hw.networks.exchange.keys import KeyMap
from ep_hw.networks.exchange.layers import Layer

_POOLS: dict[str, Callable[[Tensor, int], Tensor]] = {"max": F.max_pool2d, "average": F.avg_pool2d}


@dataclass(frozen=True, eq=False)
class Source:
    """A network in its own terms; the weights are those of the file, in float32."""

    keys: KeyMap
    layers: list[Layer]

    def relax(self, images: Tensor, steps: int) -> tuple[list[Tensor], Tensor]:
        """States and logits after `steps` synchronous steps from zero, for (B, C, H, W) images in float64."""
        mean, scale = (torch.tensor(v).double().view(-1, 1, 1) for v in (self.keys.mean, self.keys.scale))
        image, inside = (images - mean) / scale, self.keys.readout == "inside"
        states = self._start(image)
        for _ in range(steps):
            states = [state.detach().requires_grad_() for state in states]
            terms = [(s * self._drive(n, below)).sum() for n, (s, below) in enumerate(zip(states, (image, *states)))]
            phi = torch.stack(terms).sum()
            states = [self._activate(n, g) for n, g in enumerate(torch.autograd.grad(phi, states))]
        return (states[:-1], states[-1]) if inside else (states, self._drive(len(self.layers) - 1, states[-1]))

    def _start(self, image: Tensor) -> list[Tensor]:
        states = [image]
        for n in range(len(self.layers) - (self.keys.readout == "outside")):
            states.append(torch.zeros_like(self._drive(n, states[-1])))
        return states[1:]

    def _drive(self, n: int, below: Tensor) -> Tensor:
        """What drives layer n from below; of the last one, its logits."""
        weight, bias = (tensor.double() for tensor in self.layers[n])
        if n >= len(self.keys.paddings):
            return F.linear(below.flatten(1), weight, bias)
        drive = F.conv2d(below, weight, bias, stride=self.keys.strides[n], padding=self.keys.paddings[n])
        return _POOLS[self.keys.kinds[n]](drive, self.keys.pools[n])

    def _activate(self, n: int, g: Tensor) -> Tensor:
        linear = self.keys.is_linear and n == len(self.layers) - 1
        return g if linear else (self.keys.slope * g).clamp(0, 1)
