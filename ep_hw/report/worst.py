"""The worst case for each image over every attack of one norm and budget, as each chip met them.

An image stands only where it is classified correctly under all of them: attacks made on the machine, and attacks
transferred to it.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ep_hw.report.points import Estimate, estimate, family, is_attack

APART = ("cw_", "pgd_unclipped_")   # bound by a price, and free to leave the image's range: no budget to share


@dataclass(frozen=True)
class WorstCase:
    """One machine against everything that stays within one budget.

    Attributes:
        norm, budget: "l2" or "linf", and eps. attacks: names of the threats, sorted.
        n: images (of each chip). accuracy: over images and chips, as `report.points.Point` has it.
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
    standing, attacks = defaultdict(lambda: defaultdict(dict)), defaultdict(set)
    for row in images:
        if not _bounded(row["threat"]):
            continue
        norm = family(row["threat"]).rpartition("_")[2]
        key = row["machine"], norm, row["strength"]
        stands, seen = standing[key][row["chip_seed"]], row["image_id"]
        stands[seen] = stands.get(seen, True) and row["prediction"] == row["label"]
        attacks[key].add(row["threat"])
    return [WorstCase(*key, tuple(sorted(attacks[key])), len(next(iter(chips.values()))), _accuracy(chips))
            for key, chips in standing.items()]


def _accuracy(chips: dict[int | None, dict[int, bool]]) -> Estimate:
    stands = [list(chip.values()) for chip in chips.values()]
    return estimate([float(np.mean(chip)) for chip in stands], len(stands[0]))


def _bounded(threat: str) -> bool:
    return is_attack(threat) and not family(threat).startswith(APART)
