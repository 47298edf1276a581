"""What a line senses of its drives, left to be computed with its conversion (simulators.crossbar.kernels).

    y = sum_k w_k x_k,    v = sum_k v_k x_k^2,    k over places of the kernel and channels                 (1)

one k after the other, each product and sum rounded once, as torch's convolutions round them. A line is tried against
them when it is first read, for each number of images below `TRIED` apart, since torch takes other ways for few of them;
where one bit differs, torch computes its products.
"""

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from mapping.graph import Window
from simulators.crossbar.kernels import Kernels, Product
from simulators.crossbar.overlap import windows

TRIED = 16       # images, at most
COMPARED = 256   # sums, at least: of few all could agree by chance


class PackedLine:
    """The weights of a line as kernels take them.

    Args:
        own: the kernels.
        weight: (lines, C, k_h, k_w), w of equation (1).
        variance: v alike, None without noise.
        window: how the kernel meets the map of these channels.
    """

    def __init__(self, own: Kernels, weight: Tensor, variance: Tensor | None, window: Window):
        self._weight, self._window, self._known = weight, window, dict[int, bool]()
        self._panels = panels(weight, own.lines), None if variance is None else panels(variance, own.lines)

    def product(self, drive: Tensor, maps: bool) -> Product:
        """Of drives (B, C, H, W); whether they are wanted as maps."""
        own = self._window
        assert tuple(drive.shape[1:]) == own.pre, "drives are of the line's map"
        (lines, h, w), (weight, variance) = own.unpooled, self._panels
        if drive.stride(1) != 1:
            drive = drive.contiguous(memory_format=torch.channels_last)
        return Product(drive, own.padding, weight, variance, windows(own), (len(drive), h, w, lines), maps)

    def agrees(self, own: Kernels, images: int) -> bool:
        """Whether the kernels' sums of so many images are torch's to the bit.

        A line of one channel is left to torch, which rounds it one way or another by strides that mean nothing there.
        """
        if self._weight.shape[1] == 1 or not images:
            return False
        images = min(images, TRIED)
        if images not in self._known:
            self._known[images] = self._tried(own, images)
        return self._known[images]

    def _tried(self, own: Kernels, images: int) -> bool:
        window, generator = self._window, torch.Generator().manual_seed(0)

        def same() -> bool:
            drive = torch.rand(images, *window.pre, generator=generator).contiguous(memory_format=torch.channels_last)
            theirs = F.conv2d(drive, self._weight, None, window.stride, window.padding)
            return torch.equal(own.sums(self.product(drive, maps=False)), theirs.permute(0, 2, 3, 1))

        return all(same() for _ in range(-(-COMPARED // (images * math.prod(window.unpooled)))))


def of_channels(window: Window, inputs: int, lines: int) -> Window:
    """The window of a tile that has some of the channels."""
    return replace(window, pre=(inputs, *window.pre[1:]), unpooled=(lines, *window.unpooled[1:]))


def of_positions(drive: Tensor, lines: int) -> Window:
    """The window of a line that senses each position by itself."""
    _, inputs, h, w = drive.shape
    return Window((1, 1), 0, 1, 1, (inputs, h, w), (lines, h, w))


def panels(weight: Tensor, side: int) -> Tensor:
    """(panels, k_h k_w C, side) of weights (lines, C, k_h, k_w): lines side by side, zeros beside the last."""
    rows = weight.detach().permute(0, 2, 3, 1).flatten(1)
    rows = F.pad(rows, (0, 0, 0, -len(rows) % side))
    return rows.unflatten(0, (-1, side)).transpose(1, 2).contiguous()
