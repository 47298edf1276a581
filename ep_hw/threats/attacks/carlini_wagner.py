"""The attack of Carlini and Wagner 2017 in l2: the smallest perturbation that wins, for a price c on losing.

    minimise |x' - x|^2 + c max(-m(x'), 0),    m = max_{j != y} z_j - z_y,    x' = (1 + tanh(w) / (1 - e)) / 2   (12)

by Adam in w. Images are clipped to [0, 1]; e > 0 keeps black and white pixels away from the flat ends of tanh, where
their gradient would be zero. Adam's rate falls along half a cosine to zero: wide steps first, then ever finer ones.

A step that wins ends beyond the decision boundary, so the nearest winner is pulled back to the boundary by repeatedly
halving the way to its image. A winner is accepted only where its distance costs no more than (12) does at the image
itself: |x' - x|^2 <= c max(-m(x), 0). This makes c a bound, as eps is for other attacks; without it the wide first
steps would win at every c. On a linear model of slope s, at distance r from its boundary, the minimum of (12) lies at
min(c s / 2, r): the attack wins where c s / 2 >= r, and never where c s < r. At a fixed c, steep logits are broken.

Straight on along its gradient, an image would meet the boundary |x' - x| + max(-m(x'), 0) / |dm/dx'| away from where it
began, and a winner may be r away. Where that is less, the image is given up after the share of its iterations

    r / (|x' - x| + max(-m(x'), 0) / |dm/dx'|),    r^2 = c max(-m(x), 0),                                         (15)

m(x) that of the machine or of the gradient's own passes, whichever allows more, and no sooner than `patience` says.
None is given up that has won, however far off, or whose gradient is zero, and none of a noisy machine.

On noisy machines m is reduced by twice its standard deviation over reads of the image. With several searches c is the
first value tried: it is raised tenfold until the attack wins, and then bisected.
"""

