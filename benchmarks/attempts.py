"""Which of PGD's gradients break how many images in how many seconds, alone, and whether another order pays.

    python -m benchmarks.attempts [NETWORK ...] [--on MACHINE ...] [--strength EPS] [--images N]

Each gradient of `AttackSettings` climbs alone, with all iterations, on images that the machine answers rightly. From
that an order is made: always the gradient next that breaks most a second of what those before it left. Then the whole
attack is made in the order of the settings and in that one. Seconds are those of the processor, on one thread; on a
machine without noise both orders draw the same numbers.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

import simulators
from ep_hw.data import Split
from ep_hw.networks.programs import network_and_images, programs_of
from ep_hw.threats.attacks import AttackSettings, attack, judge, possible_gradients
from ep_hw.threats.threat import Threat, parse_threat
from simulators.machine import Machine

NETWORKS, MACHINES = ("digits", "digits-bp-s11"), ("reference", "loihi", "crossbar:pcm")


@dataclass(frozen=True, eq=False)
class Climb:
    """What gradients, in their order, did to a batch.

    Attributes:
        names: of the gradients.
        broken: (B,).
        seconds: in all.
    """

    names: tuple[str, ...]
    broken: Tensor
    seconds: float

    def __str__(self):
        return f"{', '.join(self.names):44} {100 * float(self.broken.float().mean()):6.1f} {self.seconds:8.2f}"


def climb(machine: Machine, threat: Threat, split: Split, names: Sequence[str]) -> Climb:
    """An attack with these gradients."""
    settings = AttackSettings(gradients=tuple(names))
    began = time.process_time()
    found = attack(machine, threat, split.images, split.labels, settings, Generator().manual_seed(0))
    return Climb(tuple(names), torch.tensor([by != "" for by in found.broken_by]), time.process_time() - began)


def greedy(alone: Sequence[Climb]) -> tuple[str, ...]:
    """Gradients in the order of what each breaks a second of what those before it left, and of seconds."""
    order, left, standing = [], list(alone), torch.ones_like(alone[0].broken)
    while left:
        best = max(left, key=_worth(standing))
        left.remove(best)
        order.append(best)
        standing = standing & ~best.broken
    return tuple(name for one in order for name in one.names)


def _worth(standing: Tensor) -> Callable[[Climb], tuple[float, float]]:
    return lambda one: (int((one.broken & standing).sum()) / one.seconds, -one.seconds)


def measured(machine: Machine, threat: Threat, split: Split) -> Iterator[Climb]:
    """Each gradient alone, all in the order of the settings, and all in the greedy one where that is another."""
    names = [str(gradient) for gradient in possible_gradients(machine, AttackSettings())]
    alone = [climb(machine, threat, split, [name]) for name in names]
    yield from alone
    yield climb(machine, threat, split, names)
    if greedy(alone) != tuple(names):
        yield climb(machine, threat, split, greedy(alone))


def right(machine: Machine, split: Split, images: int) -> Split:
    """The first images of a split that a machine answers rightly."""
    wrong = judge(machine, split.images, split.labels, AttackSettings().votes, Generator().manual_seed(0))[0]
    return split.take((~wrong).nonzero().flatten()[:images])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=NETWORKS, metavar="NETWORK")
    parser.add_argument("--on", nargs="+", default=MACHINES, metavar="MACHINE")
    parser.add_argument("--strength", type=float, default=0.5, help="of pgd_l2")
    parser.add_argument("--images", type=int, default=24)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    threat = parse_threat(f"pgd_l2@{asked.strength!r}")
    for network in asked.networks:
        model, some = network_and_images(network, 2 * asked.images, seed=0)
        for name in asked.on:
            with simulators.open(programs_of(model, [name], [])[name]) as machine:
                split = right(machine, some, asked.images)
                climb(machine, threat, split.take(slice(1)), AttackSettings().gradients)   # first calls are slow
                print(f"{network} on {name}, {len(split)} images, {threat}: broken in %, CPU seconds")
                for one in measured(machine, threat, split):
                    print(f"  {one}", flush=True)


if __name__ == "__main__":
    main()
