"""The images behind the accuracies: those of one network, machine and threat on one sheet, shown piece by piece.

A sheet has a column an image and a row a picture of it: clean, and under a threat also changed, and their difference.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ep_hw.report import wording
from ep_hw.report.figures.inline import amplified, png
from ep_hw.report.record import GalleryItem
from ep_hw.threats.threat import CLEAN, Threat

Behind = tuple[str, str, Threat]   # a network's kind, empty for the page's own, on a machine under a threat


@dataclass(frozen=True)
class Shot:
    """One image on a sheet.

    Attributes:
        item: the image.
        factor: that its difference is multiplied by.
        across: where it lies on the sheet, as a background's position in percent.
    """

    item: GalleryItem
    factor: int
    across: str


@dataclass(frozen=True)
class Gallery:
    """Images of one network, machine and threat.

    Attributes:
        id: of the page's element.
        network: its kind, empty for the page's own one.
        machine: the name.
        threat: what was done to the images.
        shots: the images.
        sheet: all of them as one data URI.
        ratio: width over height of an image.
        rows: what each row of the sheet shows.
    """

    id: str
    network: str
    machine: str
    threat: Threat
    shots: tuple[Shot, ...]
    sheet: str
    ratio: str
    rows: tuple[str, ...]

    @property
    def name(self) -> str:
        """Of the threat."""
        return wording.threat_name(self.threat)


def galleries(items: Sequence[GalleryItem]) -> list[Gallery]:
    """One a network, machine and threat, in the order of the images."""
    cases: dict[Behind, list[GalleryItem]] = {}
    for item in items:
        cases.setdefault((item.network, item.machine, item.threat), []).append(item)
    return [_gallery(n, case, own) for n, (case, own) in enumerate(cases.items())]


def _gallery(number: int, case: Behind, items: Sequence[GalleryItem]) -> Gallery:
    differences, factors = zip(*(amplified(item.clean, item.adversarial) for item in items))
    rows = {"clean": [item.clean for item in items]}
    if case[-1] != CLEAN:
        rows |= {"changed": [item.adversarial for item in items], "difference": list(differences)}
    sheet = np.concatenate([np.concatenate(row, axis=2) for row in rows.values()], axis=1)
    _, height, width = items[0].clean.shape
    return Gallery(f"images-{number}", *case, tuple(_shots(items, factors)), png(sheet), f"{width}/{height}",
                   tuple(rows))


def _shots(items: Sequence[GalleryItem], factors: Sequence[int]) -> Iterator[Shot]:
    last = max(len(items) - 1, 1)
    return (Shot(item, factor, f"{100 * n / last:.4g}") for n, (item, factor) in enumerate(zip(items, factors)))
