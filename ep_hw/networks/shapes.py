"""What specs of networks have in common: images, convolutional layers, and the sizes that follow from them alone."""

import math

from pydantic import model_validator

from mapping.fields import Classes, Count, Finite, ImageShape, Padding, PerChannel, PerLayer, Scale, Stated, check_size
from mapping.sealed import Layout

Shape = tuple[int, int, int]


class ImageSpec(Stated):
    """Images (C, H, W) and how they are normalised: `scale` divides the centred image, (image - mean) / scale."""

    image_shape: ImageShape
    classes: Classes
    mean: PerChannel[Finite]
    scale: PerChannel[Scale]

    @model_validator(mode="after")
    def _normalisation(self):
        if not len(self.mean) == len(self.scale) == self.image_shape[0]:
            raise ValueError("mean and scale must have one entry per image channel each")
        return self


class Chain(Stated):
    """Channels, paddings and pools of convolutional layers, one entry a layer each."""

    channels: PerLayer[Count]
    paddings: PerLayer[Padding]
    pools: PerLayer[Count]

    @model_validator(mode="after")
    def _lengths(self):
        if not len(self.channels) == len(self.paddings) == len(self.pools):
            raise ValueError("one entry a layer is needed in channels, paddings and pools")
        return self


class ConvolutionalSpec(ImageSpec, Chain):
    """Convolutional layers with max-pools on images of one shape, then a dense readout."""

    kernel: Count = 3

    @model_validator(mode="after")
    def _sizes(self):
        units = sum(math.prod(unpooled) for _, unpooled, _ in self.geometry())
        check_size(count_weights(self.layout()), units)
        return self

    @property
    def size(self) -> str:
        return "x".join(map(str, self.channels))

    def layout(self) -> Layout:
        """Type and shape of every tensor of the network, by name."""
        raise NotImplementedError

    def geometry(self) -> list[tuple[Shape, Shape, Shape]]:
        """(pre, unpooled, post) shapes of each layer.

        Raises:
            ValueError: a kernel or a pool that does not fit its map.
        """
        rows, pre = [], self.image_shape
        for n, (channels, padding, pool) in enumerate(zip(self.channels, self.paddings, self.pools), 1):
            side = [length + 2 * padding - self.kernel + 1 for length in pre[1:]]
            unpooled, post = (channels, *side), (channels, *(length // pool for length in side))
            if min(post) < 1:
                raise ValueError(f"nothing is left of a map of {pre[1]}x{pre[2]} in layer {n}: kernel {self.kernel}, "
                                 f"padding {padding}, pool {pool}")
            rows.append((pre, unpooled, post))
            pre = post
        return rows


def count_weights(layout: Layout) -> int:
    """How many numbers a network of that layout holds."""
    return sum(math.prod(shape) for _, shape in layout.values())
