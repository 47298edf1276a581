"""Device physics against the published check values, and laws that every preset keeps."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch

import mapping
from mapping.crossbar.encoding import store
from mapping.crossbar.presets import PRESETS, load_presets
from mapping.crossbar.program import CrossbarLayer
from mapping.errors import Refusal
from simulators.crossbar.devices import Device, Frozen, clipped_sigma_us, polynomial
from simulators.crossbar.models import model_of, preset_model
from simulators.crossbar.programming import program_array
from simulators.crossbar.resistive import interpolate

DRAWS = 200_000
HOUR, DAY, YEAR = 3600.0, 86400.0, 3.15e7
T_W = 1e-3
PCM = preset_model(PRESETS["pcm"])
MEASURED = [p for p in PRESETS.values() if p.causes and p.name != "generic"]
names = pytest.mark.parametrize("preset", MEASURED, ids=lambda p: p.name)


def normals(shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Frozen(*torch.randn(2, *shape, generator=generator, dtype=torch.float64))


def chips(device, age_s, g_us, fresh=True):
    """Conductances of many devices with one target, at an age, with slow and fresh noise."""
    frozen, target = normals((DRAWS,)), torch.full((DRAWS,), g_us, dtype=torch.float64)
    programmed = device.program(target, frozen)
    drifted = device.drift(programmed, target, age_s, frozen)
    slow = device.slow_sigma_us(drifted, programmed, age_s, T_W)
    fast = device.fresh_sigma_us(drifted, programmed, T_W) if fresh else torch.zeros_like(slow)
    return drifted + (slow**2 + fast**2).sqrt() * normals((DRAWS,), 1).programming


def sigma(name, x):
    """Programming error of a preset at one conductance, microsiemens."""
    model = preset_model(PRESETS[name])
    return model.programming_sigma_us(torch.tensor([x * model.g_max_us], dtype=torch.float64)).item()


@pytest.mark.parametrize(("name", "x", "expected"), [
    ("pcm", 0.5, 0.26348 + 1.9650 / 2 - 1.1731 / 4),
    ("pcm_joshi", 0.5, 0.28638599 + 0.07585724 * 12.5 - 0.00178767 * 12.5**2),
    ("hermes_2", 1.0, 0.16603222 + 4.71806468 - 8.48101252 + 4.68961419),
    ("hermes_1", 0.5, 0.15781817 + 2.32443916 / 2 - 2.16310839 / 4 + 0.68841818 / 8),
    ("reram_wan", 1.0, 0.348 + 16.030 - 43.853 + 45.393 - 16.815),
    ("reram_milo", 1.0, 4.782321 - 0.009107 * 225),
    ("reram_cmo", 0.5, 0.00081107 + 0.00106879 * 44.1),
    ("reram_cmo_2", 0.5, 0.0112185391 + 0.01129027418 * 44.1),
    ("sonos", 0.5, 19.88665 * (1 - math.exp(-800 / 176.3115)) / 100),
])
def test_programming_errors_are_the_published_ones(name, x, expected):
    assert sigma(name, x) == pytest.approx(expected, rel=1e-6)


@names
def test_programmed_conductances_spread_by_the_programming_error(preset):
    model, g = preset_model(preset), 0.6 * preset.g_max_us
    programmed = model.program(torch.full((DRAWS,), g, dtype=torch.float64), normals((DRAWS,)))
    spread = sigma(preset.name, 0.6)
    assert programmed.std().item() == pytest.approx(spread, rel=4 / math.sqrt(2 * DRAWS))
    assert programmed.mean().item() == pytest.approx(g, abs=4 * spread / math.sqrt(DRAWS))


@names
def test_conductances_are_never_negative_and_errors_never_complex(preset):
    model = preset_model(preset)
    target = torch.linspace(preset.g_min_us, preset.g_max_us, 101, dtype=torch.float64).repeat(1000, 1)
    frozen = normals(target.shape)
    programmed = model.program(target, frozen)
    assert programmed.min() >= 0
    for age in np.linspace(*preset.age_domain_s, 4):
        drifted = model.drift(programmed, target, float(age), frozen)
        assert drifted.min() >= 0
        for noise in (model.slow_sigma_us(drifted, programmed, float(age), T_W),
                      model.fresh_sigma_us(drifted, programmed, T_W)):
            assert torch.isfinite(noise).all()
            assert noise.min() >= 0


@names
def test_causes_are_those_that_the_model_has(preset):
    """A preset's ladder of rungs comes from its causes: each one must change something, and no other may."""
    model, target = preset_model(preset), torch.full((100,), 0.5 * preset.g_max_us, dtype=torch.float64)
    frozen = normals(target.shape)
    programmed, age = model.program(target, frozen), preset.age_domain_s[1]
    drifted = model.drift(programmed, target, age, frozen)
    seen = {"programmed": not torch.equal(programmed, target), "aged": not torch.equal(drifted, programmed),
            "read": bool(model.fresh_sigma_us(drifted, programmed, T_W).any())}
    assert {cause for cause, there in seen.items() if there} == set(preset.causes)


