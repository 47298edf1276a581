"""A device by a user's own numbers: its equations, its file, and what depends on it."""

import math

import numpy as np
import pytest
import torch
from chips import machine
from hypothesis import given
from hypothesis import strategies as st
from networks import small_network
from registries import restored

import mapping
from ep_hw.threats.threat import CLEAN
from ep_hw.versions import code_of
from mapping.crossbar.devices import register_devices
from mapping.crossbar.presets import PRESETS, load_presets
from mapping.errors import Refusal
from simulators.crossbar.cost import relaxation_cost
from simulators.crossbar.devices import Frozen
from simulators.crossbar.models import preset_model

LAB = """
[{name}]
title = "a device"
source = "a definition"
g_min_us = 2.0
g_max_us = 60.0
age_domain_s = [0.0, 1e7]
{more}
[{name}.constants]
{constants}
"""
ALL = "programming = [1.0, 0.01]\ndrift = {exponent = 0.02, spread = 0.005, t0_s = 10.0}\nread_noise = 0.01"


def text(constants=ALL, more="", name="lab"):
    return LAB.format(name=name, constants=constants, more=more)


def device(constants=ALL, more=""):
    return preset_model(load_presets(text(constants, more))["lab"])


@pytest.fixture(autouse=True)
def devices():
    """Devices that a test registers are known to it alone."""
    with restored(mapping.REGISTRY, PRESETS):
        yield


@given(st.lists(st.floats(-2, 2), max_size=4), st.floats(2, 60))
def test_programming_errors_are_the_polynomial_where_it_is_positive(coefficients, g_us):
    sigma = device(f"programming = {coefficients}").programming_sigma_us(torch.tensor([g_us], dtype=torch.float64))
    assert sigma.item() == pytest.approx(max(0, np.polynomial.Polynomial(coefficients or [0])(g_us)), abs=1e-9)


@given(st.lists(st.tuples(st.integers(0, 100), st.floats(0, 5)), min_size=2, max_size=6, unique_by=lambda p: p[0]),
       st.floats(0, 120))
def test_a_curve_is_linear_between_its_points_and_constant_beyond(points, g_us):
    g, sigma = zip(*sorted(points))
    own = device(f"programming = {{g_us = {[float(x) for x in g]}, sigma_us = {list(sigma)}}}")
    seen = own.programming_sigma_us(torch.tensor([g_us], dtype=torch.float64))
    assert seen.item() == pytest.approx(np.interp(g_us, g, sigma), abs=1e-9)


@given(st.floats(-0.1, 0.1), st.floats(0, 0.05), st.floats(0.1, 100), st.floats(0, 1e7), st.floats(-3, 3))
def test_drift_is_a_power_of_age_with_an_exponent_of_each_cell(exponent, spread, t0_s, age_s, normal):
    own = device(f"drift = {{exponent = {exponent}, spread = {spread}, t0_s = {t0_s}}}")
    g = torch.tensor([20.0], dtype=torch.float64)
    now = own.drift(g, g, age_s, Frozen(torch.zeros(1), torch.tensor([normal], dtype=torch.float64)))
    nu = exponent + spread * normal
    assert math.log(now.item() / 20) == pytest.approx(-nu * math.log1p(age_s / t0_s), abs=1e-9)


def test_what_is_left_out_is_no_error_and_no_rung():
    register_devices(text("", name="nothing"))
    register_devices(text("read_noise = 0.01", name="reads"))
    g = torch.linspace(2, 60, 5)
    assert not preset_model(PRESETS["nothing"]).programming_sigma_us(g).any()
    assert PRESETS["nothing"].causes == ()
    assert mapping.parse("crossbar:reads").rungs == ("read", "converters")
    assert {name for name in mapping.REGISTRY if name.startswith("crossbar:reads")} == {
        "crossbar:reads", *(f"crossbar:reads/{rung}" for rung in ("levels", "stuck", "read", "converters", "curves",
                                                                   "wires"))}


def test_a_chip_of_it_has_these_errors():
    """1,000 weights: programming by (1), a day of drift by (2) without compensation, reads by (3), and stuck cells."""
    register_devices(text(ALL, "stuck_off = 0.1\nlevels = 16"))
    graph = small_network(0, channels=(12, 24)).lower()
    chip, exact = (machine(graph, f"crossbar:lab/{rung}", chip_seed=1) for rung in ("programmed", "levels"))
    written, wanted = (m.arrays[1].conductance_us for m in (chip, exact))
    assert len(torch.unique(wanted)) <= 16
    stuck = written == 2.0
    assert stuck[wanted > 10].double().mean().item() == pytest.approx(0.1, abs=0.04)
    errors = ((written - wanted) / (1.0 + 0.01 * wanted))[~stuck & (wanted > 6)]
    assert errors.std().item() == pytest.approx(1, rel=0.1)
    aged = machine(graph, "crossbar:lab/aged[age=1d,drift_compensation=off]", chip_seed=1).arrays[1].conductance_us
    exponents = (-(aged / written).log() / math.log1p(86400 / 10))[~stuck & (written > 6)]
    assert exponents.mean().item() == pytest.approx(0.02, rel=0.1)
    assert exponents.std().item() == pytest.approx(0.005, rel=0.15)
    reading = machine(graph, "crossbar:lab/read[drift_compensation=off]", chip_seed=1).arrays[1]
    assert torch.allclose(reading.fresh_us, 0.01 * reading.conductance_us, rtol=1e-5)


