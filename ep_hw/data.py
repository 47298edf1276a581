"""Data sets as float images in [0, 1] with fixed splits.

`digits` is scikit-learn's (8x8, 1797 images, embedded in that package). `cifar10` and `cifar100` are read from
torchvision's folder layout, `ROOT/cifar-10-batches-py` and `ROOT/cifar-100-python`, with ROOT from --data-root or the
environment variable EP_HW_DATA.
"""

import io
import os
import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mapping.errors import Refusal

SPLIT_SEED = 0
SPLITS = ("train", "validation", "test")
CLASSES = {"digits": 10, "cifar10": 10, "cifar100": 100}
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

    def take(self, index) -> "Split":
        return Split(self.data, self.images[index], self.labels[index], self.ids[index])


def load_data(name: str, split: str, root: str | Path | None = None, download: bool = False) -> Split:
    """One split of a data set.

    Args:
        name: "digits", "cifar10" or "cifar100". split: "train", "validation" or "test".
        root: folder that holds the data set's own; the environment variable EP_HW_DATA if None.
        download: let torchvision fetch a missing data set into `root`.

    Raises:
        Refusal: unknown name or split, missing or damaged files.
    """
    if name not in LOADERS or split not in SPLITS:
        raise Refusal("unknown data set or split", where="data", got=f"{name}, {split}",
                      allowed=f"{', '.join(LOADERS)}; {', '.join(SPLITS)}", remedy="choose one of each")
    return LOADERS[name](split, root, download)


def _digits(split, root, download) -> Split:
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = np.random.default_rng(SPLIT_SEED).permutation(len(digits.target))
    first, second = _DIGITS_TEST, _DIGITS_TEST + _DIGITS_VALIDATION
    ids = {"test": order[:first], "validation": order[first:second], "train": order[second:]}[split]
    images = torch.from_numpy(digits.images[ids]).float()[:, None] / 16
    return Split("digits", images, torch.from_numpy(digits.target[ids]).long(), torch.from_numpy(ids))


@dataclass(frozen=True)
class _Cifar:
    """How one of the CIFAR sets is stored: folder, batch files, the key of the labels."""

    name: str
    folder: str
    train: tuple[str, ...]
    test: str
    labels: str

    def load(self, split, root, download) -> Split:
        folder = self._found(root, download)
        names = (self.test,) if split == "test" else self.train
        batches = [_cifar_batch(folder / name, self.labels) for name in names]
        pixels, labels = (np.concatenate(parts) for parts in zip(*batches))
        held_out = len(labels) - _CIFAR_VALIDATION
        part = {"train": slice(held_out), "validation": slice(held_out, None), "test": slice(None)}[split]
        images = torch.from_numpy(pixels[part].reshape(-1, 3, 32, 32)).float() / 255
        return Split(self.name, images, torch.from_numpy(labels[part]), torch.arange(len(labels))[part])

    def _found(self, root, download: bool) -> Path:
        root = root or os.environ.get("EP_HW_DATA")
        remedy = "give --data-root or EP_HW_DATA, or --download with a folder to fetch it into"
        if root is None:
            raise Refusal("no data folder named", where=self.name, got="neither --data-root nor EP_HW_DATA",
                          allowed=f"a folder that holds {self.folder}", remedy=remedy)
        folder = Path(root) / self.folder
        if download and not folder.is_dir():
            _download(self.name, root)
        if not folder.is_dir():
            raise Refusal("data set not found", where=self.name, got=str(folder), allowed="an existing folder",
                          remedy=remedy)
        return folder


LOADERS = {"digits": _digits,
           "cifar10": _Cifar("cifar10", "cifar-10-batches-py", tuple(f"data_batch_{n}" for n in range(1, 6)),
                             "test_batch", "labels").load,
           "cifar100": _Cifar("cifar100", "cifar-100-python", ("train",), "test", "fine_labels").load}


def _download(name: str, root):
    from torchvision import datasets

    try:
        getattr(datasets, name.upper())(str(root), download=True)
    except (OSError, RuntimeError) as error:
        raise Refusal("download failed", where=str(root), got=error, allowed="a reachable network, a writable folder",
                      remedy="put its folder there yourself") from None


class _ArrayUnpickler(pickle.Unpickler):
    """Reads dictionaries of arrays and builtin values; everything else in a pickle is refused."""

    _ALLOWED = frozenset({("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct"),
                          ("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")})

    def find_class(self, module, name):
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is not an array")
        return super().find_class(module, name)


def _cifar_batch(path: Path, key: str) -> tuple[np.ndarray, np.ndarray]:
    """(N, 3072) uint8 pixels and (N,) int64 labels, kept under `key`, of one official batch file."""
    try:
        batch = _ArrayUnpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load()
        pixels, labels = np.asarray(batch["data"]), np.asarray(batch[key], np.int64)
        if pixels.shape != (len(labels), 3072) or pixels.dtype != np.uint8:
            raise ValueError(f"data {pixels.dtype} {pixels.shape}")
    except (OSError, pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise Refusal("not a CIFAR batch", where=str(path), got=error, allowed="the official python batches",
                      remedy="fetch the data set again") from None
    return pixels, labels
