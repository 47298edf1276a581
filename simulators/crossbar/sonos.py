"""Charge-trapping transistors (SONOS), read as conductances at a fixed voltage. Source: mapping/devices.toml."""

from dataclasses import dataclass

import torch
from torch import Tensor

from simulators.crossbar.devices import Device, Frozen, polynomial
from simulators.crossbar.resistive import interpolate

_NA_PER_US_V = 1e3


@dataclass(frozen=True)
class Sonos(Device):
    """Currents I = g V_read drift by a shift and spread by one standard normal n a device:

        I(t) = max(0, J + A(t) (1 - exp(-J / B(t))) n),    J = I_target + sum_m p_m(t) I_target^m             (1)
        sigma_read = a (1 - exp(-I / b)),    new at every read                                               (2)

    A, B and p_m are linear in time between the measured days; at t = 0 the shift is zero and (1) is the programming
    error. All in nA.
    """

    read_v: float = 1.0
    ages_s: tuple[float, ...] = ()
    amplitudes_na: tuple[float, ...] = ()
    scales_na: tuple[float, ...] = ()
    shifts: tuple[tuple[float, ...], ...] = ()
    noise_na: tuple[float, float] = (0.0, 1.0)

    def programming_sigma_us(self, target_us: Tensor) -> Tensor:
        return self._spread(target_us, self.amplitudes_na[0], self.scales_na[0])

    def drift(self, programmed_us: Tensor, target_us: Tensor, age_s: float, frozen: Frozen) -> Tensor:
        target_na = target_us * self.read_v * _NA_PER_US_V
        shifts = [polynomial(p, target_na.double()).to(target_us) for p in self.shifts]
        moved_us = target_us + interpolate(age_s, self.ages_s, shifts) / (self.read_v * _NA_PER_US_V)
        amplitude, scale = (interpolate(age_s, self.ages_s, v) for v in (self.amplitudes_na, self.scales_na))
        return (moved_us + self._spread(moved_us, amplitude, scale) * frozen.programming).clamp(min=0)

    def fresh_sigma_us(self, drifted_us: Tensor, programmed_us: Tensor, relaxation_s: float) -> Tensor:
        return self._spread(drifted_us, *self.noise_na)

    def _spread(self, g_us: Tensor, amplitude_na: float, scale_na: float) -> Tensor:
        """amplitude (1 - exp(-I / scale)) as a conductance; zero where a shift has made the current negative."""
        per_us = self.read_v * _NA_PER_US_V
        return amplitude_na / per_us * (1 - torch.exp(-g_us * per_us / scale_na)).clamp(min=0)
