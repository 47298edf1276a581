"""Auto-PGD: an ascent with momentum that halves an image's stride where its loss no longer rises.

    z  = P(x_k + stride direction(grad)),    x_{k+1} = P(x_k + 3/4 (z - x_k) + 1/4 (x_k - x_{k-1}))              (14)

P projects into the ball and into [0, 1]; the stride is 2 eps at first. At checkpoints, ever closer to each other, it is
halved where fewer than three quarters of the steps since the last one raised the loss, or where neither the stride nor
the largest loss has changed since then; the climb goes on from the image of largest loss, which is also its answer.
Source: Croce and Hein 2020, algorithm 1; it begins at the image here, not at random.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from ep_hw.threats.attacks.ascent import Ascent, Way
from ep_hw.threats.attacks.gradients import Slope, loss_of
from ep_hw.threats.attacks.norms import direction

KEPT = 0.75   # of a step's way to z; the rest is momentum
RISING = 0.75   # of the steps between checkpoints: fewer halve the stride
FIRST, LESS, LEAST = 0.22, 0.03, 0.06   # shares of the steps to the first checkpoint, by which each is closer, at least


@dataclass(frozen=True, eq=False)
class AdaptiveWay(Way):
    """Images on their way, and what decides their strides.

    Attributes:
        before: (B, C, H, W) where they were a step ago.
        stride: (B,).
        best: (B, C, H, W) the images of largest loss.
        slope: (B, C, H, W) the gradients there.
        top: (B,) their loss.
        last: (B,) loss a step ago.
        rises: (B,) steps that raised the loss since the last checkpoint.
        mark: (B,) the largest loss at the last checkpoint.
        halved: (B,) whether the stride was halved there.
    """

    before: Tensor
    stride: Tensor
    best: Tensor
    slope: Tensor
    top: Tensor
    last: Tensor
    rises: Tensor
    mark: Tensor
    halved: Tensor


@dataclass(frozen=True)
class APGD(Ascent[AdaptiveWay]):
    """Auto-PGD on any gradient."""

    def _begin(self, index: Tensor, images: Tensor, labels: Tensor, start: Tensor) -> AdaptiveWay:
        none = images.new_zeros(len(images))
        low = none - torch.inf
        return AdaptiveWay(index, images, labels, start, start, none + 2 * self.eps, start, torch.zeros_like(start),
                           low, low, none, low, none == 0)

    def _step(self, way: AdaptiveWay, slope: Slope, done: int) -> AdaptiveWay:
        """`attacks.apgd (14)`."""
        way, gradient = self._seen(way, slope), slope.gradient
        if done in self._checkpoints:
            way, gradient = self._checked(way, gradient, self._checkpoints[done])
        z = self._within(way.images, way.here + way.stride.view(-1, 1, 1, 1) * direction(gradient, self.norm))
        kept = KEPT if done else 1.0
        moved = way.here + kept * (z - way.here) + (1 - kept) * (way.here - way.before)
        return replace(way, before=way.here, here=self._within(way.images, moved))

    def _seen(self, way: AdaptiveWay, slope: Slope) -> AdaptiveWay:
        """The same place, its loss and gradient counted."""
        loss = loss_of(slope.logits, way.labels, self.gradient.loss)
        better = loss > way.top
        here, there = better.view(-1, 1, 1, 1), torch.maximum(loss, way.top)
        return replace(way, best=torch.where(here, way.here, way.best), top=there, last=loss,
                       slope=torch.where(here, slope.gradient, way.slope), rises=way.rises + (loss > way.last))

    def _checked(self, way: AdaptiveWay, gradient: Tensor, steps: int) -> tuple[AdaptiveWay, Tensor]:
        """After a checkpoint, so many steps after the last one: the way and the gradient from where it goes on."""
        halve = (way.rises < RISING * steps) | (~way.halved & (way.top <= way.mark))
        back = halve.view(-1, 1, 1, 1)
        way = replace(way, here=torch.where(back, way.best, way.here), before=torch.where(back, way.best, way.before),
                      stride=torch.where(halve, way.stride / 2, way.stride), rises=torch.zeros_like(way.rises),
                      mark=way.top, halved=halve)
        return way, torch.where(back, way.slope, gradient)

    def _end(self, way: AdaptiveWay) -> Tensor:
        return way.best

    @cached_property
    def _checkpoints(self) -> dict[int, int]:
        """Step -> steps since the checkpoint before."""
        first, less, least = (max(1, int(share * self.iterations)) for share in (FIRST, LESS, LEAST))
        found, length, step = {}, first, first
        while step < self.iterations:
            found[step] = length
            length = max(length - less, least)
            step += length
        return found
