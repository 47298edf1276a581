"""numpy's archives of arrays (.npz): images and labels, in one pair or in pairs for train, validation and test.

    images, labels    or    train_images, train_labels, val_images, val_labels, test_images, test_labels

The second names are those of MedMNIST. Arrays are streamed out of the archive, compressed or not, and never unpickled;
the archive's checksums are those of its members.
"""

import math
import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from ep_hw.data.layouts import Layout
from ep_hw.data.rows import ArrayRows, check_labels, check_one_each, image_shape, layout_of
from ep_hw.data.splits import Places
from ep_hw.data.zips import open_zip
from mapping.arrays import Head, read_head
from mapping.errors import Refusal
from mapping.files import refusing

PREFIXES = {"": "", "train_": "train", "val_": "validation", "validation_": "validation", "test_": "test"}
LARGEST_FILE, MOST_LABELS = 2**42, 2**27   # bytes; labels of a split
_ALLOWED = "whole arrays of plain numbers under images and labels, or train_images, train_labels, val_..., test_..."


@dataclass(frozen=True, eq=False, kw_only=True)
class NpzRows(ArrayRows):
    """The images of a member of an archive.

    Attributes:
        path: the archive.
        member: its name there.
    """

    path: Path
    member: str

    def parts(self) -> Iterator[NDArray]:
        """See `ArrayRows`."""
        with _reading(self.path), open_zip(self.path, LARGEST_FILE) as archive:
            yield from _parts(archive, self)


def npz_rows(path: Path, layout: Layout | None = None) -> dict[str, ArrayRows]:
    """What an archive holds, by split; by no name where it has one pair.

    Raises:
        Refusal: no such archive, or arrays that are no images with labels.
    """
    with _reading(path), open_zip(path, LARGEST_FILE) as archive:
        names = {info.filename.removesuffix(".npy") for info in archive.infolist()}
        found = {prefix: split for prefix, split in PREFIXES.items() if {f"{prefix}images", f"{prefix}labels"} & names}
        if not found or ("" in found and len(found) > 1) or len(set(found.values())) < len(found):
            raise ValueError(f"arrays {', '.join(sorted(names)[:8])}")
        return {split: _rows(archive, path, prefix, layout) for prefix, split in found.items()}


def _rows(archive: zipfile.ZipFile, path: Path, prefix: str, layout: Layout | None) -> NpzRows:
    where, member = f"{path}, {prefix}images", f"{prefix}images.npy"
    with _member(archive, member) as (head, _):
        laid_out = layout_of(head.shape, head.dtype, where, layout)
        if head.fortran:
            raise Refusal("an array whose first index moves fastest", where=where, got="fortran_order",
                          allowed="images one after another", remedy="save numpy.ascontiguousarray(images)")
    labels = _labels(archive, f"{prefix}labels.npy", head.shape[0], f"{path}, {prefix}labels")
    return NpzRows(where=where, labels=labels, image_shape=image_shape(head.shape, laid_out), dtype=head.dtype,
                   layout=laid_out, path=path, member=member)


def _labels(archive: zipfile.ZipFile, member: str, count: int, where: str) -> Places:
    with _member(archive, member) as (head, numbers):
        check_one_each(head.dtype, head.shape, where)
        if head.shape[0] > MOST_LABELS:
            raise ValueError(f"{head.shape[0]} labels")
        return check_labels(np.frombuffer(numbers.read(), head.dtype), count, where)


def _parts(archive: zipfile.ZipFile, rows: NpzRows) -> Iterator[NDArray]:
    """The array of a member, some rows at a time; the end of it is where its checksum is found wrong."""
    with _member(archive, rows.member) as (head, numbers):
        if (head.dtype, head.shape[0], math.prod(head.shape[1:])) != (
                rows.dtype, len(rows.labels), math.prod(rows.image_shape)):
            raise ValueError(f"{rows.member}, which another program has just written anew")
        row = head.dtype.itemsize * math.prod(head.shape[1:])
        while content := numbers.read(rows.step * row):
            yield np.frombuffer(content, head.dtype).reshape(-1, *head.shape[1:])


@contextmanager
def _member(archive: zipfile.ZipFile, name: str) -> Iterator[tuple[Head, IO[bytes]]]:
    """The head of a member's array, and its numbers as a stream."""
    size = archive.getinfo(name).file_size
    with archive.open(name) as start:
        head = read_head(start, size)
    if not head.shape:
        raise ValueError(f"{name}, a single number")
    with archive.open(name) as numbers:
        numbers.read(head.offset)
        yield head, numbers


def _reading(path: Path) -> AbstractContextManager[None]:
    return refusing("not an archive of images and labels", where=path, allowed=_ALLOWED,
                    remedy="write it with numpy.savez(FILE, images=..., labels=...)")
