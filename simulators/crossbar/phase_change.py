"""Phase-change memory: programming error, drift as a power of time, 1/f noise that grows with the age.

    sigma_prog = (c_0 + c_1 x + c_2 x^2 + ...) uS,    g_prog = max(0, g_target + sigma_prog n)              (1)
    nu = |nu_mean(x) + nu_spread(x) n'|,    g(t) = g_prog ((t + t_0) / t_0)^-nu                               (2)
    var_1/f = (g q)^2 ln((t + t_0 + t_read) / (2 t_read))
            = (g q)^2 ln((t + t_0 + t_read) / t_w) + (g q)^2 ln(t_w / (2 t_read))                             (3)
              slow: frozen over a relaxation         fresh: new at every read

x is the target's in (1) and (2), the programmed conductance's in q(x); n, n' are the device's own standard normals; t
counts from t_0 after programming; t_w is the duration of a relaxation.

Source: the presets name theirs (mapping/devices.toml). The published variance is that of all noise since programming;
(3) splits it at t_w.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from simulators.crossbar.devices import Device, Frozen, polynomial

_X_MIN = 1e-9


@dataclass(frozen=True)
class LogCurve:
    """clip(log_0 + log_1 ln x, limits) below `border`, a polynomial in x from there on."""

    log: tuple[float, float]
    limits: tuple[float, float]
    border: float = math.inf
    polynomial: tuple[float, ...] = ()

    def __call__(self, x: Tensor) -> Tensor:
        low = (self.log[0] + self.log[1] * x.clamp(min=_X_MIN).log()).clamp(*self.limits)
        return torch.where(x < self.border, low, polynomial(self.polynomial, x))


@dataclass(frozen=True)
class PowerCurve:
    """min(most, factor x^exponent)."""

    factor: float
    exponent: float
    most: float

    def __call__(self, x: Tensor) -> Tensor:
        return (self.factor * x.clamp(min=_X_MIN).pow(self.exponent)).clamp(max=self.most)


_NONE = LogCurve((0.0, 0.0), (0.0, 0.0))   # no drift, no noise


@dataclass(frozen=True)
class PhaseChange(Device):
    """Equations (1) to (3).

    Attributes:
        t0_s: when drift is first read, after programming.
        t_read_s: duration of a read.
        programming: c_n of (1), microsiemens.
        nu_mean: function of x.
        nu_spread: function of x.
        noise: q, function of x.
    """

    t0_s: float = 0.0
    t_read_s: float = 0.0
    programming: tuple[float, ...] = ()
    nu_mean: LogCurve = _NONE
    nu_spread: LogCurve = _NONE
    noise: LogCurve | PowerCurve = _NONE

    @classmethod
    def of(cls, nu_mean: dict, nu_spread: dict, noise: dict, **constants) -> "PhaseChange":
        """From a preset's constants, each curve a table of its fields."""
        q = PowerCurve(**noise) if "factor" in noise else LogCurve(**noise)
        return cls(nu_mean=LogCurve(**nu_mean), nu_spread=LogCurve(**nu_spread), noise=q, **constants)

    def programming_sigma_us(self, target_us: Tensor) -> Tensor:
        return polynomial(self.programming, target_us / self.g_max_us)

    def drift_exponents(self, target_us: Tensor, normal: Tensor) -> Tensor:
        """nu of equation (2)."""
        x = target_us / self.g_max_us
        return (self.nu_mean(x) + self.nu_spread(x) * normal).abs()

    def drift(self, programmed_us: Tensor, target_us: Tensor, age_s: float, frozen: Frozen) -> Tensor:
        return programmed_us * ((age_s + self.t0_s) / self.t0_s) ** -self.drift_exponents(target_us, frozen.ageing)

    def slow_sigma_us(self, drifted_us: Tensor, programmed_us: Tensor, age_s: float, relaxation_s: float) -> Tensor:
        elapsed = age_s + self.t0_s + self.t_read_s
        return drifted_us * self._q(programmed_us) * math.sqrt(math.log(elapsed / relaxation_s))

    def fresh_sigma_us(self, drifted_us: Tensor, programmed_us: Tensor, relaxation_s: float) -> Tensor:
        return drifted_us * self._q(programmed_us) * math.sqrt(max(math.log(relaxation_s / (2 * self.t_read_s)), 0.0))

    def _q(self, programmed_us: Tensor) -> Tensor:
        """Relative 1/f amplitude."""
        return self.noise(programmed_us / self.g_max_us)
