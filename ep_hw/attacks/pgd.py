"""Projected gradient descent in the l2 and linf ball, within [0, 1]. Source: Madry et al. 2018.

    x <- clip(P_eps(x + step direction(grad)), 0, 1),   direction = grad/|grad|_2 (l2), sign(grad) (linf)       (10)
"""

from dataclasses import dataclass

import torch

from ep_hw.attacks.gradients import Gradient
from simulators.machine import Machine


@dataclass(frozen=True)
class PGD:
    """Steps of 2.5 eps/iterations: the paper's eps/8 with its 20 iterations, and far enough with fewer.

    `eot` draws of a noisy machine's gradient are averaged.
    """

    norm: str
    eps: float
    gradient: Gradient
    iterations: int = 20
    eot: int = 1

    def run(self, machine: Machine, images, labels, generator):
        """Adversarial images (B, C, H, W), and the fraction of iterations (B,) that saw a zero gradient."""
        adversarial, step = images.clone(), 2.5 * self.eps / self.iterations
        zeros = images.new_zeros(len(images))
        for _ in range(self.iterations if self.eps > 0 else 0):
            gradient = self.gradient(machine, adversarial, labels, generator, self.eot)
            zeros += (gradient.flatten(1).abs().amax(1) == 0) / self.iterations
            moved = adversarial + step * direction(gradient, self.norm)
            adversarial = (images + project(moved - images, self.eps, self.norm)).clamp(0, 1)
        return adversarial, zeros


def direction(gradient, norm: str):
    """Steepest ascent of unit norm; zero where the gradient is zero."""
    if norm == "linf":
        return gradient.sign()
    return gradient / size(gradient, "l2").clamp_min(torch.finfo(gradient.dtype).tiny)


def project(delta, eps: float, norm: str):
    """The nearest point to `delta` in the ball of radius eps."""
    if norm == "linf":
        return delta.clamp(-eps, eps)
    return delta * (eps / size(delta, "l2").clamp_min(torch.finfo(delta.dtype).tiny)).clamp_max(1)


def size(delta, norm: str):
    """(B, 1, 1, 1) norm of each perturbation."""
    flat = delta.flatten(1)
    norms = flat.norm(dim=1) if norm == "l2" else flat.abs().amax(1)
    return norms.view(-1, 1, 1, 1)
