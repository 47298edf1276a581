"""The published sets CIFAR-10-C and CIFAR-100-C, read from their folders where a user has them.

A folder holds NAME.npy (50000, 32, 32, 3) uint8 for every corruption, five severities of the 10,000 test images one
after another, and labels.npy (50000,). Files are memory-mapped: only the images in use are read.
Source: Hendrycks and Dietterich 2019.
"""

import hashlib
from dataclasses import dataclass
from os.path import isdir
from pathlib import Path

import numpy as np
import torch

from ep_hw.data.registry import DATA_SETS
from ep_hw.data.source import DataSource
from ep_hw.data.splits import Split
from mapping.arrays import map_array
from mapping.errors import Refusal
from mapping.files import refusing

SEVERITIES = 5
_WHAT, _REMEDY = "not a published set of corruptions", "fetch the set again"
_ALLOWED = "five severities of the test images, uint8 (N, 32, 32, 3), and their labels"


@dataclass(frozen=True)
class OfficialSet:
    """A folder in the published format."""

    folder: Path

    @classmethod
    def of(cls, data: str, data_source: DataSource) -> "OfficialSet":
        """The set that belongs to a data set, below the folder of a data source.

        Raises:
            Refusal: a data set without a published set, or no such folder.
        """
        name = data in DATA_SETS and DATA_SETS[data].corruptions
        if not name:
            published = ", ".join(data_set.name for data_set in DATA_SETS.values() if data_set.corruptions)
            raise Refusal("no corruptions were published", where=data, got="official:...", allowed=published,
                          remedy="leave 'official:' out: the corruptions are then made here")
        folder = (data_source.folder or Path()) / name
        if data_source.folder is None or not isdir(folder):
            raise Refusal("the published corruptions are not there", where=data, got=str(folder),
                          allowed="an existing folder", remedy=f"put {name} below --data-root or EP_HW_DATA")
        return cls(folder)

    def corrupted(self, name: str, severity: int, clean: Split) -> torch.Tensor:
        """The published images of the test images `clean`.

        Returns:
            (N, 3, 32, 32) float32 in [0, 1].

        Raises:
            Refusal: a missing or damaged file, or labels of another test set.
        """
        pixels, labels = self._open(f"{name}.npy", (32, 32, 3), np.uint8), self._open("labels.npy", (), np.integer)
        if len(pixels) != len(labels) or len(labels) % SEVERITIES:
            raise self._damaged(f"{name}.npy", f"{len(pixels)} images, {len(labels)} labels")
        places = (severity - 1) * (len(labels) // SEVERITIES) + clean.ids.numpy()
        if clean.ids.max() >= len(labels) // SEVERITIES or not np.array_equal(labels[places], clean.labels.numpy()):
            raise self._damaged("labels.npy", f"labels that are not those of {clean.data}")
        return torch.from_numpy(pixels[places].transpose(0, 3, 1, 2).astype(np.float32) / 255)

    def digest(self, name: str, severity: int, clean: Split) -> str:
        """sha256 of the published images of `clean`."""
        return hashlib.sha256(self.corrupted(name, severity, clean).numpy().tobytes()).hexdigest()

    def _open(self, name: str, shape: tuple[int, ...], kind: type) -> np.ndarray:
        """The array of a file, of entries of that shape and kind."""
        with refusing(_WHAT, where=self.folder / name, allowed=_ALLOWED, remedy=_REMEDY):
            array = map_array(self.folder / name)
        if array.shape[1:] != shape or array.ndim != len(shape) + 1 or not np.issubdtype(array.dtype, kind):
            raise self._damaged(name, f"{array.dtype} {array.shape}")
        return array

    def _damaged(self, name: str, got: object) -> Refusal:
        return Refusal(_WHAT, where=str(self.folder / name), got=got, allowed=_ALLOWED, remedy=_REMEDY)


@dataclass(frozen=True, eq=False)
class HeldSet:
    """Published images that were read for one cell.

    Attributes:
        images: (N, 3, 32, 32) float32 in [0, 1].
    """

    images: torch.Tensor

    def corrupted(self, name: str, severity: int, clean: Split) -> torch.Tensor:
        """See `OfficialSet.corrupted`."""
        return self.images
