"""CIFAR-10 and CIFAR-100, read from the folders that torchvision makes: cifar-10-batches-py and cifar-100-python.

The last 5000 training images are held out for validation. Source: Krizhevsky 2009.
"""

from dataclasses import dataclass
from os.path import isdir
from pathlib import Path

import numpy as np
import torch

from ep_hw.data.batches import read_batch
from ep_hw.data.fetching import Archive
from ep_hw.data.held import HeldSplit, Pixels
from ep_hw.data.source import BaseDataset, DataSource
from ep_hw.data.splits import Split
from mapping.errors import Refusal
from mapping.files import read_bytes, refusing

VALIDATION_IMAGES = 5000


@dataclass(frozen=True, kw_only=True)
class Cifar(BaseDataset):
    """A CIFAR set as it is published.

    Attributes:
        folder: of the published archive, and below a data source's.
        train: names of the files of training images.
        test: name of the file of test images.
        limit: the most bytes of a file.
        labels: the key of the labels in a file.
        archive: where the folder is published.
    """

    image_shape: tuple[int, int, int] = (3, 32, 32)
    folder: str
    train: tuple[str, ...]
    test: str
    limit: int
    labels: str
    archive: Archive

    def load(self, split: str, data_source: DataSource) -> Split:
        """See `BaseDataset`."""
        return self.held(split, data_source).take(slice(None))

    def held(self, split: str, data_source: DataSource) -> HeldSplit:
        """See `BaseDataset`."""
        folder = self._folder(data_source)
        names = (self.test,) if split == "test" else self.train
        batches = [self._batch(folder / name) for name in names]
        pixels, labels = (np.concatenate(parts) for parts in zip(*batches))
        part = slice(None) if split == "test" else self._part(split, len(labels), folder)
        own = Pixels(pixels.reshape(-1, 3, 32, 32), "NCHW", np.arange(len(labels))[part])
        return HeldSplit(data=self.name, image_shape=self.image_shape, pixels=(own,), class_names=self.class_names,
                         labels=torch.from_numpy(labels[part]), ids=torch.from_numpy(own.places))

    def _folder(self, data_source: DataSource) -> Path:
        """Its folder, fetched where it is missing and the source says so."""
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
            return read_batch(read_bytes(path, self.limit), self.labels, self.classes)

    def _part(self, split: str, count: int, folder: Path) -> slice:
        """Which of `count` training images belong to a split."""
        held_out = count - VALIDATION_IMAGES
        if held_out < 1:
            raise Refusal("too few training images", where=str(folder), got=count,
                          allowed=f"more than the {VALIDATION_IMAGES} that are held out for validation",
                          remedy="fetch the data set again")
        return slice(held_out) if split == "train" else slice(held_out, None)


CIFAR10 = Cifar(
    name="cifar10", classes=10, corruptions="CIFAR-10-C", folder="cifar-10-batches-py",
    train=tuple(f"data_batch_{n}" for n in range(1, 6)), test="test_batch", limit=2**26, labels="labels",
    class_names=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    archive=Archive("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a",
                    2**28))
CIFAR100 = Cifar(
    name="cifar100", classes=100, corruptions="CIFAR-100-C", folder="cifar-100-python", train=("train",), test="test",
    limit=2**28, labels="fine_labels",
    archive=Archive("https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85",
                    2**28))
