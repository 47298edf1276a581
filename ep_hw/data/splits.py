"""Splits: images in [0, 1] with labels, the parts of a data set that are trained, chosen and tested on."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

SPLIT_SEED = 0   # of the order in which a data set without a published split is divided
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class Split:
    """Images of a data set with their labels.

    Attributes:
        data: the data set's name.
        images: (N, C, H, W) float32 in [0, 1].
        labels: (N,) int64.
        ids: (N,) int64, places in the original data set.
    """

    data: str
    images: torch.Tensor
    labels: torch.Tensor
    ids: torch.Tensor

    def __len__(self):
        return len(self.labels)

    @cached_property
    def digest(self) -> str:
        """sha256 over name, pixels, labels and ids."""
        content = hashlib.sha256(f"{self.data} {tuple(self.images.shape)} {self.images.dtype}".encode())
        for tensor in (self.images, self.labels, self.ids):
            content.update(tensor.contiguous().numpy().data)
        return content.hexdigest()

    def take(self, index: slice | torch.Tensor) -> "Split":
        """The images that an index of a tensor's first dimension chooses."""
        return Split(self.data, self.images[index], self.labels[index], self.ids[index])

    def random_images(self, count: int, seed: int) -> "Split":
        """`count` of the images, chosen at random by `seed`, or all of them in random order where there are no more."""
        order = np.random.default_rng(seed).permutation(len(self))[:count]
        return self.take(torch.from_numpy(order))
