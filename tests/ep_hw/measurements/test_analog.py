"""Measurements of analog machines from the command line: rows that say what the machines do."""

import json

import pytest
from networks import random_images

from ep_hw.measurements.analog import (
    cost_table,
    crossbar_target,
    measure_cost,
    measure_readout,
    measure_symmetry,
    quiet,
)
from mapping import Refusal, parse


def test_crossbars_and_loihi_stand_side_by_side(graph):
    analog, loihi, silent = measure_cost(graph, ["crossbar:hermes_2", "loihi", "crossbar:pcm"], random_images(3))
    for row in (analog, loihi):
        assert 0 < row["energy_low_j"] <= row["energy_j"] <= row["energy_high_j"]
        assert 0 < row["latency_low_s"] <= row["latency_s"] <= row["latency_high_s"]
    assert analog["area_mm2"] > 0
    assert loihi["area_mm2"] is None
    assert 0 < loihi["neighbour_j"] < loihi["energy_j"]
    assert (silent["energy_j"], silent["latency_s"], silent["neighbour_j"]) == (None, None, None)
    shown = [row[2:] for row in cost_table([analog, loihi, silent]).rows]
    assert [row[1] for row in shown] == ["", f"{1e6 * loihi['neighbour_j']:.3g}", ""]
    assert shown[2] == ("unknown", "", "unknown", "unknown")


def test_only_arrays_of_their_own_are_asymmetric_and_raise_energy(graph):
    machines = ["crossbar:pcm/read", "crossbar:pcm/read[arrays=separate]"]
    shared, apart = measure_symmetry(graph, machines, random_images(4), 1, 60)
    assert shared["run_as"] == "crossbar:pcm/read[without=read]"
    assert (shared["asymmetry"], shared["sweeps_that_raise_energy"]) == (0, 0)
    assert apart["asymmetry"] > 0.01
    assert apart["sweeps_that_raise_energy"] > 0


def test_averaging_lowers_the_variance_of_the_logits_and_the_quiet_chip_has_none(graph):
    one, many = measure_readout(graph, "crossbar:pcm[steps=60]", random_images(4), [0.5], [1, 20], 8, 0, 0)
    assert one["sd"] > many["sd"] > 0
    silent = next(measure_readout(graph, "crossbar:ideal", random_images(4), [1.0], [1], 3, 0, 0))
    assert (silent["sd"], silent["bias"]) == pytest.approx((0, 0), abs=1e-12)


def test_steps_that_end_early_are_told_from_the_bias_of_noise(graph):
    """A quiet chip has no bias however few its steps; they are fewer the less far each goes."""
    rows = [next(measure_readout(graph, f"crossbar:ideal[steps={n}]", random_images(4), [dt], [1], 2, 0, 0))
            for n, dt in ((4, 1.0), (20, 1.0), (100, 1.0), (100, 0.25))]
    assert all(row["bias"] == pytest.approx(0, abs=1e-12) for row in rows)
    few, more, many, short = (row["unfinished"] for row in rows)
    assert few > more > 100 * many
    assert short > 100 * many


def test_quiet_machines_keep_what_else_was_left_out():
    assert str(quiet(parse("crossbar:pcm[without=aged]"))) == "crossbar:pcm[without=aged+read]"
    with pytest.raises(Refusal, match="not an analog machine"):
        crossbar_target("loihi")


def test_settling_is_written_where_asked(ep_hw, refused, tmp_path):
    code, out, _ = ep_hw("settle", "digits", "--images", 3, "--out", tmp_path)
    assert code == 0
    assert "settling" in out
    (row,) = json.loads((tmp_path / "settle.json").read_text())["rows"]
    assert row["settled"] == 1
    assert 1e-9 < row["settling_s"] <= row["settling_worst_s"] < 1e-6
    assert "--capacitance" in refused("settle", "digits", "--capacitance", -1)
