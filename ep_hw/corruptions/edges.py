"""Two steps of classical image processing that the spatter corruption is made of."""

import numpy as np
from scipy import ndimage

_NEIGHBOURS = np.ones((3, 3))


def canny(image, low: float, high: float):
    """(H, W) bool: ridges of the gradient |dx| + |dy| (Sobel) above `low` that touch one above `high`.

    Source: Canny 1986, with the L1 norm and four directions.
    """
    dx, dy = (ndimage.sobel(image, axis, mode="nearest") for axis in (1, 0))
    strength = np.pad(abs(dx) + abs(dy), 1)
    steep, slanted = abs(dy) > 2.414 * abs(dx), abs(dy) > 0.4142 * abs(dx)
    same_sign = np.sign(dx) * np.sign(dy) >= 0
    rows = np.where(slanted, 1, 0)
    columns = np.where(steep, 0, np.where(slanted & ~same_sign, -1, 1))
    r, c = np.indices(image.shape) + 1
    ridge = (strength[r, c] > strength[r - rows, c - columns]) & (strength[r, c] >= strength[r + rows, c + columns])
    weak = ridge & (strength[r, c] > low)
    labels, count = ndimage.label(weak, _NEIGHBOURS)
    strong = np.zeros(count + 1, bool)
    strong[labels[weak & (strength[r, c] > high)]] = True
    return strong[labels] & weak


def equalise(image: np.ndarray) -> np.ndarray:
    """Histogram equalisation of a uint8 image: the cumulative histogram, stretched from its first level to 255."""
    counts = np.bincount(image.ravel(), minlength=256)
    first = counts[np.flatnonzero(counts)[0]]
    if first == image.size:
        return image
    table = np.rint((counts.cumsum() - first) / (image.size - first) * 255)
    return table.clip(0, 255).astype(np.uint8)[image]
