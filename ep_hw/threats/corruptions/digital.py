"""Changes that cameras, screens and files make: brightness, colour, shape, resolution, compression."""

import io
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from ep_hw.threats.corruptions import sampling
from ep_hw.threats.corruptions.packaged import packaged
from ep_hw.threats.definitions import Images, Levels

_UNIT = 2**22   # Pillow's fixed point


@packaged((0.05, 0.1, 0.15, 0.2, 0.3), random=False)
def brightness(x: Images, amount: float, rng: Generator) -> Images:
    """Value of HSV, the largest channel V, raised by `amount`; hue and saturation kept."""
    value = x.max(1, keepdims=True)
    raised = np.clip(value + amount, 0, 1)
    return np.where(value > 0, x * raised / np.where(value > 0, value, 1), raised)


@packaged(((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)), random=False)
def saturate(x: Images, constants: tuple[float, float], rng: Generator) -> Images:
    """Saturation of HSV, S = (V - min) / V, to scale S + shift within 0 .. 1; greys turn towards red.

    Constants: scale, shift. Images of other than three channels have no saturation: they stay as they are.
    """
    if x.shape[1] != 3:
        return x
    value, least = x.max(1, keepdims=True), x.min(1, keepdims=True)
    spread = value - least
    old = spread / np.where(value > 0, value, 1)
    new = np.clip(old * constants[0] + constants[1], 0, 1)
    red = np.array([0.0, 1.0, 1.0]).reshape(1, 3, 1, 1)
    share = np.where(spread > 0, (value - x) / np.where(spread > 0, spread, 1), red)
    return value * (1 - share * new)


@packaged((0.75, 0.5, 0.4, 0.3, 0.15), random=False)
def contrast(x: Images, factor: float, rng: Generator) -> Images:
    """Shrink the distance to each channel's mean: m + factor (x - m)."""
    mean = x.mean((2, 3), keepdims=True)
    return mean + factor * (x - mean)


@packaged(((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)), random=True)
def elastic_transform(x: Images, constants: tuple[float, float, float], rng: Generator) -> Images:
    """A random affine map of each image, then a smooth random displacement of its pixels.

    Constants, in units of the image's side: size alpha of the displacement, sigma of its smoothing, and the largest
    shift of the three points that fix the affine map.
    """
    alpha, sigma, jitter = np.array(constants) * 32 * sampling.relative_size(x)
    n, _, h, w = x.shape
    rows, columns = np.mgrid[:h, :w].astype(float)[:, None]
    bent = sampling.bilinear(x, *_affine(rng.uniform(-jitter, jitter, (n, 3, 2)), h, w))
    if alpha == 0:
        return bent
    down, across = (alpha * sampling.gaussian_filter(rng.uniform(-1, 1, (n, h, w)), sigma, "reflect", 3)
                    for _ in range(2))
    return sampling.bilinear(bent, rows + down, columns + across)


def _affine(shifts: Images, h: int, w: int) -> Images:
    """Where each pixel (row, column) comes from when three points move by `shifts` (N, 3, 2): rows and columns."""
    size, middle = min(h, w) // 3, np.array([h // 2, w // 2])
    points = middle + size * np.array([[1, 1], [-1, 1], [-1, -1]])
    homogeneous = np.concatenate([points + shifts, np.ones((len(shifts), 3, 1))], 2)
    back = np.linalg.solve(homogeneous, np.broadcast_to(points, shifts.shape).astype(float))
    rows, columns = np.mgrid[:h, :w]
    grid = np.stack([rows, columns, np.ones((h, w))], -1)
    return np.moveaxis(np.einsum("hwk,nkd->nhwd", grid, back), -1, 0)


@packaged((0.95, 0.9, 0.85, 0.75, 0.65), random=False)
def pixelate(x: Images, factor: float, rng: Generator) -> Levels:
    """Down to `factor` of the side and up again, box filters both ways, in the 8-bit arithmetic of Pillow."""
    sides = x.shape[2:]
    small = [max(1, int(side * factor)) for side in sides]
    return _resized(_resized(_levels(x), small), sides).astype(np.uint8)


def _levels(x: Images) -> Images:
    """Grey levels 0 to 255, whole numbers in floats."""
    levels = x * 255
    return np.rint(levels, out=levels)


def _resized(pixels: Images, sides: Sequence[int]) -> Images:
    """Whole numbers (N, C, H, W) box-filtered to (N, C, *sides): along rows, rounded, then along columns, rounded."""
    down, across = (_box(old, new) for old, new in zip(pixels.shape[2:], sides))
    return _rounded(down @ _rounded(pixels @ across.T))


def _rounded(pixels: Images) -> Images:
    pixels += 0.5
    return np.floor(pixels, out=pixels)


@lru_cache
def _box(old: int, new: int) -> NDArray[np.float64]:
    """(new, old) weights of a box filter, multiples of 1/_UNIT: floats hold their sums exactly."""
    scale = old / new
    reach = max(scale, 1.0) / 2
    centre = (np.arange(new)[:, None] + 0.5) * scale
    first, last = np.floor(centre - reach + 0.5).clip(0), np.floor(centre + reach + 0.5).clip(max=old)
    place = np.arange(old)
    offset = (place + 0.5 - centre) / max(scale, 1.0)
    weights = ((place >= first) & (place < last) & (offset > -0.5) & (offset <= 0.5)).astype(float)
    return np.floor(weights / weights.sum(1, keepdims=True) * _UNIT + 0.5) / _UNIT


@packaged((80, 65, 58, 50, 40), random=False)
def jpeg_compression(x: Images, quality: int, rng: Generator) -> Levels:
    """Through a JPEG of that quality: three channels as RGB, other numbers one by one as grey."""
    n, c, h, w = x.shape
    mode, planes = "RGB" if c == 3 else "L", _levels(x).astype(np.uint8)
    planes = np.ascontiguousarray(planes.transpose(0, 2, 3, 1)) if c == 3 else planes.reshape(n * c, h, w)
    strip = Image.frombuffer(mode, (w, len(planes) * h), planes, "raw", mode, 0, 1)   # one below the other
    decoded = strip.copy()
    for top in range(0, strip.height, h):
        buffer = io.BytesIO()
        strip.crop((0, top, w, top + h)).save(buffer, "JPEG", quality=quality)
        buffer.seek(0)
        decoded.paste(JpegImageFile(buffer), (0, top))
    out = np.asarray(decoded).reshape(planes.shape)
    return out.transpose(0, 3, 1, 2) if c == 3 else out.reshape(x.shape)
