"""Rows of all positions, sensed in a backward read, added to a map where their windows overlap."""

from functools import cache
from itertools import product

import torch
from torch import Tensor

from mapping.graph import Window
from simulators.crossbar.kernels import Windows


def overlap_add(rows: Tensor, window: Window) -> Tensor:
    """Row outputs (B, H', W', k_h k_w C) to the map below (B, C, H, W), each added where its kernel place lies.

    One slice a kernel place: five times faster on a CPU than F.fold, which wants another memory order. What meets in a
    value of the map is added from the first position to the last, as the kernels do it.
    """
    (_, h, w, _), (k_h, k_w), stride = rows.shape, window.kernel, window.stride
    places, out = rows.unflatten(-1, (k_h, k_w, -1)), padded_map(rows, window)
    for y, x in product(reversed(range(k_h)), reversed(range(k_w))):
        out[:, y:y + stride * h:stride, x:x + stride * w:stride] += places[:, :, :, y, x]
    return inside(out, window)


def padded_map(rows: Tensor, window: Window) -> Tensor:
    """Zeros (B, H, W, C) for the map below such rows, its padding included."""
    c, *sides = window.pre
    return rows.new_zeros(len(rows), *(side + 2 * window.padding for side in sides), c)


def inside(padded: Tensor, window: Window) -> Tensor:
    """(B, C, H, W) of a `padded_map`, without its padding."""
    p, (_, height, width) = window.padding, window.pre
    return padded[:, p:p + height, p:p + width].permute(0, 3, 1, 2)


@cache
def windows(window: Window) -> Windows:
    """Where such rows lie in a `padded_map`."""
    (_, h, w), (c, height, width), (k_h, k_w) = window.unpooled, window.pre, window.kernel
    height, width = height + 2 * window.padding, width + 2 * window.padding

    def begin(rows: int, columns: int, stride: int) -> Tensor:
        return (stride * c * (width * torch.arange(rows)[:, None] + torch.arange(columns))).flatten()

    return Windows(begin(k_h, 1, 1), begin(h, w, window.stride), k_w * c, height * width * c)
