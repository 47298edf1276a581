"""An attack of one's own, as a function or a class.

    @attack(norm="linf", access="black")
    def shade(machine, images, labels, eps, generator):
        return (images + eps).clamp(0, 1)

is the threat `shade@EPS` from then on. What it returns is checked as that of any attack, and the keys of its cells hold
the file that it stands in (`ep_hw.versions`).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, Literal, TypeVar

from torch import Generator, Tensor

from ep_hw.threats.attacks.attempt import Attempt, Candidate
from ep_hw.threats.attacks.settings import AttackSettings
from ep_hw.threats.definitions import Attack, Norm
from ep_hw.threats.registry import register_attack
from mapping.errors import Refusal, running
from simulators.machine import Machine

Made = Tensor | Candidate
F = TypeVar("F", bound=Callable)
ACCESS = {"white": "white box", "black": "black box"}


@dataclass(frozen=True, eq=False)
class OwnAttempt(Attempt):
    """One run of a user's attack.

    Attributes:
        name: of the attack.
        make: (machine, images, labels, generator) -> images or a `Candidate`.
    """

    name: str
    make: Callable[[Machine, Tensor, Tensor, Generator], Made]

    def run(self, machine: Machine, images: Tensor, labels: Tensor, generator: Generator) -> Candidate:
        with running("the attack fails", where=self.name):
            made = self.make(machine, images, labels, generator)
        none = images.new_zeros(len(images))
        return made if isinstance(made, Candidate) else Candidate(made, none, none)

    def __str__(self):
        return self.name


@dataclass(frozen=True)
class OwnBlackBox(OwnAttempt):
    """The same without gradients."""

    uses_gradients: ClassVar[bool] = False


@dataclass(frozen=True)
class OwnAttack(Attack):
    """A user's attack.

    Attributes:
        made_by: the function or class, see `attack`.
    """

    made_by: Callable = field(kw_only=True)

    version: ClassVar[int] = 2

    @property
    def maker(self) -> Callable:
        """See `Attack`."""
        return self.made_by

    def attempts(self, machine: Machine, strength: float, settings: AttackSettings) -> list[Attempt]:
        if isinstance(self.made_by, type):
            return [self._attempt(self.made_by(strength))]
        return [self._attempt(partial(_called, self.made_by, strength))]

    def _attempt(self, make: Callable) -> Attempt:
        return (OwnAttempt if self.access == "white box" else OwnBlackBox)(self.name, make)


def _called(function: Callable, eps: float, machine: Machine, images: Tensor, labels: Tensor,
            generator: Generator) -> Made:
    return function(machine, images, labels, eps, generator)


def attack(*, norm: Norm, access: Literal["white", "black"]) -> Callable[[F], F]:
    """Let threats name the decorated function or class, as `NAME@EPS`.

    A function is called with (machine, images, labels, eps, generator), a class is made with eps and then called with
    (machine, images, labels, generator). images (B, C, H, W) in [0, 1] and labels (B,) are those that the machine gets
    right; back come images within [0, 1] and within eps of them in the norm, or a
    `ep_hw.threats.attacks.Candidate` that also counts queries and zero gradients. A machine may be noisy: what it reads
    draws from the generator, `machine.relax(images, generator=generator)`.

    Args:
        norm: "l2" or "linf", in which eps counts.
        access: "white" for attacks that use gradients or states of the machine, "black" for those that see outputs.

    Raises:
        Refusal: another norm or access, or a name that is taken.
    """
    if norm not in ("l2", "linf") or access not in ACCESS:
        raise Refusal("not an attack", where="@attack", got=f"norm={norm!r}, access={access!r}",
                      allowed='norm "l2" or "linf", access "white" or "black"', remedy="correct the plug-in")

    def register(made_by: F) -> F:
        kind = type("OwnAttack", (OwnAttack,), {"code": made_by.__name__, "access": ACCESS[access]})
        register_attack(kind(made_by.__name__, norm, made_by=made_by))
        return made_by

    return register
