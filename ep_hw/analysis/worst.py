"""The worst case for each image over every attack of one norm and budget, as each chip met them.

An image stands only where it is classified correctly under all of them: attacks made on the machine, and attacks
transferred to it. Images that met only some of them do not count.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ep_hw.analysis.points import Estimate, estimate
from ep_hw.threats.threat import Threat


class Met(NamedTuple):
    """One image under one attack on one chip.

    Attributes:
        image_id: number of the image in its data set.
        right: whether it was classified correctly.
    """

    machine: str
    chip_seed: int | None
    threat: Threat
    image_id: int
    right: bool


Answers = dict[Threat, bool]   # whether an image is right, threat by threat


@dataclass(frozen=True)
class WorstCase:
    """One machine against everything that stays within one budget.

    Attributes:
        norm: "l2" or "linf".
        budget: eps, in the norm.
        attacks: sorted by name.
        n: images that met all of them (of each chip).
        accuracy: over images and chips, as `analysis.points.Point` has it.
    """

    machine: str
    norm: str
    budget: float
    attacks: tuple[Threat, ...]
    n: int
    accuracy: Estimate

    @property
    def names(self) -> list[str]:
        """Names of the attacks."""
        return [threat.name for threat in self.attacks]


def worst_cases(images: Iterable[Met]) -> list[WorstCase]:
    """Worst cases in the order of the results; attacks without a budget to share have none."""
    met: dict[tuple[str, str, float], dict[int | None, dict[int, Answers]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(dict)))
    for row in images:
        if row.threat.is_attack and row.threat.attack.is_bounded:
            key = row.machine, row.threat.norm, row.threat.strength
            met[key][row.chip_seed][row.image_id][row.threat] = row.right
    return [worst for key, chips in met.items() for worst in _worst(key, list(chips.values()))]


def _worst(key: tuple[str, str, float], chips: list[dict[int, Answers]]) -> list[WorstCase]:
    """The worst case of one machine, norm and budget; none where no image met every attack."""
    attacks = {threat for chip in chips for right in chip.values() for threat in right}
    stands = [[all(right.values()) for right in chip.values() if len(right) == len(attacks)] for chip in chips]
    if not all(stands):
        return []
    share = estimate([float(np.mean(chip)) for chip in stands], len(stands[0]))
    return [WorstCase(*key, tuple(sorted(attacks, key=lambda t: t.name)), len(stands[0]), share)]
