"""Pictures as text that lives inside the page: figures as SVG elements, images as PNG data URIs."""

import base64
import io
import re

import matplotlib
import numpy as np
from markupsafe import Markup, escape
from matplotlib.figure import Figure
from PIL import Image

from ep_hw.report.figures.lettering import settled
from ep_hw.report.figures.plots import INK, PAPER

_HEAD = re.compile(r'.*?<svg[^>]*?viewBox="0 0 (\S+) ([^"]*)"[^>]*>\s*<defs>\s*<style.*?</style>\s*</defs>', re.DOTALL)
_FACTORS = (1, 2, 5, 10, 20, 50, 100)


def svg(figure: Figure, name: str, alt: str) -> Markup:
    """An <svg> element that follows the page's colours and font and scales down with it.

    Args:
        name: unique in the page; it prefixes every id, since all figures share one document.
        alt: what a reader who cannot see the figure should know.
    """
    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        settled(figure).savefig(text, format="svg", transparent=True,
                       metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    body = text.getvalue().replace(INK, "currentColor").replace(PAPER, "var(--paper)")
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = re.sub(r'xlink:href="#', f'href="#{name}-', body)
    body = re.sub(r"url\(#", f"url(#{name}-", body)
    body = re.sub(r" font-family: [^;\"]*;", "", body)
    head = _HEAD.match(body)
    assert head, "matplotlib writes its SVG otherwise"
    width, height = head.groups()
    return Markup(f'<svg viewBox="0 0 {width} {height}" style="width:{float(width) * 4 / 3:.0f}px" role="img" '
                  f'aria-label="{escape(alt)}">{body[head.end():]}')


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
