"""The members of AutoAttack, run by pyautoattack on a machine's differentiable model, judged on the machine itself.

    standard: APGD on the cross-entropy, targeted APGD on the DLR loss, targeted FAB, Square
    rand:     APGD on the cross-entropy and on the DLR loss, each gradient a mean over reads (for noisy machines)
    paper:    APGD on the cross-entropy and on the DLR loss, DeepFool, Square (what the paper's library ran)

Square asks the device and is ep_hw.threats.attacks.square. The DLR loss ranks three classes, its targeted form four: of
fewer classes the untargeted form stands in for the targeted one, and of two, where the cross-entropy and any margin
climb alike, both are left out. Source: Croce and Hein 2020.
"""

import warnings
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
from pyautoattack.fab_pt import FABAttack_PT
from torch import Generator, Tensor

from ep_hw.threats.attacks.attempt import Attempt, Candidate, hope, look
from ep_hw.threats.attacks.deepfool import DeepFool
from ep_hw.threats.attacks.gradients import loss_of, unrolled
from ep_hw.threats.attacks.settings import AttackSettings, Ensemble, unroll_of
from ep_hw.threats.attacks.square import Square
from ep_hw.threats.definitions import Attack
from ep_hw.threats.registry import register_attack
from simulators.machine import Machine

MEMBERS: dict[Ensemble, tuple[str, ...]] = {
    "standard": ("apgd-ce", "apgd-t", "fab-t", "square"), "rand": ("apgd-ce", "apgd-dlr"),
    "paper": ("apgd-ce", "apgd-dlr", "deepfool", "square")}
_NORMS = {"l2": "L2", "linf": "Linf"}
_LOOKS = 10   # at the machine itself, in a climb of a library
_RIGHT = 20.0   # logit of the right class of those that left


@dataclass(frozen=True)
class LibraryAttack(Attempt):
    """One gradient attack of pyautoattack. Targeted ones need as many wrong classes as there are, up to nine.

    Attributes:
        kind: "apgd-ce", "apgd-dlr", "apgd-t" or "fab-t".
        norm: of the ball.
        eps: its radius.
        unroll: steps through which the model is differentiated, see `unrolled`.
        iterations: of the attack (100 in the source).
        reads: averaged for a gradient of APGD (20 in the source).
        patience: least share of the iterations of APGD that images have, see `attempt.hope`.
    """

    kind: str
    norm: str
    eps: float
    unroll: int | None
    iterations: int
    reads: int = 1
    patience: float = 0.1

    def run(self, machine: Machine, images: Tensor, labels: Tensor, generator: Generator) -> Candidate:
        """pyautoattack draws from torch's global generator: it is seeded from `generator` and put back afterwards."""
        if self.eps == 0:
            return Candidate.of(images.clone())
        model = _Model(machine, self.unroll, self.patience, generator)
        seed = int(torch.randint(2**31, (1,), generator=generator))
        with torch.random.fork_rng(devices=[images.device] if images.is_cuda else []), warnings.catch_warnings():
            warnings.simplefilter("ignore")   # about zero gradients, which are counted here
            moved = self._attack(model, seed, images.device, machine.graph.classes).perturb(images, labels)
        return Candidate.of(moved.detach().clamp(0, 1), model.zeros(len(images)))

    def _attack(self, model: "_Model", seed: int, device: torch.device, classes: int) -> APGDAttack | FABAttack_PT:
        common = {"n_iter": self.iterations, "norm": _NORMS[self.norm], "eps": self.eps, "seed": seed,
                  "device": device}
        if self.kind == "fab-t":
            return FABAttack_PT(model, n_restarts=1, targeted=True, n_target_classes=min(9, classes - 1), **common)
        if self.kind == "apgd-t":
            return _TargetedAPGD(model, n_restarts=1, n_target_classes=min(9, classes - 1), eot_iter=self.reads,
                                 **common)
        return _APGD(model, n_restarts=1, loss=self.kind.removeprefix("apgd-"), eot_iter=self.reads, **common)

    def __str__(self):
        return self.kind


