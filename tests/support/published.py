"""Files of published sets in the forms that torchvision reads: IDX, MAT-files and lines packed by bzip2."""

import bz2
import io

import numpy as np
from scipy.io import savemat


def levels(count: int, *shape: int, seed: int = 0) -> np.ndarray:
    """(count, *shape) uint8."""
    return np.random.default_rng(seed).integers(0, 256, (count, *shape)).astype(np.uint8)


def idx(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


def mnist_files(train: str, test: str, classes: int = 10, first: int = 0, each: int = 6) -> dict[str, bytes]:
    """Of a set in MNIST's form, by the ends of their names: images of every class in both splits."""
    files = {}
    for stem, count in ((train, each * classes), (test, 2 * classes)):
        labels = (first + np.arange(count) % classes).astype(np.uint8)
        files |= {f"{stem}-images-idx3-ubyte": idx(levels(count, 28, 28, seed=count)),
                  f"{stem}-labels-idx1-ubyte": idx(labels)}
    return files


def matlab_file(count: int, packed: bool = True, **changes: np.ndarray) -> bytes:
    """Of SVHN: X and y, or others in their place."""
    arrays = {"X": levels(count, 32, 32, 3, seed=count).transpose(1, 2, 3, 0),
              "y": (1 + np.arange(count) % 10).astype(np.uint8)[:, None], **changes}
    blob = io.BytesIO()
    savemat(blob, arrays, do_compression=packed)
    return blob.getvalue()


def lines_file(count: int, values: int = 256) -> bytes:
    """Of USPS."""
    pixels = levels(count, values, seed=count) / 127.5 - 1
    lines = (f"{1 + n % 10} " + " ".join(f"{place}:{value:.6g}" for place, value in enumerate(row, 1)) + " \n"
             for n, row in enumerate(pixels))
    return bz2.compress("".join(lines).encode())
