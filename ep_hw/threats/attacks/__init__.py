"""Attacks on machines: who sees what, and the worst case for each image over everything tried.

| adversary         | sees                                             | threat                     |
| ----------------- | ------------------------------------------------ | -------------------------- |
| transfer, unaware | another machine's weights and gradients          | transfer:reference:pgd_l2  |
| white box, aware  | the machine's model, its frozen errors, its noise | pgd, cw, deepfool, autoattack |
| black box         | outputs only                                     | square_l2, square_linf     |
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F

from ep_hw.threats.attacks.attempt import Attempt, Candidate, majority, read
from ep_hw.threats.attacks.auto import ENSEMBLES, Member, ensemble
from ep_hw.threats.attacks.carlini_wagner import CarliniWagner
from ep_hw.threats.attacks.deepfool import DeepFool
from ep_hw.threats.attacks.gradients import Adaptive, Adjoint, Gradient, Nudged, Unrolled, parse_gradient
from ep_hw.threats.attacks.pgd import PGD, direction, size
from ep_hw.threats.attacks.square import Square
from ep_hw.threats.threat import Threat
from mapping.errors import Refusal
from mapping.fields import Count, Stated
from simulators.machine import Machine
from simulators.relaxation import period_of

__all__ = [
    "PGD",
    "TRANSFER",
    "UNAWARE",
    "Adjoint",
    "AttackSettings",
    "Attacked",
    "Attempt",
    "Candidate",
    "CarliniWagner",
    "DeepFool",
    "Gradient",
    "Nudged",
    "Square",
    "Unrolled",
    "attack",
    "fools",
    "majority",
    "noise_like",
    "parse_gradient",
    "perturbation",
    "possible_gradients",
    "read",
]

TRANSFER = "transfer:"   # before the name of the machine on which an image was made that fooled another
UNAWARE = f"{TRANSFER}reference"   # the name of an attempt that was made on the reference
DEFAULT_UNROLL = 29   # synchronous steps through which attacks differentiate where no bptt@STEPS is among the gradients


class AttackSettings(Stated):
    """How hard to attack; part of every cell's key.

    `gradients` are tried in turn on the images that still stand, each from `restarts` starts; Auto-PGD climbs those of
    `apgd@STEPS`, once and with twice the `iterations`. Those of `bptt@own` and `apgd@own` go through the machine's own
    relaxation, where it ends within `DEFAULT_UNROLL` iterations; there the attacks that are no PGD do so too. `eot`
    gradients are averaged, and `votes` reads decide by majority, on noisy machines only. Attacks flee the true label,
    or what the machine predicts of the clean image (`label`): then images it gets wrong are attacked too, and may come
    right. `average` of a black box's `queries` are read for each answer of a noisy machine. `searches` is how many
    prices c the Carlini-Wagner attack tries. `ensemble` names the members of AutoAttack; None takes "standard", and
    "rand" for noisy machines.
    """

    gradients: tuple[str, ...] = ("bptt@5", "bptt@10:margin", "bptt@own:margin", "apgd@15", "apgd@29", "apgd@own",
                                  "ep@0.5:margin", "ep@2:margin")
    iterations: Count = 20
    queries: Count = 1000
    average: Count = 1
    eot: Count = 4
    votes: Count = 5
    restarts: Count = 1
    label: Literal["true", "predicted"] = "true"
    searches: Count = 1
    ensemble: Literal[ENSEMBLES] | None = None


@dataclass(frozen=True, eq=False)
class Attacked:
    """Outcome for a batch.

    Attributes:
        images: (B, C, H, W), each image's worst found: the one that fooled the machine, or the one of largest loss.
        broken_by: what fooled the machine first: "clean", the attempt's name, `UNAWARE`, or "" for nothing.
        zero_gradient: (B,) fraction of gradients that were zero, over those of the white-box attempts on the image;
            NaN where there were none.
        queries: (B,) images shown to the machine by black-box attempts, mean over the batch.
    """

    images: torch.Tensor
    broken_by: list[str]
    zero_gradient: torch.Tensor
    queries: torch.Tensor


def attack(machine: Machine, threat: Threat, images, labels, settings: AttackSettings, generator,
           unaware: torch.Tensor | None = None) -> Attacked:
    """Attack a batch on a machine; images it already gets wrong are left alone, unless predictions are attacked.

    Args:
        threat: an attack whose source is this machine.
        images: (B, C, H, W) in [0, 1]. labels: (B,).
        generator: all randomness of the attack and of the machine's reads.
        unaware: (B, C, H, W) what the same threat made of the images on the reference: the last attempt, so that
            knowing a machine is never worse than not knowing it.

    Raises:
        Refusal: an attack that the machine does not allow, see `attempts`; labels that are not those of its images.
    """
    _check_labels(labels, len(images), machine.graph.classes)
    machine = machine.unclipped if threat.is_unclipped else machine
    if settings.label == "predicted":
        labels = majority(read(machine, images, settings.votes, generator))
    worst = _WorstCase(machine, images, labels, settings.votes, generator)
    zeros, tried, queries = (images.new_zeros(len(images)) for _ in range(3))
    for attempt in attempts(machine, threat, settings):
        index = worst.standing()
        if not len(index):
            break
        candidate = attempt.run(machine, images[index], labels[index], generator)
        queries[index] += candidate.queries
        zeros[index] += candidate.zeros
        tried[index] += not isinstance(attempt, Square)
        worst.consider(str(attempt), index, candidate.images)
    if unaware is not None and len(index := worst.standing()):
        worst.consider(UNAWARE, index, unaware[index])
    return Attacked(worst.images, worst.broken_by, zeros / tried, queries)


def fools(machine: Machine, images, clean, labels, settings: AttackSettings, generator) -> torch.Tensor:
    """(B,) whether images that were made elsewhere would do as an attack on this machine; arguments as for `attack`."""
    if settings.label == "predicted":
        labels = majority(read(machine, clean, settings.votes, generator))
    return judge(machine, images, labels, settings.votes, generator)[0]


def _check_labels(labels, batch: int, classes: int):
    plain = isinstance(labels, torch.Tensor) and labels.dtype == torch.int64 and labels.shape == (batch,)
    if not plain or (batch and not 0 <= int(labels.min()) <= int(labels.max()) < classes):
        raise Refusal("labels are not those of the images", where="labels",
                      got=f"{type(labels).__name__} {tuple(getattr(labels, 'shape', ()))}",
                      allowed=f"an int64 tensor ({batch},) of 0 to {classes - 1}",
                      remedy="use the data set the model was trained on")


class _WorstCase:
    """For each image the first found that fools the machine, else the one of largest loss; see `Attacked`."""

    def __init__(self, machine: Machine, images, labels, votes: int, generator):
        self.machine, self.labels, self.votes, self.generator = machine, labels, votes, generator
        self.wrong, _ = judge(machine, images, labels, votes, generator)
        self.images, self.loss = images.clone(), images.new_full((len(images),), -torch.inf)
        self.broken_by = ["clean" if mistaken else "" for mistaken in self.wrong.tolist()]

    def standing(self):
        """Places of the images that nothing has broken yet."""
        return (~self.wrong).nonzero().flatten()

    def consider(self, name: str, index, images):
        """Judge candidates for the images at `index` and keep those that are worse."""
        broken, loss = judge(self.machine, images, self.labels[index], self.votes, self.generator)
        better = broken | (loss > self.loss[index])
        self.images[index[better]], self.loss[index[better]] = images[better], loss[better]
        self.wrong[index] = broken
        for place in index[broken].tolist():
            self.broken_by[place] = name


def noise_like(images, adversarial, norm: str, generator):
    """Images moved in random directions as far as an attack moved them, in [0, 1]: what no attack may be weaker than.

    Directions are uniform on the sphere in l2, corners of the cube in linf.
    """
    away = torch.randn(images.shape, generator=generator).to(images)
    return (images + size(adversarial - images, norm) * direction(away, norm)).clamp(0, 1)


def judge(machine: Machine, images, labels, votes: int, generator) -> tuple[torch.Tensor, torch.Tensor]:
    """(B,) whether the machine is wrong by majority over `votes` reads, and (B,) the mean cross-entropy."""
    ends = read(machine, images, votes, generator)
    loss = torch.stack([F.cross_entropy(end.logits, labels, reduction="none") for end in ends]).mean(0)
    return majority(ends) != labels, loss


def perturbation(images, adversarial, norm: str) -> torch.Tensor:
    """(B,) l2 or linf norm of each perturbation."""
    return size(adversarial - images, norm).flatten()


def attempts(machine: Machine, threat: Threat, settings: AttackSettings) -> list[Attempt]:
    """What is tried in turn for a threat: a gradient attack with every gradient, or an attack's own members.

    Raises:
        Refusal: none of the gradients can be had of this machine.
    """
    kind, norm, strength = threat.kind.rpartition("_")[0], threat.norm, threat.strength
    gradients = possible_gradients(machine, settings)
    eot, average = (1, 1) if machine.deterministic else (settings.eot, settings.average)
    times = [g.steps for g in gradients if isinstance(g, Unrolled)]
    unroll = None if None in times else max(times, default=DEFAULT_UNROLL)
    if kind.startswith("pgd"):
        return [_ascent(threat, gradient, settings, eot) for gradient in gradients]
    if kind == "cw":
        plain = [g for g in gradients if not isinstance(g, Adaptive)] or gradients
        return [CarliniWagner(strength, replace(g, loss="margin"), 5 * settings.iterations, settings.searches, eot=eot,
                              votes=settings.votes)
                for g in plain]
    if kind == "deepfool":
        return [DeepFool(norm, strength, unroll, votes=settings.votes)]
    if kind == "square":
        return [Square(norm, strength, settings.queries, average)]
    chosen = settings.ensemble or ("standard" if machine.deterministic else "rand")
    return ensemble(chosen, norm, strength, classes=machine.graph.classes, unroll=unroll,
                    iterations=5 * settings.iterations, queries=settings.queries, eot=eot, average=average,
                    votes=settings.votes)


def _ascent(threat: Threat, gradient: Gradient, settings: AttackSettings, eot: int) -> Attempt:
    """PGD, or Auto-PGD, which knows no attack that leaves [0, 1]."""
    if isinstance(gradient, Adaptive) and not threat.is_unclipped:
        return Member("apgd-ce", threat.norm, threat.strength, gradient.steps, 2 * settings.iterations, eot)
    return PGD(threat.norm, threat.strength, gradient, settings.iterations, eot, settings.restarts,
               not threat.is_unclipped)


def possible_gradients(machine: Machine, settings: AttackSettings) -> list[Gradient]:
    """The settings' gradients, `bptt@own` and its like only where the machine's own relaxation ends within
    `DEFAULT_UNROLL` iterations; a machine without feedback has no time: one backpropagation for each kind and loss.

    Raises:
        Refusal: there are none.
    """
    gradients = [g for g in map(parse_gradient, settings.gradients) if _is_possible(g, machine)]
    if not gradients:
        raise Refusal("this machine has no such gradient", where=machine.name, got=", ".join(settings.gradients),
                      allowed="bptt@STEPS", remedy="add --gradient bptt@1")
    if machine.has_feedback:
        return gradients
    return list({(type(g), g.loss): replace(g, last=None) for g in gradients}.values())


def _is_possible(gradient: Gradient, machine: Machine) -> bool:
    if isinstance(gradient, Unrolled) and gradient.steps is None:
        return machine.has_feedback and machine.graph.steps <= DEFAULT_UNROLL * period_of(machine.graph.schedule)
    return machine.has_feedback or isinstance(gradient, Unrolled)
