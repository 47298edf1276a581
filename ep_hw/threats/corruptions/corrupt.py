"""Corrupting images at severities 1 to 5, with the constants of CIFAR-10-C.

The published functions take 8-bit images. So every image is first rounded to its nearest 8 bits, in float64: a float32
pixel misses k/255 by up to 1.5e-5 of a level, enough to lose one where a result is truncated; and an image of other
levels, as the seventeen of digits, is corrupted as its 8-bit file would be.

The result is clipped to [0, 1] and truncated to 8 bits, as the published sets are. Constants are those of 32 x 32
images; ep_hw.threats.corruptions.sampling says how lengths scale. Source: Hendrycks and Dietterich 2019.
"""

import numpy as np
from numpy.typing import NDArray

from ep_hw.threats.definitions import SEVERITY, Images, Levels
from ep_hw.threats.registry import CORRUPTIONS
from mapping.errors import Refusal, running
from mapping.names import suggesting

_CHUNK = 32   # images at a time where these share no random numbers: arrays that the allocator keeps are reused


def corrupt(images: NDArray[np.floating], name: str, severity: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Corrupt a batch.

    Args:
        images: (N, C, H, W) in [0, 1]; rounded to multiples of 1/255 first.
        name: a key of `CORRUPTIONS`.
        severity: 1 to 5.
        rng: source of all random numbers: the same generator state gives the same bytes.

    Returns:
        (N, C, H, W), multiples of 1/255.

    Raises:
        Refusal: unknown corruption or severity; frost without its photographs; a corruption that fails or makes no
            images.
    """
    if name not in CORRUPTIONS or not SEVERITY.allows(severity):
        raise Refusal("unknown corruption", where="corruption", got=f"{name}@{severity}", **suggesting(
            "" if name in CORRUPTIONS else name, CORRUPTIONS, remedy="write it as jpeg_compression@3",
            allowed=f"{', '.join(CORRUPTIONS)} at severity 1 to 5"))
    corruption = CORRUPTIONS[name]
    step = max(1, len(images)) if corruption.random else _CHUNK
    corrupted = np.empty(np.shape(images), np.float32)
    for part in (slice(start, start + step) for start in range(0, len(images), step)):
        with running("the corruption fails", where=f"{name}@{severity}"):
            made = corruption.at(severity, _eight_bit(images[part]), rng)
        _check_made(made, corrupted[part].shape, f"{name}@{severity}")
        np.divide(_levels(made), 255, corrupted[part], dtype=np.float32)
    return corrupted


def _check_made(made: Images | Levels, shape: tuple[int, ...], where: str):
    """Refuse what is no image: a user's corruption may make anything."""
    numbers = isinstance(made, np.ndarray) and (made.dtype == np.uint8 or np.issubdtype(made.dtype, np.floating))
    if not numbers or made.shape != shape:
        raise Refusal("a corruption made other images than it was given", where=where,
                      got=f"{getattr(made, 'dtype', type(made).__name__)} {tuple(getattr(made, 'shape', ()))}",
                      allowed=f"a numpy array {shape} of floats in [0, 1] or of uint8", remedy="correct the corruption")
    if made.dtype != np.uint8 and not np.isfinite(made).all():
        raise Refusal("a corruption made pixels that are no numbers", where=where, got="NaN or infinity",
                      allowed="floats in [0, 1]", remedy="correct the corruption")


def _eight_bit(images: NDArray[np.floating]) -> Images:
    """The nearest multiples of 1/255, in float64."""
    levels = np.multiply(images, 255, dtype=np.float64)
    return np.divide(np.rint(levels, out=levels), 255, out=levels)


def _levels(images: Images | Levels) -> Images | Levels:
    """Whole grey levels in 0 .. 255 at or below those of float images; those of others as they are."""
    if images.dtype == np.uint8:
        return images
    levels: np.ndarray = images * 255
    levels += 1e-6   # keeps k/255 at k
    np.floor(levels, out=levels)
    return levels.clip(0, 255, out=levels)
