"""The attack of Carlini and Wagner 2017 in l2: the smallest perturbation that wins, for a price c on losing.

    minimise |x' - x|^2 + c max(-m(x'), 0),    m = max_{j != y} z_j - z_y,    x' = (1 + tanh(w) / (1 - e)) / 2   (12)

by Adam in w. Images are clipped to [0, 1]; e > 0 keeps black and white pixels away from the flat ends of tanh, where
their gradient would be zero. Adam's rate falls along half a cosine to zero: wide steps first, then ever finer ones.

A step that wins ends beyond the decision boundary, so the nearest winner is pulled back to the boundary by repeatedly
halving the way to its image. A winner is accepted only where its distance costs no more than (12) does at the image
itself: |x' - x|^2 <= c max(-m(x), 0). This makes c a bound, as eps is for other attacks; without it the wide first
steps would win at every c. On a linear model of slope s, at distance r from its boundary, the minimum of (12) lies at
min(c s / 2, r): the attack wins where c s / 2 >= r, and never where c s < r. At a fixed c, steep logits are broken.

On noisy machines m is reduced by twice its standard deviation over reads of the image. With several searches c is the
first value tried: it is raised tenfold until the attack wins, and then bisected.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from ep_hw.threats.attacks.attempt import Attempt, Candidate, look, read, surely_wrong
from ep_hw.threats.attacks.gradients import AutoPGD, Gradient, loss_of
from ep_hw.threats.attacks.settings import AttackSettings, possible_gradients
from ep_hw.threats.definitions import PRICE, Attack
from ep_hw.threats.registry import register_attack
from simulators.machine import Machine

_EDGE = 0.02   # e of `attacks.carlini_wagner (12)`
_HALVINGS = 8   # of the way back from a winner to its image
_DECAYS, _TINY = (0.9, 0.999), 1e-8   # of Adam, as in its paper


@dataclass(frozen=True)
class CarliniWagner(Attempt):
    """The attack at a price.

    Attributes:
        c: the price.
        gradient: of the margin loss.
        iterations: of Adam.
        searches: values of c that are tried; 1 keeps it fixed.
        rate: Adam's first, in w.
        eot: gradients of a noisy machine that are averaged.
        votes: reads of a noisy machine that must all be wrong where the attack wins.
        fresh: it begins at the image, wherever other attempts ended.
    """

    c: float
    gradient: Gradient
    iterations: int = 100
    searches: int = 1
    rate: float = 0.05
    eot: int = 1
    votes: int = 1
    fresh: bool = True

    def run(self, machine: Machine, images: Tensor, labels: Tensor, generator: Generator) -> Candidate:
        return self.resume(machine, images, labels, generator, images)

    def resume(self, machine: Machine, images: Tensor, labels: Tensor, generator: Generator,
               start: Tensor) -> Candidate:
        best, norms = images.clone(), images.new_full((len(images),), torch.inf)
        price, low, high = (images.new_full((len(images),), v) for v in (self.c, 0.0, torch.inf))
        zeros = images.new_zeros(len(images))
        sought = _Sought(images, labels, images if self.fresh else start,
                         self._margin_noise(machine, images, labels, generator))
        lacking = (-self._judge(machine, sought, images, generator)[0]).clamp(min=0)
        for _ in range(self.searches):
            nearest, distance = self._descend(machine, sought, price, price * lacking, generator, zeros)
            won = distance < torch.inf
            better = (distance < norms) | norms.isinf()
            best[better], norms[better] = nearest[better], distance[better]
            high, low = torch.where(won, price, high), torch.where(won, low, price)
            price = torch.where(high.isinf(), 10 * price, (low + high) / 2)
        return Candidate.of(best, zeros / self.searches)

    def _margin_noise(self, machine: Machine, images: Tensor, labels: Tensor, generator: Generator) -> Tensor:
        """(B,) twice the margin's standard deviation over reads, at least two; zero on deterministic machines."""
        if machine.deterministic:
            return images.new_zeros(len(images))
        ends = read(machine, images, max(2, self.votes), generator)
        return 2 * torch.stack([loss_of(end.logits, labels, "margin") for end in ends]).std(0)

    def _descend(self, machine: Machine, sought: "_Sought", price: Tensor, worth: Tensor, generator: Generator,
                 zeros: Tensor) -> tuple[Tensor, Tensor]:
        """Minimise (12) for each image's own price: its nearest winner, and how far off, or its best loser and inf.

        The gradient's own passes say what is lacking of a margin; only where they say nothing, nearer than the last
        winner, the machine does.
        """
        images, labels = sought.images, sought.labels
        w = torch.atanh((1 - _EDGE) * (2 * sought.start - 1))
        adam = Adam(w)
        winner, norms = images.clone(), images.new_full((len(images),), torch.inf)
        loser, least = sought.start.clone(), norms.clone()
        for done in range(self.iterations):
            bent = torch.tanh(w)
            x = ((1 + bent / (1 - _EDGE)) / 2).clamp(0, 1)
            distance = (x - images).flatten(1).norm(dim=1)
            slope = self.gradient.slope(machine, x, labels, generator, self.eot)
            margin, won = loss_of(slope.logits, labels, "margin") - sought.noise, norms < 0
            asked = (margin > 0) & (distance < norms)
            if asked.any():
                margin[asked], won[asked] = self._judge(machine, sought.at(asked), x[asked], generator)
            lacking = (-margin).clamp(min=0)
            cost = distance.square() + price * lacking
            winner[won], norms[won] = x[won], distance[won]
            cheaper = (lacking > 0) & (cost < least)
            loser[cheaper], least[cheaper] = x[cheaper], cost[cheaper]
            zeros += (slope.gradient.flatten(1).abs().amax(1) == 0) / self.iterations
            losing = ((lacking > 0) * price).view(-1, 1, 1, 1)
            rate = self.rate * (1 + math.cos(math.pi * done / self.iterations)) / 2
            w = w - rate * adam.step((2 * (x - images) - losing * slope.gradient) * (1 - bent**2))
        winner, norms = self._draw_back(machine, sought, winner, norms, generator)
        worthy = norms.square() <= worth
        return torch.where(worthy.view(-1, 1, 1, 1), winner, loser), torch.where(worthy, norms, torch.inf)

    def _draw_back(self, machine: Machine, sought: "_Sought", winner: Tensor, norms: Tensor,
                   generator: Generator) -> tuple[Tensor, Tensor]:
        """Winners, halfway back to their images as often as halving finds a nearer one that still wins."""
        near, far, there = torch.zeros_like(norms), torch.ones_like(norms), norms < torch.inf
        for _ in range(_HALVINGS if there.any() else 0):
            part = (near + far)[there] / 2
            x = sought.images[there].lerp(winner[there], part.view(-1, 1, 1, 1))
            won = self._judge(machine, sought.at(there), x, generator)[1]
            near[there], far[there] = torch.where(won, near[there], part), torch.where(won, part, far[there])
        return sought.images.lerp(winner, far.view(-1, 1, 1, 1)), far * norms

    def _judge(self, machine: Machine, sought: "_Sought", x: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """(B,) margins less their noise, and which images surely win."""
        margin = loss_of(look(machine, x, sought.labels, generator), sought.labels, "margin") - sought.noise
        won = margin > 0
        if not machine.deterministic and won.any():
            won[won.clone()] = surely_wrong(machine, x[won], sought.labels[won], self.votes, generator)
        return margin, won

    def __str__(self):
        return f"cw:{self.gradient}"


class _Sought(NamedTuple):
    """Images (B, C, H, W), their labels (B,), where searches start (B, C, H, W), and noise of margins (B,)."""

    images: Tensor
    labels: Tensor
    start: Tensor
    noise: Tensor

    def at(self, which: Tensor) -> "_Sought":
        """Some of the images."""
        return _Sought(*(part[which] for part in self))


class Adam:
    """Steps of Adam, Kingma and Ba 2015, algorithm 1: torch.optim would load a compiler first, seconds in each worker.
    """

    def __init__(self, like: Tensor):
        self.mean, self.square, self.steps = torch.zeros_like(like), torch.zeros_like(like), 0

    def step(self, gradient: Tensor) -> Tensor:
        """The step's direction, to be gone against, for the next gradient."""
        self.steps += 1
        self.mean.lerp_(gradient, 1 - _DECAYS[0])
        self.square.lerp_(gradient.square(), 1 - _DECAYS[1])
        mean, square = (m / (1 - decay**self.steps) for m, decay in zip((self.mean, self.square), _DECAYS))
        return mean / (square.sqrt() + _TINY)


class CarliniWagnerAttack(Attack):
    """The attack with every gradient that it does not leave to Auto-PGD, the first in five times the iterations of PGD.

    The others go on from where it ended, in half as many.
    """

    code, version, strength = "cw", 5, PRICE

    def attempts(self, machine: Machine, strength: float, settings: AttackSettings) -> list[Attempt]:
        gradients = possible_gradients(machine, settings)
        plain = [g for g in gradients if not isinstance(g, AutoPGD)] or gradients
        most = 5 * settings.iterations
        return [CarliniWagner(strength, g.with_loss("margin"), -(-most // 2) if n else most, settings.searches,
                              eot=settings.draws(machine), votes=settings.votes, fresh=not n)
                for n, g in enumerate(plain)]


register_attack(CarliniWagnerAttack("cw_l2", "l2"))
