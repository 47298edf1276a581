"""Adversarial images as files: PNG to look at, NumPy arrays to go on with."""

from collections.abc import Iterator
from io import BytesIO
from typing import Literal

import numpy as np

from ep_hw.evaluation.pictures import Pictures
from ep_hw.report.figures.inline import amplified, png_file
from mapping.arrays import npy

Kind = Literal["npz", "npy"]


def picture_files(pictures: Pictures, kind: Kind) -> dict[str, bytes]:
    """File name -> content: the arrays together in images.npz or each in a .npy of its own, and three PNG an image."""
    arrays = pictures._asdict()
    together = BytesIO()
    np.savez(together, **arrays)
    stored = {"images.npz": together.getvalue()} if kind == "npz" else {
        f"{name}.npy": npy(array) for name, array in arrays.items()}
    return {**stored, **dict(_drawn(pictures))}


def _drawn(pictures: Pictures) -> Iterator[tuple[str, bytes]]:
    """Each image clean and changed, and their difference about mid-grey, as large as its name says (x5)."""
    for number, clean, changed in zip(pictures.ids.tolist(), pictures.clean, pictures.changed):
        difference, factor = amplified(clean, changed)
        yield f"{number}-clean.png", png_file(clean)
        yield f"{number}-changed.png", png_file(changed)
        yield f"{number}-difference-x{factor}.png", png_file(difference)
