"""One attack of one strength and effort, made in one place and shown in others, kept in the folder of a run."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Generator, Tensor

import simulators
from ep_hw.data.splits import Split
from ep_hw.evaluation.kept import Kept
from ep_hw.threats.attacks import AttackSettings, judge
from ep_hw.threats.threat import CLEAN, Threat
from ep_hw.versions import ENVELOPE, code_of
from mapping.sealed import Layout
from simulators.machine import Machine
from simulators.module import AnyProgram


@dataclass(frozen=True, eq=False)
class Place:
    """A program on one of its chips; the seed says nothing where it has none."""

    program: AnyProgram
    chip: int = 0

    @property
    def asked(self) -> list:
        """What decides its answers."""
        return [self.program.digest(), self.chip]

    def open(self, device: str) -> Machine:
        """The machine."""
        return simulators.open(self.program, chip_seed=self.chip, device=device)


@dataclass(frozen=True, eq=False)
class StoredAttack(Kept):
    """Images that an attack makes of all images, whether or not the machine is right on them, and who is right on them.

    Attributes:
        threat: the attack, or clean images, which are shown as they are.
        effort: its iterations if it is a white box, else its queries.
        made_on: whose gradients or answers it sees.
        shown_to: those whose answers are kept.
        images: that are attacked.
        settings: of the attack, but for its effort.
        repeats: how often a noisy machine is shown the images.
        seed: of the evaluation.
        device: that the machines run on.
        folder: see `Kept`.
    """

    form: ClassVar[str] = "ep-hw attack 1"
    threat: Threat
    effort: int
    made_on: Place
    shown_to: tuple[Place, ...]
    images: Split
    settings: AttackSettings
    repeats: int
    seed: int
    device: str
    folder: Path

    @property
    def asked(self) -> list:
        places = [self.made_on, *self.shown_to]
        code = {"envelope": ENVELOPE, **code_of([place.program for place in places], self.threat)}
        return [code, str(self.threat), self.effort, *(place.asked for place in places), self.images.digest,
                self.settings.model_dump(mode="json"), self.repeats, self.seed, self.device]

    @property
    def layout(self) -> Layout:
        return {"right": ("bool", (len(self.shown_to), self.repeats, len(self.images)))}

    def compute(self) -> dict[str, np.ndarray]:
        images = self.made()
        return {"right": torch.stack([self._answers(place, images) for place in self.shown_to]).numpy()}

    def _answers(self, place: Place, images: Tensor) -> Tensor:
        with place.open(self.device) as machine:
            return answers(machine, images, self.images.labels, self.repeats, self.generator(f"chip {place.chip}"))

    def __str__(self):
        return f"{self.made_on.program.target.shown}: {self.threat}, effort {self.effort}"

    def made(self) -> Tensor:
        """(N, C, H, W) what the attack makes of the images."""
        if self.threat == CLEAN:
            return self.images.images
        with self.made_on.open(self.device) as machine:
            return make(machine, self.threat, self.effort, self.images, self.settings, self.generator("attack"))


def make(machine: Machine, threat: Threat, effort: int, images: Split, settings: AttackSettings,
         generator: Generator) -> Tensor:
    """What an attack makes of images: of each the one of largest loss over the attack's attempts.

    Args:
        machine: that it is made on.
        threat: the attack.
        effort: see `StoredAttack`.
        images: with their labels.
        settings: of the attack, but for its effort.
        generator: all randomness.
    """
    spent = settings.model_copy(update={"iterations" if threat.is_white_box else "queries": effort})
    worst, loss = images.images, images.images.new_full((len(images),), -torch.inf)
    for attempt in threat.attack.attempts(machine, threat.strength, spent):
        moved = attempt.run(machine, images.images, images.labels, generator).images
        own = judge(machine, moved, images.labels, spent.votes, generator)[1]
        worst, loss = torch.where((own > loss)[:, None, None, None], moved, worst), torch.maximum(own, loss)
    return worst


def answers(machine: Machine, images: Tensor, labels: Tensor, reads: int, generator: Generator) -> Tensor:
    """(reads, N) whether a machine is right, all reads in one batch; one without noise is read once for all."""
    different = 1 if machine.deterministic else reads
    predicted = machine.relax(images.repeat(different, 1, 1, 1), generator=generator).prediction
    return (predicted.view(different, -1) == labels).expand(reads, -1)
