"""A device by what was measured of it, whatever its physics: the model of a user's own numbers.

    sigma_prog(g) = max(0, c_0 + c_1 g + ...), or linear between measured points                            (1)
    g(t) = g_prog ((t + t0) / t0)^-nu,    nu ~ N(exponent, spread), one draw a device                       (2)
    sigma_read(g) = r g, new at every read                                                                  (3)

Conductances g in microsiemens, ages t and t0 in seconds; constants are those of `mapping.crossbar.presets.Measured`.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mapping.crossbar.presets import Curve, Measured
from mapping.fields import read_as
from simulators.crossbar.devices import Device, Frozen, polynomial


@dataclass(frozen=True)
class MeasuredDevice(Device):
    """Equations (1) to (3).

    Attributes:
        measured: their constants.
    """

    measured: Measured = field(default_factory=Measured)

    @classmethod
    def of(cls, g_max_us: float, g_min_us: float = 0.0, **constants: Any) -> "MeasuredDevice":
        """The device of a preset's range and constants."""
        return cls(g_max_us, g_min_us, read_as(Measured, constants))

    def programming_sigma_us(self, target_us: Tensor) -> Tensor:
        own = self.measured.programming
        if isinstance(own, Curve):
            return _between(target_us, own)
        return polynomial(own, target_us).clamp(min=0)

    def drift(self, programmed_us: Tensor, target_us: Tensor, age_s: float, frozen: Frozen) -> Tensor:
        own = self.measured.drift
        if own is None:
            return programmed_us
        nu = own.exponent + own.spread * frozen.ageing
        return programmed_us * (1 + age_s / own.t0_s) ** -nu

    def fresh_sigma_us(self, drifted_us: Tensor, programmed_us: Tensor, relaxation_s: float) -> Tensor:
        return self.measured.read_noise * drifted_us


def _between(g_us: Tensor, curve: Curve) -> Tensor:
    """The curve at each conductance."""
    g, sigma = (torch.tensor(values, dtype=g_us.dtype, device=g_us.device) for values in (curve.g_us, curve.sigma_us))
    n = torch.searchsorted(g, g_us.contiguous()).clamp(1, len(g) - 1)
    share = ((g_us - g[n - 1]) / (g[n] - g[n - 1])).clamp(0, 1)
    return sigma[n - 1] + share * (sigma[n] - sigma[n - 1])
