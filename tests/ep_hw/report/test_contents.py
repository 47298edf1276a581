"""From a run to its files: every number of figures, tables and cards comes from the summary, and bytes repeat."""

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from networks import saved, small_network

import simulators
from ep_hw import workflow
from ep_hw.analysis.points import pool
from ep_hw.analysis.rows import plain
from ep_hw.cli.evaluation import as_asked
from ep_hw.evaluation import suites
from ep_hw.evaluation.checks import Verdict
from ep_hw.evaluation.execution import Run
from ep_hw.evaluation.plan import Limits, cells_of
from ep_hw.evaluation.stored_times import stored_times
from ep_hw.evaluation.suites import Request, Suite, Temporal
from ep_hw.evaluation.temporal import measure_times
from ep_hw.networks.family import BP, EP
from ep_hw.report import cards
from ep_hw.report.contents import compared, notes
from ep_hw.report.resources import circuit_table, cost_table, known_costs, resources_of
from ep_hw.report.wording import interval, short_percent
from ep_hw.threats.attacks import AttackSettings
from ep_hw.threats.threat import CLEAN, Threat, parse_threat
from simulators.loihi.events import count_events

THREATS = ("pgd_l2@0.5", "square_l2@0.5", "contrast@3", "fog@3", "zoom_blur@3")
TINY = Suite("for tests", tuple(map(parse_threat, THREATS)),
             AttackSettings(gradients=("bptt@5",), iterations=3, queries=10, eot=1, votes=1), images=6, chips=2,
             temporal=Temporal(0.5, (3,), (4, 12), 2), labels={("pgd_l2", 0.5): "0.49"})
PCM = "crossbar:pcm"
FILES = ("figures/*", "tables/*", "cards/*", "temporal/*", "results.parquet", "report.html")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    return str(saved(small_network(5, steps=20), folder, recipe={"seed": 5}, accuracy={"test": 0.1}))


def plan_of(model):
    return replace(workflow.plan_evaluation(model, Request(suite=TINY)), limits=Limits(probed=0))


def run(plan, folder):
    return workflow.run(plan, folder, command="ep-hw evaluate", title="test").summary


@pytest.fixture(scope="module")
def finished(model, tmp_path_factory):
    plan, folder = plan_of(model), tmp_path_factory.mktemp("run")
    return plan, folder, run(plan, folder)


def files(folder):
    return {str(path.relative_to(folder)): path for pattern in FILES for path in folder.glob(pattern)}


