"""Where an attacker's image gradient comes from.

Unrolled:  backpropagation through T synchronous steps from the zero state, on the machine's differentiable model
           (straight-through rounding; of a noisy chip its frozen errors, and what it is on average); or through that
           model's own relaxation, which is what a machine computes that answers before it has settled.
Averaged:  the same through reads with their noise, a mean over draws of it (Athalye et al. 2018).
Adjoint:   implicit differentiation at the machine's free equilibrium s, by K transposed products with the Jacobian of
           one synchronous step s' = G(s, x) of that model:

    lambda <- G_s^T (l + lambda),    dL/dx = G_x^T (l + lambda),    l = dL/ds',  lambda = 0 at first         (8)

Nudged:    the EP-type gradient, measured on the machine from states alone; exact as beta -> 0:

    dL/dx = -F_1(s_1(+beta) - s_1(-beta)) / (2 beta scale gamma_2 .. gamma_L)                   (9)

           with F_1 the first layer's feedback at the image's own winners, and the feedback gains of mapping.graph (2).
AutoPGD:   the gradient of Unrolled, climbed by Auto-PGD (attacks.apgd), whose stride shrinks where the loss no longer
           rises.
The fixed point's own gradient is the weaker attack (Yang et al. 2022), so no one of them is ever used alone.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from mapping.errors import Refusal
from mapping.loihi.integers import LOSSES
from mapping.names import suggesting
from mapping.options import number, spell_number, whole
from simulators.machine import Equilibrium, Machine
from simulators.reference import FloatSubstrate
from simulators.relaxation import Nudge

MOST_STEPS = 100_000   # of a gradient: time steps, iterations or pairs
WEAKEST_NUDGE, STRONGEST_NUDGE = 1e-6, 1e6
OWN = "own"   # in a gradient's name: through the machine's own relaxation
AT_ONCE = 256   # images that draws of the noise fill a batch up to


class Slope(NamedTuple):
    """What an ascent learns of its images at once.

    Attributes:
        gradient: (B, C, H, W), of the loss with respect to the images, a mean over draws of the noise.
        logits: (B, K) that the gradient's own passes ended with, alike: not those of the machine at rest.
    """

    gradient: Tensor
    logits: Tensor

    def at(self, which: Tensor) -> "Slope":
        """Of some of the images."""
        return Slope(self.gradient[which], self.logits[which])


class Gradient(ABC):
    """A source of dL/dx; `str()` is its name in results, and `parse_gradient` reads it.

    Attributes:
        loss: "cross_entropy" or "margin".
    """

    loss: str

    @abstractmethod
    def slope(self, machine: Machine, images: Tensor, labels: Tensor, generator: Generator | None,
              draws: int = 1) -> Slope:
        """The gradient at a batch of images, a mean over `draws` of the noise, and the logits that it met."""

    def __call__(self, machine: Machine, images: Tensor, labels: Tensor, generator: Generator | None,
                 draws: int = 1) -> Tensor:
        """Gradient of the loss with respect to the images, (B, C, H, W), a mean over `draws` of the noise."""
        return self.slope(machine, images, labels, generator, draws).gradient

    @abstractmethod
    def with_loss(self, loss: str) -> "Gradient":
        """The same gradient of another loss."""

    @property
    def _suffix(self) -> str:
        return "" if self.loss == "cross_entropy" else f":{self.loss}"


def unrolled(model: Machine, images: Tensor, steps: int | None, generator: Generator | None,
             states: tuple[Tensor, ...] | None = None) -> Equilibrium:
    """A differentiable model after `steps` synchronous iterations, or, with None, after every step of its own schedule.

    Args:
        model: see `Machine.gradient_model`.
        images: (B, C, H, W).
        steps: synchronous iterations; a feed-forward network makes one pass.
        generator: of read noise.
        states: where to start; zeros if None.
    """
    if not model.has_feedback:
        return model.relax(images, generator=generator)
    schedule = None if steps is None else "synchronous"
    return model.relax(images, steps, generator=generator, states=states, schedule=schedule)


def loss_of(logits: Tensor, labels: Tensor, loss: str) -> Tensor:
    """(B,) cross-entropy, or margin max_{j != y} z_j - z_y (positive where the classifier is wrong)."""
    if loss == "cross_entropy":
        return F.cross_entropy(logits, labels, reduction="none")
    own = F.one_hot(labels, logits.shape[1]).bool()
    return logits.masked_fill(own, -torch.inf).amax(1) - logits[own]


@dataclass(frozen=True)
class Unrolled(Gradient):
    """Backpropagation through `steps` synchronous iterations, or through the `last` of them; None: see `unrolled`."""

    steps: int | None
    loss: str = "cross_entropy"
    last: int | None = None

    def slope(self, machine: Machine, images: Tensor, labels: Tensor, generator: Generator | None,
              draws: int = 1) -> Slope:
        model = self._model(machine)
        return _mean(lambda n: self._draw(model, _times(images, n), labels.repeat(n), generator), len(images),
                     1 if model.deterministic else draws)

    def with_loss(self, loss: str) -> "Unrolled":
        return replace(self, loss=loss)

    def _model(self, machine: Machine) -> Machine:
        return machine.gradient_model

    def _draw(self, model: Machine, images: Tensor, labels: Tensor, generator: Generator | None) -> Slope:
        images, states, steps = images.detach(), None, self.steps
        if steps is not None and self.last is not None:
            first, steps = steps - self.last, self.last
            states = unrolled(model, images, first, generator).states if first else None
        images.requires_grad_()
        with torch.enable_grad():
            end = unrolled(model.answering, images, steps, generator, states)
            loss = loss_of(end.logits, labels, self.loss).sum()
            reached = loss.requires_grad   # not where `last` is less than the layers that an image must pass
            gradient = torch.autograd.grad(loss, images)[0] if reached else torch.zeros_like(images)
        return Slope(gradient, end.logits.detach())

    @property
    def _time(self) -> str:
        return OWN if self.steps is None else str(self.steps)

    def __str__(self):
        return f"bptt@{self._time}{'' if self.last is None else f'x{self.last}'}{self._suffix}"


@dataclass(frozen=True)
class AutoPGD(Unrolled):
    """The same gradient, for an attack that chooses its own strides (threats.attacks.apgd)."""

    def __str__(self):
        return f"apgd@{self._time}{self._suffix}"


@dataclass(frozen=True)
class Averaged(Unrolled):
    """The same gradient through reads of a machine with their noise, where it has any."""

    def _model(self, machine: Machine) -> Machine:
        return machine.gradient_model if machine.deterministic else machine

    def __str__(self):
        return f"eot@{self._time}{self._suffix}"


@dataclass(frozen=True)
class Adjoint(Gradient):
    """`attacks.gradients (8)`; each draw of a noisy machine is one step from the same equilibrium.

    Attributes:
        iterations: products.
        loss: see `Gradient`.
        steps: where the free phase stops, before it has settled: a gradient of the states that an attacker's image
            passes through, at a fraction of the price; None for where it ends.
    """

    iterations: int
    loss: str = "cross_entropy"
    steps: int | None = None

    def slope(self, machine: Machine, images: Tensor, labels: Tensor, generator: Generator | None,
              draws: int = 1) -> Slope:
        rest, model = machine.relax(images, self.steps, generator=generator), machine.gradient_model
        gradient = _mean(lambda n: self._draw(model, _times(images, n), labels.repeat(n),
                                              tuple(_times(s, n) for s in rest.states), generator), len(images),
                         1 if model.deterministic else draws)
        return Slope(gradient.gradient, rest.logits)

    def with_loss(self, loss: str) -> "Adjoint":
        return replace(self, loss=loss)

    def _draw(self, model: Machine, images: Tensor, labels: Tensor, states: tuple[Tensor, ...],
              generator: Generator | None) -> Slope:
        images, *held = (t.detach().requires_grad_() for t in (images, *states))
        with torch.enable_grad():
            end = model.relax(images, 1, generator=generator, states=tuple(held), schedule="synchronous")
            outputs = (loss_of(end.logits, labels, self.loss).sum(), *end.states)
        back: Sequence[Tensor] = [torch.zeros_like(s) for s in held]
        for _ in range(self.iterations):
            back = self._transposed(outputs, held, back)
        return Slope(self._transposed(outputs, [images], back)[0], end.logits.detach())

    def _transposed(self, outputs: tuple[Tensor, ...], inputs: Sequence[Tensor],
                    back: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """G^T (l + back) with respect to `inputs`."""
        ones = torch.ones_like(outputs[0])
        return torch.autograd.grad(outputs, inputs, (ones, *back), retain_graph=True)

    def __str__(self):
        return f"adjoint@{self.iterations}{'' if self.steps is None else f'x{self.steps}'}{self._suffix}"


@dataclass(frozen=True)
class Nudged(Gradient):
    """`attacks.gradients (9)` from one free phase and `pairs` nudged pairs, averaged, however many `draws` are asked.

    Attributes:
        beta: lowered to the strongest nudge that the machine takes.
        loss: see `Gradient`.
        pairs: of a noisy machine; those of a deterministic one are all the same, so it is asked for one.
        steps: time steps of a nudged phase.
        free: of the free phase, where the gradient is as good before all is at rest; None for the machine's own.
    """

    beta: float
    loss: str = "cross_entropy"
    pairs: int = 1
    steps: int = 20
    free: int | None = 30

    def slope(self, machine: Machine, images: Tensor, labels: Tensor, generator: Generator | None,
              draws: int = 1) -> Slope:
        target = F.one_hot(labels, machine.graph.classes).to(images.dtype)
        free = machine.relax(images, self.free, generator=generator)
        strength = min(self.beta, machine.largest_beta)
        felt = math.prod(coupling.feedback_gain for coupling in machine.graph.couplings[1:])
        pairs = 1 if machine.deterministic else self.pairs

        def pull(n: int, beta: float) -> Tensor:
            """n times the states of the first layer, with the error of all logits at `beta`."""
            start = tuple(_times(s, n) for s in free.states)
            nudge = Nudge(target.repeat(n, 1), beta, self.loss)
            return machine.relax(_times(images, n), self.steps, nudge, generator, states=start).states[0] / (
                2 * strength * felt)

        contrast = _mean(lambda n: Slope(pull(n, strength) - pull(n, -strength), _times(free.logits, n)), len(images),
                         pairs).gradient
        return Slope(-input_feedback(machine, images, contrast), free.logits)

    def with_loss(self, loss: str) -> "Nudged":
        return replace(self, loss=loss)

    def __str__(self):
        return f"ep@{spell_number(self.beta)}{'' if self.pairs == 1 else f'x{self.pairs}'}{self._suffix}"


def _mean(draw: Callable[[int], Slope], images: int, draws: int) -> Slope:
    """Mean over `draws` of the noise, as many in a batch as `AT_ONCE` allows.

    Args:
        draw: gives n draws of every image, one batch after the other.
        images: in a batch.
    """
    most = max(1, AT_ONCE // max(1, images))
    parts = [_summed(draw(n), n) for n in (min(most, draws - done) for done in range(0, draws, most))]
    return Slope(*(sum(part, start=torch.zeros(())) / draws for part in zip(*parts)))


def _summed(slope: Slope, draws: int) -> Slope:
    """The sums over what was drawn, (draws B, ...), of each image."""
    return Slope(*(part.unflatten(0, (draws, len(part) // draws)).sum(0) for part in slope))


def _times(batch: Tensor, draws: int) -> Tensor:
    """The batch (B, ...) so many times, one after the other; itself for once."""
    return batch if draws == 1 else batch.repeat(draws, *[1] * (batch.ndim - 1))


def input_feedback(machine: Machine, images: Tensor, z: Tensor) -> Tensor:
    """F_1(z) in units of the image: unpool at the image's winners, transposed convolution, normalisation."""
    with torch.no_grad():
        digital = FloatSubstrate.of(machine.graph, images.device, images.dtype)
        winners = digital.projections[0].forward(digital.encode(images))[1]
        return digital.projections[0].backward(z, winners) / digital.scale


