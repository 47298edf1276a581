"""Where an attack ended before, at a smaller strength or with less effort, and another one goes on.

What fell within a smaller ball has fallen within every larger one: there its perturbation is stretched as far as the
larger ball allows, which leads on where it still stood, and makes images that other machines meet as strong as that
ball's own. What fell only to a last resort, images of other machines or the black box that a white box asks last, is
attacked again as if nothing had been tried, so that what gradients are worth is known at every strength.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ep_hw.threats.definitions import BUDGET
from ep_hw.threats.threat import TRANSFER, Threat

BLACK_BOX = "square"   # name of the attempt that asks the machine, among gradients the last resort
STRETCHED = "stretched"   # name of the attempt that takes an image further than it was


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
        """(B,) which images fell, and to no last resort; misclassified ones among them."""
        return self._mask([by != "" and not is_last_resort(by, threat) for by in self.broken_by])

    def led(self, threat: Threat, images: Tensor) -> Tensor:
        """(B, C, H, W) where the attack goes on: clean images themselves where a last resort alone broke them."""
        again = self._mask([is_last_resort(by, threat) for by in self.broken_by])
        return torch.where(again.view(-1, 1, 1, 1), images, self.images)

    def _mask(self, values: list[bool]) -> Tensor:
        return torch.tensor(values, dtype=torch.bool, device=self.images.device)

    def stretches(self, threat: Threat) -> bool:
        """Whether there is a larger ball that perturbations are stretched to."""
        return 0 < self.strength < threat.strength and threat.attack.strength == BUDGET and threat.attack.clips


def is_last_resort(broken_by: str, threat: Threat) -> bool:
    """Whether what broke an image is not what an attack is named for."""
    return broken_by.startswith(TRANSFER) or (broken_by == BLACK_BOX and not threat.is_black_box)
