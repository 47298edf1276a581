"""A limit on the feedback between layers, so that relaxations come to rest within fewer steps.

A loop through layers n - 1 and n amplifies a change of the states by at most (slope sigma_n)^2, with the operator norm
sigma_n of layer n's convolution. Where these are large the states creep for hundreds of steps, and more images have
several fixed points, of which they reach one or another as the layers take turns. (Max pooling alone leaves a few of
those even where every loop contracts.) The readout does not feed back and is left alone.
"""

import torch
import torch.nn.functional as F
from torch.nn.grad import conv2d_weight

from ep_hw.networks.network import EPNetwork

ROUNDS = 20, 500   # at least, for the power iteration to find the norm, and at most, to bring first weights below it


class FeedbackLimit:
    """Holds the convolutions of a network's layers, but for the first, at operator norms of about `limit` at most.

        sigma = max_{|v| = 1} |w * v|                                  by power iteration, where it last ended
        w <- w - (sigma - limit) G / |G|^2,    G = dsigma/dw = conv_weight(v, w * v / sigma)

    which lowers the largest singular value to first order and leaves the others: their number is what the layer can
    tell apart. Scaling w as a whole costs far more accuracy.

    Source: Yoshida and Miyato 2017 (the norm and its gradient); the step to the limit is ours.
    """

    def __init__(self, net: EPNetwork, limit: float):
        self.net, self.limit = net, limit
        generator = torch.Generator().manual_seed(0)
        self.vectors = [torch.rand((1, *pre), generator=generator).to(net.weights[0].device)
                        for pre, *_ in net.spec.geometry()[1:]]
        for done in range(ROUNDS[1]):
            if max(self.enforce(), default=0) <= limit * 1.0001 and done >= ROUNDS[0]:
                break

    @torch.no_grad()
    def enforce(self) -> list[float]:
        """Two power iterations and one step a layer. Returns the norms found before it."""
        layers = zip(self.net.weights[1:-1], self.net.spec.paddings[1:], self.vectors)
        return [self._lower(w, padding, v) for w, padding, v in layers]

    def _lower(self, w, padding: int, v) -> float:
        for _ in range(2):
            up = F.normalize(F.conv2d(v, w, padding=padding), dim=(1, 2, 3))
            down = F.conv_transpose2d(up, w, padding=padding)
            v.copy_(F.normalize(down, dim=(1, 2, 3)))
        norm = down.norm()
        if norm > self.limit:
            slope = conv2d_weight(v, w.shape, up, padding=padding)
            w -= slope * ((norm - self.limit) / slope.square().sum())
        return norm.item()
