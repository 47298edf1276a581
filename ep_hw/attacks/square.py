"""Square attack on the device itself: it sees outputs only. Source: Andriushchenko et al. 2020, run by pyautoattack."""

from dataclasses import dataclass

import torch
from pyautoattack.square import SquareAttack

from ep_hw.attacks.attempt import Attempt, Candidate
from mapping.errors import Refusal
from simulators.machine import Machine

_BESIDE = 3   # answers that the attack asks for beside its squares: the clean image, the stripes, the verdict


@dataclass(frozen=True)
class Square(Attempt):
    """One restart of random squares. `queries` is the most the attack may ask of one image.

    `average` queries are read for one answer: what noise hides from one of them.
    """

    norm: str
    eps: float
    queries: int = 1000
    average: int = 1

    def run(self, machine: Machine, images, labels, generator) -> Candidate:
        """See `Attempt.run`.

        Raises:
            Refusal: images smaller than 5 x 5 pixels, where the attack has no squares to draw.

        pyautoattack draws from torch's global generator: it is seeded from `generator` and put back afterwards.
        """
        if min(images.shape[2:]) < 5:
            raise Refusal("images too small for the square attack", where="square", got=tuple(images.shape[2:]),
                          allowed="5 x 5 pixels or more", remedy="use pgd_l2 or pgd_linf")
        counter = _Counter(machine, generator, self.average)
        seed = int(torch.randint(2**31, (1,), generator=generator))
        attack = SquareAttack(counter, norm={"l2": "L2", "linf": "Linf"}[self.norm], eps=self.eps, seed=seed,
                              n_queries=max(1, self.queries // self.average - _BESIDE), device=images.device)
        with torch.random.fork_rng(devices=[images.device] if images.is_cuda else []), torch.no_grad():
            adversarial = attack.perturb(images, labels)
        return Candidate.of(adversarial.clamp(0, 1), queries=counter.spent(len(images)))

    def __str__(self):
        return "square"


class _Counter:
    """The device as a function of images, counting what it was asked."""

    def __init__(self, machine: Machine, generator, average: int):
        self.machine, self.generator, self.average, self.total = machine, generator, average, 0

    def __call__(self, images):
        self.total += self.average * len(images)
        return sum(self.machine.relax(images.clamp(0, 1), generator=self.generator).logits
                   for _ in range(self.average)) / self.average

    def spent(self, batch: int):
        return torch.full((batch,), self.total / max(batch, 1))
