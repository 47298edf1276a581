"""What attacks that climb a gradient share: starts, and images that leave as soon as they are broken beyond doubt.

A gradient's own passes end with logits, though not with those of the machine at rest. Where they say that an image is
wrong, the machine is asked for as many votes as decide later, and an image that all of them call wrong is done with:
the batch shrinks. In a ball that holds every image there is, this is asked at each step. Where nothing is noisy, those
that they call right leave without `attempt.hope`, by the margin that all attempts together have taken from the image.
"""

from abc import abstractmethod
from dataclasses import dataclass, fields, replace
from typing import ClassVar, Generic, TypeVar

import torch
from torch import Generator, Tensor

from ep_hw.threats.attacks.attempt import Attempt, Candidate, hope, look, surely_wrong
from ep_hw.threats.attacks.gradients import Gradient, Slope, loss_of
from ep_hw.threats.attacks.norms import direction, project
from simulators.machine import Machine

LOOKED_EVERY = 4   # steps, whether an image is broken: a vote takes about as long as a gradient
LED = 4   # times fewer steps, where a smaller ball has led beyond the boundary: other machines fall to them as often
W = TypeVar("W", bound="Way")


@dataclass(frozen=True, eq=False)
class Way:
    """Images on their way.

    Attributes:
        index: (B,) places in the batch that is attacked.
        images: (B, C, H, W) as they were.
        labels: (B,).
        here: (B, C, H, W) where they are.
    """

    index: Tensor
    images: Tensor
    labels: Tensor
    here: Tensor

    def at(self: W, which: Tensor) -> W:
        """Some of the images."""
        return type(self)(*(getattr(self, field.name)[which] for field in fields(self)))


def holds_all(norm: str, eps: float) -> bool:
    """Whether every image is within the ball."""
    return norm == "linf" and eps >= 1


class _Tally:
    """What became of a batch so far.

    Attributes:
        images: (B, C, H, W), of each the one that broke it, else that of largest loss.
        loss: (B,) of these; inf where an image is broken beyond doubt, -inf before anything was found.
        steps, flat: (B,) gradients that were taken, and those of them that were zero in every pixel.
        first, least: (B,) the machine's margins on the images as they were, and the least that a climb met.
    """

    def __init__(self, images: Tensor, margins: Tensor | None):
        none = images.new_zeros(len(images))
        self.images, self.loss, self.steps, self.flat = images.clone(), none - torch.inf, none.clone(), none.clone()
        self.first = none if margins is None else margins
        self.least = self.first.clone()

    def standing(self) -> Tensor:
        """Places of the images that are not broken."""
        return (self.loss < torch.inf).nonzero().flatten()

    def look(self, index: Tensor, gradient: Tensor):
        """Count the gradients of a step."""
        self.steps[index] += 1
        self.flat[index] += (gradient.flatten(1).abs().amax(1) == 0).to(self.flat)

    def hope(self, index: Tensor, margin: Tensor, patience: float) -> Tensor:
        """`attempt.hope` of climbs, by their margins now."""
        self.least[index] = torch.minimum(self.least[index], margin)
        return hope(1 - self.least[index] / self.first[index], patience)

    def keep(self, index: Tensor, images: Tensor, loss: Tensor):
        """Keep images whose loss is larger."""
        better = loss > self.loss[index]
        self.images[index[better]], self.loss[index[better]] = images[better], loss[better]


