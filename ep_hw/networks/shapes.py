"""What specs of networks have in common: images, convolutional layers, and the sizes that follow from them alone."""

import math
from itertools import repeat

from pydantic import model_validator

from mapping.fields import (
    Classes,
    Count,
    Depth,
    Finite,
    ImageShape,
    Padding,
    PerChannel,
    PerLayer,
    Scale,
    Stated,
    check_size,
)
from mapping.sealed import Layout

Shape = tuple[int, int, int]


class ImageSpec(Stated):
    """Images and how they are normalised: (image - mean) / scale.

    Attributes:
        image_shape: (C, H, W).
        classes: how many the network tells apart.
        mean: subtracted from each channel.
        scale: divides each channel of the centred image.
    """

    image_shape: ImageShape
    classes: Classes
    mean: PerChannel[Finite]
    scale: PerChannel[Scale]

    @model_validator(mode="after")
    def _normalisation(self) -> "ImageSpec":
        if not len(self.mean) == len(self.scale) == self.image_shape[0]:
            raise ValueError("mean and scale must have one entry per image channel each")
        return self


class Chain(Stated):
    """Convolutional layers, one entry a layer in each field.

    Attributes:
        channels: that a layer puts out.
        paddings: pixels of zeros on each side.
        pools: sides of the max-pools, 1 for none.
        strides: of the convolutions; 1 if None.
    """

    channels: PerLayer[Count]
    paddings: PerLayer[Padding]
    pools: PerLayer[Count]
    strides: PerLayer[Count] | None = None

    @model_validator(mode="after")
    def _lengths(self) -> "Chain":
        if not len(self.channels) == len(self.paddings) == len(self.pools) == len(self.strides or self.channels):
            raise ValueError("one entry a layer is needed in channels, paddings, pools and strides")
        return self


class ConvolutionalSpec(ImageSpec, Chain):
    """Convolutional layers with max-pools on images of one shape, then a dense readout.

    Attributes:
        kernel: side of all kernels, or one a layer: its side, or (height, width). A dense layer has one as large as
            its map.
    """

    kernel: Count | PerLayer[Count | tuple[Count, Count]] = 3

    @property
    def kernels(self) -> tuple[tuple[int, int], ...]:
        """(height, width) of each layer's."""
        sides = self.kernel if isinstance(self.kernel, tuple) else (self.kernel,) * len(self.channels)
        return tuple(side if isinstance(side, tuple) else (side, side) for side in sides)

    @model_validator(mode="after")
    def _sizes(self) -> "ConvolutionalSpec":
        if len(self.kernels) != len(self.channels):
            raise ValueError("one kernel a layer is needed, or one for all")
        units = sum(math.prod(unpooled) for _, unpooled, _ in self.geometry())
        check_size(count_weights(self.layout()), units)
        return self

    @property
    def size(self) -> str:
        """The channels, as in "8x16"."""
        return "x".join(map(str, self.channels))

    def layout(self) -> Layout:
        """Type and shape of every tensor of the network, by name."""
        raise NotImplementedError

    def geometry(self) -> list[tuple[Shape, Shape, Shape]]:
        """(pre, unpooled, post) shapes of each layer.

        Raises:
            ValueError: a kernel or a pool that does not fit its map.
        """
        rows: list[tuple[Shape, Shape, Shape]] = []
        pre = self.image_shape
        layers = zip(self.channels, self.kernels, self.paddings, self.strides or repeat(1), self.pools)
        for n, (channels, kernel, padding, stride, pool) in enumerate(layers, 1):
            height, width = ((length + 2 * padding - k) // stride + 1 for length, k in zip(pre[1:], kernel))
            unpooled, post = (channels, height, width), (channels, height // pool, width // pool)
            if min(post) < 1:
                raise ValueError(f"nothing is left of a map of {pre[1]}x{pre[2]} in layer {n}: kernel "
                                 f"{kernel[0]}x{kernel[1]}, padding {padding}, pool {pool}")
            rows.append((pre, unpooled, post))
            pre = post
        return rows


class Transformer(Stated):
    """Blocks of a vision transformer.

    Attributes:
        patch: side of the square patches that an image is cut into, in pixels.
        layers: how many blocks there are.
        heads: of each block's attention.
        dim: numbers in a token.
        hidden: units in the hidden layer of each block's MLP.
    """

    patch: Count
    layers: Depth
    heads: Count
    dim: Count
    hidden: Count


class TransformerSpec(ImageSpec, Transformer):
    """A vision transformer on images of one shape."""

    @model_validator(mode="after")
    def _sizes(self) -> "TransformerSpec":
        if self.dim % self.heads or any(side % self.patch for side in self.image_shape[1:]):
            raise ValueError("dim must be a multiple of heads, and the image's sides of patch")
        values = self.tokens * (4 * self.dim + self.hidden + self.heads * self.tokens)
        check_size(count_weights(self.layout()), self.layers * values)
        return self

    @property
    def tokens(self) -> int:
        """Patches, and the class token."""
        return 1 + (self.image_shape[1] // self.patch) * (self.image_shape[2] // self.patch)

    @property
    def size(self) -> str:
        """Layers, heads and dim in words."""
        return f"{self.layers} layers, {self.heads} heads, dim {self.dim}"

    def layout(self) -> Layout:
        """Type and shape of every tensor of the network, by name."""
        raise NotImplementedError


def count_weights(layout: Layout) -> int:
    """How many numbers a network of that layout holds."""
    return sum(math.prod(shape) for _, shape in layout.values())
