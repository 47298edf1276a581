"""Blurs. Widths are in pixels of a 32 x 32 image (see ep_hw.threats.corruptions.sampling)."""

import numpy as np
import scipy
from numpy.random import Generator

from ep_hw.threats.corruptions import sampling
from ep_hw.threats.corruptions.packaged import packaged
from ep_hw.threats.definitions import Images


@packaged((0.4, 0.6, 0.7, 0.8, 1), random=False)
def gaussian_blur(x: Images, sigma: float, rng: Generator) -> Images:
    """Gaussian of `sigma` pixels."""
    return sampling.gaussian_filter(x, sigma * sampling.blur_size(x))


@packaged(((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)), random=False)
def defocus_blur(x: Images, constants: tuple[float, float], rng: Generator) -> Images:
    """Average over a disk, its edge softened by a 3 x 3 Gaussian. Constants: radius, sigma of the edge, in pixels."""
    radius, sigma = np.array(constants) * sampling.blur_size(x)
    reach = int(np.ceil(radius)) + 1
    offsets = np.arange(-reach, reach + 1)
    disk = (offsets[:, None]**2 + offsets**2 <= radius**2).astype(float)
    edge = np.exp(-np.arange(-1, 2)**2 / (2 * sigma**2))
    kernel = scipy.ndimage.convolve(disk / disk.sum(), np.outer(edge, edge) / edge.sum()**2, mode="constant")
    return sampling.correlate(x, kernel)


@packaged(((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)), random=True)
def glass_blur(x: Images, constants: tuple[float, int, int], rng: Generator) -> Images:
    """Each pixel takes the value of a near one, in place, between two Gaussian blurs.

    Constants: sigma of the blurs; largest displacement d in pixels (at least 1), drawn from -d .. d - 1; how often.
    """
    sigma, reach, times = constants[0] * sampling.blur_size(x), constants[1], constants[2]
    reach = max(1, round(reach * sampling.blur_size(x)))
    x = np.floor(sampling.gaussian_filter(x, sigma) * 255) / 255
    n, _, h, w = x.shape
    image, pixels = np.arange(n), np.ascontiguousarray(x.transpose(2, 3, 0, 1))
    for _ in range(times):
        for r in range(h - reach, reach, -1):
            moves = rng.integers(-reach, reach, (w - 2 * reach, 2, n))
            for c, (down, across) in zip(range(w - reach, reach, -1), moves):
                pixels[r, c] = pixels[r + down, c + across, image]
    return sampling.gaussian_filter(pixels.transpose(2, 3, 0, 1), sigma)


@packaged(((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)), random=True)
def motion_blur(x: Images, constants: tuple[float, float], rng: Generator) -> Images:
    """A streak at an angle within 45 degrees of the horizontal. Constants: radius and sigma in pixels."""
    radius, sigma = np.array(constants) * sampling.blur_size(x)
    return sampling.motion_blur(x, radius, sigma, rng.uniform(-45, 45, len(x)))


@packaged((1.06, 1.11, 1.16, 1.21, 1.26), random=False)
def zoom_blur(x: Images, end: float, rng: Generator) -> Images:
    """Mean of the image and of its enlargements by 1, 1.01, ... below `end`."""
    zooms = np.arange(1, end, 0.01)
    return (x + sum(sampling.centre_zoom(x, zoom) for zoom in zooms)) / (len(zooms) + 1)
