"""What several corruptions share: how lengths scale, where a batch is read between its pixels, and blurs.

Constants are those of 32 x 32 images. Displacements (elastic transforms, streaks, photographs) scale with the image's
shorter side; blurs scale only upwards, since below a pixel they would vanish.
Batches are (N, C, H, W) float64; N draws of anything are arrays whose first axis is N. What is linear and separable is
one matrix an axis: on small images far faster than filters.
"""

from functools import partial

import numpy as np
import scipy
from numpy.typing import NDArray

from ep_hw.threats.definitions import Images


def relative_size(x: Images) -> float:
    """The image's shorter side in units of 32 pixels."""
    return min(x.shape[2:]) / 32


def blur_size(x: Images) -> float:
    """Factor on the width of a blur: as `relative_size`, and at least 1."""
    return max(1.0, relative_size(x))


def gaussian_filter(x: Images, sigma: float, mode: str = "nearest", truncate: float = 4.0) -> Images:
    """Gaussian blur of the last two axes, `sigma` in pixels."""
    rows, columns = map(np.eye, x.shape[-2:])
    blur = partial(scipy.ndimage.gaussian_filter1d, sigma=sigma, mode=mode, truncate=truncate)
    return blur(rows, axis=0) @ x @ blur(columns, axis=1)


def correlate(x: Images, kernel: NDArray[np.float64]) -> Images:
    """Correlation of the last two axes with a small 2-D `kernel`, mirrored about the centres of the edge pixels.

        kernel = sum_k s_k u_k v_k'    (singular values; a disk has few), each term a matrix an axis
    """
    rows, columns = map(np.eye, x.shape[-2:])
    along = partial(scipy.ndimage.correlate1d, mode="mirror")
    us, values, vs = np.linalg.svd(kernel)
    terms = (along(rows, u * value, axis=0) @ x @ along(columns, v, axis=1)
             for u, value, v in zip(us.T, values, vs) if value > 1e-12 * values[0])
    return sum(terms, start=next(terms))


def centre_zoom(x: Images, factor: float) -> Images:
    """The middle of each image, enlarged by `factor` >= 1 with bilinear interpolation to the same size."""
    rows, columns = (_enlargement(side, factor) for side in x.shape[2:])
    return rows @ x @ columns.T


def _enlargement(side: int, factor: float) -> NDArray[np.float64]:
    """(side, side) matrix that enlarges the middle of a line: bilinear interpolation is one such matrix an axis."""
    kept = int(np.ceil(side / factor))
    first = (side - kept) // 2
    large = scipy.ndimage.zoom(np.eye(side)[first:first + kept], (factor, 1), order=1)
    cut = (len(large) - side) // 2
    return large[cut:cut + side]


def motion_blur(x: Images, radius: float, sigma: float, degrees: NDArray[np.float64]) -> Images:
    """One-sided Gaussian streak of 2 radius + 1 pixels, edges repeated.

        out(r, c) = sum_i k_i x(r + round(i sin a), c + round(i cos a)),    k_i ~ exp(-i^2 / (2 sigma^2))

    Args:
        degrees: (N,) angle a of each image. Source: ImageMagick's motion blur, which made the published sets.
    """
    steps = np.arange(int(2 * radius + 1))
    kernel = np.exp(-steps**2 / (2 * sigma**2))
    n, _, h, w = x.shape
    angles, pixels = np.deg2rad(degrees), Pixels(x)
    out = np.zeros((n, h, w, x.shape[1]))
    for i, weight in zip(steps, kernel / kernel.sum()):
        if weight > 1e-6:   # far below a grey level
            rows = np.arange(h) + np.floor(i * np.sin(angles) + 0.5).astype(int)[:, None]
            columns = np.arange(w) + np.floor(i * np.cos(angles) + 0.5).astype(int)[:, None]
            seen = pixels.at(rows.clip(0, h - 1)[:, :, None], columns.clip(0, w - 1)[:, None])
            seen *= weight
            out += seen
    return out.transpose(0, 3, 1, 2)


class Pixels:
    """A batch laid out so that its pixels are read fast at places of each image's own."""

    def __init__(self, x: Images):
        self.flat = x.transpose(0, 2, 3, 1).reshape(-1, x.shape[1])
        self.first = np.arange(len(x))[:, None, None] * (x.shape[2] * x.shape[3])
        self.width = x.shape[3]

    def at(self, rows: NDArray, columns: NDArray) -> Images:
        """(N, h, w, C) pixels at whole `rows` and `columns`, each of a shape that broadcasts to (N, h, w)."""
        return self.flat.take(self.first + rows * self.width + columns, axis=0, mode="clip")


def bilinear(x: Images, rows: NDArray, columns: NDArray) -> Images:
    """Values between the pixels, (N, C, h, w), at `rows` and `columns` (N, h, w), the image mirrored at its edges.

    Mirroring is about the centres of the outermost pixels.
    """
    h, w = x.shape[2:]
    rows, columns = _mirror(rows, h), _mirror(columns, w)
    top, left = (np.minimum(np.floor(place).astype(int), size - 1) for place, size in ((rows, h), (columns, w)))
    below, right = np.minimum(top + 1, h - 1), np.minimum(left + 1, w - 1)
    down, across, pixels = (rows - top)[..., None], (columns - left)[..., None], Pixels(x)
    upper = pixels.at(top, left) * (1 - across) + pixels.at(top, right) * across
    lower = pixels.at(below, left) * (1 - across) + pixels.at(below, right) * across
    return (upper * (1 - down) + lower * down).transpose(0, 3, 1, 2)


def _mirror(place: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Fold coordinates into 0 .. size - 1 by mirrors at both ends."""
    if size == 1:
        return np.zeros_like(place)
    folded = np.mod(place, 2 * (size - 1))
    return np.where(folded > size - 1, 2 * (size - 1) - folded, folded)


def luma(x: Images) -> Images:
    """(N, 1, H, W) brightness as the eye weighs it (ITU-R BT.601); the mean of other than three channels."""
    weights = np.array([0.299, 0.587, 0.114]) if x.shape[1] == 3 else np.full(x.shape[1], 1 / x.shape[1])
    return np.einsum("nchw,c->nhw", x, weights)[:, None]


def tint(colour: tuple[float, float, float], channels: int) -> NDArray[np.float64]:
    """(channels, 1, 1) of a colour in RGB, 0 to 1: itself for three channels, else its luma in every one."""
    rgb = np.asarray(colour).reshape(1, 3, 1, 1)
    return rgb[0] if channels == 3 else np.full((channels, 1, 1), luma(rgb).item())