def test_drift_exponents_at_half_conductance():
    nu = PCM.drift_exponents(torch.full((DRAWS,), 12.5), normals((DRAWS,)).ageing)
    assert nu.mean().item() == pytest.approx(0.0490, abs=4 * 0.008 / math.sqrt(DRAWS))
    assert nu.std().item() == pytest.approx(0.0080, rel=4 / math.sqrt(2 * DRAWS))


@pytest.mark.parametrize(("x", "mean", "spread"), [(1e-3, 0.1, 0.045), (0.05, 0.07083, 0.03155), (1.0, 0.049, 0.008)])
def test_drift_exponents_are_clipped_at_both_ends(x, mean, spread):
    """-.0155 ln .05 + .0244 = .07083 and -.0125 ln .05 - .0059 = .03155; outside the data they stay at the ends."""
    nu = PCM.drift_exponents(torch.full((DRAWS,), 25.0 * x), normals((DRAWS,)).ageing)
    folded = math.erf(mean / spread / math.sqrt(2)) * mean + spread * math.sqrt(2 / math.pi) * math.exp(
        -(mean / spread) ** 2 / 2)
    assert nu.mean().item() == pytest.approx(folded, abs=5 * spread / math.sqrt(DRAWS) + 1e-5)


@pytest.mark.parametrize(("curve", "x", "expected"), [
    ("nu_mean", 0.05, -0.0387 * math.log(0.05) - 0.0182), ("nu_mean", 0.5, -0.0436 / 4 - 0.0126 / 2 + 0.0736),
    ("nu_spread", 0.2, -0.0117 * math.log(0.2) - 0.0057), ("nu_spread", 0.5, -0.0118 / 4 + 0.0093 / 2 + 0.0073),
    ("noise", 0.1, -0.0117 * math.log(0.1) - 0.0069), ("noise", 0.5, 0.0069 / 8 - 0.0280 / 4 + 0.0211 / 2 + 0.0123),
])
def test_hermes_curves_change_form_at_their_borders(curve, x, expected):
    model = preset_model(PRESETS["hermes_2"])
    assert getattr(model, curve)(torch.tensor([x])).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("age", "mean", "spread"), [(HOUR, 9.699, 1.057), (DAY, 8.312, 1.028), (YEAR, 6.252, 0.991)])
def test_conductance_after_an_hour_a_day_a_year(age, mean, spread):
    """The published spreads hold all 1/f noise since programming: slow and fresh."""
    g_us = chips(PCM, age, 12.5)
    assert g_us.mean().item() == pytest.approx(mean, abs=0.01)
    assert g_us.std().item() == pytest.approx(spread, rel=0.01)
    assert chips(PCM, age, 12.5, fresh=False).std() < g_us.std()


@pytest.mark.parametrize("name", ["pcm", "hermes_2", "reram_cmo"])
def test_slow_and_fresh_noise_add_to_the_published_variance_however_they_are_split(name):
    model, g = preset_model(PRESETS[name]), torch.tensor([10.0, 12.0, 20.0], dtype=torch.float64)
    elapsed = HOUR + model.t_read_s + getattr(model, "t0_s", 0.0)
    amplitude = 0.0277316483 * g.log10() if name == "reram_cmo" else g * model.noise(g / model.g_max_us)
    published = amplitude**2 * math.log(elapsed / (2 * model.t_read_s))
    for t_w in (1e-5, 1e-3, 1.0):
        total = model.slow_sigma_us(g, g, HOUR, t_w) ** 2 + model.fresh_sigma_us(g, g, t_w) ** 2
        assert torch.allclose(total, published, rtol=1e-9)


def test_a_third_of_the_noise_of_phase_change_memory_is_fresh_after_an_hour():
    g = torch.tensor([5.0], dtype=torch.float64)
    slow, fresh = PCM.slow_sigma_us(g, g, HOUR, T_W) ** 2, PCM.fresh_sigma_us(g, g, T_W) ** 2
    assert (fresh / (slow + fresh)).item() == pytest.approx(1 / 3, abs=0.01)


@pytest.mark.parametrize(("name", "age"), [("pcm", 0.0), ("hermes_2", 0.0), ("sonos", 0.0), ("reram_wan", 1.0)])
def test_a_device_just_programmed_has_not_drifted(name, age):
    """Twice the same path of rounding: exactly for a power of 1, to float precision for recomputed errors."""
    model, target = preset_model(PRESETS[name]), torch.rand(1000, dtype=torch.float64) * 16
    frozen = normals(target.shape)
    programmed = model.program(target, frozen)
    assert torch.allclose(model.drift(programmed, target, age, frozen), programmed, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("age", "share"), [(math.sqrt(86400.0), 0.5), (86400.0, 1.0)])
