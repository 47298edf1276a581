"""A chain of layers as it grows: each operation of a network joins those before it."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ep_hw.networks.lowering.layer import ONE, Box, Layer, Pair, product
from ep_hw.networks.shapes import Shape


class Operation(ABC):
    """One operation of a network."""

    @abstractmethod
    def join(self, chain: "Chain") -> "Chain":
        """The chain with this operation at its end.

        Raises:
            ValueError: it cannot be there.
        """


@dataclass(frozen=True, eq=False)
class Affine(Operation):
    """scale x + shift, by channel: each (C,) or, for all channels alike, (1,)."""

    scale: Tensor
    shift: Tensor

    def of(self, channels: int) -> "Affine":
        """The same in float64, with an entry a channel.

        Raises:
            ValueError: it has another number of entries.
        """
        if not {len(self.scale), len(self.shift)} <= {1, channels}:
            raise ValueError(f"{max(len(self.scale), len(self.shift))} factors or terms for {channels} channels")
        return Affine(self.scale.double().expand(channels), self.shift.double().expand(channels))

    def then(self, later: "Affine") -> "Affine":
        """Both as one."""
        return Affine(self.scale * later.scale, self.shift * later.scale + later.shift)

    def join(self, chain: "Chain") -> "Chain":
        own = self.of(chain.shape[0])
        if chain.is_open:
            return chain.with_top(chain.layers[-1].times(own.scale, own.shift))
        return replace(chain, between=chain.between.then(own))


NONE = Affine(torch.ones(1), torch.zeros(1))


@dataclass(frozen=True, eq=False)
class Chain:
    """Layers from the image on, and what stands between the last activation and weights still to come.

    Attributes:
        image_shape: (C, H, W).
        normalisation: of the image, by channel.
        layers: the first one first.
        box: average pools of the last layer's map.
        between: factors and terms of that map, by channel.
        flat: whether the map has become a row of features.
    """

    image_shape: Shape
    normalisation: Affine = NONE
    layers: tuple[Layer, ...] = ()
    box: Box = ONE
    between: Affine = NONE
    flat: bool = False

    @property
    def last(self) -> Shape:
        """Shape of the last layer's map, or of the image."""
        return self.layers[-1].post if self.layers else self.image_shape

    @property
    def shape(self) -> Shape:
        """Shape of the map as it stands, pooled averages included."""
        return self.last[0], *self.box.sides(self.last)

    @property
    def is_open(self) -> bool:
        """Whether the last layer has no activation yet."""
        return bool(self.layers) and self.layers[-1].ceiling is None

    def top(self, what: str) -> Layer:
        """The last layer, for something that must follow one."""
        if not self.layers:
            raise ValueError(f"{what} of the image itself, below all weights")
        return self.layers[-1]

    def with_top(self, layer: Layer) -> "Chain":
        """The chain with its last layer replaced."""
        return replace(self, layers=(*self.layers[:-1], layer))

    def with_layer(self, layer: Layer) -> "Chain":
        """The chain with one more layer, above which nothing stands yet."""
        return replace(self, layers=(*self.layers, layer), between=NONE, box=ONE)


@dataclass(frozen=True, eq=False)
class Convolution(Operation):
    """Weights over a window of the map.

    Attributes:
        weight: (C_out, C_in, k_h, k_w).
        bias: (C_out,), or None.
        padding: zeros around the map, in pixels.
        strides: (vertical, horizontal), in pixels.
    """

    weight: Tensor
    bias: Tensor | None
    padding: int = 0
    strides: Pair = (1, 1)

    def join(self, chain: Chain) -> Chain:
        if chain.is_open:
            raise ValueError("weights directly above weights, without an activation between them")
        weight, bias = self._scaled(chain)
        box, (out, inputs, *sides) = chain.box, weight.shape
        spread = F.conv_transpose2d(weight.reshape(-1, 1, *sides), box.kernel[None, None], stride=box.strides)
        padding = box.padding(chain.last, self.padding)
        layer = Layer(spread.reshape(out, inputs, *spread.shape[2:]), bias, chain.last, padding,
                      product(self.strides, box.strides))
        normalisation = chain.normalisation if chain.layers or not _is_normalisation(chain) else chain.between
        return replace(chain.with_layer(layer), normalisation=normalisation)

    def _scaled(self, chain: Chain) -> tuple[Tensor, Tensor]:
        """`lowering.layer` (2), unless the graph normalises its image itself."""
        weight = self.weight.double()
        bias = weight.new_zeros(len(weight)) if self.bias is None else self.bias.double()
        if _is_normalisation(chain):
            return weight, bias
        own = chain.between.of(weight.shape[1])
        if self.padding and (own.shift != 0).any():
            raise ValueError("a convolution with padding above a shift of its map, as of a batch norm")
        return weight * own.scale[:, None, None], bias + torch.einsum("oihw,i->o", weight, own.shift)


def _is_normalisation(chain: Chain) -> bool:
    """Whether what stands below the next weights is the graph's own normalisation of the image."""
    return not chain.layers and bool((chain.between.scale > 0).all())


@dataclass(frozen=True, eq=False)
class Dense(Operation):
    """Weights (outputs, features) on a row of features: a kernel as large as the map that the row was."""

    weight: Tensor
    bias: Tensor | None

    def join(self, chain: Chain) -> Chain:
        if not chain.flat:
            raise ValueError("a dense layer of a map that was not flattened")
        return Convolution(self.weight.reshape(len(self.weight), *chain.shape), self.bias).join(chain)


@dataclass(frozen=True)
class MaxPool(Operation):
    """A max pool by 2; it commutes with activations and with factors that are not negative."""

    def join(self, chain: Chain) -> Chain:
        top = chain.top("a max pool")
        if top.pool > 1 or not chain.box.is_one:
            raise ValueError("a max pool above another pool, without weights between them")
        if (chain.between.scale < 0).any():
            raise ValueError("a max pool above negative factors, as of a batch norm")
        return chain.with_top(replace(top, pool=2))


@dataclass(frozen=True)
class AveragePool(Operation):
    """An average pool of windows (height, width), so many pixels (vertical, horizontal) apart."""

    sides: Pair
    strides: Pair

    def join(self, chain: Chain) -> Chain:
        box = Box.of(self.sides, self.strides)
        if chain.is_open:
            return chain.with_top(chain.layers[-1].averaged(box))
        return replace(chain, box=chain.box.then(box))


@dataclass(frozen=True)
class Averages(Operation):
    """Averages over equal parts of the map, as many (down, across) as `places` says; None for as many as it has."""

    places: tuple[int | None, int | None] = (1, 1)

    def join(self, chain: Chain) -> Chain:
        height, width = chain.shape[1:]
        down, across = self.places[0] or height, self.places[1] or width
        if height % down or width % across:
            raise ValueError(f"a map of {height}x{width} averaged to {down}x{across} places, parts that are not equal")
        sides = height // down, width // across
        return AveragePool(sides, sides).join(chain)


@dataclass(frozen=True)
class Activation(Operation):
    """clamp(x, 0, ceiling)."""

    ceiling: float = math.inf

    def join(self, chain: Chain) -> Chain:
        top = chain.top("an activation")
        if not chain.is_open:
            raise ValueError("an activation above another one")
        return chain.with_top(replace(top, ceiling=self.ceiling))


@dataclass(frozen=True)
class Flatten(Operation):
    """The map as a row of features."""

    def join(self, chain: Chain) -> Chain:
        return replace(chain, flat=True)
