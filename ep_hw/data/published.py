"""Published sets of 28x28 grey images in the folders that torchvision makes: ROOT/MNIST/raw/train-images-idx3-ubyte.

Their files (IDX: sizes, then bytes) are mapped into memory. Source: LeCun et al. 1998 (MNIST), Xiao et al. 2017
(Fashion-MNIST), Clanuwat et al. 2018 (KMNIST).
"""

import math
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ep_hw.data.held import HeldSplit
from ep_hw.data.rows import MemoryRows
from ep_hw.data.source import BaseDataset, DataSource
from ep_hw.data.splits import EVERY, Choose, Split
from ep_hw.data.stored import DRAWN, StoredDataset, stored_dataset
from mapping.errors import Refusal
from mapping.files import check_regular, reason, refusing

PREFIX = "torchvision:"
FILES = {"train": "train", "test": "t10k"}
_REMEDY = "give --data-root or EP_HW_DATA, or --download with a folder to fetch it into"


@dataclass(frozen=True, kw_only=True)
class PublishedSet(BaseDataset):
    """A set of torchvision: its own train and test, validation images drawn from train."""

    division: str = f"its own train, test; {DRAWN}"

    @property
    def title(self) -> str:
        """Its name in torchvision."""
        return self.name.removeprefix(PREFIX)

    def load(self, split: str, data_source: DataSource) -> Split:
        """See `BaseDataset`."""
        return self.part(split, data_source, EVERY)

    def part(self, split: str, data_source: DataSource, choose: Choose) -> Split:
        """See `BaseDataset`."""
        return self.stored(data_source).part(split, data_source, choose)

    def held(self, split: str, data_source: DataSource) -> HeldSplit:
        """See `BaseDataset`."""
        return self.stored(data_source).held(split, data_source)

    def stored(self, data_source: DataSource) -> StoredDataset:
        """What lies in its folder.

        Raises:
            Refusal: it is not there and cannot be fetched, or its files are damaged.
        """
        raw = self._folder(data_source)
        files = {split: [raw / name for name in _names(stem)] for split, stem in FILES.items()}
        rows = {split: MemoryRows.of(_idx(images, 3), _idx(labels, 1), str(images))
                for split, (images, labels) in files.items()}
        return stored_dataset(self.name, rows, self.class_names, source=self.name)

    def _folder(self, data_source: DataSource) -> Path:
        root = data_source.folder
        if root is None:
            raise Refusal("no data folder named", where=self.name, got="neither --data-root nor EP_HW_DATA",
                          allowed=f"a folder that holds {self.title}/raw", remedy=_REMEDY)
        raw = root / self.title / "raw"
        if data_source.download and not all((raw / name).is_file() for stem in FILES.values() for name in _names(stem)):
            self._fetch(root)
        if not raw.is_dir():
            raise Refusal("data set not found", where=self.name, got=raw, allowed="an existing folder", remedy=_REMEDY)
        return raw

    def _fetch(self, root: Path):
        from torchvision import datasets

        try:
            getattr(datasets, self.title)(str(root), download=True)
        except (OSError, RuntimeError) as error:
            raise Refusal("download failed", where=f"{self.name} into {root}", got=reason(error),
                          allowed="a reachable server, a writable folder",
                          remedy=f"put the folder {self.title} there yourself") from None


def _names(stem: str) -> tuple[str, str]:
    """The files of a split's images and labels."""
    return f"{stem}-images-idx3-ubyte", f"{stem}-labels-idx1-ubyte"


def _idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """The bytes of an IDX file as an array."""
    with refusing("not a file of this set", where=path, allowed="as many bytes as its head says",
                  remedy="fetch the set again"):
        size, start = check_regular(path).st_size, 4 + 4 * dimensions
        with open(path, "rb") as file:
            head = file.read(start)
        if len(head) < start or head[:4] != bytes((0, 0, 8, dimensions)):
            raise ValueError("another head")
        shape = struct.unpack(f">{dimensions}I", head[4:])
        if math.prod(shape) != size - start or size == start:
            raise ValueError(f"{size - start} bytes for {shape}")
        return np.memmap(path, np.uint8, "r", start, shape)


CLOTHES = ("T-shirt or top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
PUBLISHED = tuple(PublishedSet(name=f"{PREFIX}{title}", classes=10, image_shape=(1, 28, 28), class_names=names)
                  for title, names in (("MNIST", ()), ("FashionMNIST", CLOTHES), ("KMNIST", ())))