def parse_gradient(text: str) -> Gradient:
    """`bptt@10`, `bptt@70x10` (through the last 10 of 70 steps), `bptt@own` (through the machine's own relaxation),
    `apgd@15`, `apgd@own`, `eot@10` (through noisy reads), `adjoint@100`, `adjoint@10x20` (a free phase of 20 steps),
    `ep@0.5`, `ep@0.5x4` (four pairs).

    Each with `:margin` for the margin loss.

    Raises:
        Refusal: anything else.
    """
    name, colon, loss = text.partition(":")
    kind, _, value = name.partition("@")
    try:
        gradient = _PARSERS[kind](value, loss if colon else LOSSES[0])
        if gradient.loss in LOSSES:
            return gradient
    except (KeyError, ValueError):
        pass
    known, written = (LOSSES, loss) if kind in _PARSERS else (_PARSERS, kind)
    raise Refusal("unknown gradient", where="gradient", got=repr(text), **suggesting(
        written, known, remedy="write it as bptt@10, adjoint@100 or ep@0.5",
        allowed="bptt@STEPS or bptt@STEPSxLAST, adjoint@ITERATIONS or adjoint@ITERATIONSxSTEPS, ep@BETA or "
                "ep@BETAxPAIRS, with :margin or without; apgd@STEPS; eot@STEPS; own for STEPS"))


