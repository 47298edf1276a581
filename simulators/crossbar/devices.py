"""Device models: what happens to a conductance between the compiler's target and a read.

    target --program--> programmed --drift--> drifted --slow 1/f--> what a relaxation finds, + fresh noise a read

A device stays within its limits (low, high), where its source clips it once, after all noise. Here frozen errors are
clipped when they have been added up; fresh noise is drawn for whole lines (simulators.crossbar.array), so that a device
takes part in it by the standard deviation that clipping leaves: with n ~ N(0, 1), z = clip(n, a, b),
a = (low - g) / sigma, b = (high - g) / sigma, phi and Phi the density and the distribution of n,

    E z   = phi(a) - phi(b) + a Phi(a) + b (1 - Phi(b)),     sigma_clipped = sigma sqrt(E z^2 - (E z)^2)
    E z^2 = Phi(b) - Phi(a) + a phi(a) - b phi(b) + a^2 Phi(a) + b^2 (1 - Phi(b))                          (1)

What is left out is the mean, sigma E z. Measured: CMO devices written to g_max = 88.2 uS and read after 1 s come to
88.022 +- 0.275 uS, in the source to 88.014 +- 0.271 (with fresh noise that is not clipped 88.022 +- 0.293); PCM devices
of 0.25 uS after 1 h to 0.175 +- 0.199, in the source to 0.177 +- 0.198. Everywhere else the gap is smaller.

Conductances g are in microsiemens, times in seconds, x = g / g_max. A model has no state and draws nothing: the
standard normals of a chip come from who calls it, once a chip. A technology of your own is one frozen dataclass
(docs/extending.md); `program_chip(program, chip_seed, model=...)` writes a chip of it without registering it.
"""

import math
from abc import ABC
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mapping.errors import Refusal

_FAR = 10.0   # standard deviations to a limit that clips nothing


class Frozen(NamedTuple):
    """Standard normals of a chip's devices, in the shape of its conductances: one draw each, kept for all ages."""

    programming: torch.Tensor
    ageing: torch.Tensor


@dataclass(frozen=True)
class Device(ABC):
    """A device without any error; a model overrides the causes that its data cover. All tensors share one shape."""

    g_max_us: float
    g_min_us: float = 0.0

    def __post_init__(self):
        if not 0 <= self.g_min_us < self.g_max_us:
            raise Refusal("not a device", where=f"{type(self).__name__}, g_min_us and g_max_us",
                          got=f"{self.g_min_us:g} and {self.g_max_us:g} uS", allowed="0 <= g_min_us < g_max_us",
                          remedy="correct the conductances")

    @property
    def limits_us(self) -> tuple[float, float]:
        """Lowest and highest conductance that any noise leaves a device at."""
        return 0.0, math.inf

    def programming_sigma_us(self, target_us: Tensor) -> Tensor:
        """Standard deviation of the conductance around its target."""
        return torch.zeros_like(target_us)

    def program(self, target_us: Tensor, frozen: Frozen) -> Tensor:
        """Conductance after programming, never negative."""
        return (target_us + self.programming_sigma_us(target_us) * frozen.programming).clamp(min=0)

    def drift(self, programmed_us: Tensor, target_us: Tensor, age_s: float, frozen: Frozen) -> Tensor:
        """Conductance at an age."""
        return programmed_us

    def slow_sigma_us(self, drifted_us: Tensor, programmed_us: Tensor, age_s: float, relaxation_s: float) -> Tensor:
        """Standard deviation of the noise that stays the same during one relaxation."""
        return torch.zeros_like(drifted_us)

    def fresh_sigma_us(self, drifted_us: Tensor, programmed_us: Tensor, relaxation_s: float) -> Tensor:
        """Standard deviation of the noise that a read finds anew."""
        return torch.zeros_like(drifted_us)


@dataclass(frozen=True)
class Ideal(Device):
    """Keeps exactly the conductance that it was given."""


@dataclass(frozen=True)
class Generic(Device):
    """Normal errors: sigma_prog = additive g_max + proportional g;  sigma_fresh = read_noise g."""

    additive: float = 0.0
    proportional: float = 0.0
    read_noise: float = 0.0

    def programming_sigma_us(self, target_us: Tensor) -> Tensor:
        return self.additive * self.g_max_us + self.proportional * target_us

    def fresh_sigma_us(self, drifted_us: Tensor, programmed_us: Tensor, relaxation_s: float) -> Tensor:
        return self.read_noise * drifted_us


def clipped_sigma_us(g_us: Tensor, sigma_us: Tensor, low_us: float, high_us: float) -> Tensor:
    """sigma_clipped of equation (1), computed in float64 where a limit is near."""
    near = (sigma_us > 0) & ((g_us - low_us < _FAR * sigma_us) | (high_us - g_us < _FAR * sigma_us))
    spread, g, sigma = sigma_us.clone(), g_us[near].double(), sigma_us[near].double()
    a, b = ((low_us - g) / sigma).clamp(min=-_FAR), ((high_us - g) / sigma).clamp(max=_FAR)
    (density_a, below), (density_b, within) = _normal(a), _normal(b)
    first = density_a - density_b + a * below + b * (1 - within)
    second = within - below + a * density_a - b * density_b + a.square() * below + b.square() * (1 - within)
    spread[near] = ((second - first.square()).clamp(min=0).sqrt() * sigma).to(spread)
    return spread


def _normal(x: Tensor) -> tuple[Tensor, Tensor]:
    """Density and distribution of the standard normal."""
    return (-x.square() / 2).exp() / math.sqrt(2 * math.pi), (1 + torch.erf(x / math.sqrt(2))) / 2


def polynomial(coefficients: Sequence[float], x: Tensor) -> Tensor:
    """c_0 + c_1 x + c_2 x^2 + ... by Horner's rule."""
    total = torch.zeros_like(x)
    for c in reversed(coefficients):
        total = total * x + c
    return total
