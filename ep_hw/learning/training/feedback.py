"""A limit on the feedback between layers, so that relaxations come to rest within fewer steps.

A loop through layers n - 1 and n amplifies a change of the states by at most gamma_n (slope sigma_n)^2, with the
operator norm sigma_n of layer n's convolution and its feedback gain gamma_n (mapping.graph (2)). Where these products
are large, states creep for hundreds of steps, and more images have several fixed points: which one is reached depends
on the schedule. (With max-pools a few images have several even where every loop contracts.) The readout does not feed
back and keeps its weights.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_weight

from ep_hw.networks.network import EPNetwork
from mapping.graph import Window

ROUNDS = 20, 500   # fewest, for the power iteration to find the norm, and most, to bring the first weights below it


class FeedbackLimit:
    """Holds the convolutions of all layers but the first at operator norms of about `limit` at most.

        sigma = max_{|v| = 1} |w * v|                                  by power iteration, where it last ended
        w <- w - (sigma - limit) G / |G|^2,    G = dsigma/dw = conv_weight(v, w * v / sigma)

    The step lowers the largest singular value, to first order, and leaves the others as they are: the more of them are
    large, the more the layer can tell apart. Scaling w as a whole costs far more accuracy.

    Source: Yoshida and Miyato 2017 (the norm and its gradient); the step to the limit is ours.
    """

    def __init__(self, net: EPNetwork, limit: float):
        self.net, self.limit = net, limit
        generator = torch.Generator().manual_seed(0)
        self._windows = [projection.window for projection in net.substrate().projections[1:]]
        self.vectors = [torch.rand((1, *window.pre), generator=generator).to(net.weights[0].device)
                        for window in self._windows]
        for done in range(ROUNDS[1]):
            if max(self.enforce(), default=0) <= limit * 1.0001 and done >= ROUNDS[0]:
                break

    @torch.no_grad()
    def enforce(self) -> list[float]:
        """Two power iterations and one step a layer.

        Returns:
            The norms before the step.
        """
        layers = zip(self.net.weights[1:-1], self._windows, self.vectors)
        return [self._lower(w, window, v) for w, window, v in layers]

    def _lower(self, w: Tensor, window: Window, v: Tensor) -> float:
        for _ in range(2):
            forward = _normalised(F.conv2d(v, w, None, window.stride, window.padding))
            backward = F.conv_transpose2d(forward, w, None, window.stride, window.padding, window.uncovered)
            v.copy_(_normalised(backward))
        norm = backward.norm()
        if norm > self.limit:
            slope = conv2d_weight(v, w.shape, forward, window.stride, window.padding)
            w -= slope * ((norm - self.limit) / slope.square().sum())
        return norm.item()


def _normalised(v: Tensor) -> Tensor:
    """(1, C, H, W) of norm 1."""
    return F.normalize(v, dim=(1, 2, 3))  # type: ignore[arg-type]  # several dimensions are allowed, its stub knows one
