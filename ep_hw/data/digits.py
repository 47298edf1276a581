"""Digits of eight by eight pixels, which scikit-learn brings: 1797 images in 16 shades.

Source: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository 1998.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from ep_hw.data.source import BaseDataset, DataSource
from ep_hw.data.splits import SPLIT_SEED, Split

TEST_IMAGES, VALIDATION_IMAGES = 360, 237
WHITE = 16


class Digits(BaseDataset):
    """scikit-learn's digits, in random splits (`SPLIT_SEED`); they need no folder of data."""

    def load(self, split: str, data_source: DataSource) -> Split:
        pixels, labels = _table()
        order = np.random.default_rng(SPLIT_SEED).permutation(len(labels))
        test, validation, train = np.split(order, (TEST_IMAGES, TEST_IMAGES + VALIDATION_IMAGES))
        ids = {"test": test, "validation": validation, "train": train}[split]
        images = torch.from_numpy(pixels[ids]).float() / WHITE
        return Split(self.name, images, torch.from_numpy(labels[ids]).long(), torch.from_numpy(ids))


def _table() -> tuple[np.ndarray, np.ndarray]:
    """(1797, 1, 8, 8) pixels and (1797,) labels.

    They are read from scikit-learn's files without importing it: that takes a second, and a semaphore where there may
    be none.
    """
    package = find_spec("sklearn")
    assert package is not None, "scikit-learn is a dependency of this package"
    table = np.loadtxt(Path(str(package.origin)).parent / "datasets/data/digits.csv.gz", delimiter=",")
    return table[:, :-1].reshape(-1, 1, 8, 8), table[:, -1]


DIGITS = Digits(name="digits", classes=10, image_shape=(1, 8, 8))
