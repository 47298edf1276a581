"""The worst case for each image over every attack of one norm and budget, as each chip met them.

An image stands only where it is classified correctly under all of them: attacks made on the machine, and attacks
transferred to it. Images that met only some of them do not count.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ep_hw.analysis.points import Estimate, estimate, family, is_attack

APART = ("cw_", "pgd_unclipped_")   # bound by a price, and free to leave the image's range: no budget to share


@dataclass(frozen=True)
class WorstCase:
    """One machine against everything that stays within one budget.

    Attributes:
        norm, budget: "l2" or "linf", and eps. attacks: names of the threats, sorted.
        n: images that met all of them (of each chip). accuracy: over images and chips, as `report.points.Point` has it.
    """

    machine: str
    norm: str
    budget: float
    attacks: tuple[str, ...]
    n: int
    accuracy: Estimate


def worst_cases(images: Iterable[dict]) -> list[WorstCase]:
    """Worst cases in the order of the results.

    Args:
        images: one dict an image and cell with machine, chip_seed, threat, strength, image_id, label, prediction.
    """
    met = defaultdict(lambda: defaultdict(lambda: defaultdict(dict)))
    for row in images:
        if not _bounded(row["threat"]):
            continue
        norm = family(row["threat"]).rpartition("_")[2]
        key = row["machine"], norm, row["strength"]
        met[key][row["chip_seed"]][row["image_id"]][row["threat"]] = row["prediction"] == row["label"]
    return [found for key, chips in met.items() for found in _worst(key, list(chips.values()))]


def _worst(key: tuple[str, str, float], chips: list[dict[int, dict[str, bool]]]) -> list[WorstCase]:
    """The worst case of one machine, norm and budget; none where no image met every attack."""
    attacks = {threat for chip in chips for right in chip.values() for threat in right}
    stands = [[all(right.values()) for right in chip.values() if len(right) == len(attacks)] for chip in chips]
    if not all(stands):
        return []
    share = estimate([float(np.mean(chip)) for chip in stands], len(stands[0]))
    return [WorstCase(*key, tuple(sorted(attacks)), len(stands[0]), share)]


def _bounded(threat: str) -> bool:
    return is_attack(threat) and not family(threat).startswith(APART)