def test_what_the_file_says_holds_unless_an_option_says_otherwise():
    register_devices(text(more="stuck_off = 0.01\nlevels = 16"))
    plain, other = (mapping.parse(f"crossbar:lab{options}") for options in ("", "[stuck_off=0.2,levels=8]"))
    assert (str(plain), plain.device.stuck_off, plain.device.levels) == ("crossbar:lab", 0.01, 16)
    assert (str(other), other.device.stuck_off, other.device.levels) == ("crossbar:lab[levels=8,stuck_off=0.2]", 0.2, 8)
    assert str(mapping.parse("crossbar:lab[stuck_off=0]")) == "crossbar:lab[stuck_off=0]"
    assert "stuck" in plain.rungs
    assert "stuck" not in mapping.parse("crossbar:lab[stuck_off=0]").rungs


def test_cells_depend_on_every_number_of_a_users_device():
    def code():
        return code_of([mapping.compile(small_network(0).lower(), "crossbar:lab/read")], CLEAN)

    codes = []
    for more in ("", "stuck_off = 0.01"):
        for name in [name for name in mapping.REGISTRY if name.startswith("crossbar:lab")]:
            del mapping.REGISTRY[name]
        PRESETS.pop("lab", None)
        register_devices(text(more=more))
        codes.append(code())
    assert codes[0] != codes[1]
    assert {key for code in codes for key in code if ":" in key} == {"crossbar:lab/read"}
    published = code_of([mapping.compile(small_network(0).lower(), "crossbar:pcm/read")], CLEAN)
    assert not [key for key in published if ":" in key]


def test_reads_are_those_of_the_file_or_unknown():
    register_devices(text(name="silent"))
    register_devices(text(more="read = {energy_j = 2e-8, time_s = 2e-7}"))
    graph = small_network(0).lower()
    silent, stated = (relaxation_cost(mapping.compile(graph, f"crossbar:{name}/read")) for name in ("silent", "lab"))
    assert (silent.energy_j, silent.latency_s, silent.area_mm2) == (None, None, None)
    assert "states no energy or time of a read" in silent.source
    hermes = relaxation_cost(mapping.compile(graph, "crossbar:hermes_2/read"))
    assert stated.energy_j == pytest.approx(hermes.energy_range_j[0] * 20 / 13.4)
    assert stated.latency_s == pytest.approx(hermes.latency_range_s[0] * 200 / 133)
    assert (stated.area_mm2, stated.energy_range_j) == (None, None)
    register_devices(text(name="ranged", more="read = [{energy_j = 1e-8, time_s = 1e-7, area_mm2 = 0.5}, "
                                              "{energy_j = 2e-8, time_s = 3e-7, area_mm2 = 1.0}]"))
    ranged = relaxation_cost(mapping.compile(graph, "crossbar:ranged/read"))
    assert ranged.energy_range_j == pytest.approx((stated.energy_j / 2, stated.energy_j))
    assert ranged.area_range_mm2 == pytest.approx((ranged.area_mm2, 2 * ranged.area_mm2))


@pytest.mark.parametrize(("constants", "words"), [
    ("colour = 1", "colour"), ("read_noise = -0.1", "read_noise"), ("read_noise = 2.0", "read_noise"),
    ('programming = "2 %"', "programming: .*allowed: as constants programming, as coefficients"),
    ("programming = {g_us = [2.0], sigma_us = [1.0]}", "g_us"),
    ("programming = {g_us = [2.0, 1.0], sigma_us = [1.0, 1.0]}", "g_us increases"),
    ("programming = {g_us = [1.0, 2.0], sigma_us = [1.0]}", "sigma_us has a value for each"),
    ("drift = {spread = 0.1}", "exponent"), ("drift = {exponent = 0.1, t0_s = 0.0}", "t0_s"),
    ("drift = {exponent = 2.0}", "exponent")])
def test_constants_that_are_none_are_refused_by_name(constants, words):
    with pytest.raises(Refusal, match=f"preset lab: not a device.*({words})"):
        load_presets(text(constants))


@pytest.mark.parametrize("line", ["stuck_off = 0.6", "levels = 1", "read = {energy_j = 1e-9}", "stuck_on = true"])
def test_fields_out_of_range_are_refused_by_name(line):
    with pytest.raises(Refusal, match=f"preset lab: not a device.*{line.split()[0]}"):
        load_presets(text(more=line))
