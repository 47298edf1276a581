"""Common corruptions at severities 1 to 5, with the constants of CIFAR-10-C: fifteen, and four more.

The published functions take 8-bit images. So every image is first rounded to its nearest 8 bits, in float64: a float32
pixel misses k/255 by up to 1.5e-5 of a level, enough to lose one where a result is truncated; and an image of other
levels, as the seventeen of digits, is corrupted as its 8-bit file would be.

Every function takes images (N, C, H, W) of multiples of 1/255 as float64, a constant (or a tuple of them) and a numpy
generator of its own; the result is clipped to [0, 1] and truncated to 8 bits, as the published sets are, unless it is
grey levels (uint8) already. Constants are those of 32 x 32 images; ep_hw.threats.corruptions.sampling says how lengths
scale. Source: Hendrycks and Dietterich 2019.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ep_hw.threats.corruptions import blur, digital, noise, weather
from mapping.errors import Refusal


@dataclass(frozen=True)
class Corruption:
    """A corruption: its function, its constants for severity 1 to 5, whether it draws random numbers, its group."""

    function: Callable[[np.ndarray, object, np.random.Generator], np.ndarray]
    constants: tuple
    random: bool
    group: str


def _corruption(function, constants, random: bool, group: str) -> tuple[str, Corruption]:
    return function.__name__, Corruption(function, constants, random, group)


CORRUPTIONS: dict[str, Corruption] = dict([
    _corruption(noise.gaussian_noise, (0.04, 0.06, 0.08, 0.09, 0.10), True, "noise"),
    _corruption(noise.shot_noise, (500, 250, 100, 75, 50), True, "noise"),
    _corruption(noise.impulse_noise, (0.01, 0.02, 0.03, 0.05, 0.07), True, "noise"),
    _corruption(blur.defocus_blur, ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)), False, "blur"),
    _corruption(blur.glass_blur, ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)), True, "blur"),
    _corruption(blur.motion_blur, ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)), True, "blur"),
    _corruption(blur.zoom_blur, (1.06, 1.11, 1.16, 1.21, 1.26), False, "blur"),
    _corruption(weather.snow, ((0.1, 0.2, 1, 0.6, 8, 3, 0.95), (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
                               (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9), (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
                               (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8)), True, "weather"),
    _corruption(weather.frost, ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)), True, "weather"),
    _corruption(weather.fog, ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)), True, "weather"),
    _corruption(digital.brightness, (0.05, 0.1, 0.15, 0.2, 0.3), False, "digital"),
    _corruption(digital.contrast, (0.75, 0.5, 0.4, 0.3, 0.15), False, "digital"),
    _corruption(digital.elastic_transform, ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05),
                                            (0.1, 0.03, 0.03)), True, "digital"),
    _corruption(digital.pixelate, (0.95, 0.9, 0.85, 0.75, 0.65), False, "digital"),
    _corruption(digital.jpeg_compression, (80, 65, 58, 50, 40), False, "digital"),
    _corruption(noise.speckle_noise, (0.06, 0.1, 0.12, 0.16, 0.2), True, "extra"),
    _corruption(blur.gaussian_blur, (0.4, 0.6, 0.7, 0.8, 1), False, "extra"),
    _corruption(weather.spatter, ((0.62, 0.1, 0.7, 0.7, 0.5, 0), (0.65, 0.1, 0.8, 0.7, 0.5, 0),
                                  (0.65, 0.3, 1, 0.69, 0.5, 0), (0.65, 0.1, 0.7, 0.69, 0.6, 1),
                                  (0.65, 0.1, 0.5, 0.68, 0.6, 1)), True, "extra"),
    _corruption(digital.saturate, ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)), False, "extra"),
])
MAIN = tuple(name for name, corruption in CORRUPTIONS.items() if corruption.group != "extra")
_CHUNK = 32   # images at a time where these share no random numbers: arrays that the allocator keeps are reused
ALIASES = {"defocus": "defocus_blur", "elastic": "elastic_transform", "gaussian": "gaussian_noise",
           "glass": "glass_blur", "impulse": "impulse_noise", "jpeg": "jpeg_compression", "motion": "motion_blur",
           "shot": "shot_noise", "speckle": "speckle_noise", "zoom": "zoom_blur"}


def corrupt(images: np.ndarray, name: str, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Corrupt a batch.

    Args:
        images: (N, C, H, W), float, in [0, 1]; rounded to multiples of 1/255 first.
        name: a key of `CORRUPTIONS`. severity: 1 to 5.
        rng: source of all random numbers: the same generator state gives the same bytes.

    Returns:
        (N, C, H, W) float32, multiples of 1/255.

    Raises:
        Refusal: unknown corruption or severity; frost without its photographs.
    """
    if name not in CORRUPTIONS or severity not in (1, 2, 3, 4, 5):
        raise Refusal("unknown corruption", where="corruption", got=f"{name}@{severity}",
                      allowed=f"{', '.join(CORRUPTIONS)} at severity 1 to 5", remedy="write it as jpeg_compression@3")
    corruption = CORRUPTIONS[name]
    step = max(1, len(images)) if corruption.random else _CHUNK
    corrupted = np.empty(np.shape(images), np.float32)
    for part in (slice(start, start + step) for start in range(0, len(images), step)):
        changed = corruption.function(_eight_bit(images[part]), corruption.constants[severity - 1], rng)
        np.divide(changed if changed.dtype == np.uint8 else _truncated(changed), 255, corrupted[part], dtype=np.float32)
    return corrupted


def _eight_bit(images: np.ndarray) -> np.ndarray:
    """The nearest multiples of 1/255, in float64."""
    levels = np.multiply(images, 255, dtype=np.float64)
    return np.divide(np.rint(levels, out=levels), 255, out=levels)


def _truncated(images: np.ndarray) -> np.ndarray:
    """Whole grey levels in 0 .. 255 at or below those of float images."""
    levels = images * 255
    levels += 1e-6   # keeps k/255 at k
    np.floor(levels, out=levels)
    return levels.clip(0, 255, out=levels)
