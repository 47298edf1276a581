"""MNIST's files (IDX: sizes, then bytes), mapped into memory. Source: LeCun et al. 1998."""

import math
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ep_hw.data.rows import MemoryRows
from mapping.files import check_regular, refusing


def idx_rows(images: Path, labels: Path, first: int = 0) -> MemoryRows:
    """The images of one file with the labels of another.

    Args:
        images: file of (N, H, W).
        labels: file of (N,).
        first: number of the first class there.

    Raises:
        Refusal: no such files, or others than their heads say.
    """
    return MemoryRows.of(_idx(images, 3), _idx(labels, 1).astype(int) - first, str(images))


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
