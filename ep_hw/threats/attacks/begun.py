"""Where an attack ended before, at a larger strength or with less effort, and another one goes on.

What stood in a larger ball stands in every smaller one: there its perturbation is shrunk to the smaller ball, looked
at, and led on for a few steps, which makes images that other machines meet. What fell in the larger ball is attacked
from where its shrunk perturbation leads. So an image costs one search that finds nothing, at the largest strength it
stands. What fell only to a last resort, images of other machines or the black box that a white box asks last, is
attacked as if nothing had been tried, so that what gradients are worth is known at every strength.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ep_hw.threats.definitions import PIXELS
from ep_hw.threats.threat import TRANSFER, Threat

BLACK_BOX = "square"   # name of the attempt that asks the machine, among gradients the last resort
SHRUNK = "shrunk"   # name of the attempt that takes an image less far than it was


@dataclass(frozen=True, eq=False)
class Begun:
    """What became of a batch before.

    Attributes:
        strength: of the attack then.
        images: (B, C, H, W) that it made.
        broken_by: of each, see `worst_case.Attacked`.
        zero_gradient: (B,), alike.
        queries: (B,), alike.
    """

    strength: float
    images: Tensor
    broken_by: list[str]
    zero_gradient: Tensor
    queries: Tensor

    def fell(self, threat: Threat) -> Tensor:
        """(B,) which images are broken now as well: all that were misclassified as they are, and what fell at the same
        strength, but for last resorts.
        """
        same = self.strength == threat.strength
        return self._mask([by == "clean" or (same and by != "" and not is_last_resort(by, threat))
                           for by in self.broken_by])

    def stood(self, threat: Threat) -> Tensor:
        """(B,) which images stood at a larger strength."""
        return self._mask([self.strength > threat.strength and by == "" for by in self.broken_by])

    def led(self, threat: Threat, images: Tensor) -> Tensor:
        """(B, C, H, W) where the attack goes on: clean images themselves where a last resort alone broke them, and
        where what counts is pixels, of which nobody knows which to give back.
        """
        counts = threat.attack.strength == PIXELS and self.strength != threat.strength
        share = 0.0 if counts else threat.strength / self.strength
        again = self._mask([is_last_resort(by, threat) for by in self.broken_by])
        return torch.where(again.view(-1, 1, 1, 1), images, images.lerp(self.images, share))

    def _mask(self, values: list[bool]) -> Tensor:
        return torch.tensor(values, dtype=torch.bool, device=self.images.device)


def is_last_resort(broken_by: str, threat: Threat) -> bool:
    """Whether what broke an image is not what an attack is named for."""
    return broken_by.startswith(TRANSFER) or (broken_by == BLACK_BOX and not threat.is_black_box)