@dataclass(frozen=True)
class Ascent(Attempt, Generic[W]):
    """A climb in a ball.

    Attributes:
        norm: of the ball.
        eps: its radius.
        gradient: that is climbed.
        iterations: steps.
        eot: draws of a noisy machine's gradient that are averaged.
        restarts: the first begins at the image or where other attempts ended, the others at random in the ball; the
            image of largest loss is kept.
        clipped: images stay within [0, 1].
        votes: reads of a noisy machine that must all be wrong where an image leaves.
        lets_go: images leave as soon as they are broken; else these climb to the end.
        fresh: it begins at the image, wherever other attempts ended.
        patience: least share of the steps that images have where nothing is noisy, see `hope`; 1 gives up none.
        crossing: the same, however impatient: so many lead to the edge of the ball.
    """

    norm: str
    eps: float
    gradient: Gradient
    iterations: int = 20
    eot: int = 1
    restarts: int = 1
    clipped: bool = True
    votes: int = 1
    lets_go: bool = False
    fresh: bool = False
    patience: float = 1.0

    crossing: ClassVar[float] = 0.2

    @property
    def opening(self) -> "Ascent[W] | None":
        return None if self.lets_go else replace(self, iterations=-(-self.iterations // LED), restarts=1, patience=1)

    def run(self, machine: Machine, images: Tensor, labels: Tensor, generator: Generator) -> Candidate:
        return self.resume(machine, images, labels, generator, images)

    def resume(self, machine: Machine, images: Tensor, labels: Tensor, generator: Generator,
               start: Tensor) -> Candidate:
        if self.eps == 0:
            return Candidate.of(images.clone())
        tally = _Tally(images, self._margins(machine, images, labels, generator) if self._gives_up(machine) else None)
        for restart in range(self.restarts):
            live = tally.standing()
            begin = self._random(images[live], generator) if restart else (images if self.fresh else start)[live]
            way = self._climb(machine, self._begin(live, images[live], labels[live], begin), generator, tally)
            self._keep(machine, way, generator, tally)
        return Candidate.of(tally.images, tally.flat / tally.steps)

    def _keep(self, machine: Machine, way: W, generator: Generator, tally: _Tally):
        """What climbs found, which end here."""
        if not len(way.index):
            return
        moved = self._end(way)
        tally.keep(way.index, moved, way.images.new_zeros(len(moved)) if self.restarts == 1 else loss_of(
            machine.relax(moved, generator=generator).logits, way.labels, self.gradient.loss))

    def _climb(self, machine: Machine, way: W, generator: Generator, tally: _Tally) -> W:
        """Every step of the images that stay; those that leave are in the tally."""
        tally.least[way.index] = tally.first[way.index]
        wrong = way.index < 0
        for done in range(self.iterations):
            looks = done > 0 and done % LOOKED_EVERY == 0
            if looks and self._gives_up(machine):
                way = way.at(self._hopes(machine, way, wrong, done / self.iterations, generator, tally))
            if not len(way.index):
                break
            slope = self.gradient.slope(machine, way.here, way.labels, generator, self.eot)
            tally.look(way.index, slope.gradient)
            wrong = loss_of(slope.logits, way.labels, "margin") > 0
            if self.lets_go and (looks or (done and holds_all(self.norm, self.eps))):
                stays = ~self._broken(machine, way, wrong, generator, tally)
                way, slope, wrong = way.at(stays), slope.at(stays), wrong[stays]
            way = self._step(way, slope, done)
        return way

    def _hopes(self, machine: Machine, way: W, wrong: Tensor, share: float, generator: Generator,
               tally: _Tally) -> Tensor:
        """(B,) which images climb on, all that are `wrong` among them; of the others what was found is in the tally."""
        stays, least = torch.ones_like(wrong), max(self.patience, self.crossing)
        if share >= least and not wrong.all():
            rest = way.at(~wrong)
            lost = share >= tally.hope(rest.index, self._margins(machine, rest.here, rest.labels, generator), least)
            self._keep(machine, rest.at(lost), generator, tally)
            stays[~wrong] = ~lost
        return stays

    def _broken(self, machine: Machine, way: W, wrong: Tensor, generator: Generator, tally: _Tally) -> Tensor:
        """(B,) which of the images that are `wrong` are so beyond doubt, and in the tally."""
        broken = wrong.clone()
        if wrong.any():
            broken[wrong] = surely_wrong(machine, way.here[wrong], way.labels[wrong], self.votes, generator)
            tally.keep(way.index[broken], way.here[broken], tally.first.new_full((int(broken.sum()),), torch.inf))
        return broken

    def _gives_up(self, machine: Machine) -> bool:
        """Whether images without hope leave."""
        return machine.deterministic and self.patience < 1 and not holds_all(self.norm, self.eps)

    def _margins(self, machine: Machine, images: Tensor, labels: Tensor, generator: Generator) -> Tensor:
        """(B,) of a read."""
        return -loss_of(look(machine, images, labels, generator), labels, "margin")

    @abstractmethod
    def _begin(self, index: Tensor, images: Tensor, labels: Tensor, start: Tensor) -> W:
        """A climb at its start; arguments as in `Way`."""

    @abstractmethod
    def _step(self, way: W, slope: Slope, done: int) -> W:
        """After one more step than `done`."""

    @abstractmethod
    def _end(self, way: W) -> Tensor:
        """(B, C, H, W) what the climb found."""

    def _random(self, images: Tensor, generator: Generator) -> Tensor:
        """Images at random in the ball: uniform in linf, in l2 uniform in direction and in radius."""
        shape = images.shape
        if self.norm == "linf":
            return self._boxed(images + self.eps * (2 * torch.rand(shape, generator=generator) - 1).to(images))
        towards = direction(torch.randn(shape, generator=generator).to(images), "l2")
        radius = self.eps * torch.rand(len(images), 1, 1, 1, generator=generator).to(images)
        return self._boxed(images + radius * towards)

    def _within(self, images: Tensor, moved: Tensor) -> Tensor:
        """What was moved, brought back into the ball and into [0, 1]."""
        return self._boxed(images + project(moved - images, self.eps, self.norm))

    def _boxed(self, images: Tensor) -> Tensor:
        return images.clamp(0, 1) if self.clipped else images

    def __str__(self):
        return str(self.gradient)
