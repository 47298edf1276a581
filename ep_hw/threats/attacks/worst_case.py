"""An attack on a machine: for each image the worst case over everything that the attack tries."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ep_hw.threats.attacks.attempt import Attempt, Candidate, decide
from ep_hw.threats.attacks.begun import BLACK_BOX, STRETCHED, Begun, is_last_resort
from ep_hw.threats.attacks.norms import differing, perturbation
from ep_hw.threats.attacks.settings import AttackSettings
from ep_hw.threats.definitions import PRICE
from ep_hw.threats.threat import TRANSFER, Threat
from mapping.errors import Refusal
from mapping.targets import REFERENCE
from simulators.machine import Equilibrium, Machine

ROUNDING = 1e-5   # of float32 sums of many pixels, relative and absolute
TRANSFERRED = f"{TRANSFER}{REFERENCE}"   # the name of an attempt that was made on the reference


@dataclass(frozen=True, eq=False)
class Attacked:
    """Outcome for a batch.

    Attributes:
        images: (B, C, H, W), of each image the worst that was found: what fooled the machine, or, last resorts apart,
            had the largest loss.
        broken_by: what fooled the machine first: "clean", the attempt's name, `TRANSFERRED`, or "" for nothing.
        zero_gradient: (B,) fraction of gradients that were zero, over those of the white-box attempts on the image;
            NaN where there were none.
        queries: (B,) images shown to the machine by black-box attempts, mean over the batch.
        answer: of a deterministic machine to `images`, all in a batch but for those that the same attack left as they
            are before; None where that is all, and of a noisy one, which has many.
    """

    images: Tensor
    broken_by: list[str]
    zero_gradient: Tensor
    queries: Tensor
    answer: Equilibrium | None


def attack(machine: Machine, threat: Threat, images: Tensor, labels: Tensor, settings: AttackSettings,
           generator: Generator, transferred: Tensor | None = None, begun: Begun | None = None,
           asked: Candidate | None = None) -> Attacked:
    """Attack a batch on a machine; images it already gets wrong are left alone, unless predictions are attacked.

    Args:
        machine: the machine under test.
        threat: an attack made on this machine.
        images: (B, C, H, W) in [0, 1].
        labels: (B,) classes.
        settings: how hard to attack.
        generator: all randomness of the attack and of the machine's reads.
        transferred: (B, C, H, W) what the same threat made of the images on the reference: the last attempt, so that
            knowing a machine is never worse than not knowing it.
        begun: where the attack goes on from: what fell there to gradients or answers of the machine stays broken.
        asked: what the black box made of the batch that the attack ends with; it is not asked again.

    Raises:
        Refusal: an attack that the machine does not allow, see `Attack.attempts`; labels that are not those of its
            images; an attempt that made what the threat does not allow.
    """
    _check_labels(labels, len(images), machine.graph.classes)
    machine = machine.unclipped if threat.is_unclipped else machine
    if settings.label == "predicted":
        labels = decide(machine, images, settings.votes, generator)[0]
    worst = _WorstCase(machine, threat, images, labels, settings.votes, generator)
    worst.begin(images, begun)
    further = begun is not None and begun.strength < threat.strength
    zeros, tried, queries = (images.new_zeros(len(images)) for _ in range(3))
    for attempt in threat.attack.attempts(machine, threat.strength, settings):
        for one, index in worst.meeting(attempt, further):
            candidate = asked.at(index) if asked is not None and str(one) == BLACK_BOX else one.resume(
                machine, images[index], labels[index], generator, worst.images[index])
            _check_candidate(threat, str(one), images[index], candidate.images)
            queries[index] += candidate.queries
            zeros[index] += candidate.zeros
            tried[index] += one.uses_gradients
            worst.consider(str(one), index, candidate.images)
    if transferred is not None and len(index := worst.standing()):
        worst.consider(TRANSFERRED, index, transferred[index])
    zeros = zeros / tried
    if begun is not None:
        worst.fall_back(begun)
        zeros, queries = (torch.where(own > 0, own, before.to(own)) for own, before in (
            (zeros, begun.zero_gradient), (queries, begun.queries)))
    answer = worst.settle(begun)
    return Attacked(worst.images, worst.broken_by, zeros, queries, answer)


def fools(machine: Machine, images: Tensor, clean: Tensor, labels: Tensor, settings: AttackSettings,
          generator: Generator) -> Tensor:
    """(B,) whether images that were made elsewhere would do as an attack on this machine; arguments as for `attack`."""
    if settings.label == "predicted":
        labels = decide(machine, clean, settings.votes, generator)[0]
    return judge(machine, images, labels, settings.votes, generator)[0]


def _check_labels(labels: Tensor, batch: int, classes: int):
    plain = isinstance(labels, Tensor) and labels.dtype == torch.int64 and labels.shape == (batch,)
    if not plain or (batch and not 0 <= int(labels.min()) <= int(labels.max()) < classes):
        raise Refusal("labels are not those of the images", where="labels",
                      got=f"{type(labels).__name__} {tuple(getattr(labels, 'shape', ()))}",
                      allowed=f"an int64 tensor ({batch},) of 0 to {classes - 1}",
                      remedy="use the data set the model was trained on")


def _check_candidate(threat: Threat, attempt: str, images: Tensor, made: Tensor):
    """Refuse what is no adversarial image of the threat: another shape, pixels beyond [0, 1], or too far away."""
    where = f"{threat}, {attempt}"
    if not isinstance(made, Tensor) or (made.shape, made.dtype) != (images.shape, images.dtype):
        raise Refusal("an attack made other images than it was given", where=where,
                      got=f"{getattr(made, 'dtype', type(made).__name__)} {tuple(getattr(made, 'shape', ()))}",
                      allowed=f"{images.dtype} {tuple(images.shape)}", remedy="correct the attack")
    low, high = made.amin().item(), made.amax().item()
    if not (low >= 0 and high <= 1 if threat.attack.clips else math.isfinite(low + high)):
        raise Refusal("an attack left the range of pixels", where=where, got=f"{low:.6g} to {high:.6g}",
                      allowed="0 to 1", remedy="clip its images")
    most = threat.strength * (1 + ROUNDING) + ROUNDING
    if threat.attack.strength != PRICE and (far := perturbation(images, made, threat.norm).amax().item()) > most:
        raise Refusal("an attack left its ball", where=where, got=f"{threat.norm} {far:.6g}",
                      allowed=f"up to {threat.strength:g}", remedy="project its perturbations")


class _WorstCase:
    """For each image the first that fools the machine, else the one of largest loss; see `Attacked`.

    While it is looked for, images that fell `before` are believed to fool on: `settle` asks them.
    """

    def __init__(self, machine: Machine, threat: Threat, images: Tensor, labels: Tensor, votes: int,
                 generator: Generator):
        self.machine, self.threat, self.labels, self.votes, self.generator = machine, threat, labels, votes, generator
        self.images, self.loss = images.clone(), images.new_full((len(images),), -torch.inf)
        self.wrong, self.broken_by, self.made_by = self.loss > 0, [""] * len(images), ["clean"] * len(images)
        self.before = self.wrong

    def begin(self, images: Tensor, begun: Begun | None):
        """Count what is misclassified as it is, or, where the attack has begun, all that fell before."""
        if begun is None:
            self._break("clean", judge(self.machine, images, self.labels, self.votes, self.generator)[0])
            return
        self.images, self.wrong = begun.led(self.threat, images), begun.fell(self.threat)
        self.before = self.wrong
        self.broken_by = [by if fell else "" for by, fell in zip(begun.broken_by, self.wrong.tolist())]
        if begun.stretches(self.threat):
            further = self.threat.strength / begun.strength * (self.images - images)
            stretched, there = (images + further).clamp(0, 1), self._fallen()
            self.images[there] = stretched[there]
            if len(index := self.standing()):
                self.consider(STRETCHED, index, stretched[index])

    def standing(self) -> Tensor:
        """Places of the images that nothing has broken yet."""
        return (~self.wrong).nonzero().flatten()

    def meeting(self, attempt: Attempt, further: bool) -> list[tuple[Attempt, Tensor]]:
        """Who meets what of an attempt: images that stand all of it, and, `further` on, those that fell its opening."""
        parts = [(attempt, self.standing())]
        if further and attempt.opening is not None:
            parts.append((attempt.opening, self._fallen()))
        return [(one, index) for one, index in parts if len(index)]

    def _fallen(self) -> Tensor:
        """Places of the images that fell, but for those that were misclassified as they are."""
        return torch.tensor([n for n, by in enumerate(self.broken_by) if by not in ("", "clean")], dtype=torch.int64,
                            device=self.images.device)

    def consider(self, name: str, index: Tensor, images: Tensor):
        """Judge candidates for the images at `index` and keep those that are worse, of last resorts those that fool."""
        fallen = self.wrong[index]
        machine = self.machine.deciding() if self.before[index].all() else self.machine
        broken, loss = judge(machine, images, self.labels[index], self.votes, self.generator)
        larger = (loss > self.loss[index]) & (not is_last_resort(name, self.threat))
        better = broken & ~fallen | (broken == fallen) & larger
        self.images[index[better]], self.loss[index[better]] = images[better], loss[better]
        for place in index[better].tolist():
            self.made_by[place] = name
        self._break(name, torch.zeros_like(self.wrong).index_put((index,), broken & ~fallen))

    def settle(self, begun: Begun | None) -> Equilibrium | None:
        """What fell before and fools no more, as it is now, is again what fell; see `Attacked.answer`.

        At rest a machine may be wrong where it was right while it decided: then that image has fallen too.
        """
        asked = self._asked(begun)
        if not asked.any():
            return None
        answer = self.machine.relax(self.images[asked]) if self.machine.deterministic else None
        said = self.labels.clone()
        if answer is not None:
            said[asked] = answer.prediction
            late = (said != self.labels) & ~self.wrong
            self.broken_by = [made if fell and not by else by
                              for made, fell, by in zip(self.made_by, late.tolist(), self.broken_by)]
        if begun is None or not len(again := self._moved(begun)):
            return answer
        fools_on = said[again] != self.labels[again] if answer is not None else judge(
            self.machine, self.images[again], self.labels[again], self.votes, self.generator)[0]
        if fools_on.all():
            return answer
        self.images[again[~fools_on]] = begun.images[again[~fools_on]]
        return self.settle(begun) if answer is not None else None

    def _asked(self, begun: Begun | None) -> Tensor:
        """(B,) which images are asked at rest: none that was so as the same attack left it before."""
        if begun is None or begun.strength != self.threat.strength:
            return torch.ones_like(self.wrong)
        return differing(self.images, begun.images)

    def _moved(self, begun: Begun) -> Tensor:
        """Places of the images that fell before and are others now."""
        return (self.before & differing(self.images, begun.images)).nonzero().flatten()

    def fall_back(self, begun: Begun):
        """What nothing else broke falls to what broke it before."""
        for place in self.standing().tolist():
            if begun.broken_by[place]:
                self.images[place], self.broken_by[place] = begun.images[place], begun.broken_by[place]

    def _break(self, name: str, broken: Tensor):
        """(B,) which images have fallen, and to whom."""
        self.wrong = self.wrong | broken
        for place in broken.nonzero().flatten().tolist():
            self.broken_by[place] = name


def judge(machine: Machine, images: Tensor, labels: Tensor, votes: int,
          generator: Generator) -> tuple[Tensor, Tensor]:
    """(B,) whether the machine is wrong by majority over `votes` reads, and (B,) a mean cross-entropy of them.

    What is right may be so before the machine is at rest, and its loss is that of then; what is wrong is so at rest.
    """
    decided, ends = decide(machine.deciding(labels), images, votes, generator)
    loss = torch.stack([F.cross_entropy(end.logits, labels, reduction="none") for end in ends]).mean(0)
    return decided != labels, loss
