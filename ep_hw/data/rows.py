"""Images with labels as they are stored, an image a row: checked, hashed and turned into floats a part at a time.

The whole of a set never lies in memory as floats: a part is read and checked, and the images that are wanted are kept.
"""

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray

from ep_hw.data.held import Pixels, unnamed_array
from ep_hw.data.layouts import Layout, as_images
from ep_hw.data.splits import Places
from mapping.errors import Refusal
from mapping.files import refusing

PART = 2**24           # bytes that are read at a time, and at least an image
LARGEST_IMAGE = 2**24  # values
FEW = 4                # channels of usual images
KINDS = "uint8, or floats in [0, 1]"


@dataclass(frozen=True, eq=False, kw_only=True)
class Rows(ABC):
    """Labelled images.

    Attributes:
        where: the file, folder or argument, for refusals.
        labels: (N,) int64.
        image_shape: (C, H, W).
    """

    where: str
    labels: Places
    image_shape: tuple[int, int, int]

    @abstractmethod
    def read(self, members: Places, chosen: Places) -> tuple[torch.Tensor, str]:
        """Some images, in their order, and the sha256 of all `members` with their labels.

        Args:
            members: places of the images that are checked.
            chosen: places of those that are wanted, all of them members.

        Returns:
            (n, C, H, W) float32 in [0, 1], and the sha256.

        Raises:
            Refusal: damaged files, or values that are no pixels.
        """

    @abstractmethod
    def held(self, members: Places) -> tuple[Pixels, str]:
        """`members` in their order as they are stored, and the sha256 of `read`.

        Raises:
            Refusal: see `read`; or there is no room for what must be written anew.
        """


