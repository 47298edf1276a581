"""Data sets that are named by a file or a folder, as `mine.npz`, `mine.npz[layout=NHWC]` or `pictures/`."""

from os.path import isdir, isfile
from pathlib import Path

from ep_hw.data.folders import folder_rows
from ep_hw.data.layouts import Layout
from ep_hw.data.npz import npz_rows
from ep_hw.data.stored import StoredDataset, stored_dataset
from mapping.errors import Refusal

LAYOUTS: dict[str, Layout] = {"[layout=NCHW]": "NCHW", "[layout=NHWC]": "NHWC"}


def is_place(text: str) -> bool:
    """Whether a text names a file or a folder that is there."""
    path, _ = _parsed(text)
    return isfile(path) or isdir(path)


def open_place(text: str) -> StoredDataset:
    """The data set of a file or folder; its name is the file's.

    Raises:
        Refusal: no archive of images, or no folders of pictures.
    """
    path, layout = _parsed(text)
    name = path.resolve().name
    if isdir(path):
        rows, class_names = folder_rows(path)
        return stored_dataset(name, rows, class_names, source=text)
    if path.suffix != ".npz":
        raise Refusal("no data set", where=text, got=path.suffix or "a file without an ending",
                      allowed="an .npz, or a folder of class folders of PNG or JPEG",
                      remedy="write it with numpy.savez(FILE, images=..., labels=...)")
    return stored_dataset(name, npz_rows(path, layout), source=text)


def _parsed(text: str) -> tuple[Path, Layout | None]:
    """A path, and the layout that is stated behind it."""
    stated = next((option for option in LAYOUTS if text.endswith(option)), "")
    return Path(text.removesuffix(stated)), LAYOUTS.get(stated)
