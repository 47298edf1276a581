"""Where an attacker's image gradient comes from.

Unrolled:  backpropagation through T synchronous steps from the zero state, on the machine's differentiable model
           (straight-through rounding, the chip's frozen errors).
Nudged:    the EP-type gradient, measured on the machine from states alone; exact as beta -> 0:

    dL/dx = -F_1(s_1(+beta) - s_1(-beta)) / (2 beta scale)                                      (9)

           with F_1 the first layer's feedback at the image's own winners.
The fixed point's own gradient is the weaker attack (Yang et al. 2022), so neither is ever used alone.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from mapping.errors import Refusal
from simulators.machine import Machine
from simulators.reference import FloatSubstrate
from simulators.relaxation import Nudge


class Gradient(ABC):
    """A source of dL/dx; `str()` is its name in results."""

    @abstractmethod
    def __call__(self, machine: Machine, images, labels, generator, draws: int = 1):
        """Gradient of the cross-entropy with respect to the images, (B, C, H, W), a mean over `draws` of the noise."""


@dataclass(frozen=True)
class Unrolled(Gradient):
    """Backpropagation through `steps` synchronous iterations."""

    steps: int

    def __call__(self, machine, images, labels, generator, draws=1):
        return sum(self._draw(machine.gradient_model, images, labels, generator) for _ in range(draws)) / draws

    def _draw(self, model, images, labels, generator):
        images = images.detach().requires_grad_()
        with torch.enable_grad():
            end = model.relax(images, steps=self.steps, generator=generator, schedule="synchronous")
            loss = F.cross_entropy(end.logits, labels, reduction="sum")
            return torch.autograd.grad(loss, images)[0]

    def __str__(self):
        return f"bptt@{self.steps}"


@dataclass(frozen=True)
class Nudged(Gradient):
    """Equation (9) from one free phase and `draws` nudged pairs of `steps` time steps, averaged.

    `beta` is lowered to the strongest nudge that the machine takes.
    """

    beta: float
    steps: int = 20

    def __call__(self, machine, images, labels, generator, draws=1):
        target = F.one_hot(labels, machine.graph.classes).to(images.dtype)
        free = machine.relax(images, generator=generator)
        contrast = torch.zeros_like(free.states[0])
        strength = min(self.beta, machine.largest_beta)
        for beta in (strength, -strength) * draws:
            end = machine.relax(images, self.steps, Nudge(target, beta), generator, states=free.states)
            contrast += end.states[0] / (2 * beta * draws)
        return -input_feedback(machine, images, contrast)

    def __str__(self):
        return f"ep@{self.beta:g}"


def input_feedback(machine: Machine, images, z):
    """F_1(z) in units of the image: unpool at the image's winners, transposed convolution, normalisation."""
    with torch.no_grad():
        digital = FloatSubstrate.of(machine.graph, images.device, images.dtype)
        winners = digital.arms[0].forward(digital.encode(images))[1]
        return digital.arms[0].backward(z, winners) / digital.scale


def parse_gradient(text: str) -> Gradient:
    """`bptt@10` or `ep@0.5`.

    Raises:
        Refusal: anything else.
    """
    kind, _, value = text.partition("@")
    try:
        if kind == "bptt" and int(value) > 0:
            return Unrolled(int(value))
        if kind == "ep" and float(value) > 0:
            return Nudged(float(value))
    except ValueError:
        pass
    raise Refusal("unknown gradient", where="gradient", got=repr(text), allowed="bptt@STEPS, ep@BETA",
                  remedy="write it as bptt@10 or ep@0.5")
