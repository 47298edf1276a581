"""Resistive memories (ReRAM): errors normal around the target, which spread with age. Sources: mapping/devices.toml."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from simulators.crossbar.devices import Device, Frozen, polynomial

V = TypeVar("V", float, Tensor)


@dataclass(frozen=True)
class Polynomial(Device):
    """sigma_prog = max(0, c_0 + c_1 g + ...), g in microsiemens; nothing is known of later times."""

    programming: tuple[float, ...] = ()

    def programming_sigma_us(self, target_us: Tensor) -> Tensor:
        return polynomial(self.programming, target_us).clamp(min=0)


@dataclass(frozen=True)
class Spreading(Device):
    """One standard normal n a device, its sigma growing with age:

        g(t) = max(0, g_target + sigma(x, t) n),    sigma(x, t_i) = c_i0 + c_i1 x + ...                     (1)

    linear in ln t between the measured ages t_i. As programmed means at the first of them.
    """

    ages_s: tuple[float, ...] = ()
    sigmas: tuple[tuple[float, ...], ...] = ()

    def programming_sigma_us(self, target_us: Tensor) -> Tensor:
        return self.sigma_us(target_us, self.ages_s[0])

    def drift(self, programmed_us: Tensor, target_us: Tensor, age_s: float, frozen: Frozen) -> Tensor:
        return (target_us + self.sigma_us(target_us, age_s) * frozen.programming).clamp(min=0)

    def sigma_us(self, target_us: Tensor, age_s: float) -> Tensor:
        """sigma(x, t) of equation (1)."""
        x = target_us / self.g_max_us
        curves = [polynomial(c, x).clamp(min=0) for c in self.sigmas]
        return interpolate(math.log(age_s), [math.log(age) for age in self.ages_s], curves)


@dataclass(frozen=True)
class Relaxing(Device):
    """Programmed by write and verify, then relaxing, with 1/f noise:

        sigma_prog = c_0 + c_1 g                                                                             (1)
        g(t) = g_prog + m ln t + (r_0 + r_1 ln t) n',    t >= 1 s                                            (2)
        var_1/f = (k log10 g)^2 ln((t + t_read) / (2 t_read))
                = (k log10 g)^2 [ln((t + t_read) / t_w)  +  ln(t_w / (2 t_read))]                            (3)
                                 slow: frozen               fresh: new at every read

    g in microsiemens, kept between g_min and g_max after all noise, as in the source; t_w is the duration of a
    relaxation.
    """

    programming: tuple[float, ...] = ()
    shift: float = 0.0
    spread: tuple[float, float] = (0.0, 0.0)
    noise: float = 0.0
    t_read_s: float = 0.0

    @property
    def limits_us(self) -> tuple[float, float]:
        return self.g_min_us, self.g_max_us

    def programming_sigma_us(self, target_us: Tensor) -> Tensor:
        return polynomial(self.programming, target_us)

    def drift(self, programmed_us: Tensor, target_us: Tensor, age_s: float, frozen: Frozen) -> Tensor:
        log_t = math.log(age_s)
        moved = self.shift * log_t + (self.spread[0] + self.spread[1] * log_t) * frozen.ageing
        return (programmed_us + moved).clamp(min=0)

    def slow_sigma_us(self, drifted_us: Tensor, programmed_us: Tensor, age_s: float, relaxation_s: float) -> Tensor:
        return self._amplitude(drifted_us) * math.sqrt(max(math.log((age_s + self.t_read_s) / relaxation_s), 0.0))

    def fresh_sigma_us(self, drifted_us: Tensor, programmed_us: Tensor, relaxation_s: float) -> Tensor:
        return self._amplitude(drifted_us) * math.sqrt(max(math.log(relaxation_s / (2 * self.t_read_s)), 0.0))

    def _amplitude(self, drifted_us: Tensor) -> Tensor:
        return self.noise * drifted_us.clamp(min=1).log10()


def interpolate(t: float, knots: Sequence[float], values: Sequence[V]) -> V:
    """Values at `t`, linear between those at increasing `knots`; t lies between the first and the last."""
    n = max(1, next((i for i, knot in enumerate(knots) if t <= knot), len(knots) - 1))
    share = (t - knots[n - 1]) / (knots[n] - knots[n - 1])
    return values[n - 1] * (1 - share) + values[n] * share
