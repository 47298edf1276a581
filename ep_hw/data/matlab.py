"""Images and labels in a MAT-file of MATLAB 5 to 7, as SVHN has them: X (H, W, C, N) uint8, and y (N, 1) from 1 to K.

    128 bytes of head, then elements: type and bytes as two uint32, and the content, a matrix or a packed one
    matrix: flags, sizes, name and numbers, elements again, each of whole 8 bytes

Images are streamed out, the first index fastest: image by image, column by column. Of K classes the last is number 0.
Source: MathWorks, MAT-File Format.
"""

import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ep_hw.data.rows import ArrayRows, check_labels
from mapping.files import check_regular, refusing

HEAD, MARK = 128, b"\x00\x01IM"   # bytes of the head, and how it ends: version 1, little-endian
MATRIX, PACKED = 14, 15           # types of elements
NUMBERS = {1: "i1", 2: "u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 9: "<f8"}
MOST_BYTES, MOST_LABELS, LONGEST_NAME = 2**31, 2**20, 63
PIECE = 2**16


class Stream(Protocol):
    """What bytes come from."""

    def read(self, count: int, /) -> bytes: ...


class Variable(NamedTuple):
    """A matrix of a file.

    Attributes:
        name: of it.
        shape: of it, the first index fastest.
        dtype: of its numbers.
        numbers: where they come from.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    numbers: Stream

    @property
    def size(self) -> int:
        """Bytes of its numbers."""
        return math.prod(self.shape) * self.dtype.itemsize

    def skip(self):
        """Read its numbers and keep none."""
        for start in range(0, self.size, PIECE):
            _exactly(self.numbers, min(PIECE, self.size - start))


@dataclass(frozen=True, eq=False, kw_only=True)
class MatlabRows(ArrayRows):
    """The images of a file.

    Attributes:
        path: of the file.
    """

    path: Path

    def parts(self) -> Iterator[NDArray]:
        """See `ArrayRows`."""
        channels, height, width = self.image_shape
        with _reading(self.path), open(self.path, "rb") as file:
            numbers = _images(file)
            for start in range(0, len(self.labels), self.step):
                count = min(self.step, len(self.labels) - start)
                part = np.frombuffer(_exactly(numbers, count * math.prod(self.image_shape)), np.uint8)
                yield part.reshape(count, channels, width, height).swapaxes(2, 3)


def matlab_rows(path: Path, image_shape: tuple[int, int, int], classes: int) -> MatlabRows:
    """The images and labels of a file.

    Args:
        path: of the file.
        image_shape: (C, H, W).
        classes: K.

    Raises:
        Refusal: no such file, or another than that.
    """
    channels, height, width = image_shape
    with _reading(path):
        check_regular(path)
        with open(path, "rb") as file:
            images, labels = _images_and_labels(file)
        if images[:3] != (height, width, channels) or len(images) != 4 or images[3] != len(labels):
            raise ValueError(f"images {images} with {len(labels)} labels")
        if not np.isin(labels, np.arange(1, classes + 1)).all():
            raise ValueError("another class")
        numbers = check_labels(labels.astype(np.int64) % classes, len(labels), str(path))
        return MatlabRows(where=str(path), labels=numbers, image_shape=image_shape, dtype=np.dtype(np.uint8),
                          layout="NCHW", path=path)


def _images(file: IO[bytes]) -> Stream:
    """The numbers of X."""
    for variable in _variables(file):
        if variable.name == "X":
            return variable.numbers
        variable.skip()
    raise ValueError("no X, which was there")


def _images_and_labels(file: IO[bytes]) -> tuple[tuple[int, ...], NDArray]:
    """The shape of X, all of which is read once, and (N,) the numbers of y."""
    shapes: dict[str, tuple[int, ...]] = {}
    labels: NDArray = np.empty(0)
    for variable in _variables(file):
        name, shape, dtype, numbers = variable
        if name in shapes or variable.size > (MOST_BYTES if name == "X" else MOST_LABELS * 8) or (
                name == "X" and dtype != np.uint8):
            raise ValueError(f"{name!r} of {dtype} {shape}")
        shapes[name] = shape
        if name == "y":
            labels = np.frombuffer(_exactly(numbers, variable.size), dtype)
        else:
            variable.skip()
    if set(shapes) != {"X", "y"} or shapes["y"] not in ((len(labels), 1), (1, len(labels))):
        raise ValueError(f"matrices {', '.join(shapes) or 'none'}")
    return shapes["X"], labels


def _variables(file: IO[bytes]) -> Iterator[Variable]:
    """The matrices of a file, one after another; the numbers of each are read before the next is asked for."""
    if _exactly(file, HEAD)[-4:] != MARK:
        raise ValueError("another head")
    while tag := file.read(8):
        kind, size = struct.unpack("<II", tag.ljust(8, b"\xff"))
        end = file.tell() + size
        if kind == PACKED:
            packed = Inflating(file, size)
            kind, _ = struct.unpack("<II", _exactly(packed, 8))
            yield _matrix(kind, packed)
            packed.close()
        else:
            yield _matrix(kind, file)
        file.seek(end)


def _matrix(kind: int, content: Stream) -> Variable:
    """A matrix up to its numbers."""
    if kind != MATRIX:
        raise ValueError(f"an element of type {kind}")
    _small(content)
    shape = np.frombuffer(_small(content)[1], "<i4")
    name = _small(content)[1].decode("ascii", "replace")
    number, size, numbers = _element(content)
    dtype = np.dtype(NUMBERS[number]) if number in NUMBERS else None
    if dtype is None or not 2 <= len(shape) <= 4 or (shape < 1).any() or math.prod(
            map(int, shape)) * dtype.itemsize != size:
        raise ValueError(f"{size} bytes of type {number} for {name!r} {tuple(map(int, shape))}")
    return Variable(name, tuple(map(int, shape)), dtype, numbers)


def _small(content: Stream) -> tuple[int, bytes]:
    """Type and content of an element that is no longer than a name, with what fills its last 8 bytes read."""
    kind, size, own = _element(content)
    if size > LONGEST_NAME:
        raise ValueError(f"a part of a head of {size} bytes")
    blob = _exactly(own, size)
    if own is content:
        _exactly(content, -size % 8)
    return kind, blob


def _element(content: Stream) -> tuple[int, int, Stream]:
    """Type and bytes of an element, and what they come from: of up to four they stand in its tag."""
    tag = _exactly(content, 8)
    kind, size = struct.unpack("<II", tag)
    if kind >> 16:
        return kind & 0xFFFF, kind >> 16, Held(tag[4:])
    return kind, size, content


class Held:
    """Bytes that are there."""

    def __init__(self, blob: bytes):
        self.blob = blob

    def read(self, count: int, /) -> bytes:
        """See `Stream`."""
        first, self.blob = self.blob[:count], self.blob[count:]
        return first


class Inflating:
    """What zlib packed into the next bytes of a file.

    Args:
        file: where they begin.
        size: how many there are.
    """

    def __init__(self, file: IO[bytes], size: int):
        self.file, self.left, self.zlib = file, size, zlib.decompressobj()

    def read(self, count: int, /) -> bytes:
        """See `Stream`.

        Raises:
            ValueError: damaged bytes.
        """
        parts: list[bytes] = []
        while count > 0 and not self.zlib.eof:
            fed = self._fed()
            parts.append(self._inflated(fed, count))   # zlib may hold more than it was fed last
            count -= len(parts[-1])
            if not (fed or parts[-1]):
                break
        return b"".join(parts)

    def close(self):
        """Read to the end, where the checksum stands.

        Raises:
            ValueError: it is another, or more stands there than fills 8 bytes.
        """
        if len(self.read(8)) > 7 or not self.zlib.eof:
            raise ValueError("another end than its head says")

    def _fed(self) -> bytes:
        if self.zlib.unconsumed_tail:
            return self.zlib.unconsumed_tail
        piece = self.file.read(min(PIECE, self.left))
        self.left -= len(piece)
        return piece

    def _inflated(self, fed: bytes, most: int) -> bytes:
        try:
            return self.zlib.decompress(fed, most)
        except zlib.error as error:
            raise ValueError(str(error)) from None


def _exactly(content: Stream, count: int) -> bytes:
    """So many bytes."""
    if len(blob := content.read(count)) != count:
        raise ValueError("an end where more was promised")
    return blob


def _reading(path: Path) -> AbstractContextManager[None]:
    return refusing("not a file of this set", where=path, allowed="a MAT-file of MATLAB 5 to 7 with X (H, W, C, N) "
                    "uint8 and y (N, 1)", remedy="fetch the set again")
