"""Square attack on the device itself: it sees outputs only. Source: Andriushchenko et al. 2020, run by pyautoattack."""

from dataclasses import dataclass

import torch
from pyautoattack.square import SquareAttack

from ep_hw.attacks.attempt import Attempt, Candidate
from mapping.errors import Refusal
from simulators.machine import Machine


@dataclass(frozen=True)
class Square(Attempt):
    """One restart of random squares. `queries` is the most the attack may ask of one image."""

    norm: str
    eps: float
    queries: int = 1000

    def run(self, machine: Machine, images, labels, generator) -> Candidate:
        """See `Attempt.run`.

        Raises:
            Refusal: images smaller than 5 x 5 pixels, where the attack has no squares to draw.

        pyautoattack draws from torch's global generator: it is seeded from `generator` and put back afterwards.
        """
        if min(images.shape[2:]) < 5:
            raise Refusal("images too small for the square attack", where="square", got=tuple(images.shape[2:]),
                          allowed="5 x 5 pixels or more", remedy="use pgd_l2 or pgd_linf")
        counter = _Counter(machine, generator)
        seed = int(torch.randint(2**31, (1,), generator=generator))
        attack = SquareAttack(counter, norm={"l2": "L2", "linf": "Linf"}[self.norm], n_queries=self.queries,
                              eps=self.eps, seed=seed, device=images.device)
        with torch.random.fork_rng(devices=[images.device] if images.is_cuda else []), torch.no_grad():
            adversarial = attack.perturb(images, labels)
        return Candidate.of(adversarial.clamp(0, 1), queries=counter.spent(len(images)))

    def __str__(self):
        return "square"


class _Counter:
    """The device as a function of images, counting what it was asked."""

    def __init__(self, machine: Machine, generator):
        self.machine, self.generator, self.total = machine, generator, 0

    def __call__(self, images):
        self.total += len(images)
        return self.machine.relax(images.clamp(0, 1), generator=self.generator).logits.clone()

    def spent(self, batch: int):
        return torch.full((batch,), self.total / max(batch, 1))
