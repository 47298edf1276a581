"""Labels through an evaluation: what is shown goes by them, what is kept and keyed by full names."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from networks import saved, small_network

import ep_hw
from ep_hw import workflow
from ep_hw.analysis.comparison import FinishedRun
from ep_hw.evaluation.naming import called
from ep_hw.evaluation.plan import cells_of
from ep_hw.evaluation.suites import Request
from ep_hw.threats.attacks import AttackSettings
from ep_hw.threats.threat import parse_threat
from mapping import Refusal

FAST = AttackSettings(gradients=("bptt@3",), iterations=2, queries=10, eot=1, votes=1)
FULL = "crossbar:pcm/aged[age=1d,adc_bits=6]"
OTHER = "loihi[state_bits=8]"
THREATS = ["pgd_l2@0.5", "transfer:mine:pgd_l2@0.5"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(saved(small_network(5, steps=20), tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def found(model, tmp_path_factory):
    return ep_hw.evaluate(model, on=[f"mine={FULL}", OTHER], threats=THREATS, images=6, chips=1, settings=FAST,
                          out=tmp_path_factory.mktemp("run") / "out")


def test_files_and_rows_hold_both_names(found):
    table = pq.read_table(found.folder / "results.parquet")
    pairs = set(zip(table["machine"].to_pylist(), table["machine_label"].to_pylist()))
    assert {(FULL, "mine"), (OTHER, OTHER), ("reference", "reference")} <= pairs
    rows = json.loads((found.folder / "summary.json").read_text())
    assert {(row["machine"], row["machine_label"]) for row in rows} == pairs
    card = json.loads((found.folder / "cards" / "small-mine.json").read_text())
    assert (card["machine"], card["target"]) == ("mine", FULL)
    called = (found.folder / "tables" / "Names-of-the-machines.csv").read_text()
    assert called.splitlines() == ["called,machine", f'mine,"{FULL}"']


def test_what_is_shown_goes_by_the_label(found):
    page = found.report.read_text()
    assert f'<span title="{FULL}">mine</span>' in page
    assert "made on mine" in page
    assert f'<th title="{FULL}">mine</th>' in found._repr_html_()
    assert any("mine" in name for name in found.figures)
    assert not any("adc_bits" in path.name for path in found.folder.rglob("*"))


def test_results_are_asked_by_either_name(found):
    for threat in ("clean", *THREATS):
        full = threat.replace("mine", FULL)
        for machine in (FULL, OTHER):
            if full != f"transfer:{machine}:pgd_l2@0.5":
                assert found.accuracy(machine, threat) == found.accuracy(machine, full)
    assert found.accuracy("mine", "pgd_l2@0.5") == found.accuracy(FULL, "pgd_l2@0.5")
    assert (found.pictures("mine", "pgd_l2@0.5").changed == found.pictures(FULL, "pgd_l2@0.5").changed).all()
    with pytest.raises(Refusal, match="yours under clean"):
        found.accuracy("yours")


def test_a_label_is_no_part_of_what_is_computed(found, model):
    """Cells of another label, and of none, are those that lie there."""
    for label in ("mine=", "yours=", ""):
        threats = [called(f"transfer:{label[:-1] or FULL}:pgd_l2@0.5", [label + FULL]), parse_threat("pgd_l2@0.5")]
        request = Request([label + FULL, OTHER], threats, images=6, chips=1, settings=FAST)
        plan = workflow.plan_evaluation(model, request)
        assert all(cell.done() for cell in cells_of(plan, found.folder))


def test_commands_take_the_label(ep_hw, refused, found, model):
    code, out, err = ep_hw("images", found.folder, "--on", "mine", "--threat", "pgd_l2@0.5", "--out", "taken")
    assert (code, "of mine pgd_l2@0.5" in out) == (0, True), err
    asked = ["evaluate", model, "--on", f"mine={FULL}", "--images", 4, "--chips", 1, "--attack", "pgd_l2@0.5",
             "--gradient", "bptt@2", "--iterations", 1, "--jobs", 1, "--out", "part"]
    code, out, err = ep_hw(*asked, "--only", "mine:clean", "--baseline", "mine")
    assert (code, "cells are missing" in out) == (0, True), err
    renamed = [str(word).replace("mine", "yours") for word in asked]
    code, out, err = ep_hw(*renamed, "--only", "yours:clean", "--baseline", "yours")
    assert (code, "cells are missing" in out) == (0, True), err   # the folder of the same question
    assert "two machines have one label" in refused(*asked[:-1], "other", "--on", "mine=loihi")
    assert "two machines have one label" in refused("cost", model, "--on", "q=loihi", "--on", "q=lava", "--images", 1)
    code, out, err = ep_hw("cost", model, "--on", "q=loihi", "--images", 1, "--out", "cost")
    assert (code, "\u2502 q " in out) == (0, True), err
    assert Path("cost/cost.csv").read_text().splitlines()[1].endswith(",loihi")


def test_runs_are_compared_by_full_names_and_shown_by_labels(ep_hw, found, tmp_path):
    code, out, err = ep_hw("compare", found.folder, found.folder, "--out", "numbers.json")
    assert code == 0, err
    assert "\u2502 mine " in out
    assert "transfer:mine:pgd_l2@0.5" in out
    rows = json.loads((tmp_path / "numbers.json").read_text())["paired"]
    assert ("mine", FULL) in {(row["machine_label"], row["machine"]) for row in rows}
    run = FinishedRun.of(found.folder)
    assert [run.machine(name) for name in ("mine", FULL, "reference", "x")] == [FULL, FULL, "reference", "x"]


def test_rungs_on_the_way_keep_their_names(model):
    plan = workflow.plan_evaluation(model, Request([f"mine={FULL}"], images=2, chips=1))
    names = {(cell.configuration.machine, cell.machine) for cell in cells_of(plan, Path())}
    assert {one for one in names if one[0] != one[1]} == {(FULL, "mine")}