def test_wan_devices_keep_their_own_normal_while_the_error_grows_with_log_time(age, share):
    model, target = preset_model(PRESETS["reram_wan"]), torch.full((1000,), 20.0, dtype=torch.float64)
    frozen = normals(target.shape)
    first, later = (polynomial(model.sigmas[i], torch.tensor(0.5)).item() for i in (0, 1))
    drifted = model.drift(model.program(target, frozen), target, age, frozen)
    assert torch.allclose(drifted, target + (first + share * (later - first)) * frozen.programming, atol=1e-5)


def test_cmo_devices_relax_by_the_logarithm_of_time():
    g_us = chips(preset_model(PRESETS["reram_cmo"]), HOUR, 40.0, fresh=False)
    spread = 0.04201137 * math.log(HOUR) + 0.41183342
    slow = 0.0277316483 * math.log10(40) * math.sqrt(math.log(HOUR / T_W))
    assert g_us.mean().item() == pytest.approx(40 - 0.08900206 * math.log(HOUR), abs=0.01)
    assert g_us.std().item() == pytest.approx(math.hypot(spread, slow, sigma("reram_cmo", 40 / 88.2)), rel=0.01)


@pytest.mark.parametrize(("name", "x", "age"), [
    ("reram_cmo", 1.0, 1.0), ("reram_cmo", 0.0, 1.0), ("reram_cmo_2", 1.0, HOUR), ("reram_cmo", 0.0, HOUR),
    ("reram_cmo", 0.5, HOUR), ("pcm", 0.0, HOUR), ("pcm", 0.01, DAY), ("hermes_1", 0.0, 0.0), ("sonos", 1e-4, DAY)])
def test_reads_spread_as_in_the_source_which_clips_after_all_noise(name, x, age):
    """Many devices, each read once: within 1.5 % of the standard deviation, and of it from the mean within 3 %."""
    model = preset_model(PRESETS[name])
    target = torch.full((DRAWS,), model.g_min_us + x * (model.g_max_us - model.g_min_us), dtype=torch.float64)
    (frozen, noise), (low, high) = (normals((DRAWS,), seed) for seed in (0, 1)), model.limits_us
    programmed = model.program(target, frozen)
    drifted = model.drift(programmed, target, age, frozen)
    found = drifted + model.slow_sigma_us(drifted, programmed, age, T_W) * noise.ageing
    fresh = model.fresh_sigma_us(drifted, programmed, T_W)
    source = (found + fresh * noise.programming).clamp(low, high)
    ours = found.clamp(low, high) + clipped_sigma_us(found, fresh, low, high) * noise.programming
    assert ours.std().item() == pytest.approx(source.std().item(), rel=0.015)
    assert ours.mean().item() == pytest.approx(source.mean().item(), abs=0.03 * source.std().item())


def test_a_chip_s_cells_at_their_limits_spread_as_in_the_source():
    """After 1 s 0.271 uS at g_max and 0.247 at g_min; 0.315 and 0.259 where drift is clipped and noise is not."""
    target, cuts = mapping.parse("crossbar:reram_cmo/read[age=1s]"), ((0, 60),)
    stored = store(np.full((60, 60, 3, 3), 0.1, np.float32), target, cuts)
    array = program_array(CrossbarLayer("conv", stored, cuts, cuts, None), target, model_of(target), 0)
    for plane, source in ((0, 0.2713), (1, 0.2472)):
        cells, fresh = array.conductance_us[0, plane], array.fresh_us[0, plane]
        read = cells + fresh * torch.randn(cells.shape, generator=torch.Generator().manual_seed(plane))
        assert read.std().item() == pytest.approx(source, rel=0.015 + 3 / math.sqrt(2 * cells.numel()))


def test_a_clipped_normal_spreads_less_and_one_far_from_its_limits_as_before():
    g = torch.tensor([-30.0, -1.0, 0.0, 0.5, 40.0, 99.0])
    assert torch.equal(clipped_sigma_us(g, torch.zeros(6), 0.0, 60.0), torch.zeros(6))
    found = clipped_sigma_us(g, torch.ones(6), 0.0, 60.0)
    draws = torch.randn(DRAWS, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for value, spread in zip(g, found):
        assert spread.item() == pytest.approx((value + draws).clamp(0, 60).std().item(), rel=0.01, abs=1e-6)
    assert found[2].item() == pytest.approx(math.sqrt(0.5 - 0.5 / math.pi), rel=1e-6)
    assert found[4] == 1


def test_sonos_currents_shift_by_the_polynomial_of_their_day():
    """Half way between two days the shift is the mean of both; 100 nA at 0.1 V is 1 uS."""
    model, target = preset_model(PRESETS["sonos"]), torch.tensor([1.0], dtype=torch.float64)
    still = Frozen(torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64))
    one, two = (sum(c * 100.0**n for n, c in enumerate(model.shifts[day])) for day in (1, 2))
    for age, expected in ((DAY, one), (1.5 * DAY, (one + two) / 2)):
        assert (model.drift(target, target, age, still) - target).item() == pytest.approx(expected / 100, rel=1e-9)


