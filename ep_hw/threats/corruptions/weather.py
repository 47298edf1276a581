"""Weather: snow, frost, fog, and a dirty lens."""

import numpy as np
import scipy
from numpy.random import Generator

from ep_hw.threats.corruptions import sampling
from ep_hw.threats.corruptions.edges import canny, equalise
from ep_hw.threats.corruptions.packaged import packaged
from ep_hw.threats.corruptions.photographs import frost_photographs
from ep_hw.threats.definitions import Images

WATER, MUD = (175 / 255, 238 / 255, 238 / 255), (63 / 255, 42 / 255, 20 / 255)
_WIND = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])   # embosses the drops
_FAR = 20.0   # pixels from an edge beyond which light does not vary


@packaged(((0.1, 0.2, 1, 0.6, 8, 3, 0.95), (0.1, 0.2, 1, 0.5, 10, 4, 0.9), (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
           (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85), (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8)), random=True)
def snow(x: Images, constants: tuple[float, float, float, float, float, float, float], rng: Generator) -> Images:
    """Streaks of falling flakes over a whitened image.

    Constants: mean and sd of the flakes' brightness; their enlargement; the brightness below which there is none;
    radius and sigma of their motion in pixels; weight of the image against its whitened self.
    """
    mean, sd, zoom, threshold, radius, sigma, mix = constants
    size, (n, _, h, w) = sampling.relative_size(x), x.shape
    flakes = sampling.centre_zoom(rng.normal(mean, sd, (n, 1, h, w)), zoom)
    flakes = np.floor(np.where(flakes < threshold, 0, flakes).clip(0, 1) * 255) / 255
    flakes = sampling.motion_blur(flakes, radius * size, sigma * size, rng.uniform(-135, -45, len(x)))
    white = np.maximum(x, sampling.luma(x) * 1.5 + 0.5)
    return mix * x + (1 - mix) * white + flakes + flakes[:, :, ::-1, ::-1]


@packaged(((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)), random=True)
def frost(x: Images, constants: tuple[float, float], rng: Generator) -> Images:
    """A random place of one of five photographs of frost, laid over the image. Constants: weights of both."""
    _, c, h, w = x.shape
    rows, columns = np.mgrid[:h, :w]
    reach = 5 / sampling.relative_size(x)   # pixels of the photograph for one of the image
    out = constants[0] * x
    for i, which in enumerate(rng.integers(0, 5, len(x))):
        photograph = frost_photographs()[which]
        top, left = (rng.integers(0, max(1, int(side / reach) - size))
                     for side, size in zip(photograph.shape[1:], (h, w)))
        # the middle of a photograph's pixel is what an unfiltered reduction picks
        place = ((top + rows + 0.5) * reach - 0.5, (left + columns + 0.5) * reach - 0.5)
        ice = sampling.bilinear(photograph[None], *(axis[None] for axis in place))
        out[i] += constants[1] * (ice if c == 3 else sampling.luma(ice))[0]
    return out


@packaged(((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)), random=True)
def fog(x: Images, constants: tuple[float, float], rng: Generator) -> Images:
    """A fractal cloud, rescaled so that the brightest pixel stays so. Constants: weight, decay of the roughness."""
    weight, decay = constants
    largest = x.max((1, 2, 3), keepdims=True)
    side = 2 ** int(np.ceil(np.log2(max(32, *x.shape[2:]))))
    cloud = plasma(len(x), side, decay, rng)[:, None, :x.shape[2], :x.shape[3]]
    return (x + weight * cloud) * largest / (largest + weight)


def plasma(n: int, side: int, decay: float, rng: Generator) -> Images:
    """(n, side, side) fractal maps in [0, 1] by the diamond-square algorithm on a torus; `side` a power of two."""
    step, roughness = side, 100.0
    heights: Images = np.zeros((n, side, side))

    def jittered(corners: Images) -> Images:
        return corners / 4 + roughness * rng.uniform(-roughness, roughness, corners.shape)

    while step >= 2:
        half = step // 2
        corners: Images = heights[:, ::step, ::step]
        pairs: Images = corners + np.roll(corners, -1, 1)
        heights[:, half::step, half::step] = jittered(pairs + np.roll(pairs, -1, 2))
        centres: Images = heights[:, half::step, half::step]
        heights[:, ::step, half::step] = jittered(centres + np.roll(centres, 1, 1) + corners + np.roll(corners, -1, 2))
        heights[:, half::step, ::step] = jittered(centres + np.roll(centres, 1, 2) + corners + np.roll(corners, -1, 1))
        step, roughness = half, roughness / decay
    heights -= heights.min((1, 2), keepdims=True)
    return heights / heights.max((1, 2), keepdims=True)


@packaged(((0.62, 0.1, 0.7, 0.7, 0.5, 0), (0.65, 0.1, 0.8, 0.7, 0.5, 0), (0.65, 0.3, 1, 0.69, 0.5, 0),
           (0.65, 0.1, 0.7, 0.69, 0.6, 1), (0.65, 0.1, 0.5, 0.68, 0.6, 1)), random=True)
def spatter(x: Images, constants: tuple[float, float, float, float, float, float], rng: Generator) -> Images:
    """Drops on the lens. Constants: mean and sd of the liquid; its smoothing; level where it shows; mix; 1 for mud."""
    mean, sd, sigma, threshold, mix, mud = constants
    n, c, h, w = x.shape
    size = sampling.blur_size(x)
    liquid = sampling.gaussian_filter(rng.normal(mean, sd, (n, h, w)), sigma * size)
    liquid = np.where(liquid < threshold, 0, liquid)
    if mud:
        cover = sampling.gaussian_filter((liquid > threshold).astype(float), mix * size)[:, None]
        cover = np.where(cover < 0.8, 0, cover)
        return x * (1 - cover) + cover * sampling.tint(MUD, c)
    depth = _drops(np.floor(liquid.clip(0, 1) * 255))[:, None]
    largest = depth.max((1, 2, 3), keepdims=True)
    return x + mix * depth / np.where(largest > 0, largest, 1) * sampling.tint(WATER, c)


def _drops(liquid: Images) -> Images:
    """(N, H, W) brightness of water drops: light gathers near the edges of the liquid, whole numbers to 255."""
    edges = canny(liquid, 50, 150)
    # images lie too far apart to see each other's edges; nor does one without any see those of others
    distance = (scipy.ndimage.distance_transform_edt(~edges, sampling=(2 * _FAR, 1, 1)) if edges.any()
                else np.full(liquid.shape, _FAR))
    distance = np.floor(_mean_of_nine(np.minimum(distance, _FAR)))
    equal = equalise(distance.astype(np.uint8)).astype(float)
    shaded = scipy.ndimage.correlate(equal, _WIND[None], mode="mirror").clip(0, 255)
    return liquid * np.rint(_mean_of_nine(shaded))


def _mean_of_nine(images: Images) -> Images:
    return scipy.ndimage.uniform_filter(images, (1, 3, 3), mode="mirror")
