"""DeepFool: walk to the nearest boundary of the linearised classifier, again and again.

    k* = argmin_{k != y} |z_k - z_y| / |w_k|,   w_k = d(z_k - z_y)/dx,   r += |z_k* - z_y| / |w_k*|^2 w_k*          (13)
    x' = x + (1 + overshoot) r

Source: Moosavi-Dezfooli, Fawzi and Frossard 2016, in l2; for linf the step is |z| / |w|_1 sign(w), as in the paper.
"""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ep_hw.threats.attacks.attempt import Attempt, Candidate, surely_wrong
from ep_hw.threats.attacks.gradients import unrolled
from ep_hw.threats.attacks.norms import project, size
from ep_hw.threats.attacks.settings import AttackSettings, unroll_of
from ep_hw.threats.definitions import Attack
from ep_hw.threats.registry import register_attack
from simulators.machine import Machine

FAR = 3   # radii of the ball: from there no way is brought back to a boundary within it


@dataclass(frozen=True)
class DeepFool(Attempt):
    """The first boundary on the way, pulled back into the ball of radius `eps` where it lies beyond it.

    Attributes:
        norm: of the ball.
        eps: its radius.
        unroll: steps through which the logits are differentiated, see `unrolled`.
        iterations: steps of the walk, at most.
        overshoot: share of the way that is walked beyond the boundary.
        votes: reads of a noisy machine that must all be wrong where the walk ends.
    """

    norm: str
    eps: float
    unroll: int | None = 29
    iterations: int = 50
    overshoot: float = 0.02
    votes: int = 1

    def run(self, machine: Machine, images: Tensor, labels: Tensor, generator: Generator) -> Candidate:
        total, zeros = torch.zeros_like(images), images.new_zeros(len(images))
        live = torch.arange(len(images), device=images.device)
        for _ in range(self.iterations):
            live = live[size(total[live], self.norm).flatten() <= FAR * self.eps]
            x = (images[live] + (1 + self.overshoot) * total[live]).clamp(0, 1)
            right = ~surely_wrong(machine, x, labels[live], self.votes, generator) if len(live) else live > 0
            live, x = live[right], x[right]
            if not len(live):
                break
            gaps, slopes = self._linearise(machine.gradient_model, x, labels[live], generator)
            zeros[live] += (slopes.flatten(1).abs().amax(1) == 0) / self.iterations
            total[live] += self._to_nearest(gaps, slopes)
        moved = project((1 + self.overshoot) * total, self.eps, self.norm)
        return Candidate.of((images + moved).clamp(0, 1), zeros)

    def _linearise(self, model: Machine, x: Tensor, labels: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """(B, K) gaps z_k - z_y and (B, K, C, H, W) their gradients; the row of y itself is zero."""
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            logits = unrolled(model.answering, x, self.unroll, generator).logits
            gaps = logits - logits.gather(1, labels[:, None])
            slopes = [torch.autograd.grad(gap.sum(), x, retain_graph=True)[0] for gap in gaps.T]
        return gaps.detach(), torch.stack(slopes, 1)

    def _to_nearest(self, gaps: Tensor, slopes: Tensor) -> Tensor:
        """(B, C, H, W) step onto the nearest boundary; none where every slope is zero."""
        flat = slopes.flatten(2)
        dual = flat.norm(dim=2) if self.norm == "l2" else flat.abs().sum(2)
        distance = torch.where(dual > 0, gaps.abs() / dual.clamp_min(torch.finfo(dual.dtype).tiny), torch.inf)
        nearest = distance.argmin(1)
        row = torch.arange(len(gaps), device=gaps.device)
        slope, dual = slopes[row, nearest], dual[row, nearest].view(-1, 1, 1, 1)
        length = distance[row, nearest].nan_to_num(posinf=0.0).view(-1, 1, 1, 1)
        unit = slope / dual.clamp_min(torch.finfo(dual.dtype).tiny) if self.norm == "l2" else slope.sign()
        return (length + 1e-6) * unit

    def __str__(self):
        return "deepfool"


class DeepFoolAttack(Attack):
    """DeepFool through the longest of the settings' attack times."""

    code, version = "deepfool", 5

    def attempts(self, machine: Machine, strength: float, settings: AttackSettings) -> list[Attempt]:
        return [DeepFool(self.norm, strength, unroll_of(machine, settings), votes=settings.votes)]


register_attack(DeepFoolAttack("deepfool_l2", "l2"))
register_attack(DeepFoolAttack("deepfool_linf", "linf"))
