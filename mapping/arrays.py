"""numpy's files of one array (.npy): written, and mapped into memory, so that only what is used of them is read.

A header is believed if it is written as numpy writes those of plain numbers, and the file holds exactly as many bytes
as it claims. Source: numpy's NEP 1.
"""

import math
import re
from io import BytesIO
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from mapping.files import check_regular

LONGEST_HEADER = 1024   # bytes; numpy's has 128
_HEADER = re.compile(rb"\{'descr': '([|<>](?:b1|[iu][1248]|f[248]))', 'fortran_order': (False|True), "
                     rb"'shape': \(((?:\d+L?(?:, \d+L?)*,?)?)\), \} *\n")


class Head(NamedTuple):
    """What a file says of its array.

    Attributes:
        dtype: of its numbers.
        shape: of the array.
        fortran: its first index moves fastest.
        offset: bytes before its numbers.
    """

    dtype: np.dtype
    shape: tuple[int, ...]
    fortran: bool
    offset: int


def npy(array: np.ndarray) -> bytes:
    """The content of a file of an array; of none of objects, which it would pickle."""
    buffer = BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def map_array(path: str | Path) -> np.ndarray:
    """The array of a file, read-only.

    Raises:
        OSError: there is no such file, or it is a folder, pipe or device.
        ValueError: not an array of integers or floats with at least one entry, or of another size than it claims.
    """
    size = check_regular(path).st_size
    with open(path, "rb") as file:
        head = read_head(file, size)
    return np.memmap(path, head.dtype, "r", head.offset, head.shape, "F" if head.fortran else "C")


def read_head(file: IO[bytes], size: int) -> Head:
    """What the beginning of a file of `size` bytes says of its array.

    Raises:
        ValueError: see `map_array`.
    """
    start = file.read(LONGEST_HEADER)
    offset = _offset(start)
    match = _HEADER.fullmatch(start[10 if start[6] == 1 else 12:offset])
    if not match:
        raise ValueError("no array of plain numbers")
    head = Head(np.dtype(match[1].decode()), tuple(map(int, re.findall(rb"\d+", match[3]))), match[2] == b"True",
                offset)
    if math.prod(head.shape) * head.dtype.itemsize != size - offset or size == offset:
        raise ValueError(f"{size - offset} bytes for an array of {head.dtype} {head.shape}")
    return head


def _offset(start: bytes) -> int:
    """Where the numbers begin."""
    if start[:6] != b"\x93NUMPY" or start[6:8] not in (b"\1\0", b"\2\0", b"\3\0"):
        raise ValueError("no .npy file")
    width = 2 if start[6] == 1 else 4
    return 8 + width + int.from_bytes(start[8:8 + width], "little")
