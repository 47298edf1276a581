"""The dynamics of an imported network as its key map states them, by torch's own operations and autograd.

    Phi(s) = sum_n <s_n, pool(w_n * s_{n-1} + b_n)>,    s_n <- clamp(slope dPhi/ds_n, 0, 1)         (1)

A readout outside the energy reads the logits from the top layer. One inside is a dense layer of its own at the top of
the sum; trained on the cross-entropy, its states are dPhi/ds without the activation. Nothing of our machines is used.

Source: Ernoult et al. 2019 (their equation 14, for convolutional networks); Laborieux et al. 2021 (the readouts).
"""

from collections.abc import Callable, Sequence
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
            terms = [(state * drive).sum() for state, drive in zip(states, self._drives((image, *states)))]
            phi = torch.stack(terms).sum()
            states = [self._activate(n, g) for n, g in enumerate(torch.autograd.grad(phi, states))]
        return (states[:-1], states[-1]) if inside else (states, self._readout(states[-1]))

    def _start(self, image: Tensor) -> list[Tensor]:
        states = [image]
        for n in range(len(self.layers) - 1):
            states.append(torch.zeros_like(self._drive(n, states[-1])))
        return states[1:] + ([torch.zeros_like(self._readout(states[-1]))] if self.keys.readout == "inside" else [])

    def _drives(self, below: Sequence[Tensor]) -> list[Tensor]:
        """What drives each layer from below, and the readout."""
        depth = len(self.layers) - 1
        return [*(self._drive(n, below[n]) for n in range(depth)), self._readout(below[depth])]

    def _drive(self, n: int, below: Tensor) -> Tensor:
        weight, bias = (tensor.double() for tensor in self.layers[n])
        drive = F.conv2d(below, weight, bias, stride=self.keys.strides[n], padding=self.keys.paddings[n])
        return _POOLS[self.keys.pool](drive, self.keys.pools[n])

    def _readout(self, top: Tensor) -> Tensor:
        weight, bias = (tensor.double() for tensor in self.layers[-1])
        return F.linear(top.flatten(1), weight, bias)

    def _activate(self, n: int, g: Tensor) -> Tensor:
        linear = self.keys.loss == "cross-entropy" and n == len(self.layers) - 1
        return g if linear else (self.keys.slope * g).clamp(0, 1)
