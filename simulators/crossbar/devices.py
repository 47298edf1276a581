"""Device models: what happens to a conductance between the compiler's target and a read.

    target --program--> programmed --drift--> drifted --slow 1/f--> what a relaxation finds, + fresh noise a read

Conductances g are in microsiemens, times in seconds, x = g / g_max. A model has no state: what is drawn once per chip
and what is drawn at every read is decided by who calls it, with which generator.
"""

import math
from abc import ABC
from dataclasses import dataclass
from typing import ClassVar

import torch

from mapping.crossbar import G_MAX_US

_X_MIN = 1e-9


@dataclass(frozen=True)
class Device(ABC):
    """A device without any error; a model overrides the causes that its data cover. All tensors share one shape."""

    g_max_us: float

    def program(self, target_us, generator):
        """Conductance after programming, drawn around its target."""
        return target_us

    def drift(self, programmed_us, target_us, age_s: float, generator):
        """Conductance at an age, drift exponents drawn for the targets."""
        return programmed_us

    def slow_sigma_us(self, drifted_us, programmed_us, age_s: float, relaxation_s: float):
        """Standard deviation of the 1/f noise that stays the same during one relaxation."""
        return torch.zeros_like(drifted_us)

    def fresh_sigma_us(self, drifted_us, programmed_us, relaxation_s: float):
        """Standard deviation of the 1/f noise that a read finds anew."""
        return torch.zeros_like(drifted_us)


@dataclass(frozen=True)
class Ideal(Device):
    """Keeps exactly what it is told."""

    g_max_us: float = G_MAX_US["ideal"]


@dataclass(frozen=True)
class PCM(Device):
    """Phase-change memory after iterative programming.

        sigma_prog = c_0 + c_1 x + c_2 x^2,    g_prog = max(0, N(g_target, sigma_prog))                   (1)
        nu = |N(clip(-.0155 ln x + .0244, .049, .1), clip(-.0125 ln x - .0059, .008, .045))|               (2)
        g(t) = g_prog ((t + t_0) / t_0)^-nu                                                                (3)
        q = min(.2, .0088 / max(x_prog^.65, 1e-3))                                                         (4)
        var_1/f = (g q)^2 ln((t + t_0 + t_read) / (2 t_read))
                = (g q)^2 ln((t + t_0 + t_read) / t_w) + (g q)^2 ln(t_w / (2 t_read))                      (5)
                  slow: frozen over a relaxation         fresh: new at every read

    x is the target's in (1) and (2), the programmed conductance's in (4); t counts from t_0 after programming;
    t_w is the duration of a relaxation.

    Source: Nandakumar et al., ICECS 2019, with the coefficients of aihwkit's PCMLikeNoiseModel. The published variance
    is that of all noise since programming; (5) splits it at t_w.
    """

    g_max_us: float = G_MAX_US["pcm"]
    t0_s: float = 20.0
    t_read_s: float = 250e-9
    programming_us: ClassVar[tuple[float, ...]] = (0.26348, 1.9650, -1.1731)

    def programming_sigma_us(self, target_us):
        """sigma_prog of equation (1); the coefficients hold at g_max = 25 uS and scale with it."""
        x = target_us / self.g_max_us
        return sum(c * x**n for n, c in enumerate(self.programming_us)) * (self.g_max_us / 25.0)

    def program(self, target_us, generator):
        noise = _normal_like(target_us, generator)
        return (target_us + self.programming_sigma_us(target_us) * noise).clamp(min=0)

    def drift_exponents(self, target_us, generator):
        """nu of equation (2)."""
        log_x = (target_us / self.g_max_us).clamp(min=_X_MIN).log()
        mean = (-0.0155 * log_x + 0.0244).clamp(0.049, 0.1)
        spread = (-0.0125 * log_x - 0.0059).clamp(0.008, 0.045)
        return (mean + spread * _normal_like(target_us, generator)).abs()

    def drift(self, programmed_us, target_us, age_s, generator):
        return programmed_us * ((age_s + self.t0_s) / self.t0_s) ** -self.drift_exponents(target_us, generator)

    def slow_sigma_us(self, drifted_us, programmed_us, age_s, relaxation_s):
        elapsed = age_s + self.t0_s + self.t_read_s
        return drifted_us * self._q(programmed_us) * math.sqrt(math.log(elapsed / relaxation_s))

    def fresh_sigma_us(self, drifted_us, programmed_us, relaxation_s):
        return drifted_us * self._q(programmed_us) * math.sqrt(math.log(relaxation_s / (2 * self.t_read_s)))

    def _q(self, programmed_us):
        """Relative 1/f amplitude, equation (4)."""
        return (0.0088 / (programmed_us / self.g_max_us).pow(0.65).clamp(min=1e-3)).clamp(max=0.2)


DEVICES: dict[str, Device] = {"ideal": Ideal(), "pcm": PCM()}


def _normal_like(tensor, generator):
    return torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype, device=tensor.device)
