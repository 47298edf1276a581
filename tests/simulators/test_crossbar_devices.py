"""Device physics against the published check values, and the laws of the 1/f split."""

import math

import pytest
import torch

from simulators.crossbar.devices import PCM, Ideal

DRAWS = 200_000
HOUR, DAY, YEAR = 3600.0, 86400.0, 3.15e7
T_W = 1e-3


def chips(device, age_s, seed=0, x=0.5, fresh=True):
    """Conductances of many devices with one target, at an age, with slow and fresh 1/f noise."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.full((DRAWS,), x * device.g_max_us, dtype=torch.float64)
    programmed = device.program(target, generator)
    drifted = device.drift(programmed, target, age_s, generator)
    slow = device.slow_sigma_us(drifted, programmed, age_s, T_W)
    fast = device.fresh_sigma_us(drifted, programmed, T_W) if fresh else torch.zeros_like(slow)
    return drifted + (slow**2 + fast**2).sqrt() * torch.randn(DRAWS, generator=generator, dtype=torch.float64)


def test_programming_error_at_half_conductance():
    device = PCM()
    target = torch.full((DRAWS,), 12.5)
    programmed = device.program(target, torch.Generator().manual_seed(1))
    assert device.programming_sigma_us(target[:1]).item() == pytest.approx(0.26348 + 1.9650 / 2 - 1.1731 / 4)
    assert programmed.std().item() == pytest.approx(0.9527, rel=4 / math.sqrt(2 * DRAWS))
    assert programmed.mean().item() == pytest.approx(12.5, abs=4 * 0.952 / math.sqrt(DRAWS))


@pytest.mark.parametrize("x", [0.0, 0.01, 0.2, 1.0])
def test_programming_never_makes_a_conductance_negative(x):
    programmed = PCM().program(torch.full((DRAWS,), 25.0 * x), torch.Generator().manual_seed(2))
    assert programmed.min() >= 0


def test_drift_exponents_at_half_conductance():
    nu = PCM().drift_exponents(torch.full((DRAWS,), 12.5), torch.Generator().manual_seed(3))
    assert nu.mean().item() == pytest.approx(0.0490, abs=4 * 0.008 / math.sqrt(DRAWS))
    assert nu.std().item() == pytest.approx(0.0080, rel=4 / math.sqrt(2 * DRAWS))


@pytest.mark.parametrize(("x", "mean", "spread"), [(1e-3, 0.1, 0.045), (0.05, 0.07083, 0.03155), (1.0, 0.049, 0.008)])
def test_drift_exponents_are_clipped_at_both_ends(x, mean, spread):
    """-.0155 ln .05 + .0244 = .07083 and -.0125 ln .05 - .0059 = .03155; outside the data they stay at the ends."""
    nu = PCM().drift_exponents(torch.full((DRAWS,), 25.0 * x), torch.Generator().manual_seed(4))
    folded = math.erf(mean / spread / math.sqrt(2)) * mean + spread * math.sqrt(2 / math.pi) * math.exp(
        -(mean / spread) ** 2 / 2)
    assert nu.mean().item() == pytest.approx(folded, abs=5 * spread / math.sqrt(DRAWS) + 1e-5)


@pytest.mark.parametrize(("age", "mean", "spread"), [(HOUR, 9.699, 1.057), (DAY, 8.312, 1.028), (YEAR, 6.252, 0.991)])
def test_conductance_after_an_hour_a_day_a_year(age, mean, spread):
    """The published spreads hold all 1/f noise since programming: slow and fresh."""
    g_us = chips(PCM(), age)
    assert g_us.mean().item() == pytest.approx(mean, abs=0.01)
    assert g_us.std().item() == pytest.approx(spread, rel=0.01)
    assert chips(PCM(), age, fresh=False).std() < g_us.std()


def test_slow_and_fresh_noise_add_to_the_published_variance_however_they_are_split():
    device, g = PCM(), torch.tensor([0.3, 5.0, 20.0])
    published = math.log((HOUR + device.t0_s + device.t_read_s) / (2 * device.t_read_s))
    q = torch.tensor([0.0088 / (v / 25) ** 0.65 for v in g.tolist()]).clamp(max=0.2)
    for t_w in (1e-5, 1e-3, 1.0):
        total = device.slow_sigma_us(g, g, HOUR, t_w) ** 2 + device.fresh_sigma_us(g, g, t_w) ** 2
        assert torch.allclose(total, (g * q) ** 2 * published, rtol=1e-5)
    share = (device.fresh_sigma_us(g, g, T_W) ** 2 / ((g * q) ** 2 * published))[1].item()
    assert share == pytest.approx(1 / 3, abs=0.01)


def test_age_zero_has_no_drift():
    g = torch.tensor([1.0, 10.0])
    assert torch.equal(PCM().drift(g, g, 0.0, torch.Generator().manual_seed(0)), g)


def test_an_ideal_device_keeps_what_it_is_told():
    device, g = Ideal(), torch.rand(100) * 25
    assert device.program(g, None) is g
    assert device.drift(g, g, YEAR, None) is g
    assert not device.slow_sigma_us(g, g, YEAR, T_W).any()
    assert not device.fresh_sigma_us(g, g, T_W).any()
