"""One layer, and what folds into its weights, in float64.

A layer is clamp(pool(w * s + b), 0, ceiling). Whatever stands around its weights folds into them, exactly:

    c (w * s + b) + d = (c w) * s + (c b + d)                                   batch norm after it             (1)
    w * (c s + d) + b = (c w) * s + (b + sum w d)                               before it, where no zeros pad s (2)
    box * (w * s) = (box w) * s,    w * (box * s) = (w box) * s                 an average pool is a box        (3)

In (3) a kernel over places that lie a stride apart is spread by that stride before it meets the other one.
"""

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ep_hw.networks.shapes import Shape

Pair = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer; its activation is open until an operation closes it.

    Attributes:
        weight: (C_out, C_in, k_h, k_w), float64.
        bias: (C_out,), float64.
        pre: shape (C_in, H, W) of the map it reads.
        padding: zeros around that map, in pixels.
        strides: (vertical, horizontal), in pixels.
        pool: side of its max pool, 1 for none.
        ceiling: of its activation, None while there is none.
    """

    weight: Tensor
    bias: Tensor
    pre: Shape
    padding: int = 0
    strides: Pair = (1, 1)
    pool: int = 1
    ceiling: float | None = None

    @property
    def room(self) -> Pair:
        """By how much the padded map is larger than the kernel, in pixels."""
        height, width = (side + 2 * self.padding - k for side, k in zip(self.pre[1:], self.weight.shape[2:]))
        return height, width

    @property
    def unpooled(self) -> Shape:
        """Shape of its map before the max pool."""
        height, width = (room // stride + 1 for room, stride in zip(self.room, self.strides))
        return len(self.weight), height, width

    @property
    def post(self) -> Shape:
        """Shape of the map it gives."""
        channels, height, width = self.unpooled
        return channels, height // self.pool, width // self.pool

    @property
    def stride(self) -> int:
        """In both directions: where its map is one place, whatever leaves it one."""
        return max(self.room) + 1 if self.unpooled[1:] == (1, 1) else self.strides[0]

    def __post_init__(self):
        if self.unpooled[1:] != (1, 1) and self.strides[0] != self.strides[1]:
            raise ValueError(f"strides of {self.strides[0]} and {self.strides[1]} pixels, not one")

    def times(self, scale: Tensor, shift: Tensor) -> "Layer":
        """Equation (1), by channel.

        Raises:
            ValueError: a negative factor after the max pool, whose winners it would change.
        """
        if self.pool > 1 and (scale < 0).any():
            raise ValueError("negative factors between a max pool and its activation")
        return replace(self, weight=self.weight * scale[:, None, None, None], bias=self.bias * scale + shift)

    def averaged(self, box: "Box") -> "Layer":
        """Equation (3), for an average pool after its weights."""
        if self.pool > 1:
            raise ValueError("an average pool above a max pool, without an activation between them")
        out, inputs, *sides = self.weight.shape
        first = self.weight.reshape(1, out * inputs, *sides)
        weight = F.conv_transpose2d(box.kernel[None, None], first, stride=self.strides)
        return replace(self, weight=weight.reshape(out, inputs, *weight.shape[2:]),
                       strides=product(self.strides, box.strides))

    def whole(self) -> "Layer":
        """The same layer, of one place, with a kernel as large as its map: what lies on the padding is cut off."""
        (k_h, k_w), (_, height, width), p = self.weight.shape[2:], self.pre, self.padding
        weight = F.pad(self.weight, (-p, width + p - k_w, -p, height + p - k_h))
        return replace(self, weight=weight, padding=0, strides=(1, 1))


@dataclass(frozen=True, eq=False)
class Box:
    """Average pools between an activation and the next weights, as one kernel.

    Attributes:
        kernel: (k_h, k_w), float64.
        strides: (vertical, horizontal), in pixels.
    """

    kernel: Tensor
    strides: Pair

    @classmethod
    def of(cls, sides: Pair, strides: Pair) -> "Box":
        """An average pool."""
        return cls(torch.full(sides, 1 / math.prod(sides), dtype=torch.float64), strides)

    @property
    def is_one(self) -> bool:
        """Whether there is no pool at all."""
        return self.kernel.numel() == 1 and self.strides == (1, 1)

    def sides(self, shape: Shape) -> Pair:
        """Of the map that it makes of one of `shape`."""
        height, width = ((side - k) // stride + 1 for side, k, stride in
                         zip(shape[1:], self.kernel.shape, self.strides))
        return height, width

    def then(self, later: "Box") -> "Box":
        """Both pools as one."""
        kernel = F.conv_transpose2d(later.kernel[None, None], self.kernel[None, None], stride=self.strides)[0, 0]
        return Box(kernel, product(self.strides, later.strides))

    def padding(self, shape: Shape, padding: int) -> int:
        """Zeros around a map of `shape` that are `padding` zeros around its pooled map.

        Raises:
            ValueError: there are none.
        """
        tiles = tuple(self.kernel.shape) == self.strides and self.strides[0] == self.strides[1]
        if padding and not (tiles and all(side % self.strides[0] == 0 for side in shape[1:])):
            raise ValueError("a convolution with padding above an average pool whose windows overlap or leave a rest")
        return padding * self.strides[0]


def product(one: Pair, other: Pair) -> Pair:
    return one[0] * other[0], one[1] * other[1]


ONE = Box.of((1, 1), (1, 1))
