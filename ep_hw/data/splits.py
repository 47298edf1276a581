"""Data sets as float images in [0, 1] with fixed splits.

`digits` is scikit-learn's (8x8, 1797 images, embedded in that package). `cifar10` and `cifar100` are read from
torchvision's folder layout, `ROOT/cifar-10-batches-py` and `ROOT/cifar-100-python`, with ROOT from --data-root or the
environment variable EP_HW_DATA.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from os.path import isdir
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from pydantic import AfterValidator

from ep_hw.data.batches import read_batch
from ep_hw.data.fetching import Archive
from ep_hw.data.source import DEFAULT_SOURCE, DataSource
from mapping.errors import Refusal
from mapping.files import read_bytes, refusing

SPLIT_SEED = 0
SPLITS = ("train", "validation", "test")
CLASSES = {"digits": 10, "cifar10": 10, "cifar100": 100}
SHAPES = {"digits": (1, 8, 8), "cifar10": (3, 32, 32), "cifar100": (3, 32, 32)}   # of an image: (C, H, W)

def _known(name: str) -> str:
    if name not in SHAPES:
        raise ValueError(f"no data set {name!r}; known data sets are {', '.join(SHAPES)}")
    return name


DataName = Annotated[str, AfterValidator(_known)]
_CIFAR_VALIDATION = 5000
_DIGITS_TEST, _DIGITS_VALIDATION = 360, 237


@dataclass(frozen=True, eq=False)
class Split:
    """images (N, C, H, W) float32 in [0, 1]; labels (N,) int64; ids (N,) places in the original data set."""

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

    def take(self, index) -> "Split":
        return Split(self.data, self.images[index], self.labels[index], self.ids[index])


def load_data(name: str, split: str, data_source: DataSource = DEFAULT_SOURCE) -> Split:
    """One split of a data set.

    Args:
        name: "digits", "cifar10" or "cifar100".
        split: "train", "validation" or "test".
        data_source: where data sets lie.

    Raises:
        Refusal: unknown name or split, missing or damaged files.
    """
    if name not in LOADERS or split not in SPLITS:
        raise Refusal("unknown data set or split", where="data", got=f"{name}, {split}",
                      allowed=f"{', '.join(LOADERS)}; {', '.join(SPLITS)}", remedy="choose one of each")
    return LOADERS[name](split, data_source)


def draw(data: Split, images: int, seed: int) -> Split:
    """`images` images of a split, drawn by `seed`; the whole split where it has no more."""
    order = np.random.default_rng(seed).permutation(len(data))[:images]
    return data.take(torch.from_numpy(order))


def _digits(split: str, data_source: DataSource) -> Split:
    # read from its package, which is not imported: that takes a second, and a semaphore where there may be none
    table = np.loadtxt(Path(find_spec("sklearn").origin).parent / "datasets/data/digits.csv.gz", delimiter=",")
    pixels, labels = table[:, :-1].reshape(-1, 1, 8, 8), table[:, -1]
    order = np.random.default_rng(SPLIT_SEED).permutation(len(labels))
    first, second = _DIGITS_TEST, _DIGITS_TEST + _DIGITS_VALIDATION
    ids = {"test": order[:first], "validation": order[first:second], "train": order[second:]}[split]
    images = torch.from_numpy(pixels[ids]).float() / 16
    return Split("digits", images, torch.from_numpy(labels[ids]).long(), torch.from_numpy(ids))


@dataclass(frozen=True)
class _Cifar:
    """How one of the CIFAR sets is stored: folder, batch files and their most bytes, the key of the labels, its source.
    """

    name: str
    folder: str
    train: tuple[str, ...]
    test: str
    limit: int
    labels: str
    archive: Archive

    def load(self, split: str, data_source: DataSource) -> Split:
        folder = self._found(data_source)
        names = (self.test,) if split == "test" else self.train
        batches = [self._batch(folder / name) for name in names]
        pixels, labels = (np.concatenate(parts) for parts in zip(*batches))
        part = slice(None) if split == "test" else self._part(split, len(labels), folder)
        images = torch.from_numpy(pixels[part].reshape(-1, 3, 32, 32)).float() / 255
        return Split(self.name, images, torch.from_numpy(labels[part]), torch.arange(len(labels))[part])

    def _found(self, data_source: DataSource) -> Path:
        remedy = "give --data-root or EP_HW_DATA, or --download with a folder to fetch it into"
        if data_source.folder is None:
            raise Refusal("no data folder named", where=self.name, got="neither --data-root nor EP_HW_DATA",
                          allowed=f"a folder that holds {self.folder}", remedy=remedy)
        folder = data_source.folder / self.folder
        if data_source.download and not isdir(folder):
            self.archive.fetch(self.folder, (*self.train, self.test), data_source.folder)
        if not isdir(folder):
            raise Refusal("data set not found", where=self.name, got=str(folder), allowed="an existing folder",
                          remedy=remedy)
        return folder

    def _batch(self, path: Path) -> tuple[np.ndarray, np.ndarray]:
        """(N, 3072) uint8 pixels and (N,) int64 labels of one file."""
        with refusing("not a CIFAR batch", where=path, allowed="the official python batches",
                      remedy="fetch the data set again"):
            return read_batch(read_bytes(path, self.limit), self.labels, CLASSES[self.name])

    def _part(self, split: str, count: int, folder: Path) -> slice:
        held_out = count - _CIFAR_VALIDATION
        if held_out < 1:
            raise Refusal("too few training images", where=str(folder), got=count,
                          allowed=f"more than the {_CIFAR_VALIDATION} that are held out for validation",
                          remedy="fetch the data set again")
        return slice(held_out) if split == "train" else slice(held_out, None)


CIFAR10 = _Cifar("cifar10", "cifar-10-batches-py", tuple(f"data_batch_{n}" for n in range(1, 6)), "test_batch", 2**26,
                 "labels", Archive("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
                                   "c58f30108f718f92721af3b95e74349a", 2**28))
CIFAR100 = _Cifar("cifar100", "cifar-100-python", ("train",), "test", 2**28, "fine_labels",
                  Archive("https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
                          "eb9058c3a382ffc7106e4002c42a8d85", 2**28))
LOADERS = {"digits": _digits, "cifar10": CIFAR10.load, "cifar100": CIFAR100.load}
