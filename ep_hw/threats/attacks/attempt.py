"""One way of looking for an adversarial image: what every attack is to the worst case over all of them."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from ep_hw.threats.attacks.gradients import AT_ONCE
from simulators.machine import Equilibrium, Machine

_ROUNDING = 1e-5   # of margins, relative


@dataclass(frozen=True, eq=False)
class Candidate:
    """What an attempt made of a batch.

    Attributes:
        images: (B, C, H, W) in [0, 1] unless unclipped, within the attempt's bound; whether they fool the machine is
            judged apart.
        zeros: (B,) fraction of its gradients that were zero in every pixel.
        queries: (B,) images it showed to the machine as a black box.
    """

    images: Tensor
    zeros: Tensor
    queries: Tensor

    @classmethod
    def of(cls, images: Tensor, zeros: Tensor | None = None, queries: Tensor | None = None) -> "Candidate":
        """A candidate whose measures are zero unless given."""
        none = images.new_zeros(len(images))
        return cls(images, none if zeros is None else zeros, none if queries is None else queries)

    def at(self, index: Tensor) -> "Candidate":
        """Of some images of the batch."""
        return Candidate(self.images[index], self.zeros[index], self.queries[index])


def read(machine: Machine, images: Tensor, votes: int, generator: Generator) -> list[Equilibrium]:
    """`votes` reads of a noisy machine, as many in a batch as `AT_ONCE` allows; one of a deterministic one."""
    if machine.deterministic:
        return [machine.relax(images, generator=generator)]
    most = max(1, AT_ONCE // max(1, len(images)))
    counts = (min(most, votes - done) for done in range(0, votes, most))
    return [end for n in counts for end in machine.relax(images.repeat(n, 1, 1, 1), generator=generator).parts(n)]


def majority(ends: list[Equilibrium]) -> Tensor:
    """(B,) class that most reads predict; the smallest of equals."""
    return torch.stack([end.prediction for end in ends]).mode(0).values


def decide(machine: Machine, images: Tensor, votes: int, generator: Generator) -> tuple[Tensor, list[Equilibrium]]:
    """(B,) what `majority` of `votes` reads says, and those reads that were made of every image.

    Where more than half of all agree, no more are made: they could change nothing.
    """
    first = votes // 2 + 1
    ends = read(machine, images, first, generator)
    decided, said = majority(ends), torch.stack([end.prediction for end in ends])
    split = (said != said[0]).any(0)
    if split.any():
        more = read(machine, images[split], votes - first, generator)
        decided[split] = torch.cat([said[:, split], *(end.prediction[None] for end in more)]).mode(0).values
    return decided, ends


def look(machine: Machine, images: Tensor, labels: Tensor, generator: Generator) -> Tensor:
    """(B, K) logits of a read, of those that are right as soon as that is decided, of all others at rest.

    Attacks end near a decision boundary, where many a class that is decided is another one at rest.
    """
    return machine.deciding(labels).relax(images, generator=generator).logits


def hope(lost: Tensor, patience: float) -> Tensor:
    """(B,) shares of their steps after which searches are given up: the largest share of its margin that one has lost.

    Falling on as on average so far, the margin of one that has lost less than it has spent would not reach zero in
    time, and searches slow down: hardly one of these would have won. A margin that never fell, but for rounding, says
    nothing.

    Args:
        lost: (B,) 1 - m / m_0 for the least margin m = z_y - max_{j != y} z_j so far, and m_0 where the search began,
            or the search before that it goes on from.
        patience: the least share that all have.
    """
    return torch.where(lost > _ROUNDING, lost.clamp(patience, 1), 1.0)


def surely_wrong(machine: Machine, images: Tensor, labels: Tensor, votes: int, generator: Generator) -> Tensor:
    """(B,) whether all of `votes` reads are wrong: what an attack that stops where it succeeds may stop at.

    Of many single reads of a noisy machine one is wrong by luck, and nobody else will see it.
    """
    wrong = look(machine, images, labels, generator).argmax(1) != labels
    if votes > 1 and not machine.deterministic and wrong.any():
        others = read(machine, images[wrong], votes - 1, generator)
        wrong[wrong.clone()] = torch.stack([end.prediction != labels[wrong] for end in others]).all(0)
    return wrong


class Attempt(ABC):
    """An attack with its settings. `str()` is its name in results.

    Attributes:
        uses_gradients: of the machine's model; else it is a black box.
        opening: what is made of images that fell to a smaller strength, from where that led, since other machines may
            meet it; None leaves them as they are.
    """

    uses_gradients: ClassVar[bool] = True

    @property
    def opening(self) -> "Attempt | None":
        return None

    @abstractmethod
    def run(self, machine: Machine, images: Tensor, labels: Tensor, generator: Generator) -> Candidate:
        """Attack a batch that the machine classifies correctly.

        Args:
            machine: the machine under test.
            images: (B, C, H, W) in [0, 1].
            labels: (B,).
            generator: all randomness of the attack and of the machine's reads.
        """

    def resume(self, machine: Machine, images: Tensor, labels: Tensor, generator: Generator,
               start: Tensor) -> Candidate:
        """The same from where other attempts ended.

        Args:
            start: (B, C, H, W) the worst that they made of the images; searches of their own make nothing of it.
        """
        return self.run(machine, images, labels, generator)
