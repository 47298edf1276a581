"""Cells pooled over chips, the change from one machine to the next, and the rungs of a waterfall.

    accuracy of rung k - accuracy of the reference = sum over j <= k of change_j                       (1)
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from ep_hw.analysis.rows import Case, SummaryRow
from ep_hw.analysis.statistics import mcnemar, paired_interval, student, unpaired_interval, wilson
from ep_hw.threats.threat import Threat


@dataclass(frozen=True)
class Estimate:
    """An accuracy or a difference of two, with its 95 % interval; fractions, not points."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Point:
    """A machine under a threat of one strength, pooled over its chips.

    Attributes:
        n: images (of each chip).
        accuracy: Wilson over images; over two chips or more, the wider at either end of it and Student over chips,
            since equal chips say nothing about other images; clipped to [0, 1].
        chips: (chip seed, accuracy) pairs, sorted; empty for a machine without chips.
        agreement: fraction of images on which it predicts what the reference predicts; mean over chips.
        to_wrong: images that the reference gets right and it wrong; mean over chips.
        to_right: the reverse.
    """

    machine: str
    threat: Threat
    n: int
    accuracy: Estimate
    chips: tuple[tuple[int, float], ...]
    agreement: float
    to_wrong: float
    to_right: float

    @property
    def strength(self) -> float:
        return self.threat.strength

    @property
    def over_chips(self) -> bool:
        return len(self.chips) > 1

    @property
    def p_value(self) -> float | None:
        """Exact McNemar p against the reference on the same images; None where chips were averaged."""
        return None if self.over_chips else mcnemar(round(self.to_wrong), round(self.to_right))

    @property
    def correct(self) -> int:
        return round(self.accuracy.value * self.n)


Points = dict[Case, Point]


def pool(summary: Sequence[SummaryRow]) -> Points:
    """Points of one model and data set by machine and threat, in the order of the summary.

    Raises:
        ValueError: two rows describe the same chip under the same threat.
    """
    places: dict[Case, list[int]] = defaultdict(list)
    for n, row in enumerate(summary):
        places[row["machine"], row["threat"]].append(n)
    return {case: _pool(case, [summary[n] for n in own]) for case, own in places.items()}


def _pool(case: Case, rows: list[SummaryRow]) -> Point:
    seeds = [row["chip_seed"] for row in rows]
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"{case}: {len(rows)} rows for chips {seeds}; a summary has one row a cell")
    chips = sorted((row["chip_seed"], row["accuracy"]) for row in rows if row["chip_seed"] is not None)
    agreement = float(np.mean([row["agreement"] for row in rows]))
    to_wrong, to_right = (float(np.mean(flips)) for flips in zip(
        *((row["flips_to_wrong"], row["flips_to_right"]) for row in rows)))
    accuracy = estimate([row["accuracy"] for row in rows], rows[0]["n"])
    return Point(*case, rows[0]["n"], accuracy, tuple(chips), agreement, to_wrong, to_right)


def estimate(accuracies: Sequence[float], n: int) -> Estimate:
    """Mean accuracy of one machine, or of several chips on the same n images, with the interval of `Point.accuracy`."""
    mean = float(np.mean(accuracies))
    low, high = wilson(round(mean * n), n)
    if len(accuracies) > 1:
        low, high = _hull((low, high), student(accuracies))
    return Estimate(mean, max(0.0, low), min(1.0, high))


def change(before: Point, after: Point) -> Estimate:
    """Accuracy of `after` minus that of `before`, with the best interval that the summary supports.

    Between machines on the same images: Bonett-Price, where the discordant images are at most those on which one of
    the two differs from the reference (exactly those if one is the reference). Between machines each attacked with
    its own images: Newcombe. Over chips, Student on the differences chip by chip wherever that is wider.
    """
    difference = after.accuracy.value - before.accuracy.value
    return Estimate(difference, *_change_interval(before, after, difference))


def _change_interval(before: Point, after: Point, difference: float) -> tuple[float, float]:
    images = _image_interval(before, after, difference)
    chips = _chip_differences(before, after)
    return images if chips is None else _hull(images, student(chips))


def _hull(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    """The smallest interval that holds both."""
    return min(a[0], b[0]), max(a[1], b[1])


def _image_interval(before: Point, after: Point, difference: float) -> tuple[float, float]:
    if before.threat.is_direct or after.threat.is_direct:   # each machine met images that the other never saw
        return unpaired_interval(before.correct, before.n, after.correct, after.n)
    n = after.n
    discordant = max(before.to_wrong + before.to_right + after.to_wrong + after.to_right, abs(difference) * n)
    return paired_interval((discordant - difference * n) / 2, (discordant + difference * n) / 2, n)


def _chip_differences(before: Point, after: Point) -> np.ndarray | None:
    """After minus before, chip by chip; None unless one has several chips and the other the same chips or none."""
    sides = [dict(p.chips) for p in (before, after) if p.over_chips]
    if not sides or any(side.keys() != sides[0].keys() for side in sides):
        return None
    first, second = (np.array([dict(p.chips).get(seed, p.accuracy.value) for seed in sides[0]])
                     for p in (before, after))
    return second - first


@dataclass(frozen=True)
class WaterfallStep:
    """One rung: a machine, the cause it adds, and the change of accuracy since the rung before (None for the first)."""

    machine: str
    cause: str
    point: Point
    change: Estimate | None


def waterfall(rungs: Sequence[tuple[str, str]], points: Points, threat: Threat) -> list[WaterfallStep]:
    """The steps of `analysis.points (1)`, or none where a rung was not evaluated under this threat."""
    met = [point for machine, _ in rungs if (point := _met(points, machine, threat))]
    if len(met) < len(rungs):
        return []
    changes = [None, *(change(before, after) for before, after in pairwise(met))]
    return [WaterfallStep(machine, cause, point, delta) for (machine, cause), point, delta in zip(rungs, met, changes)]


def _met(points: Points, machine: str, threat: Threat) -> Point | None:
    """The point of a machine; the machine that made transferred images met them in its own attack."""
    if machine == threat.source:
        own = points.get((machine, replace(threat, source=None)))
        return own and replace(own, threat=threat)
    return points.get((machine, threat))
