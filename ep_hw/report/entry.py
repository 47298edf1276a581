"""One row of a comparison of models: networks of one kind on one machine, image by image and seed by seed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ep_hw.analysis.points import Estimate, Point, Points, estimate
from ep_hw.analysis.statistics import difference_interval, welch
from ep_hw.report.published import at, same_rounded
from ep_hw.threats.threat import Threat
from mapping.targets import REFERENCE

Right = dict[Threat, np.ndarray]   # (n,) whether a network is right, image by image; a mean over chips


@dataclass(frozen=True, eq=False)
class Entry:
    """One row of the comparison.

    Attributes:
        kind: of its networks, or the name of the only one.
        machine: all that is asked of the networks is on this one.
        networks: points of each seed.
        right: of each seed, on that machine; needed of those that are compared.
    """

    kind: str
    machine: str
    networks: tuple[Points, ...]
    right: tuple[Right, ...] = ()

    @property
    def name(self) -> str:
        """Of the row."""
        return self.kind if self.machine == REFERENCE else f"{self.kind} on {self.machine}"

    def met(self, threats: Sequence[Threat]) -> bool:
        """Whether each of its networks met all of these."""
        return bool(threats and self.right) and all(
            any(same_rounded(own, threat) for own in right) for right in self.right for threat in threats)

    def mean(self, threats: Sequence[Threat]) -> Estimate | None:
        """Mean accuracy over threats and seeds; None where a network has not met one of the threats, or there are none.

        As if an image's threats erred together: the interval is never too narrow.
        """
        met = [[point for threat in threats if (point := self.point(points, threat))] for points in self.networks]
        if not threats or any(len(points) < len(threats) for points in met):
            return None
        if len(met) == 1:
            ends = np.mean([[p.accuracy.value, p.accuracy.low, p.accuracy.high] for p in met[0]], axis=0)
            return Estimate(*map(float, ends))
        return estimate([float(np.mean([p.accuracy.value for p in points])) for points in met],
                        min(p.n for points in met for p in points))

    def image_by_image(self, threats: Sequence[Threat]) -> np.ndarray:
        """(seeds, n) mean correctness over threats, of the images that met them all."""
        met = [[_right_under(right, threat) for threat in threats] for right in self.right]
        n = min(len(answers) for seed in met for answers in seed)
        return np.array([np.mean([answers[:n] for answers in seed], axis=0) for seed in met])

    def point(self, points: Points, threat: Threat) -> Point | None:
        """What one network is worth under a threat."""
        return at(points, self.machine, threat)

    def images(self, threat: Threat) -> int | None:
        """How many images met a threat."""
        point = self.point(self.networks[0], threat)
        return point.n if point else None


def _right_under(right: Right, threat: Threat) -> np.ndarray:
    """Which images are right under a threat whose strength may be rounded."""
    return next(answers for met, answers in right.items() if same_rounded(met, threat))


def lead(first: np.ndarray, second: np.ndarray) -> Estimate:
    """How much better the first model is, `report.models (1)`.

    Args:
        first: (seeds, n) correctness of the images, in [0, 1].
        second: the other model's on the same images.
    """
    n = min(first.shape[1], second.shape[1])
    first, second = first[:, :n], second[:, :n]
    low, high = difference_interval(first.mean(0) - second.mean(0))
    if min(len(first), len(second)) > 1:
        seeds = welch(first.mean(1), second.mean(1))
        low, high = min(low, seeds.low), max(high, seeds.high)
    return Estimate(float(first.mean() - second.mean()), max(-1.0, low), min(1.0, high))
