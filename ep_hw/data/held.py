"""Splits that are trained on: their images stay as they are stored, and those that are asked for become floats.

What lies compressed or in many files is first written into one unnamed file, of which memory holds what is in use.
"""

import hashlib
import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from ep_hw.data.layouts import Layout, as_images
from ep_hw.data.splits import Choose, Places, Split

READ = 2**24   # values that become floats at a time


@dataclass(frozen=True, eq=False)
class Pixels:
    """Some images of an array.

    Attributes:
        array: of images, the first index that of the image.
        layout: of its indices.
        places: of the images, in their order.
    """

    array: NDArray
    layout: Layout
    places: Places

    def __len__(self):
        return len(self.places)

    def __reduce__(self) -> tuple:
        """What travels to another process: these images, and none of the others."""
        return type(self), (np.asarray(self.array[self.places]), self.layout, np.arange(len(self)))

    def images(self, index: Places) -> NDArray[np.float32]:
        """(n, C, H, W) in [0, 1]."""
        return as_images(self.array[self.places[index]], self.layout)


@dataclass(frozen=True, eq=False, kw_only=True)
class HeldSplit:
    """A split whose images are read when they are taken; `take` gives the same as that of a `Split` of all of them.

    Attributes:
        data: see `Split`, as all others but:
        image_shape: (C, H, W).
        pixels: its images, one part after another.
    """

    data: str
    image_shape: tuple[int, int, int]
    pixels: tuple[Pixels, ...]
    labels: torch.Tensor
    ids: torch.Tensor
    sha256: str = ""
    class_names: tuple[str, ...] = ()

    @classmethod
    def of(cls, split: Split) -> "HeldSplit":
        """A split that is in memory as floats."""
        own = Pixels(split.images.numpy(), "NCHW", np.arange(len(split)))
        return cls(data=split.data, image_shape=split.image_shape, pixels=(own,), labels=split.labels,
                   ids=split.ids, sha256=split.sha256, class_names=split.class_names)

    def __len__(self):
        return len(self.labels)

    @cached_property
    def digest(self) -> str:
        """See `Split.digest`."""
        content = hashlib.sha256(f"{self.data} {(len(self), *self.image_shape)} {torch.float32}".encode())
        for part in self.parts(max(1, READ // math.prod(self.image_shape))):
            content.update(part.images.numpy().data)
        for tensor in (self.labels, self.ids):
            content.update(tensor.contiguous().numpy().data)
        return content.hexdigest()

    def take(self, index: slice | torch.Tensor) -> Split:
        """The images that an index of a tensor's first dimension chooses, as floats."""
        places = np.arange(len(self))[index if isinstance(index, slice) else index.numpy()]
        images, start = np.empty((len(places), *self.image_shape), np.float32), 0
        for own in self.pixels:
            here = (places >= start) & (places < start + len(own))
            images[here] = own.images(places[here] - start)
            start += len(own)
        return Split(self.data, torch.from_numpy(images), self.labels[index], self.ids[index], self.sha256,
                     self.class_names)

    def chosen(self, choose: Choose) -> "HeldSplit":
        """Some of the images of a split that is no other's continuation, in the order in which they are chosen."""
        (own,), places = self.pixels, choose.places(len(self))
        index = torch.from_numpy(places)
        return replace(self, pixels=(replace(own, places=own.places[places]),), labels=self.labels[index],
                       ids=self.ids[index])

    def parts(self, count: int) -> Iterator[Split]:
        """All images in order, so many at a time."""
        return (self.take(slice(start, start + count)) for start in range(0, len(self), count))

    def and_then(self, other: "HeldSplit") -> "HeldSplit":
        """These images and then those of another split of the same data."""
        return replace(self, pixels=(*self.pixels, *other.pixels), labels=torch.cat([self.labels, other.labels]),
                       ids=torch.cat([self.ids, other.ids]))


def unnamed_array(shape: Sequence[int], dtype: np.dtype) -> NDArray:
    """An array in an unnamed file, which goes when the array does.

    Raises:
        OSError: there is no room for it.
    """
    with tempfile.TemporaryFile(prefix="ep-hw-images-") as file:
        file.truncate(math.prod(shape) * dtype.itemsize)
        return np.memmap(file, dtype, "r+", shape=tuple(shape))