@dataclass(frozen=True, eq=False, kw_only=True)
class ArrayRows(Rows):
    """Images of an array, the first index that of the image.

    Attributes:
        dtype: of its numbers.
        layout: of its indices.
    """

    dtype: np.dtype
    layout: Layout

    @abstractmethod
    def parts(self) -> Iterator[NDArray]:
        """The array in order, some images at a time."""

    def read(self, members: Places, chosen: Places) -> tuple[torch.Tensor, str]:
        """See `Rows`."""
        wanted, place = np.zeros(len(self.labels), bool), np.full(len(self.labels), -1)
        wanted[members], place[chosen] = True, np.arange(len(chosen))
        images = np.empty((len(chosen), *self.image_shape), np.float32)
        content, start = hashlib.sha256(f"{self.dtype} {self.layout} {self.image_shape}".encode()), 0
        for part in self.parts():
            here = slice(start, start + len(part))
            content.update(self._checked(part[wanted[here]]).data)
            kept = place[here] >= 0
            images[place[here][kept]] = as_images(part[kept], self.layout)
            start = here.stop
        content.update(self.labels[wanted].tobytes())
        return torch.from_numpy(images), content.hexdigest()

    def held(self, members: Places) -> tuple[Pixels, str]:
        """See `Rows`."""
        return self.in_place.held(members)

    @cached_property
    def in_place(self) -> "MemoryRows":
        """The same rows in an array of which any may be read."""
        with refusing("no room for the images", where=self.where, allowed="room for them as they are stored, in the "
                      "folder of temporary files", remedy="free some, or set TMPDIR"):
            parts, start = self.parts(), 0
            first = next(parts)
            array = unnamed_array((len(self.labels), *first.shape[1:]), self.dtype)
            for part in chain([first], parts):
                array[start:start + len(part)] = part
                start += len(part)
        return MemoryRows(where=self.where, labels=self.labels, image_shape=self.image_shape, array=array,
                          dtype=self.dtype, layout=self.layout)

    def _checked(self, part: NDArray) -> NDArray:
        """The part, once its floats are pixels."""
        if part.dtype != np.uint8 and not ((part >= 0) & (part <= 1)).all():
            found = "NaN" if np.isnan(part).any() else f"values from {part.min():g} to {part.max():g}"
            raise Refusal("values that are no pixels", where=self.where, got=found, allowed=KINDS,
                          remedy="scale them to [0, 1], or save whole levels as uint8")
        return np.ascontiguousarray(part)

    @property
    def step(self) -> int:
        """How many images are read at a time."""
        return max(1, PART // (math.prod(self.image_shape) * self.dtype.itemsize))


@dataclass(frozen=True, eq=False, kw_only=True)
class MemoryRows(ArrayRows):
    """An array in memory, or one that is mapped into it.

    Attributes:
        array: (N, H, W), (N, H, W, C) or (N, C, H, W).
    """

    array: NDArray

    @classmethod
    def of(cls, images: NDArray, labels: NDArray, where: str, layout: Layout | None = None) -> "MemoryRows":
        """Raises Refusal: see `layout_of`, `check_labels`."""
        layout = layout_of(images.shape, images.dtype, where, layout)
        return cls(where=where, labels=check_labels(labels, len(images), where), array=images, dtype=images.dtype,
                   image_shape=image_shape(images.shape, layout), layout=layout)

    def held(self, members: Places) -> tuple[Pixels, str]:
        """See `Rows`."""
        _, sha256 = self.read(members, members[:0])
        return Pixels(self.array, self.layout, members), sha256

    def parts(self) -> Iterator[NDArray]:
        """See `ArrayRows`."""
        return (self.array[start:start + self.step] for start in range(0, len(self.array), self.step))


def layout_of(shape: tuple[int, ...], dtype: np.dtype, where: str, stated: Layout | None = None) -> Layout:
    """How the indices of an array of images are laid out.

    Channels are the dimension of at most `FEW`, where only one is, and the one beside two equal sides.

    Args:
        shape: of the array.
        dtype: of the array.
        where: for refusals.
        stated: what a user says of four indices.

    Raises:
        Refusal: no images, or channels first and last are both possible.
    """
    if dtype != np.uint8 and dtype.kind != "f":
        raise Refusal("images of another type", where=where, got=dtype, allowed=KINDS, remedy="save them as uint8")
    if len(shape) not in (3, 4) or not 0 < math.prod(shape) <= LARGEST_IMAGE * shape[0]:
        raise Refusal("an array that holds no images", where=where, got=shape,
                      allowed=f"(N, H, W), (N, H, W, C) or (N, C, H, W), of 1 to {LARGEST_IMAGE} values an image",
                      remedy="save one of these")
    if len(shape) == 3:
        return "NHW"
    first, middle, last = shape[1:]
    said: list[Layout] = [stated] if stated else []
    if not stated and (first <= FEW) != (last <= FEW):
        said.append("NCHW" if first <= FEW else "NHWC")
    if not stated and (first == middle) != (middle == last):
        said.append("NHWC" if first == middle else "NCHW")
    if len(set(said)) == 1:
        return said[0]
    raise Refusal("channels may come first or last", where=where, got=shape, allowed="NCHW or NHWC",
                  remedy="say which: --data 'FILE.npz[layout=NHWC]', or layout= in Python")


def image_shape(shape: tuple[int, ...], layout: Layout) -> tuple[int, int, int]:
    """(C, H, W) of an array's images."""
    _, *rest = shape
    if layout == "NHW":
        return 1, rest[0], rest[1]
    return (rest[0], rest[1], rest[2]) if layout == "NCHW" else (rest[2], rest[0], rest[1])


def check_labels(labels: NDArray, count: int, where: str) -> Places:
    """(N,) int64 labels of N images.

    Raises:
        Refusal: labels that are no whole numbers from 0 up, or as many as there are images.
    """
    check_one_each(labels.dtype, labels.shape, where)
    if len(labels) != count:
        raise Refusal("other numbers of images and labels", where=where, got=f"{count} images, {len(labels)} labels",
                      allowed="as many", remedy="save a label for each image")
    if count and not 0 <= int(labels.min()) <= int(labels.max()) < 2**16:
        raise Refusal("labels that name no class", where=where, got=f"from {labels.min()} to {labels.max()}",
                      allowed=f"classes numbered from 0, up to {2**16 - 1}", remedy="number the classes 0, 1, 2 ...")
    return labels.reshape(-1).astype(np.int64)


def check_one_each(dtype: np.dtype, shape: tuple[int, ...], where: str):
    """Refuse labels that are not a whole number each."""
    if dtype.kind not in "iu" or not shape or shape[1:] not in ((), (1,)):
        raise Refusal("labels that name no class each", where=where, got=f"{dtype} {shape}",
                      allowed="whole numbers, (N,) or (N, 1)", remedy="save a class an image")
