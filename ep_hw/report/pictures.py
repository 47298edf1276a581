"""Adversarial images as files: PNG to look at, NumPy arrays to go on with."""

from collections.abc import Iterator
from io import BytesIO
from typing import Any, Literal

import numpy as np

from ep_hw.data.splits import class_name
from ep_hw.evaluation.pictures import Pictures
from ep_hw.report.exports import csv_of
from ep_hw.report.figures.inline import amplified, png_file
from mapping.arrays import npy

Kind = Literal["npz", "npy"]


def picture_files(pictures: Pictures, kind: Kind) -> dict[str, bytes]:
    """File name -> content: the arrays together in images.npz or each in a .npy of its own, three PNG an image, and
    what each shows in images.csv.
    """
    arrays: dict[str, Any] = {name: one for name, one in pictures._asdict().items() if isinstance(one, np.ndarray)}
    together = BytesIO()
    np.savez(together, **arrays)
    stored = {"images.npz": together.getvalue()} if kind == "npz" else {
        f"{name}.npy": npy(array) for name, array in arrays.items()}
    return {**stored, "images.csv": csv_of(list(_captions(pictures))), **dict(_drawn(pictures))}


def _captions(pictures: Pictures) -> Iterator[dict]:
    """A row an image: its number, its true class, and what the machine takes the changed one for."""
    for number, label, prediction in zip(*(array.tolist() for array in (
            pictures.ids, pictures.labels, pictures.predictions))):
        true, taken = (class_name(pictures.class_names, one) for one in (label, prediction))
        yield {"image": number, "label": label, "class": true, "prediction": prediction, "predicted_class": taken}


def _drawn(pictures: Pictures) -> Iterator[tuple[str, bytes]]:
    """Each image clean and changed, and their difference about mid-grey, as large as its name says (x5)."""
    for number, clean, changed in zip(pictures.ids.tolist(), pictures.clean, pictures.changed):
        difference, factor = amplified(clean, changed)
        yield f"{number}-clean.png", png_file(clean)
        yield f"{number}-changed.png", png_file(changed)
        yield f"{number}-difference-x{factor}.png", png_file(difference)
