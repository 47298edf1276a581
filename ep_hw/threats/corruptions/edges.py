"""Two steps of classical image processing that the spatter corruption is made of, on batches."""

import numpy as np
import scipy
from numpy.typing import NDArray

from ep_hw.threats.definitions import Images

_NEIGHBOURS = np.zeros((3, 3, 3), bool)
_NEIGHBOURS[1] = True   # within an image, never across the batch
_SLOPE, _SMOOTH = (-1, 0, 1), (1, 2, 1)


def canny(images: Images, low: float, high: float) -> NDArray[np.bool_]:
    """(N, H, W) bool: ridges of the gradient |dx| + |dy| (Sobel) above `low` that touch one above `high`.

    Source: Canny 1986, with the L1 norm and four directions.
    """
    dx, dy = _sobel(images, 2, 1), _sobel(images, 1, 2)
    across, down = abs(dx), abs(dy)
    strength = np.pad(across + down, ((0, 0), (1, 1), (1, 1)))
    steep, slanted, same_sign = down > 2.414 * across, down > 0.4142 * across, np.sign(dx) * np.sign(dy) >= 0
    ridge = _ridge(strength, 0, 1)
    for where, rows, columns in ((slanted & same_sign, 1, 1), (slanted & ~same_sign, 1, -1), (steep, 1, 0)):
        ridge = np.where(where, _ridge(strength, rows, columns), ridge)
    inner = strength[:, 1:-1, 1:-1]
    weak = ridge & (inner > low)
    labels, count = scipy.ndimage.label(weak, _NEIGHBOURS)
    strong = np.zeros(count + 1, bool)
    strong[labels[weak & (inner > high)]] = True
    return strong[labels] & weak


def _sobel(images: Images, along: int, across: int) -> Images:
    """Sobel's derivative of each image along one axis, smoothed along the other."""
    return scipy.ndimage.correlate1d(scipy.ndimage.correlate1d(images, _SLOPE, along, mode="nearest"), _SMOOTH, across,
                               mode="nearest")


def _ridge(strength: Images, rows: int, columns: int) -> NDArray[np.bool_]:
    """Whether each place of the padded (N, H + 2, W + 2) exceeds one neighbour and is no less than the opposite one.

    The neighbours are (rows, columns) away, before and after it.
    """
    h, w = strength.shape[1] - 2, strength.shape[2] - 2

    def shifted(r: int, c: int) -> Images:
        return strength[:, 1 + r:1 + r + h, 1 + c:1 + c + w]

    return (shifted(0, 0) > shifted(-rows, -columns)) & (shifted(0, 0) >= shifted(rows, columns))


def equalise(images: np.ndarray) -> np.ndarray:
    """Histogram equalisation of (N, H, W) uint8 images, each by its cumulative histogram, from its first level."""
    n, pixels = len(images), images[0].size
    places = 256 * np.arange(n)[:, None, None] + images
    counts = np.bincount(places.ravel(), minlength=256 * n).reshape(n, 256)
    first = np.take_along_axis(counts, (counts > 0).argmax(1)[:, None], 1)
    table = np.rint((counts.cumsum(1) - first) / np.maximum(pixels - first, 1) * 255)
    table = np.where(first == pixels, np.arange(256), table).clip(0, 255).astype(np.uint8)
    return table.ravel()[places]
