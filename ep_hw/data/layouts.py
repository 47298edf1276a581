"""How arrays of images are laid out, and how they become floats."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Layout = Literal["NHW", "NCHW", "NHWC"]


def as_images(part: NDArray, layout: Layout) -> NDArray[np.float32]:
    """(n, C, H, W) in [0, 1] of images as they are stored, whole levels or floats."""
    turned = {"NHW": part[:, None], "NCHW": part, "NHWC": np.moveaxis(part, -1, 1)}[layout]
    return turned.astype(np.float32) / np.float32(255) if part.dtype == np.uint8 else turned.astype(np.float32)
