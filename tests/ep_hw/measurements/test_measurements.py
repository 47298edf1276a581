"""The measurements from the command line to their files, and what a user may get wrong."""

import csv
import json

import pytest
import torch
from networks import random_images, small_network
from PIL import Image

import ep_hw as package
import mapping
from ep_hw.analysis.statistics import median_interval
from ep_hw.data import Split, load_data
from ep_hw.measurements.events import event_targets, measure_events
from ep_hw.measurements.figures import events_figure
from ep_hw.measurements.gradients import gradient_programs, measure_gradients
from ep_hw.report.exports import write_measurement
from mapping.errors import Refusal
from mapping.loihi.integers import LOSSES
from simulators.loihi.twin import open_twin
from simulators.reference import ReferenceMachine

KINDS = ("csv", "json", "png", "svg")


@pytest.fixture(scope="module")
def digits():
    return package.load("digits").lower(), load_data("digits", "test").take(slice(12))


def read_rows(folder, name):
    """Rows of the JSON file, after a look at the other files that the command must have written."""
    assert sorted(p.name for p in folder.iterdir()) == [*(f"{name}.{kind}" for kind in KINDS), "question.json",
                                                         "report.html"]
    rows = json.loads((folder / f"{name}.json").read_text())["rows"]
    with (folder / f"{name}.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == len(rows)
    assert "events_per_step" not in table[0]
    for line, row in zip(table, rows):
        assert all(str("" if row[key] is None else row[key]) == text for key, text in line.items())
    with Image.open(folder / f"{name}.png") as picture:
        assert picture.getcolors(10**6) is None or len(picture.getcolors(10**6)) > 10, "an empty picture"
    assert (folder / f"{name}.svg").read_text().startswith("<?xml")
    assert "data-tip" in (folder / "report.html").read_text(), "a page without a number to point at"
    return rows


def test_events_are_written_for_each_threshold(ep_hw, tmp_path):
    command = "events digits --threshold 0 --threshold 0.3 --images 12 --out run"
    code, out, _ = ep_hw(*command.split())
    assert code == 0
    assert "whole states" in out
    assert "Davies et al. 2018" in out
    rows = read_rows(tmp_path / "run", "events")
    assert [row["threshold"] for row in rows] == [None, 0.0, 0.3]
    assert rows[0]["accuracy"] == rows[1]["accuracy"] >= rows[2]["accuracy"]
    for key in ("events", "operations", "energy_j", "energy_high_j", "latency_s"):
        assert rows[0][key] > rows[1][key] > rows[2][key] > 0
    for row in rows:
        assert row["ci_low"] <= row["accuracy"] <= row["ci_high"]
        assert sum(map(sum, row["events_per_step"].values())) == pytest.approx(
            row["events"] + row["events_per_step"]["image"][0], rel=1e-3)
    (tmp_path / "again").mkdir()
    settings = {"model": "digits", "seed": 0}
    for path in write_measurement(tmp_path / "again", "events", settings, rows, events_figure(rows, 2)):
        assert path.read_bytes() == (tmp_path / "run" / path.name).read_bytes()


def test_gradients_are_written_for_each_machine_bits_loss_and_strength(ep_hw, tmp_path):
    command = "gradients digits --on loihi --on reference --state-bits 5 --beta 0.1 --beta 1 --images 6 --out run"
    code, out, _ = ep_hw(*command.split())
    assert code == 0
    assert "loihi[state_bits=5]" in out
    rows = read_rows(tmp_path / "run", "gradients")
    names = ["loihi[state_bits=5]", "loihi", "reference"]
    assert [(r["machine"], r["loss"], r["beta"]) for r in rows] == [
        (name, loss, beta) for name in names for loss in LOSSES for beta in (0.1, 1.0)]
    by_key = {(r["machine"], r["loss"], r["beta"]): r for r in rows}
    assert by_key["reference", "cross_entropy", 0.1]["cosine"] > 0.99
    assert by_key["loihi[state_bits=5]", "cross_entropy", 0.1]["zero_entries"] > 0.5
    assert all(r["cosine_low"] <= r["cosine"] <= r["cosine_high"] for r in rows)


BAD = {
    "no events": ("events digits --on crossbar:pcm", "sends no events"),
    "rung": ("events digits --on loihi:states", "sends no events"),
    "threshold": ("events digits --threshold 0.7", "no number from 0 to 0.5"),
    "not a number": ("events digits --threshold much", "--threshold"),
    "no images": ("events digits --images 0", "images"),
    "unwritable": ("events digits --images 2 --out /proc/nowhere", "cannot write into"),
    "held-back states": ("evaluate digits --on loihi:states[threshold=0.1]", "no meaning here"),
    "held-back floats": ("evaluate digits --on lava:float[threshold=0]", "no meaning here"),
    "beta": ("gradients digits --beta -1", "no number from 1e-06"),
    "bits": ("gradients digits --state-bits 2", "no whole number from 4 to 16"),
    "machine": ("gradients digits --on nowhere", "unknown machine"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_mistake_gets_one_line_and_leaves_nothing(refused, name):
    command, words = BAD[name]
    assert words in refused(*command.split())


def test_points_are_those_of_the_machine_itself(digits):
    graph, split = digits[0], load_data("digits", "test").take(slice(60))
    point, = measure_events(graph, event_targets("loihi", [0.5])[1:], split)
    end, reference = (machine.relax(split.images) for machine in (
        open_twin(mapping.compile(graph, "loihi[threshold=0.5]")), ReferenceMachine(graph)))
    assert point.correct == int((end.prediction == split.labels).sum())
    assert point.agreeing == int((end.prediction == reference.prediction).sum()) < len(split)
    assert torch.equal(point.steps, end.steps)
    assert point.count.units.shape[1] == end.steps.max() + 1


def test_state_bits_named_in_a_machine_are_kept_and_proven_ones_added_once(digits):
    graph, _ = digits
    proven = mapping.compile(graph, "loihi").state_bits
    machines = ["loihi[state_bits=5]", "loihi", "loihi:weights"]
    names = [str(program.target) for program in gradient_programs(graph, machines, [6, proven])]
    assert names == ["loihi[state_bits=5]", "loihi[state_bits=6]", f"loihi[state_bits={proven}]", "loihi:weights"]


def test_a_nudge_stronger_than_the_proof_is_lowered_and_says_so(digits):
    graph, split = digits
    program = mapping.compile(graph, "loihi")
    point = next(measure_gradients(program, split.take(slice(3)), [10 * program.largest_beta]))
    assert point.used == program.largest_beta < point.beta


def test_a_noisy_machine_gives_the_same_gradients_for_the_same_seed(monkeypatch):
    monkeypatch.setattr("ep_hw.measurements.gradients.ADJOINT_DRAWS", 1)
    split = Split("random", random_images(2), torch.arange(2), torch.arange(2))
    program = mapping.compile(small_network(3, gain=1.5).lower(), "crossbar:pcm[steps=4]")
    runs = [next(measure_gradients(program, split, [0.5], seed=seed)).cosine for seed in (1, 1, 2)]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_the_interval_of_a_median_holds_it_as_often_as_it_says():
    generator = torch.Generator().manual_seed(0)
    for n in (9, 30, 101):
        draws = torch.rand(800, n, generator=generator) ** 3
        held = sum(low <= 0.5**3 <= high for low, high in map(median_interval, draws))
        assert 0.93 < held / 800 <= 1
    assert median_interval([3.0, 1.0, 2.0]) == (1.0, 3.0)


def test_an_unknown_machine_is_refused_before_anything_runs(digits):
    with pytest.raises(Refusal, match="unknown machine"):
        gradient_programs(digits[0], ["loihi", "abacus"], [])
