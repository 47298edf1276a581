"""Images as lines of numbers packed by bzip2, `CLASS 1:VALUE 2:VALUE ...`, as LIBSVM's collection has USPS.

Classes are numbered from 1, and values in [-1, 1] become the 256 levels that torchvision makes of them.
"""

import bz2
import io
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ep_hw.data.rows import MemoryRows
from mapping.files import check_regular, refusing

LARGEST_TEXT = 2**26   # bytes, more than twice those of USPS


def libsvm_rows(path: Path, image_shape: tuple[int, int, int], classes: int) -> MemoryRows:
    """The images and labels of a file.

    Args:
        path: of the file.
        image_shape: (C, H, W) that each line is an image of.
        classes: how many there are.

    Raises:
        Refusal: no such file, or another than that.
    """
    with refusing("not a file of this set", where=path, allowed=f"lines of a class from 1 to {classes} and "
                  f"{math.prod(image_shape)} values in [-1, 1], packed by bzip2", remedy="fetch the set again"):
        table = _table(path, 1 + 2 * math.prod(image_shape))
        labels, places, values = table[:, 0], table[:, 1::2], table[:, 2::2]
        if not np.isin(labels, np.arange(1, classes + 1)).all():
            raise ValueError("another class")
        if not ((places == np.arange(1, places.shape[1] + 1)).all() and (np.abs(values) <= 1).all()):
            raise ValueError("other values")
        levels = ((values + 1) / 2 * 255).astype(np.uint8).reshape(-1, *image_shape)
        return MemoryRows.of(levels, labels.astype(np.int64) - 1, str(path), "NCHW")


def _table(path: Path, columns: int) -> NDArray[np.float32]:
    """(lines, columns) the numbers of a file."""
    text = _unpacked(path)
    if not text.strip():
        raise ValueError("no lines")
    table = np.loadtxt(io.BytesIO(text.replace(b":", b" ")), np.float32, comments=None, ndmin=2)
    if table.shape[1] != columns:
        raise ValueError(f"lines of {table.shape[1]} numbers")
    return table


def _unpacked(path: Path) -> bytes:
    check_regular(path)
    try:
        with bz2.open(path) as file:
            text = file.read(LARGEST_TEXT + 1)
    except EOFError as error:
        raise ValueError(str(error)) from None
    if len(text) > LARGEST_TEXT:
        raise ValueError(f"more than {LARGEST_TEXT} bytes")
    return text
