"""Projected gradient descent in the l2 and linf ball, within [0, 1]. Source: Madry et al. 2018.

    x <- clip(P_eps(x + step direction(grad)), 0, 1),   direction = grad/|grad|_2 (l2), sign(grad) (linf)       (10)

Unclipped, the images stay in the ball only; machines that can be shown such images are few (`Machine.unclipped`).
"""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ep_hw.threats.attacks.attempt import Attempt, Candidate
from ep_hw.threats.attacks.auto import LibraryAttack
from ep_hw.threats.attacks.gradients import AutoPGD, Gradient, loss_of
from ep_hw.threats.attacks.norms import direction, project
from ep_hw.threats.attacks.settings import AttackSettings, possible_gradients
from ep_hw.threats.definitions import Attack
from ep_hw.threats.registry import register_attack
from simulators.machine import Machine


@dataclass(frozen=True)
class PGD(Attempt):
    """Steps of 2.5 eps/iterations: the paper's eps/8 with its 20 iterations, and far enough with fewer.

    Attributes:
        norm: of the ball.
        eps: its radius.
        gradient: that is climbed.
        iterations: steps.
        eot: draws of a noisy machine's gradient that are averaged.
        restarts: the first begins at the image, the others at random in the ball; the image of largest loss is kept.
        clipped: images stay within [0, 1].
    """

    norm: str
    eps: float
    gradient: Gradient
    iterations: int = 20
    eot: int = 1
    restarts: int = 1
    clipped: bool = True

    def run(self, machine: Machine, images: Tensor, labels: Tensor, generator: Generator) -> Candidate:
        zeros = images.new_zeros(len(images))
        if self.eps == 0:
            return Candidate.of(images.clone())
        best, largest = images.clone(), images.new_full((len(images),), -torch.inf)
        for restart in range(self.restarts):
            start = self._random(images, generator) if restart else images
            moved = self._climb(machine, images, start, labels, generator, zeros)
            if self.restarts == 1:
                return Candidate.of(moved, zeros)
            loss = loss_of(machine.relax(moved, generator=generator).logits, labels, self.gradient.loss)
            better = loss > largest
            best[better], largest[better] = moved[better], loss[better]
        return Candidate.of(best, zeros / self.restarts)

    def _climb(self, machine: Machine, images: Tensor, start: Tensor, labels: Tensor, generator: Generator,
               zeros: Tensor) -> Tensor:
        """`attacks.pgd (10)` from `start`; adds to `zeros` the fraction of iterations (B,) that saw a zero gradient."""
        adversarial, step = start.clone(), 2.5 * self.eps / self.iterations
        for _ in range(self.iterations):
            gradient = self.gradient(machine, adversarial, labels, generator, self.eot)
            zeros += (gradient.flatten(1).abs().amax(1) == 0) / self.iterations
            moved = adversarial + step * direction(gradient, self.norm)
            adversarial = self._boxed(images + project(moved - images, self.eps, self.norm))
        return adversarial

    def _random(self, images: Tensor, generator: Generator) -> Tensor:
        """Images at random in the ball: uniform in linf, in l2 uniform in direction and in radius."""
        shape = images.shape
        if self.norm == "linf":
            return self._boxed(images + self.eps * (2 * torch.rand(shape, generator=generator) - 1).to(images))
        towards = direction(torch.randn(shape, generator=generator).to(images), "l2")
        radius = self.eps * torch.rand(len(images), 1, 1, 1, generator=generator).to(images)
        return self._boxed(images + radius * towards)

    def _boxed(self, images: Tensor) -> Tensor:
        return images.clamp(0, 1) if self.clipped else images

    def __str__(self):
        return str(self.gradient)


class PGDAttack(Attack):
    """PGD with every gradient that the machine allows; Auto-PGD, which knows no images outside [0, 1], with some."""

    code, version, ascends = "pgd", 1, True

    def attempts(self, machine: Machine, strength: float, settings: AttackSettings) -> list[Attempt]:
        return [self._with(gradient, strength, settings, settings.draws(machine))
                for gradient in possible_gradients(machine, settings)]

    def _with(self, gradient: Gradient, eps: float, settings: AttackSettings, eot: int) -> Attempt:
        if isinstance(gradient, AutoPGD) and self.clips:
            return LibraryAttack("apgd-ce", self.norm, eps, gradient.steps, 2 * settings.iterations, eot)
        return PGD(self.norm, eps, gradient, settings.iterations, eot, settings.restarts, self.clips)


register_attack(PGDAttack("pgd_l2", "l2"))
register_attack(PGDAttack("pgd_linf", "linf"))
register_attack(PGDAttack("pgd_unclipped_l2", "l2", clips=False))
register_attack(PGDAttack("pgd_unclipped_linf", "linf", clips=False))