import math
from copy import copy
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
_ASKED_EVERY = 5   # steps, whether images are given up: torch plans convolutions anew for each size of a batch
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
        patience: least share of the iterations that images have, see `attacks.carlini_wagner (15)`.
    """

    c: float
    gradient: Gradient
    iterations: int = 100
    searches: int = 1
    rate: float = 0.05
    eot: int = 1
    votes: int = 1
    fresh: bool = True
    patience: float = 0.1

    def run(self, machine: Machine, images: Tensor, labels: Tensor, generator: Generator) -> Candidate:
        return self.resume(machine, images, labels, generator, images)

    def resume(self, machine: Machine, images: Tensor, labels: Tensor, generator: Generator,
               start: Tensor) -> Candidate:
        best, norms = images.clone(), images.new_full((len(images),), torch.inf)
        price, low, high = (images.new_full((len(images),), v) for v in (self.c, 0.0, torch.inf))
        flat, taken = images.new_zeros(2, len(images))
        noise = self._margin_noise(machine, images, labels, generator)
        lacking = (noise - loss_of(look(machine, images, labels, generator), labels, "margin")).clamp(min=0)
        for _ in range(self.searches):
            search = _Search(_Sought(images, labels, noise, price, price * lacking), images if self.fresh else start)
            self._descend(machine, search, generator)
            nearest, distance = self._draw_back(machine, search, generator)
            won = distance < torch.inf
            better = (distance < norms) | norms.isinf()
            best[better], norms[better] = nearest[better], distance[better]
            high, low = torch.where(won, price, high), torch.where(won, low, price)
            price = torch.where(high.isinf(), 10 * price, (low + high) / 2)
            flat, taken = flat + search.flat, taken + search.taken
        return Candidate.of(best, flat / taken)

    def _margin_noise(self, machine: Machine, images: Tensor, labels: Tensor, generator: Generator) -> Tensor:
        """(B,) twice the margin's standard deviation over reads, at least two; zero on deterministic machines."""
        if machine.deterministic:
            return images.new_zeros(len(images))
        ends = read(machine, images, max(2, self.votes), generator)
        return 2 * torch.stack([loss_of(end.logits, labels, "margin") for end in ends]).std(0)

    def _descend(self, machine: Machine, search: "_Search", generator: Generator):
        """Minimise (12) for each image's own price, until it is given up.

        The gradient's own passes say what is lacking of a margin; only where they say nothing, nearer than the last
        winner, the machine does.
        """
        for done in range(self.iterations):
            sought, x = search.sought, search.x
            slope = self.gradient.slope(machine, x, sought.labels, generator, self.eot)
            distance = (x - sought.images).flatten(1).norm(dim=1)
            margin = loss_of(slope.logits, sought.labels, "margin") - sought.noise
            asked, won = (margin > 0) & (distance < search.norms[search.live]), distance < 0
            if asked.any():
                margin[asked], won[asked] = self._judge(machine, sought.at(asked), x[asked], generator)
            lacking = (-margin).clamp(min=0)
            search.keep(x, distance, lacking, won)
            if not done:
                search.allowed = torch.maximum(sought.worth, sought.price * lacking)
            search.step(self.rate * (1 + math.cos(math.pi * done / self.iterations)) / 2, x, lacking, slope.gradient)
            if machine.deterministic and (done + 1) % _ASKED_EVERY == 0:
                hope = _hope(search.allowed[search.live], distance, lacking, slope.gradient)
                search.leave((done + 1) / self.iterations >= hope.clamp(min=self.patience))
            if not len(search.live):
                break

    def _draw_back(self, machine: Machine, search: "_Search", generator: Generator) -> tuple[Tensor, Tensor]:
        """What a search found, (B, C, H, W), and how far off that is, (B,): worthy winners, or losers and inf.

        Winners are drawn halfway back to their images as often as halving finds a nearer one that still wins.
        """
        sought, winner, norms = search.begun, search.winner, search.norms
        near, far, there = torch.zeros_like(norms), torch.ones_like(norms), norms < torch.inf
        for _ in range(_HALVINGS if there.any() else 0):
            part = (near + far)[there] / 2
            x = sought.images[there].lerp(winner[there], part.view(-1, 1, 1, 1))
            won = self._judge(machine, sought.at(there), x, generator)[1]
            near[there], far[there] = torch.where(won, near[there], part), torch.where(won, part, far[there])
        winner, norms = sought.images.lerp(winner, far.view(-1, 1, 1, 1)), far * norms
        worthy = norms.square() <= sought.worth
        return torch.where(worthy.view(-1, 1, 1, 1), winner, search.loser), torch.where(worthy, norms, torch.inf)

    def _judge(self, machine: Machine, sought: "_Sought", x: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """(L,) margins less their noise, and which images surely win."""
        margin = loss_of(look(machine, x, sought.labels, generator), sought.labels, "margin") - sought.noise
        won = margin > 0
        if not machine.deterministic and won.any():
            won[won.clone()] = surely_wrong(machine, x[won], sought.labels[won], self.votes, generator)
        return margin, won

    def __str__(self):
        return f"cw:{self.gradient}"


def _hope(allowed: Tensor, distance: Tensor, lacking: Tensor, gradient: Tensor) -> Tensor:
    """(L,) shares of the iterations after which images are given up, `attacks.carlini_wagner (15)`; 1 at most."""
    steep = gradient.flatten(1).norm(dim=1)
    share = allowed.sqrt() / (distance + lacking / steep)
    return torch.where((lacking > 0) & (steep > 0), share, 1).clamp(max=1)


class _Sought(NamedTuple):
    """Images (L, C, H, W), their labels, noise of their margins, price c and worth c max(-m, 0), (L,) each."""

    images: Tensor
    labels: Tensor
    noise: Tensor
    price: Tensor
    worth: Tensor

    def at(self, which: Tensor) -> "_Sought":
        """Some of the images."""
        return _Sought(*(part[which] for part in self))


class _Search:
    """What a search has found of each image of a batch, and those that it goes on with.

    Attributes:
        begun: the batch.
        winner, norms: (B, C, H, W) the nearest and (B,) how far off it is; inf for none.
        loser, least: (B, C, H, W) the cheapest by (12) and (B,) its cost, alike.
        allowed: (B,) r^2 of (15).
        taken, flat: (B,) gradients, and those of them that were zero in every pixel.
        live: (L,) places of the images that it goes on with.
        sought, w, adam: these images, where they are in (12), (L, C, H, W), and Adam's state.
    """

    def __init__(self, begun: _Sought, start: Tensor):
        self.begun = self.sought = begun
        self.winner, self.norms = begun.images.clone(), torch.full_like(begun.price, torch.inf)
        self.loser, self.least = start.clone(), self.norms.clone()
        self.allowed, self.taken, self.flat = begun.worth, torch.zeros_like(begun.price), torch.zeros_like(begun.price)
        self.live = torch.arange(len(start), device=start.device)
        self.w = torch.atanh((1 - _EDGE) * (2 * start - 1))
        self.adam = Adam(self.w)

    @property
    def x(self) -> Tensor:
        return ((1 + torch.tanh(self.w) / (1 - _EDGE)) / 2).clamp(0, 1)

    def keep(self, x: Tensor, distance: Tensor, lacking: Tensor, won: Tensor):
        """Keep what won, which is nearer than the last winner, and what lost for less than the last loser."""
        cost = distance.square() + self.sought.price * lacking
        cheaper = (lacking > 0) & (cost < self.least[self.live])
        new, cheap = self.live[won], self.live[cheaper]
        self.winner[new], self.norms[new] = x[won], distance[won]
        self.loser[cheap], self.least[cheap] = x[cheaper], cost[cheaper]

    def step(self, rate: float, x: Tensor, lacking: Tensor, gradient: Tensor):
        """Go on down (12), where the margin has this gradient."""
        self.taken[self.live] += 1
        self.flat[self.live] += (gradient.flatten(1).abs().amax(1) == 0).to(self.flat)
        losing = ((lacking > 0) * self.sought.price).view(-1, 1, 1, 1)
        slope = 2 * (x - self.sought.images) - losing * gradient
        self.w = self.w - rate * self.adam.step(slope * (1 - torch.tanh(self.w)**2))

    def leave(self, hopeless: Tensor):
        """Go on without images (L,), but for those that have won."""
        stays = ~hopeless | (self.norms[self.live] < torch.inf)
        if not stays.all():
            self.live, self.w = self.live[stays], self.w[stays]
            self.sought, self.adam = self.sought.at(stays), self.adam.at(stays)


class Adam:
    """Steps of Adam, Kingma and Ba 2015, algorithm 1: torch.optim would load a compiler first, seconds in each worker.
    """

    def __init__(self, like: Tensor):
        self.mean, self.square, self.steps = torch.zeros_like(like), torch.zeros_like(like), 0

    def at(self, which: Tensor) -> "Adam":
        """For some of the images."""
        some = copy(self)
        some.mean, some.square = self.mean[which], self.square[which]
        return some

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

    code, version, strength = "cw", 8, PRICE

    def attempts(self, machine: Machine, strength: float, settings: AttackSettings) -> list[Attempt]:
        gradients = possible_gradients(machine, settings)
        plain = [g for g in gradients if not isinstance(g, AutoPGD)] or gradients
        most = 5 * settings.iterations
        return [CarliniWagner(strength, g.with_loss("margin"), -(-most // 2) if n else most, settings.searches,
                              eot=settings.draws(machine), votes=settings.votes, fresh=not n,
                              patience=settings.patience)
                for n, g in enumerate(plain)]


register_attack(CarliniWagnerAttack("cw_l2", "l2"))
