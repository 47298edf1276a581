"""Studies: what is swept, where ages end, waterfalls in both orders, estimates, resuming, and the packaged three."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import saved, small_network

from ep_hw.analysis.points import pool
from ep_hw.analysis.rows import plain
from ep_hw.evaluation.forecast import estimate
from ep_hw.evaluation.plan import cells_of, evaluate
from ep_hw.evaluation.rungs import rungs_of
from ep_hw.studies.axes import SweptAxis
from ep_hw.studies.execution import plan_study, rows_of
from ep_hw.studies.order import interactions, reversed_rungs_of
from ep_hw.studies.outcome import run_study
from ep_hw.studies.study import Study, load_study, studies, swept_machines, with_numbers
from ep_hw.threats.threat import CLEAN, Threat
from mapping import Refusal, parse
from mapping.crossbar.target import CROSSBAR_RUNGS

SMALL = """
title = "small"
model = "MODEL"
machines = ["crossbar:pcm", "loihi"]
threats = ["contrast@3"]
images = 10
chips = 2
seed = 3

[[list]]
steps = 8

[[list]]
steps = 40

[attack]
votes = 1
"""


def study_of(machines=("crossbar:pcm",), **changes) -> Study:
    return Study(title="test", machines=machines, **changes)


def test_a_grid_is_every_combination_and_a_list_its_own_points():
    study = study_of(grid={"adc_bits": (4, 6), "drift_compensation": (True, False)}, list=[{"wire_ohm": 1.0}])
    found = [str(point.target) for point in swept_machines(study)]
    assert found == ["crossbar:pcm[adc_bits=4]", "crossbar:pcm[drift_compensation=off,adc_bits=4]",
                     "crossbar:pcm[adc_bits=6]", "crossbar:pcm[drift_compensation=off,adc_bits=6]",
                     "crossbar:pcm[wire_ohm=1]"]
    assert study.options() == ["adc_bits", "drift_compensation", "wire_ohm"]
    assert [str(p.target) for p in swept_machines(study_of(["loihi[weight_bits=6]"]))] == ["loihi[weight_bits=6]"]
    assert swept_machines(study_of(["crossbar:pcm[age=1d]"], grid={"age": ("1y",)}))[0].target == parse(
        "crossbar:pcm[age=1y]")


def test_ages_outside_a_devices_data_are_moved_to_their_end_and_said_so():
    study = study_of(["crossbar:pcm", "crossbar:reram_wan"], grid={"age": ("0s", "1d", "5d", "1y")})
    points = swept_machines(study)
    assert [p.options["age"] for p in points if p.technology == "crossbar:pcm"] == ["0s", "1d", "5d", "1y"]
    assert [(p.options["age"], p.clipped) for p in points if p.technology == "crossbar:reram_wan"] == [
        ("1s", ("0s", "1s")), ("1d", None), ("2d", ("5d", "2d"))]


@settings(max_examples=30)
@given(st.sampled_from(["pcm", "reram_wan", "sonos", "generic"]), st.booleans(), st.booleans())
def test_both_orders_add_the_same_causes_one_at_a_time(device, wires, levels):
    options = ",".join(["wire_ohm=1"] * wires + ["levels=64"] * levels)
    target = parse(f"crossbar:{device}[{options}]")
    forward, reverse = rungs_of(target), reversed_rungs_of(target)
    count = len(target.rungs)
    assert forward[:-count] == reverse[:-count]
    assert forward[-1][0] == reverse[-1][0] == target
    assert [cause for _, cause in forward[-count:]] == [cause for _, cause in reverse[-count:]][::-1]
    held = [{r for r in target.rungs if rung.includes(r)} for rung, _ in reverse[-count:]]
    assert held == [set(target.rungs[-n:]) for n in range(1, count + 1)]


def summary_row(machine, accuracy):
    return {"machine": machine, "threat": CLEAN, "chip_seed": None, "n": 1000,
            "accuracy": accuracy, "agreement": 1.0, "flips_to_wrong": 0, "flips_to_right": 0}


def test_causes_that_only_hurt_together_show_as_interaction():
    """Programming costs 10 points alone and drift 10 alone, but 40 together: each interacts by +20 or -20."""
    target = parse("crossbar:pcm/aged")
    (ideal, programmed, both), (_, aged, _) = ([str(rung) for rung, _ in rungs[1:]] for rungs in (
        rungs_of(target), reversed_rungs_of(target)))
    values = {"reference": 0.9, ideal: 0.9, programmed: 0.8, aged: 0.8, both: 0.5}
    points = pool([summary_row(name, value) for name, value in values.items()])
    outcomes = {(name, CLEAN): np.arange(1000)[None] < 1000 * value for name, value in values.items()}
    found = interactions(target, points, outcomes, CLEAN)
    assert [round(one.forward.value, 6) for one in found] == [-0.1, -0.3]
    assert [round(one.reverse.value, 6) for one in found] == [-0.3, -0.1]
    assert [round(one.interaction.value, 6) for one in found] == [0.2, -0.2]
    halves = [(one.interaction.high - one.interaction.low) / 2 for one in found]   # it differs on 0.4 of the images
    assert halves == pytest.approx([1.96 * (0.36 / 1000) ** 0.5] * 2, rel=0.01)
    assert not interactions(target, points, outcomes, Threat("contrast", 3.0))


def test_an_interaction_is_as_uncertain_as_its_images_and_its_chips():
    """Chips that err on other images make it surer; chips that are all alike say nothing new."""
    target = parse("crossbar:pcm/aged")
    ideal, programmed, both = (str(rung) for rung, _ in rungs_of(target)[1:])
    aged = str(reversed_rungs_of(target)[-2][0])
    points = pool([summary_row(name, 0.5) for name in ("reference", ideal, programmed, both, aged)])

    def interaction(chips, alike):
        right = np.random.default_rng(0).random((4, chips, 400)).repeat(alike, 1) < 0.5
        outcomes = {(name, CLEAN): own for name, own in zip((ideal, programmed, both, aged, "reference"), [
            *right, right[0]])}
        found = interactions(target, points, outcomes, CLEAN)[0].interaction
        shares = right.mean((1, 2))
        assert found.value == pytest.approx(shares[1] - shares[0] - shares[2] + shares[3])
        return found.low, found.high

    def half(ends):
        return (ends[1] - ends[0]) / 2

    one = interaction(1, 1)
    assert half(one) == pytest.approx(1.96 * (4 * 0.25 / 400) ** 0.5, rel=0.1)
    assert half(interaction(9, 1)) == pytest.approx(half(one) / 3, rel=0.5)
    assert interaction(1, 9) == pytest.approx(one)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A study file of a small network, and the folder of its finished run."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "small.toml").write_text(SMALL.replace("MODEL", str(saved(small_network(5), folder))))
    study = load_study(folder / "small.toml")
    return study, plan_study(study), folder, run_study(study, plan_study(study), folder / "out")


@pytest.mark.slow
def test_a_study_writes_rows_orders_and_figures(small):
    _, _, folder, rows = small
    out = folder / "out"
    content = json.loads((out / "study.json").read_text())
    assert content["rows"] == plain(rows)
    assert len(list(csv.DictReader((out / "study.csv").open()))) == len(rows) == 2 * 2 * 2
    assert {"curves.png", "curves.svg", "waterfall-crossbar-pcm-clean.png",
            "waterfall-crossbar-pcm-clean-reversed.png", "interaction-crossbar-pcm-contrast-3.svg"} <= {
        path.name for path in out.iterdir()}
    summary = json.loads((out / "summary.json").read_text())
    for row in rows:
        own = [r for r in summary if (r["machine"], r["threat"]) == (row["machine"], row["threat"].name)]
        assert row["accuracy"] == pytest.approx(sum(r["accuracy"] for r in own) / len(own))
        assert row["chips"] == (2 if row["technology"] == "crossbar:pcm" else 0)
        assert (row["saturation"] is None) == (row["technology"] == "loihi")
    orders = [o for o in content["orders"] if (o["technology"], o["threat"]) == ("crossbar:pcm", "clean")]
    assert len(orders) == 4
    assert sum(o["forward"] for o in orders) == pytest.approx(sum(o["reverse"] for o in orders))
    assert all(o["interaction"] == pytest.approx(o["forward"] - o["reverse"]) for o in orders)
    assert all(o["interaction_low"] < o["interaction"] < o["interaction_high"] for o in orders)


def test_a_finished_study_computes_nothing_again(small):
    study, plan, folder, rows = small
    tables = [cell.stored.table_path for cell in cells_of(plan, folder / "out")]
    before = {path: path.stat().st_mtime_ns for path in tables}
    summary, _ = evaluate(plan, folder / "out")
    assert rows_of(study, pool(summary), summary) == rows
    assert {path: path.stat().st_mtime_ns for path in before} == before
    again = estimate([plan], folder / "out")
    assert (again.jobs, again.seconds) == ((), 0.0)


def test_a_dry_run_counts_the_cells_measures_some_and_keeps_none(small, ep_hw, tmp_path):
    _, plan, folder, _ = small
    cells = len(cells_of(plan, tmp_path))
    code, out, _ = ep_hw("study", folder / "small.toml", "--dry-run", "--jobs", 1)
    assert code == 0
    assert f"{cells} cells" in out
    assert f"{cells} still to compute" in out
    assert not list(tmp_path.glob("ep-hw-study-*"))


def test_a_dry_run_loads_nothing_that_draws(small, tmp_path):
    _, _, folder, _ = small
    argv = ["ep-hw", "study", str(folder / "small.toml"), "--dry-run", "--out", str(tmp_path / "out")]
    script = (f"import sys; from ep_hw.cli import main; sys.argv = {argv}\n"
              "try: main()\nfinally: print('matplotlib' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout.split()[-1]) == (0, "False"), done.stdout + done.stderr


@pytest.mark.parametrize("name", ["age", "converters", "wires"])
def test_packaged_studies_name_machines_that_exist(name):
    study = load_study(name)
    points = swept_machines(study)
    assert set(studies()) == {"age", "converters", "feedback", "wires"}
    assert len(points) > 20
    assert all(parse(str(point.target)) == point.target for point in points)
    assert study.model == "digits"
    assert with_numbers(study, images=7, chips=None).images == 7
    if name == "converters":
        assert {point.options["adc_bits"] for point in points} == {str(bits) for bits in range(4, 11)}


def test_axes_are_in_order_whatever_their_unit():
    rows = [{"age": text, "arrays": how, "machine": "crossbar:pcm"} for text, how in zip(
        ("1y", "25s", "1h"), ("shared", "separate", "shared"))]
    age, arrays = (SweptAxis.of(name, rows) for name in ("age", "arrays"))
    assert (age.values, age.places, age.is_time) == (("25s", "1h", "1y"), (25.0, 3600.0, 31557600.0), True)
    assert (arrays.values, arrays.is_number) == (("shared", "separate"), False)


@pytest.mark.parametrize(("text", "words"), [
    ("title = 1", "title"), ("title = 'x'\nmachines = []", "machines"), ("a = ", "no readable study"),
    ("title = 'x'\nmachines = ['crossbar:pcm']\nspeed = 3", "speed.*allowed.*grid"),
    *[(f"title = 'x'\nmachines = ['crossbar:pcm']\n{line}", words) for line, words in (
        ("images = 0", "images"), ("images = 10.0", "images"), ("images = true", "images"), ("seed = -1", "seed"),
        ("chips = 1000000000000", "chips"), ("seed = 18446744073709551616", "64 bits"), ("title = 2", "no readable"),
        ('model = "\\u001b"', "model"), ("[attack]\nvotes = 0", "attack.votes"), ("[attack]\nmore = 0", "attack.more"),
        ("[attack]\nvotes = 1e400", "finite"), ("[grid]\nage = [nan]", "finite"), ("[grid]\nage = 3", "grid.age"),
        ("[grid]\n" + "".join(f"{c} = [{'1, ' * 100}]\n" for c in "bcd"), "1000000 machines, more than"))]])
def test_a_study_that_is_not_one_is_refused(tmp_path, text, words):
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(Refusal, match=words):
        load_study(tmp_path / "bad.toml")


@pytest.mark.parametrize(("grid", "words"), [
    ({"adc_bits": (1,)}, "adc_bits.*2 to 16"), ({"speed": (1,)}, "unknown option.*speed"), ({"age": ("old",)}, "age")])
def test_an_option_out_of_range_is_refused_by_name(grid, words):
    with pytest.raises(Refusal, match=words):
        swept_machines(study_of(grid=grid))


@settings(max_examples=30)
@given(st.lists(st.sampled_from(CROSSBAR_RUNGS), max_size=6))
def test_causes_left_out_read_back_from_their_text(names):
    text = "+".join(names) or "nothing"
    target = parse(f"crossbar:pcm[wire_ohm=1,without={text}]")
    assert parse(str(target)) == target
    assert not any(target.includes(name) for name in names)
    assert target.has_chips == bool({"programmed", "aged"} - set(names))