def _count(text: str) -> int:
    if not 1 <= whole(text) <= MOST_STEPS:
        raise ValueError(text)
    return whole(text)


def _nudged(text: str, loss: str) -> Nudged:
    beta, x, pairs = text.partition("x")
    if not WEAKEST_NUDGE <= number(beta) <= STRONGEST_NUDGE:
        raise ValueError(text)
    return Nudged(number(beta), loss, _count(pairs) if x else 1)


def _adjoint(text: str, loss: str) -> Adjoint:
    iterations, x, steps = text.partition("x")
    return Adjoint(_count(iterations), loss, _count(steps) if x else None)


def _adaptive(text: str, loss: str) -> AutoPGD:
    return AutoPGD(None if text == OWN else _count(text), loss)


def _unrolled(text: str, loss: str) -> Unrolled:
    if text == OWN:
        return Unrolled(None, loss)
    steps, x, last = text.partition("x")
    if x and _count(last) > _count(steps):
        raise ValueError(text)
    return Unrolled(_count(steps), loss, _count(last) if x else None)


def _averaged(text: str, loss: str) -> Averaged:
    return Averaged(None if text == OWN else _count(text), loss)


_PARSERS = {"bptt": _unrolled, "apgd": _adaptive, "eot": _averaged, "adjoint": _adjoint, "ep": _nudged}
