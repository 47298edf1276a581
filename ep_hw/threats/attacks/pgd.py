"""Projected gradient descent in the l2 and linf ball, within [0, 1]. Source: Madry et al. 2018.

    x <- clip(P_eps(x + step direction(grad)), 0, 1),   direction = grad/|grad|_2 (l2), sign(grad) (linf)       (10)

Unclipped, the images stay in the ball only; machines that can be shown such images are few (`Machine.unclipped`).
"""

from dataclasses import dataclass, replace

from torch import Tensor

from ep_hw.threats.attacks.apgd import APGD
from ep_hw.threats.attacks.ascent import Ascent, Way, holds_all
from ep_hw.threats.attacks.attempt import Attempt
from ep_hw.threats.attacks.gradients import AutoPGD, Slope
from ep_hw.threats.attacks.norms import direction
from ep_hw.threats.attacks.settings import AttackSettings, possible_gradients
from ep_hw.threats.definitions import Attack
from ep_hw.threats.registry import register_attack
from simulators.machine import Machine


@dataclass(frozen=True)
class PGD(Ascent[Way]):
    """Steps of 2.5 eps/iterations: the paper's eps/8 with its 20 iterations, and far enough with fewer."""

    crossing = 0.4

    def _begin(self, index: Tensor, images: Tensor, labels: Tensor, start: Tensor) -> Way:
        return Way(index, images, labels, start)

    def _step(self, way: Way, slope: Slope, done: int) -> Way:
        """`attacks.pgd (10)`."""
        moved = way.here + 2.5 * self.eps / self.iterations * direction(slope.gradient, self.norm)
        return replace(way, here=self._within(way.images, moved))

    def _end(self, way: Way) -> Tensor:
        return way.here


class PGDAttack(Attack):
    """Ascents of every gradient that the machine allows, in their order.

    The first one climbs on with images that are broken, since other machines meet what it makes, and makes a few steps
    on those that fell to a smaller strength; the others let them go.
    Auto-PGD's first begins at the image; whatever else follows goes on from where the attempts before ended, in half
    the steps.
    """

    code, version, ascends = "pgd", 12, True

    def attempts(self, machine: Machine, strength: float, settings: AttackSettings) -> list[Attempt]:
        gradients = possible_gradients(machine, settings)
        wide = next((n for n, gradient in enumerate(gradients) if isinstance(gradient, AutoPGD)), None)
        half = -(-settings.iterations // 2)
        return [(APGD if isinstance(gradient, AutoPGD) else PGD)(
                    self.norm, strength, gradient, settings.iterations if n in (0, wide) else half,
                    settings.draws(machine), settings.restarts, self.clips, settings.votes,
                    lets_go=n > 0 or holds_all(self.norm, strength), fresh=n == wide and n > 0,
                    patience=settings.patience)
                for n, gradient in enumerate(gradients)]


register_attack(PGDAttack("pgd_l2", "l2"))
register_attack(PGDAttack("pgd_linf", "linf"))
register_attack(PGDAttack("pgd_unclipped_l2", "l2", clips=False))
register_attack(PGDAttack("pgd_unclipped_linf", "linf", clips=False))