def rows_of(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def test_a_run_writes_its_summary_and_a_page(finished):
    _, folder, summary = finished
    assert json.loads((folder / "summary.json").read_text()) == plain(summary)
    assert (folder / "report.html").read_text().startswith("<!DOCTYPE html>")


def test_clean_accuracies_have_their_images_behind_them_wrong_ones_first(finished):
    """Each image alone with its label and prediction; `images` is below what a gallery holds, so all are there."""
    plan, folder, _ = finished
    page = (folder / "report.html").read_text()
    rows = pq.read_table(folder / "results.parquet").to_pylist()
    for machine in plan.asked.machines:
        own = [row for row in rows if (row["machine"], row["threat"]) == (machine, "clean")
               and row["chip_seed"] in (None, 0)]
        (gallery,) = [figure for figure in page.split('<figure class="gallery"')[1:]
                      if f'{machine.replace(":", ":<wbr>")}, clean</h3>' in figure]
        shots = gallery.partition("</figure>")[0].split('<div class="shot">')[1:]
        assert [shot.count('role="img"') for shot in shots] == [1] * len(own)
        told = [re.search(r"<p>(\w+), image (\d+)</p>\s*<p>[^<]*predicted\s*<span([^>]*)>(\w+)<", shot).groups()
                for shot in shots]
        wrong = [number for label, number, kind, predicted in told if label != predicted]
        assert wrong == [number for _, number, kind, _ in told if "wrong" in kind] == [
            one[1] for one in told[:len(wrong)]]
        assert {int(number): int(predicted) for _, number, _, predicted in told} == {
            row["image_id"]: row["prediction"] for row in own}


@pytest.mark.slow
def test_the_same_cells_give_the_same_files_elsewhere(finished, tmp_path):
    plan, folder, _ = finished
    for kept in ("cells", "temporal"):
        shutil.copytree(folder / kept, tmp_path / kept)
    shutil.copy(folder / "question.json", tmp_path)
    run(plan, tmp_path)
    ours, theirs = files(folder), files(tmp_path)
    assert set(ours) == set(theirs)
    assert len([name for name in ours if name.startswith("figures/")]) >= 10
    assert [name for name, path in ours.items() if path.read_bytes() != theirs[name].read_bytes()] == []


def test_the_suite_decides_what_is_not_said(finished):
    plan, _, _ = finished
    assert (len(plan.images), plan.asked.chips, plan.asked.temporal) == (6, 2, TINY.temporal)
    assert plan.attacks.settings == TINY.settings
    assert set(map(str, plan.asked.threats)) == {*THREATS, "transfer:reference:pgd_l2@0.5"}


def case_of(row):
    """Machine and threat of a row as it was written."""
    return row["machine"], Threat.named(row["threat"], float(row["strength"]))


def test_tables_and_page_print_the_summary(finished):
    plan, folder, summary = finished
    points = {key: p for key, p in pool(summary).items() if key[0] in plan.asked.machines}
    page = " ".join(re.sub(r"<[^>]+>", " ", (folder / "report.html").read_text()).split())
    rows = rows_of(folder / "tables" / "small-accuracy.csv")
    assert set(map(case_of, rows)) == set(points)
    for r in rows:
        point = points[case_of(r)]
        assert float(r["accuracy"]) == point.accuracy.value
        assert (float(r["low"]), float(r["high"])) == (point.accuracy.low, point.accuracy.high)
        assert f"{short_percent(point.accuracy.value)} {interval(point.accuracy)}" in page
    for r in rows_of(folder / "tables" / "small-corruption_means.csv"):
        found = [p.accuracy.value for (machine, threat), p in points.items()
                 if (machine, threat.name) == (r["machine"], r["corruption"])]
        assert float(r["value"]) == pytest.approx(np.mean(found))
        assert int(r["severities"]) == len(found)
    assert "0.49 in the paper" in page


def test_cards_say_what_was_run_and_what_came_of_it(finished):
    plan, folder, summary = finished
    images = pq.read_table(folder / "results.parquet").to_pylist()
    written = {path.stem: json.loads(path.read_text()) for path in (folder / "cards").glob("*.json")}
    assert set(written) == {"small-reference", "small-loihi", "small-crossbar-pcm"}
    for card in written.values():
        machine, points = card["machine"], pool(summary)
        assert card["program"] == plan.programs[machine].digest()
        assert (card["recipe"], card["trained_accuracy"]) == ({"seed": 5}, {"test": 0.1})
        assert card["clean"]["accuracy"] == points[machine, CLEAN].accuracy.value
        own = {Threat.named(a["threat"], a["strength"]): a["accuracy"] for a in card["attacks"]}
        assert own == {threat: p.accuracy.value for (name, threat), p in points.items()
                       if name == machine and threat.is_attack}
        (worst,) = card["worst"]
        assert worst["accuracy"] == pytest.approx(standing(images, machine))
        assert worst["accuracy"] <= min(own.values())
        assert card["corruption_means"]["mean of the 15"] is None
    assert written["small-crossbar-pcm"]["seeds"]["chips"] == [0, 1]


def test_a_hybrid_is_named_so_and_never_stands_for_the_ep_networks(finished):
    plan, folder, summary = finished
    mixed = replace(plan, model="mixed", provenance={**plan.provenance, "recipe": {"kind": "hybrid"}})
    outcome = (summary, list(cells_of(plan, folder)))
    shown = compared(mixed, outcome, [(BP, plan, outcome)])
    assert {entry.kind for entry in shown.entries} == {BP, "mixed"}
    assert shown.own == "mixed"
    assert "Feedback gain (gamma, 1 in the paper): 1 of mixed, small." in shown.notes
    assert "EP" not in json.dumps(shown.content())
    assert notes(mixed, summary)[0].startswith("mixed is a hybrid")
    assert not any("hybrid" in note for note in notes(plan, summary))
    assert compared(plan, outcome, [(BP, plan, outcome)]).own == EP


def standing(images, machine):
    """Fraction of images, mean over chips, that every attack leaves right."""
    attacked = [r for r in images if r["machine"] == machine and "_l2" in r["threat"]]
    chips = {r["chip_seed"] for r in attacked}
    ids = {r["image_id"] for r in attacked}
    return np.mean([all(r["prediction"] == r["label"] for r in attacked if (r["chip_seed"], r["image_id"]) == (c, i))
                    for c in chips for i in ids])


def test_checks_stand_on_the_card_of_their_machine(finished):
    plan, _, summary = finished
    checks = [Verdict(PCM, 1, "falls", 4, 9, ("rises.",)), Verdict(PCM + "/read", 0, "falls", 4, 9, ("rises.",)),
              Verdict("loihi", None, "open", 2, 7, ("masked.", "hidden.")), Verdict("loihi", None, "falls", 3, 8, ())]
    written = {name: cards.card(plan, name, summary, [], checks, {})["trust"] for name in plan.asked.machines}
    assert written == {
        "reference": [], PCM: [{"check": "falls", "chip": 1, "comparisons": 4, "images": 9, "violated": ["rises."]}],
        "loihi": [{"check": "open", "chip": None, "comparisons": 2, "images": 7, "violated": ["masked.", "hidden."]},
                  {"check": "falls", "chip": None, "comparisons": 3, "images": 8, "violated": []}]}
    assert [str(flag) for verdict in checks for flag in verdict.flags] == [
        f"{PCM} (chip 1): rises.", f"{PCM}/read (chip 0): rises.", "loihi: masked.", "loihi: hidden."]


def test_attack_times_are_measured_once(finished, tmp_path):
    plan, folder, _ = finished
    assert len(list((folder / "temporal").glob("*.safetensors"))) == 3 * 2   # machines, and clean images and one time
    program = plan.programs["loihi"]
    ask = ({"loihi": program}, plan.images, plan.asked.temporal, plan.asked.seed, Run())
    fresh, kept, again = (stored_times(where, *ask)["loihi"] for where in (tmp_path, folder / "temporal", tmp_path))
    with simulators.open(program) as machine:
        measured = list(measure_times(machine, plan.images, 0.5, (3,), (4, 12), 2, plan.asked.seed))
    for points in (fresh, kept, again):
        assert all(torch.equal(a.correct, b.correct) for a, b in zip(points, measured, strict=True))
        assert [(p.machine, p.attack_time, p.steps) for p in points] == [
            (p.machine, p.attack_time, p.steps) for p in measured]
    (first, *others) = tmp_path.glob("*.safetensors")
    whole, made = first.read_bytes(), [path.stat().st_mtime_ns for path in others]
    first.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    stored_times(tmp_path, *ask)
    assert (first.read_bytes(), [path.stat().st_mtime_ns for path in others]) == (whole, made)
    stored_times(tmp_path, *ask[:3], plan.asked.seed + 1, Run())
    assert len(list(tmp_path.glob("*.safetensors"))) == 4


@pytest.mark.slow
def test_attack_times_are_the_same_whoever_measures_them(finished, tmp_path):
    """One worker a time, and none: a machine with chips and read noise among them."""
    plan, folder, _ = finished
    relaxing = {name: plan.programs[name] for name in plan.asked.machines}
    shared = stored_times(tmp_path, relaxing, plan.images, plan.asked.temporal, plan.asked.seed, Run(jobs=2))
    alone = stored_times(folder / "temporal", relaxing, plan.images, plan.asked.temporal, plan.asked.seed, Run())
    assert list(shared) == list(alone) == list(plan.asked.machines)
    for name in plan.asked.machines:
        assert all(torch.equal(a.correct, b.correct) for a, b in zip(shared[name], alone[name], strict=True))


def test_costs_are_the_machines_own_with_their_sources(finished):
    plan, folder, summary = finished
    taken, (report,) = resources_of(plan)
    costs = cost_table(taken)
    assert [row[0] for row in costs.rows] == ["reference", "loihi", "loihi", "crossbar:pcm"]
    with simulators.open(plan.programs["crossbar:pcm"]) as machine:
        cost = machine.cost()
        machine.relax(plan.images.images)
        assert report.rows == machine.report().rows
    low, high = (float(f"{1e6 * end:.2g}") for end in taken[1].cost.energy_range_j)
    assert costs.rows[1][4] == f"{low:g} to {high:g}"
    assert costs.rows[-1][3:] == ("none published", "", "", "none published", "", "none published", "")
    assert any(cost.source.rstrip(".") in note for note in costs.notes)
    with simulators.open(plan.programs["loihi"]) as twin:
        operations = count_events(twin, plan.images.images).operations.mean()
    assert costs.rows[1][2] == pytest.approx(operations / 1e6, abs=1e-3)
    assert costs.rows[1][2] < costs.rows[2][2]
    clean = [r for r in summary if (r["machine"], r["threat"]) == ("crossbar:pcm", CLEAN)]
    (table,) = circuit_table([r for r in summary if r["machine"] in plan.asked.machines])
    assert table.rows[0][:2] == ("crossbar:pcm", "clean")
    assert table.rows[0][3] == f"{np.mean([r['winner_flips'] for r in clean]):.2%}"
    assert cost_table([]).rows == ()
    assert known_costs(taken) == {"loihi": taken[1].cost}
    own, neighbour = (f"{1e6 * joules:.2g}" for joules in (taken[1].cost.energy_j, taken[1].cost.neighbour_j))
    assert f"{own} µJ on loihi ({neighbour} at Hala Point" in (folder / "report.html").read_text()
    assert [row[5] for row in costs.rows] == ["", *(f"{float(f'{6.842e-6 * n:.2g}'):g}" for n in (
        operations, taken[2].cost.operations)), ""]


def test_the_terminal_lists_machines_and_threats_as_they_were_asked_for(model):
    asked = list(map(parse_threat, ("square_l2@1", "pgd_l2@0.5")))
    plan = workflow.plan_evaluation(model, Request(["loihi", "loihi:weights"], asked, images=4))
    cases = [(machine, parse_threat(threat)) for machine, threat in (
        ("reference", "pgd_l2@0.5"), ("loihi:weights", "pgd_l2@0.5"), ("loihi", "transfer:reference:pgd_l2@0.5"),
        ("loihi", "pgd_l2@0.5"), ("loihi", "fog@3"), ("loihi", "square_l2@1"), ("lava", "clean"), ("loihi", "clean"))]
    assert as_asked(plan, dict.fromkeys(cases)) == [cases[n] for n in (0, 7, 5, 3, 2, 4, 1, 6)]


def test_the_terminal_averages_chips_unless_asked(ep_hw, refused, monkeypatch):
    monkeypatch.setitem(suites.SUITES, "tiny", replace(TINY, threats=(), temporal=None, images=6))
    command = ("evaluate", "digits", "--suite", "tiny", "--on", "crossbar:pcm", "--corruption", "contrast@3", "--jobs",
               1, "--alone", "--out", "run")
    code, out, err = ep_hw(*command)
    assert code == 0, err
    assert not Path("run/family").exists()
    lines = [line.split("│") for line in out.splitlines() if "crossbar:pcm " in line]
    assert [(cells[2].strip(), cells[3].strip()) for cells in lines] == [("2", "clean"), ("2", "contrast@3")]
    summary = [r for r in json.loads(Path("run/summary.json").read_text()) if r["machine"] == "crossbar:pcm"]
    mean = np.mean([r["accuracy"] for r in summary if r["threat"] == "contrast"])
    assert lines[1][4].strip() == f"{mean:.3f}"
    assert all(re.fullmatch(r"\d+\.\d", cells[column].strip()) for cells in lines for column in (7, 8))
    _, each, _ = ep_hw(*command, "--each-chip")
    lines = [line.split("│") for line in each.splitlines() if "crossbar:pcm " in line]
    assert [(cells[2].strip(), cells[3].strip()) for cells in lines] == [
        (str(chip), threat) for threat in ("clean", "contrast@3") for chip in (0, 1)]
    assert "paper, quick, cifar-c" in refused("evaluate", "digits", "--suite", "thorough")
