"""Common corruptions at severities 1 to 5, with the constants of CIFAR-10-C.

Every function takes images (N, C, H, W) in [0, 1] as float64, one constant, and a numpy generator of its own; the
result is clipped to [0, 1] and truncated to 8 bits, as the published sets are.
Source: Hendrycks and Dietterich 2019, 32 x 32 constants. None of these three depends on the image's size.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from mapping.errors import Refusal


@dataclass(frozen=True)
class Corruption:
    """A corruption: its function, its five constants, and whether it draws random numbers."""

    function: Callable[[np.ndarray, float, np.random.Generator], np.ndarray]
    constants: tuple[float, float, float, float, float]
    random: bool


def gaussian_noise(x, sigma: float, rng):
    """x + N(0, sigma^2) a pixel."""
    return x + rng.normal(0.0, sigma, x.shape)


def contrast(x, factor: float, rng):
    """Shrink the distance to each channel's mean: m + factor (x - m)."""
    mean = x.mean((2, 3), keepdims=True)
    return mean + factor * (x - mean)


def jpeg_compression(x, quality: float, rng):
    """Through a JPEG of that quality: grey images as mode L, colour images as RGB."""
    return np.stack([_through_jpeg(image, int(quality)) for image in np.rint(x * 255).astype(np.uint8)]) / 255


def _through_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    pixels = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    decoded = np.asarray(Image.open(buffer))
    return decoded[None] if len(image) == 1 else decoded.transpose(2, 0, 1)


CORRUPTIONS: dict[str, Corruption] = {
    "gaussian_noise": Corruption(gaussian_noise, (0.04, 0.06, 0.08, 0.09, 0.10), True),
    "contrast": Corruption(contrast, (0.75, 0.5, 0.4, 0.3, 0.15), False),
    "jpeg_compression": Corruption(jpeg_compression, (80, 65, 58, 50, 40), False),
}
ALIASES = {"jpeg": "jpeg_compression"}


def corrupt(images: np.ndarray, name: str, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Corrupt a batch.

    Args:
        images: (N, C, H, W), float, in [0, 1].
        name: a key of `CORRUPTIONS`. severity: 1 to 5.
        rng: source of all random numbers: the same generator state gives the same bytes.

    Returns:
        (N, C, H, W) float32, multiples of 1/255.

    Raises:
        Refusal: unknown corruption or severity.
    """
    if name not in CORRUPTIONS or severity not in (1, 2, 3, 4, 5):
        raise Refusal("unknown corruption", where="corruption", got=f"{name}@{severity}",
                      allowed=f"{', '.join(CORRUPTIONS)} at severity 1 to 5", remedy="write it as jpeg_compression@3")
    corruption = CORRUPTIONS[name]
    x = np.asarray(images, np.float64)
    changed = np.clip(corruption.function(x, corruption.constants[severity - 1], rng), 0, 1)
    # 1e-6 keeps k/255 at k where the decoded image is already a multiple of 1/255
    return (np.floor(changed * 255 + 1e-6) / 255).astype(np.float32)
