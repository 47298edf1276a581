"""Device models: what happens to a conductance between the compiler's target and a read.

    target --program--> programmed --drift--> drifted --slow 1/f--> what a relaxation finds, + fresh noise a read

Conductances g are in microsiemens, times in seconds, x = g / g_max. A model has no state and draws nothing: the
standard normals of a chip come from who calls it, once a chip. A technology of your own is one frozen dataclass:

    @dataclass(frozen=True)
    class Flash(Device):
        g_max_us: float = 10.0
        relative: float = 0.02

        def programming_sigma_us(self, target_us):
            return self.relative * target_us

    program = mapping.compile(net.lower(), "crossbar:generic[g_max_us=10]")
    machine = CrossbarMachine(program, chip=program_chip(program, chip_seed=3, model=Flash()))
"""

from abc import ABC
from dataclasses import dataclass
from typing import NamedTuple

import torch

from mapping.errors import Refusal


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

    def programming_sigma_us(self, target_us):
        """Standard deviation of the conductance around its target."""
        return torch.zeros_like(target_us)

    def program(self, target_us, frozen: Frozen):
        """Conductance after programming, never negative."""
        return (target_us + self.programming_sigma_us(target_us) * frozen.programming).clamp(min=0)

    def drift(self, programmed_us, target_us, age_s: float, frozen: Frozen):
        """Conductance at an age."""
        return programmed_us

    def slow_sigma_us(self, drifted_us, programmed_us, age_s: float, relaxation_s: float):
        """Standard deviation of the noise that stays the same during one relaxation."""
        return torch.zeros_like(drifted_us)

    def fresh_sigma_us(self, drifted_us, programmed_us, relaxation_s: float):
        """Standard deviation of the noise that a read finds anew."""
        return torch.zeros_like(drifted_us)


@dataclass(frozen=True)
class Ideal(Device):
    """Keeps exactly what it is told."""


@dataclass(frozen=True)
class Generic(Device):
    """Normal errors: sigma_prog = additive g_max + proportional g;  sigma_fresh = read_noise g."""

    additive: float = 0.0
    proportional: float = 0.0
    read_noise: float = 0.0

    def programming_sigma_us(self, target_us):
        return self.additive * self.g_max_us + self.proportional * target_us

    def fresh_sigma_us(self, drifted_us, programmed_us, relaxation_s):
        return self.read_noise * drifted_us


def polynomial(coefficients, x):
    """c_0 + c_1 x + c_2 x^2 + ... by Horner's rule."""
    total = torch.zeros_like(x)
    for c in reversed(coefficients):
        total = total * x + c
    return total