def test_interpolation_meets_its_knots_and_is_linear_between():
    knots, values = [0.0, 1.0, 4.0], [2.0, 3.0, 9.0]
    for t, expected in ((0.0, 2.0), (0.5, 2.5), (1.0, 3.0), (2.5, 6.0), (4.0, 9.0)):
        assert interpolate(t, knots, values) == pytest.approx(expected)


def test_an_ideal_device_keeps_what_it_is_told():
    device, g = preset_model(PRESETS["ideal"]), torch.rand(100, dtype=torch.float64) * 25
    frozen = normals(g.shape)
    assert torch.equal(device.program(g, frozen), g)
    assert torch.equal(device.drift(g, g, YEAR, frozen), g)
    assert not device.slow_sigma_us(g, g, YEAR, T_W).any()
    assert not device.fresh_sigma_us(g, g, T_W).any()


def test_a_generic_device_has_the_errors_that_its_options_name():
    model = model_of(mapping.parse("crossbar:generic[additive=0.01,proportional=0.1,read_noise=0.05]"))
    g = torch.tensor([0.0, 10.0])
    assert torch.allclose(model.programming_sigma_us(g), torch.tensor([0.25, 1.25]))
    assert torch.allclose(model.fresh_sigma_us(g, g, T_W), torch.tensor([0.0, 0.5]))


@pytest.mark.parametrize("g_max_us", [0.5, 10.0, 400.0])
def test_errors_of_a_generic_device_scale_with_its_own_largest_conductance(g_max_us):
    errors = "additive=0.01,proportional=0.1,read_noise=0.05"
    models = [model_of(mapping.parse(f"crossbar:generic[{errors},g_max_us={g}]")) for g in (25.0, g_max_us)]
    known, scaled = (m.programming_sigma_us(torch.tensor([0.0, 0.3, 1.0]) * m.g_max_us) / m.g_max_us for m in models)
    assert torch.allclose(scaled, known)


@dataclass(frozen=True)
class Flash(Device):
    """The example of docs/extending.md: a technology in a few lines."""

    g_max_us: float = 10.0
    relative: float = 0.02

    def programming_sigma_us(self, target_us):
        return self.relative * target_us


def test_a_device_of_ones_own_overrides_what_it_knows():
    g, frozen = torch.tensor([0.0, 5.0], dtype=torch.float64), normals((2,))
    assert torch.allclose(Flash().program(g, frozen), g * (1 + 0.02 * frozen.programming))
    assert torch.equal(Flash().drift(g, g, YEAR, frozen), g)


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.0), (-1.0, 5.0), (6.0, 5.0), (0.0, math.nan)])
def test_a_device_without_a_range_of_conductances_is_refused(low, high):
    with pytest.raises(Refusal, match="uS"):
        Flash(g_min_us=low, g_max_us=high)


@pytest.mark.parametrize(("line", "words"), [
    ("g_max_us = 0.0", "preset mine: .*got g_max_us: .*greater than 0; allowed: .*g_max_us above 0 uS"),
    ("g_min_us = 30.0", "got .*g_min_us 30, not below g_max_us 25"), ("age_domain_s = [5.0, 1.0]", "got .*age_domain"),
    ('causes = ["magic"]', "got causes.*allowed: .*causes of programmed, aged, read"), ("colour = 3", "got colour"),
    ("title = 3", "got title: .*string"), ('g_max_us = "25"', "got g_max_us: .*number"), ("g_max_us = inf", "finite"),
    ("constants = [1.0]", "got constants"), ("age_domain_s = [0.0]", "got age_domain_s")])
def test_a_preset_that_is_not_physical_is_refused(line, words):
    key = line.split()[0]
    fields = {"title": '"t"', "source": '"s"', "model": '"pcm"', "g_max_us": "25.0", "age_domain_s": "[0.0, 1.0]",
              "causes": "[]"} | {key: line.partition(" = ")[2]}
    with pytest.raises(Refusal, match=words):
        load_presets("[mine]\n" + "\n".join(f"{k} = {v}" for k, v in fields.items()))


def test_every_preset_names_its_source_and_its_equations():
    for preset in PRESETS.values():
        assert preset_model(preset).g_max_us == preset.g_max_us
        assert len(preset.source) > 10
