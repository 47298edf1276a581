"""Adversarial success over effort and strength: how often an attack turns wrong what a machine gets right.

    success = mean over places and reads of |right clean, wrong attacked| / |right clean|                   (1)
    envelope(e, s) = the largest success at efforts up to e and strengths up to s                            (2)

A machine without noise is read once. A machine that has chips is one of many: attackers who know only what all have in
common make their images on a chip of their own, which stands for the model of the machine, and those who hold the chip
under test make them on that. So its platforms are three: the model attacked itself, the chip under images from the
model, and the chip attacked itself.

Source: Lammie et al., Nat. Commun. 16, 1756 (2025), where the model is a simulation and the chip is silicon.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ep_hw.evaluation.plan import Plan, chips_of
from ep_hw.evaluation.stored_attacks import Place, StoredAttack
from ep_hw.threats.threat import CLEAN, Threat
from mapping.targets import REFERENCE

Reads = NDArray[np.bool_]    # (places, reads, images) whether the machine was right
Role = Literal["itself", "model", "chip", "chip itself"]
ROLES: dict[Role, str] = {"itself": "{}", "model": "{}: model", "chip": "{}: chip, attacks from the model",
                          "chip itself": "{}: chip, attacked itself"}
FOLDER = "envelope"   # in the folder of an evaluation


@dataclass(frozen=True)
class Platform:
    """A machine, and who attacks it.

    Attributes:
        machine: its name.
        role: see above.
    """

    machine: str
    role: Role

    def __str__(self):
        return ROLES[self.role].format(self.machine)


@dataclass(frozen=True, eq=False)
class Met:
    """What a platform made of one attack.

    Attributes:
        threat: the attack with its strength.
        effort: of the attack.
        clean: whether it was right on clean images.
        attacked: the same of attacked ones.
    """

    threat: Threat
    effort: int
    clean: Reads
    attacked: Reads

    @property
    def by_image(self) -> NDArray[np.float64]:
        """See `by_image`."""
        return by_image(self.clean, self.attacked)

    @property
    def success(self) -> float:
        """`evaluation.envelope (1)`."""
        return float(self.by_image.mean())


# Platforms under the same images, one a place that is shown them, and all that they meet, clean images first.
Tries = tuple[tuple[Platform, ...], list[StoredAttack]]


def by_image(clean: Reads, attacked: Reads) -> NDArray[np.float64]:
    """(images,) each image's part of the success, `evaluation.envelope (1)`, which is their mean.

    Args:
        clean: whether each read of a clean image was right.
        attacked: the same of attacked images.
    """
    right = clean.mean(-1, keepdims=True)
    return ((clean & ~attacked) / np.where(right > 0, right, 1)).mean((0, 1))


def running_largest(grid: NDArray[np.float64]) -> NDArray[np.float64]:
    """`evaluation.envelope (2)` of successes (efforts, strengths), both rising."""
    return np.maximum.accumulate(np.maximum.accumulate(grid, axis=0), axis=1)


def attacks_of(plan: Plan, folder: Path) -> list[Tries]:
    """All that the machines of a plan meet."""
    envelope = plan.asked.envelope
    if envelope is None:
        return []
    tries = [(CLEAN, 1), *((Threat(grid.kind, strength), effort) for grid in envelope.grids
                           for effort, strength in product(grid.efforts, grid.strengths))]

    def stored(made_on: Place, shown_to: tuple[Place, ...]) -> list[StoredAttack]:
        return [StoredAttack(threat, effort, made_on, shown_to, plan.images, plan.attacks.settings,
                             envelope.repeats, plan.asked.seed, plan.run.device, folder / FOLDER)
                for threat, effort in tries]

    return [(platforms, stored(made_on, shown_to)) for name in attacked_machines(plan)
            for platforms, made_on, shown_to in _attackers(plan, name)]


def attacked_machines(plan: Plan) -> tuple[str, ...]:
    """The machines whose adversarial success is measured."""
    return (REFERENCE,) if plan.asked.retrained else plan.asked.machines


def _attackers(plan: Plan, name: str) -> Iterator[tuple[tuple[Platform, ...], Place, tuple[Place, ...]]]:
    """Of a machine: the platforms, where the images are made, and where they are shown, a place a platform."""
    program, seeds = plan.programs[name], [seed for seed in chips_of(plan, name) if seed is not None]
    if not seeds:
        yield (Platform(name, "itself"),), Place(program), (Place(program),)
        return
    model, chips = Place(program, len(seeds)), [Place(program, seed) for seed in seeds]
    yield (Platform(name, "model"), *[Platform(name, "chip")] * len(chips)), model, (model, *chips)
    for chip in chips:
        yield (Platform(name, "chip itself"),), chip, (chip,)


def outcomes_of(measured: Iterable[Tries]) -> dict[Platform, list[Met]]:
    """Platform -> what it made of every attack, its chips together; all must have been measured."""
    clean: dict[Platform, list[Reads]] = {}
    attacked: dict[Platform, dict[tuple[Threat, int], list[Reads]]] = {}
    for platforms, tries in measured:
        for one in tries:
            for platform, right in zip(platforms, one.arrays()["right"]):
                own = attacked.setdefault(platform, {}).setdefault((one.threat, one.effort), [])
                (clean.setdefault(platform, []) if one.threat == CLEAN else own).append(right)
    return {platform: [Met(*tried, np.stack(clean[platform]), np.stack(reads)) for tried, reads in tries.items()
                       if tried[0] != CLEAN] for platform, tries in attacked.items()}
