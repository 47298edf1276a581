"""Splits: images in [0, 1] with labels, the parts of a data set that are trained, chosen and tested on."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

SPLIT_SEED = 0   # of the order in which a data set without a published split is divided
SPLITS = ("train", "validation", "test")
Places = NDArray[np.int64]   # of images in a set


@dataclass(frozen=True, eq=False)
class Split:
    """Images of a data set with their labels.

    Attributes:
        data: the data set's name.
        images: (N, C, H, W) float32 in [0, 1].
        labels: (N,) int64.
        ids: (N,) int64, places in the original data set.
        sha256: of all images and labels of the split that these are part of, as they are stored; empty for sets that
            are known by their names.
        class_names: of the classes that labels number; () where they have none.
    """

    data: str
    images: torch.Tensor
    labels: torch.Tensor
    ids: torch.Tensor
    sha256: str = ""
    class_names: tuple[str, ...] = ()

    def __len__(self):
        return len(self.labels)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    @cached_property
    def digest(self) -> str:
        """sha256 over name, pixels, labels and ids."""
        content = hashlib.sha256(f"{self.data} {tuple(self.images.shape)} {self.images.dtype}".encode())
        for tensor in (self.images, self.labels, self.ids):
            content.update(tensor.contiguous().numpy().data)
        return content.hexdigest()

    def take(self, index: slice | torch.Tensor) -> "Split":
        """The images that an index of a tensor's first dimension chooses."""
        return replace(self, images=self.images[index], labels=self.labels[index], ids=self.ids[index])

    def parts(self, count: int) -> Iterator["Split"]:
        """All images in order, so many at a time."""
        return (self.take(slice(start, start + count)) for start in range(0, len(self), count))

    def random_images(self, count: int, seed: int) -> "Split":
        """`count` of the images, chosen at random by `seed`, or all of them in random order where there are no more."""
        return Choose(count, seed).of(self)


def class_name(names: Sequence[str], label: int) -> str:
    """The name of a class, or its number where it has none."""
    return names[label] if 0 <= label < len(names) else str(label)


@dataclass(frozen=True)
class Choose:
    """Which images of a split are wanted.

    Attributes:
        count: how many at most; all if None.
        seed: of the order that they are taken in; the split's own if None.
    """

    count: int | None = None
    seed: int | None = None

    def places(self, available: int) -> Places:
        """Places of the images in a split of so many."""
        order = np.arange(available) if self.seed is None else np.random.default_rng(self.seed).permutation(available)
        return order[:self.count]

    def of(self, split: Split) -> Split:
        """The images of a split that was read."""
        if self.seed is None:
            return split.take(slice(self.count))
        return split.take(torch.from_numpy(self.places(len(split))))


EVERY = Choose()
