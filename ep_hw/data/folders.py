"""Folders of class folders: FOLDER/CLASS/*.png, or FOLDER/train/CLASS/*.png, with validation/ and test/ beside it.

Pictures are PNG or JPEG of 8 bits, grey or RGB, all of one size. Every file is hashed and its size looked up; only the
pictures that are wanted are decoded.
"""

import hashlib
import struct
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ep_hw.data.held import Pixels, unnamed_array
from ep_hw.data.rows import LARGEST_IMAGE, Rows
from ep_hw.data.splits import Places
from mapping.errors import Refusal
from mapping.files import check_regular, read_bytes, refusing

SPLIT_FOLDERS = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation",
                 "test": "test"}
ENDINGS, FORMATS = (".png", ".jpg", ".jpeg"), ("PNG", "JPEG")
MODES = {"L": 1, "1": 1, "RGB": 3, "P": 3}   # of Pillow -> channels
LARGEST_PICTURE = 2**28   # bytes of a file
_BROKEN = (SyntaxError, EOFError, LookupError, TypeError, struct.error, zlib.error, Image.DecompressionBombError)
_ALLOWED = "folders of classes that hold PNG or JPEG, in train/ and test/ or not"


@dataclass(frozen=True, eq=False, kw_only=True)
class FolderRows(Rows):
    """Pictures in class folders.

    Attributes:
        files: one an image.
    """

    files: tuple[Path, ...]

    def read(self, members: Places, chosen: Places) -> tuple[torch.Tensor, str]:
        """See `Rows`."""
        images = np.empty((len(chosen), *self.image_shape), np.float32)
        for row, place in enumerate(chosen):
            images[row] = self._picture(self.files[place]).astype(np.float32) / np.float32(255)
        return torch.from_numpy(images), self._sha256(members)

    def held(self, members: Places) -> tuple[Pixels, str]:
        """See `Rows`."""
        with refusing("no room for the pictures", where=self.where, allowed="room for their pixels in the folder of "
                      "temporary files", remedy="free some, or set TMPDIR"):
            array = unnamed_array((len(members), *self.image_shape), np.dtype(np.uint8))
        for row, place in enumerate(members):
            array[row] = self._picture(self.files[place])
        return Pixels(array, "NCHW", np.arange(len(members))), self._sha256(members)

    def _sha256(self, members: Places) -> str:
        content = hashlib.sha256()
        for place in np.sort(members):
            with _reading(self.files[place]):
                content.update(hashlib.sha256(read_bytes(self.files[place], LARGEST_PICTURE)).digest())
        content.update(self.labels[np.sort(members)].tobytes())
        return content.hexdigest()

    def _picture(self, file: Path) -> NDArray[np.uint8]:
        """(C, H, W)."""
        with _reading(file), _opened(file) as picture:
            levels = np.asarray(picture.convert("L" if self.image_shape[0] == 1 else "RGB"))
            image = levels[None] if levels.ndim == 2 else np.moveaxis(levels, -1, 0)
            if image.shape != self.image_shape:
                raise ValueError("a picture that has changed its size")
        return image


def folder_rows(folder: Path) -> tuple[dict[str, FolderRows], tuple[str, ...]]:
    """What a folder holds, by split, and its classes; by no split's name where it has none.

    Raises:
        Refusal: no class folders, other files in them, or pictures of several sizes.
    """
    with _reading(folder):
        inner = _folders(folder)
        splits = {SPLIT_FOLDERS[path.name]: path for path in inner if path.name in SPLIT_FOLDERS}
        if splits and len(splits) < len(inner):
            raise ValueError(f"{', '.join(path.name for path in inner[:6])}: splits beside other folders")
        parts = splits or {"": folder}
        names = tuple(sorted({path.name for part in parts.values() for path in _folders(part)}))
        if len(names) < 2:
            raise ValueError(f"{len(names)} class folders")
    return {split: _rows(part, names) for split, part in parts.items()}, names


def _rows(folder: Path, names: tuple[str, ...]) -> FolderRows:
    with _reading(folder):
        found = [(label, file) for label, name in enumerate(names) if (folder / name).is_dir()
                 for file in _pictures(folder / name)]
    shapes: dict[tuple[int, int, int], Path] = {}
    for _, file in found:
        shapes.setdefault(_shape(file), file)
    if len(shapes) != 1:
        raise Refusal("pictures of several sizes or kinds", where=str(folder), allowed="pictures of one size, all grey "
                      "or all RGB", got=", ".join(f"{shape} ({file.name})" for shape, file in [*shapes.items()][:3])
                      or "no picture", remedy="resize or convert them first")
    (shape,) = shapes
    labels = np.array([label for label, _ in found], np.int64)
    return FolderRows(where=str(folder), labels=labels, image_shape=shape, files=tuple(file for _, file in found))


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _pictures(folder: Path) -> list[Path]:
    """Raises ValueError where there is anything else than pictures."""
    files = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    if wrong := [path.name for path in files if not path.name.lower().endswith(ENDINGS)]:
        raise ValueError(f"{folder.name}/{wrong[0]}, no PNG or JPEG")
    return files


def _shape(file: Path) -> tuple[int, int, int]:
    """(C, H, W) as a picture's head says."""
    with _reading(file), _opened(file) as picture:
        (width, height), mode = picture.size, picture.mode
        if mode not in MODES or not 0 < width * height * MODES[mode] <= LARGEST_IMAGE:
            raise ValueError(f"a picture of mode {mode}, {width}x{height}")
        return MODES[mode], height, width


@contextmanager
def _opened(file: Path) -> Iterator[Image.Image]:
    """A picture whose pixels are not yet decoded; what Pillow raises of bad ones becomes a ValueError."""
    check_regular(file)
    try:
        with Image.open(file, formats=FORMATS) as picture:
            yield picture
    except _BROKEN as error:
        raise ValueError(str(error) or type(error).__name__) from None


def _reading(place: Path) -> AbstractContextManager[None]:
    return refusing("no pictures by class", where=place, allowed=_ALLOWED,
                    remedy="save 8-bit grey or RGB pictures, a folder a class")