class _Climb:
    """Who of a batch still climbs, where nothing is noisy: broken images leave, and those without `hope`.

    Attributes:
        live: (B,).
        absent: (B, K) logits of those that left, which call them right.
    """

    def __init__(self, machine: Machine, labels: Tensor, target: Tensor | None, iterations: int, patience: float,
                 generator: Generator):
        self.machine, self.labels, self.target, self.generator = machine, labels, target, generator
        self.iterations, self.patience, self.taken, self.live = iterations, patience, 0, labels >= 0
        self.absent = _RIGHT * F.one_hot(labels, machine.graph.classes).float()
        self.first = self.least = self.absent.new_full((len(labels),), torch.inf)

    def step(self, images: Tensor, logits: Tensor):
        """After one more gradient of the images that climb, (L, C, H, W), and the logits (L, K) that it met."""
        share, self.taken = self.taken / self.iterations, self.taken + 1
        if share >= 1 or (self.taken - 1) % max(1, self.iterations // _LOOKS):
            return
        live, labels = self.live.clone(), self.labels[self.live]
        said = look(self.machine, images, labels, self.generator)
        self.least = self.least.index_put((live,), torch.minimum(self.least[live], self._margin(said, live)))
        self.first = self.first if share else self.least
        lost = share >= hope(1 - self.least[live] / self.first[live], self.patience)
        self.live[live] = ~(lost | (said.argmax(1) != labels) & (logits.argmax(1) != labels))

    def _margin(self, logits: Tensor, live: Tensor) -> Tensor:
        """(L,) of the label over the class that is climbed towards."""
        if self.target is None:
            return -loss_of(logits, self.labels[live], "margin")
        return logits.gather(1, self.labels[live, None])[:, 0] - logits.gather(1, self.target[live, None])[:, 0]


class _Model:
    """A machine's differentiable model as a function of images, watching the gradients that come back.

    Images that leave a climb are computed no more: the library, which takes its whole batch to the end, sees logits
    that call them right, and no slope.
    """

    def __init__(self, machine: Machine, unroll: int | None, patience: float, generator: Generator):
        self.machine, self.unroll, self.patience, self.generator = machine, unroll, patience, generator
        self.gradients = self.flat = 0
        self.climb: _Climb | None = None

    def begin(self, labels: Tensor, target: Tensor | None, iterations: int):
        """A climb of images with such labels (B,) begins, towards target classes (B,) or all others."""
        if self.machine.deterministic and self.machine.gradient_model.deterministic:
            self.climb = _Climb(self.machine, labels, target, iterations, self.patience, self.generator)

    def __call__(self, images: Tensor) -> Tensor:
        if not images.requires_grad or self.climb is None:
            return self._logits(images)
        absent = self.climb.absent + 0 * images.sum()
        live = self.climb.live.clone()
        if not live.any():
            return absent
        own = self._logits(images[live])
        self.climb.step(images[live].detach(), own.detach())
        return absent.to(own).index_put((live,), own)

    def _logits(self, images: Tensor) -> Tensor:
        if images.requires_grad:
            images.register_hook(self._look)
        return unrolled(self.machine.gradient_model.answering, images, self.unroll, self.generator).logits

    def _look(self, gradient: Tensor):
        self.gradients += len(gradient)
        self.flat += int((gradient.flatten(1).abs().amax(1) == 0).sum())

    def zeros(self, batch: int) -> Tensor:
        """(B,) fraction of zero gradients, a mean over the batch."""
        return torch.full((batch,), self.flat / max(self.gradients, 1))


class _APGD(APGDAttack):
    """Whose model hears of each climb as it begins."""

    y_target: Tensor | None = None

    def attack_single_run(self, x: Tensor, y: Tensor, x_init: Tensor | None = None) -> tuple[Tensor, ...]:
        self.model.begin(y, self.y_target, self.n_iter)
        return super().attack_single_run(x, y, x_init)


class _TargetedAPGD(_APGD, APGDAttack_targeted):
    """The same, each climb towards one class."""


class AutoAttack(Attack):
    """The members of the settings' ensemble, in five times the iterations of PGD."""

    code, version = "autoattack", 8

    @property
    def black_box(self) -> str:
        return f"square_{self.norm}"

    def attempts(self, machine: Machine, strength: float, settings: AttackSettings) -> list[Attempt]:
        unroll = unroll_of(machine, settings)
        others = {"deepfool": DeepFool(self.norm, strength, unroll, votes=settings.votes),
                  "square": Square(self.norm, strength, settings.queries, settings.reads(machine),
                                   patience=settings.patience)}
        reads = 1 if machine.gradient_model.deterministic else settings.eot
        name = settings.ensemble or ("standard" if machine.deterministic else "rand")
        return [others.get(kind) or LibraryAttack(kind, self.norm, strength, unroll, 5 * settings.iterations, reads,
                                                  settings.patience)
                for kind in _possible(name, machine.graph.classes)]


register_attack(AutoAttack("autoattack_l2", "l2"))
register_attack(AutoAttack("autoattack_linf", "linf"))


def _possible(name: Ensemble, classes: int) -> list[str]:
    """The members that rank no more classes than there are."""
    kinds = ("apgd-dlr" if kind == "apgd-t" and classes < 4 else kind for kind in MEMBERS[name])
    return [kind for kind in kinds if kind != "apgd-dlr" or classes > 2]
