"""A noisy chip on average: what its lines sense without read noise, tiles and converters, as plain convolutions.

    E[y] = w x,    w what a direction multiplies by: written with the chip's errors, drifted, seen through wires  (1)

Gradients pass straight through noise and converters: one of this model points where a mean of many noisy ones does, at
a tenth of the price of four. What it leaves out are clipped codes, and what noise does to a maximum and to a clamp.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from simulators.crossbar.projection import CrossbarProjection
from simulators.reference import unpool


class QuietProjection(CrossbarProjection):
    """Equation (1) of both directions of a coupling.

    Args:
        own: the coupling on tiles, see `CrossbarProjection.is_linear`.
    """

    def __init__(self, own: CrossbarProjection):
        arrays, peripheries = zip(*own.sides)
        super().__init__(arrays, peripheries, own.bias, own.column_scale, own.window, own.feedback_gain)
        self._up = own.forward_weight.contiguous(memory_format=torch.channels_last)
        self._down = own.backward_weight.contiguous(memory_format=torch.channels_last) if own.asymmetry else self._up

    def backward(self, s_post: Tensor, winners: Tensor | None, generator: torch.Generator | None = None) -> Tensor:
        own = self.window
        z = unpool(s_post, winners, own.unpooled)
        return F.conv_transpose2d(z, self._down, None, own.stride, own.padding, own.uncovered)

    def _parts(self, s_pre: Tensor, generator: torch.Generator | None) -> Iterator[Tensor]:
        yield F.conv2d(s_pre, self._up, self.bias.flatten(), self.window.stride, self.window.padding)

    def _scaled(self, sums: Tensor) -> Tensor:
        return sums   # by its weights and bias
