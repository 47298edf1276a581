"""Images as PNG, as files and as text that lives inside the page."""

import base64
import io

import numpy as np
from PIL import Image

_FACTORS = (1, 2, 5, 10, 20, 50, 100)


def png(image: np.ndarray) -> str:
    """Data URI of `png_file`."""
    return data_uri("image/png", png_file(image))


def png_file(image: np.ndarray) -> bytes:
    """A (C, H, W) image in [0, 1] as PNG: colour for three channels, else grey (the mean over channels)."""
    levels = np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)
    pixels = levels.transpose(1, 2, 0) if len(image) == 3 else np.rint(levels.mean(0)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def amplified(clean: np.ndarray, adversarial: np.ndarray) -> tuple[np.ndarray, int]:
    """The difference about mid-grey, and the largest factor of 1, 2, 5, ... 100 at which it still fits [0, 1]."""
    difference = adversarial - clean
    largest = float(np.abs(difference).max())
    factor = max((f for f in _FACTORS if f * largest <= 0.5), default=1)
    return 0.5 + factor * difference, factor
