"""Evaluation: cells are written once, the same command gives the same bytes, a kill loses at most a cell."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from memory import abandoned_memory, left_since
from networks import saved, small_network
from processes import all_end, descendants

import simulators
from ep_hw import workflow
from ep_hw.analysis.rows import plain
from ep_hw.analysis.statistics import wilson
from ep_hw.evaluation import summary as summaries
from ep_hw.evaluation.cells import OPTIONAL, SCHEMA, TABLES, Configuration, all_rows, missing, run_cell
from ep_hw.evaluation.checks import verdicts
from ep_hw.evaluation.execution import Machines, Run, run_task
from ep_hw.evaluation.plan import Limits, cells_of, chips_of, evaluate
from ep_hw.evaluation.probes import probe, probe_plan
from ep_hw.evaluation.rungs import named, rungs_of
from ep_hw.evaluation.selection import with_needs
from ep_hw.evaluation.suites import Request
from ep_hw.networks import programs
from ep_hw.networks.checkpoint import load
from ep_hw.networks.programs import reference_of
from ep_hw.threats.attacks import AttackSettings, differing, perturbation
from ep_hw.threats.attacks.pgd import PGDAttack
from ep_hw.threats.attacks.square import Square
from ep_hw.threats.registry import ATTACKS, CORRUPTIONS
from ep_hw.threats.threat import Threat, parse_threat
from mapping import Refusal, compile, load_program
from mapping.registry import REGISTRY
from simulators.crossbar.recording import record
from simulators.crossbar.tiled import put_on_tiles
from simulators.machine import InProcessMachine

FAST = AttackSettings(gradients=("bptt@5", "ep@0.5"), iterations=3, queries=20, eot=1, votes=3)
FIELDS = {"model", "dataset", "machine", "threat", "strength", "chip_seed", "n", "accuracy", "ci_low", "ci_high",
          "agreement", "flips_to_wrong", "flips_to_right", "seconds", "key"}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(saved(small_network(5, steps=20), tmp_path_factory.mktemp("model")))


def small_plan(model, machines=("loihi", "crossbar:pcm"), threats=("pgd_l2@0.5", "contrast@3"), run=None, **changes):
    asked = {"images": 12, "chips": 2, "settings": FAST, **changes}
    plan = workflow.plan_evaluation(model, Request(machines, [parse_threat(t) for t in threats], **asked), run=run)
    return replace(plan, limits=Limits(probed=2))


def run(plan, folder):
    """Its cells and results, without probes and report."""
    return evaluate(plan, folder)[0]


@pytest.fixture(scope="module")
def finished(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return small_plan(model), folder, run(small_plan(model), folder)


def test_an_evaluation_has_a_row_a_cell(finished):
    _, _, summary = finished
    for row in plain(summary):
        assert set(row) >= FIELDS
        assert row["n"] == 12
        assert row["ci_low"] <= row["accuracy"] <= row["ci_high"]
    seen = {(r["machine"], r["chip_seed"], str(r["threat"])) for r in summary}
    assert len(seen) == len(summary)
    transfer = "transfer:reference:pgd_l2@0.5"
    assert seen >= {("reference", None, "clean"), ("loihi", None, "pgd_l2@0.5"),
                    ("crossbar:pcm", 1, transfer), ("crossbar:pcm/aged", 0, transfer)}


def test_summary_is_counted_from_the_images(finished):
    _, folder, summary = finished
    table = pq.read_table(folder / "results.parquet").to_pylist()
    for row in summary:
        rows = [r for r in table if r["key"] == row["key"]]
        right = [r["prediction"] == r["label"] for r in rows]
        reference_right = [r["reference_prediction"] == r["label"] for r in rows]
        assert row["accuracy"] == np.mean(right)
        assert row["flips_to_wrong"] - row["flips_to_right"] == sum(reference_right) - sum(right)
        assert row["agreement"] == np.mean([r["prediction"] == r["reference_prediction"] for r in rows])


def test_means_of_a_summary_are_those_of_numpy_to_the_bit():
    rng = np.random.default_rng(0)
    for n in (1, 2, 3, 7, 8, 9, 63, 250, 1000):
        values = rng.standard_normal(n)
        assert summaries._mean(values) == values.mean()
        assert summaries._count(values > 0) / n == (values > 0).mean()


def test_the_summary_says_how_far_a_machine_is_from_the_reference_on_the_same_images(finished):
    plan, _, summary = finished
    rows = {(r["machine"], r["threat"].name): r for r in summary}
    images = plan.images.images
    reference, loihi = (simulators.open(plan.programs[name]).relax(images) for name in ("reference", "loihi"))
    distance = (loihi.logits - reference.logits).double()
    right = reference.prediction == plan.images.labels
    assert 0 < right.sum() < len(right)
    for name, found in (("logit_rmse", distance), ("logit_rmse_clean_correct", distance[right])):
        assert rows["loihi", "clean"][name] == pytest.approx(found.square().mean().sqrt().item())
    for row in summary:
        assert row["gap"] == pytest.approx((row["flips_to_right"] - row["flips_to_wrong"]) / row["n"])
        assert row["gap_low"] <= row["gap"] <= row["gap_high"]
        assert (row["logit_rmse"] > 0) == (row["machine"] != "reference")


def test_the_summary_says_what_each_circuit_met(finished, model, tmp_path):
    """Shares of the summary against a machine asked directly; only crossbars clip and have two directions to compare.
    """
    _, _, summary = finished
    for row in summary:
        analog = row["machine"].startswith("crossbar:")
        assert (row["winner_flips"] is not None, row["asymmetry"] is not None) == (analog, analog)
        assert (row["saturation"] is not None) == (row["machine"] == "crossbar:pcm")
    name = "crossbar:pcm[arrays=separate,adc_margin=0.2]"
    plan = small_plan(model, machines=(name,), threats=(), chips=1, settings=FAST.model_copy(update={"votes": 1}))
    row = next(r for r in run(plan, tmp_path) if r["machine"] == name)
    machine, cell = simulators.open(plan.programs[name]), next(
        c for c in cells_of(plan, tmp_path) if c.configuration.machine == name)
    machine.relax(plan.images.images, generator=cell.generator("verdict"))
    clipped = machine.saturation()
    assert row["saturation"] == sum(s.clipped for s in clipped) / sum(s.conversions for s in clipped) > 0.001
    assert row["asymmetry"] == max(projection.asymmetry for projection in machine.projections) > 0.01
    flips = machine.substrate.flips
    assert row["winner_flips"] == sum(int(f.flips) for f in flips) / sum(f.windows for f in flips)


def test_same_command_same_bytes_for_any_number_of_workers_and_another_seed_other_images(finished, model, tmp_path):
    _, folder, _ = finished
    run(small_plan(model, run=Run(jobs=2)), tmp_path / "again")
    assert (tmp_path / "again/results.parquet").read_bytes() == (folder / "results.parquet").read_bytes()
    run(small_plan(model, ("reference",), (), seed=1), tmp_path / "other")
    first, other = (pq.read_table(path / "results.parquet") for path in (folder, tmp_path / "other"))
    assert set(first["image_id"].to_pylist()) != set(other["image_id"].to_pylist())


def test_finished_cells_are_not_computed_again(finished):
    plan, folder, _ = finished
    cells = cells_of(plan, folder)
    lost = cells[len(cells) // 2]
    before = {c.stem: c.stored.table_path.stat().st_mtime_ns for c in cells}
    results = (folder / "results.parquet").read_bytes()
    lost.stored.record_path.unlink()
    run(plan, folder)
    rewritten = [c for c in cells if c.stored.table_path.stat().st_mtime_ns != before[c.stem]]
    assert rewritten == [lost]
    assert (folder / "results.parquet").read_bytes() == results


DAMAGE = {"empty": lambda blob: b"", "cut": lambda blob: blob[:len(blob) // 2], "longer": lambda blob: blob + b"0",
          "flipped": lambda blob: blob[:99] + bytes([blob[99] ^ 1]) + blob[100:], "gone": None}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("path", ["table_path", "images_path", "record_path"])
def test_a_damaged_cell_is_seen_and_computed_again(finished, tmp_path, caplog, path, damage):
    plan, folder, _ = finished
    cell = next(c for c in cells_of(plan, folder) if c.stored.images_path.exists())
    copied = replace(cell, folder=tmp_path)
    for name in ("table_path", "images_path", "record_path"):
        getattr(copied.stored, name).write_bytes(getattr(cell.stored, name).read_bytes())
    assert copied.done()
    file = getattr(copied.stored, path)
    file.write_bytes(damage(file.read_bytes())) if damage else file.unlink()
    assert not copied.done()
    if path == "record_path" and damage is None:
        assert not caplog.messages, "a cell without a record was never finished"
    else:
        assert "a stored cell is damaged" in caplog.text
        assert "computed again" in caplog.text


@pytest.mark.parametrize("name", SCHEMA.names)
def test_rows_without_a_value_are_none_of_a_cell(finished, tmp_path, name):
    """Whatever vouches for them."""
    plan, folder, _ = finished
    cell = next(c for c in cells_of(plan, folder) if c.stored.images_path.exists())
    rows, copied = cell.read(), replace(cell, folder=tmp_path)
    none = pa.nulls(len(rows), SCHEMA.field(name).type)
    copied.stored.write(rows.set_column(rows.column_names.index(name), SCHEMA.field(name), none),
                        cell.adversarial().numpy(), 1.0, {})
    assert copied.done() == (name in OPTIONAL)


@pytest.mark.parametrize("taken", [False, True], ids=["read", "taken by another"])
@pytest.mark.parametrize("path", ["table_path", "images_path", "record_path"])
def test_a_run_over_damaged_cells_mends_them(finished, tmp_path, caplog, path, taken):
    """Also those that nothing but a missing cell reads."""
    plan, folder, _ = finished
    copied = shutil.copytree(folder, tmp_path / "copied")
    cells = cells_of(plan, copied)
    whole = next(c for c in cells if c.needs and all(need.stored.images_path.exists() for need in c.needs))
    damaged = whole.needs[0] if taken else next(c for c in cells if c.shown and c.stored.images_path.exists())
    if taken:
        whole.stored.record_path.unlink()
    getattr(damaged.stored, path).write_bytes(b"damaged")
    run(plan, copied)
    assert damaged.done()
    assert "computed again" in caplog.text
    assert (copied / "results.parquet").read_bytes() == (folder / "results.parquet").read_bytes()


@pytest.mark.parametrize("images", [np.zeros((12, 1, 8, 8)), np.array(b"x"), np.zeros(0, np.float32)])
def test_images_of_another_type_are_not_believed(finished, tmp_path, caplog, images):
    plan, folder, _ = finished
    cell = next(c for c in cells_of(plan, folder) if c.stored.images_path.exists())
    forged = replace(cell, folder=tmp_path)
    forged.stored.write(cell.read(), images, 1.0, {})
    assert not forged.done()
    assert "a stored cell is damaged" in caplog.text


def test_a_cell_of_other_images_in_its_place_is_not_believed(finished, tmp_path, caplog):
    plan, folder, _ = finished
    cells = [c for c in cells_of(plan, folder) if c.configuration.machine == "loihi"]
    for name in ("table_path", "record_path"):
        getattr(replace(cells[0], folder=tmp_path).stored, name).write_bytes(
            getattr(cells[1].stored, name).read_bytes())
    assert not replace(cells[0], folder=tmp_path).done()
    assert "got another cell" in caplog.text


def test_the_reference_answers_once_what_many_machines_meet(model, tmp_path, monkeypatch):
    """And the rows are those of cells that ran alone."""
    plan = small_plan(model, ["crossbar:pcm"], ["contrast@3", "contrast@5"])
    cells = [replace(c, folder=tmp_path) for c in cells_of(plan, tmp_path) if c.machine != "reference"]
    asked = []
    with Machines({plan.model: plan.programs}, "cpu") as machines:
        reference = machines.get(plan.model, "reference")
        relax = reference.relax
        monkeypatch.setattr(reference, "relax", lambda images: asked.append(images) or relax(images))
        assert list(run_task(cells, machines)) == cells
    assert len(asked) == len({c.configuration.threat for c in cells}) < len(cells)
    for cell in cells:
        alone, c = replace(cell, folder=tmp_path / "alone"), cell.configuration
        alone.folder.mkdir(exist_ok=True)
        run_cell(alone, *(simulators.open(plan.programs[name], chip_seed=c.chip_seed or 0)
                          for name in (c.machine, "reference")))
        assert str(alone.read().to_pylist()) == str(cell.read().to_pylist())


@pytest.mark.parametrize("tables", [2, TABLES])
def test_cells_read_together_have_the_rows_of_each(finished, monkeypatch, tables):
    monkeypatch.setattr("ep_hw.evaluation.cells.TABLES", tables)
    plan, folder, _ = finished
    cells = cells_of(plan, folder)
    records, table = all_rows(cells)
    each = [cell.rows() for cell in cells]
    assert records == [record for record, _ in each]
    assert str(table.to_pylist()) == str([row for _, rows in each for row in rows.to_pylist()])   # NaN is no NaN


FORGED = {"rows of another cell": lambda rows, other: other,
          "rows in another order": lambda rows, other: rows.take(list(reversed(range(len(rows))))),
          "a row fewer": lambda rows, other: rows.slice(1),
          "no value": lambda rows, other: rows.set_column(
              rows.column_names.index("steps"), SCHEMA.field("steps"), pa.nulls(len(rows), pa.float64())),
          "another column": lambda rows, other: rows.append_column("more", [rows["label"]])}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_of_cells_read_together_the_damaged_one_is_named(finished, tmp_path, forge):
    plan, folder, _ = finished
    cells = [c for c in cells_of(plan, shutil.copytree(folder, tmp_path / "copied")) if not c.configuration.settings]
    bad, other = cells[1], cells[2]
    bad.stored.write(forge(bad.read(), other.read()), None, 1.0, {})
    with pytest.raises(Refusal, match=bad.stem):
        all_rows(cells)


def test_shards_pool_into_one_row_and_corruptions_are_the_same_on_every_machine(model, tmp_path):
    plan = small_plan(model, machines=("reference", "loihi"), threats=("gaussian_noise@5",))
    sharded = replace(plan, limits=Limits(probed=2, shard=5))
    summary = run(sharded, tmp_path)
    assert {r["n"] for r in summary} == {12}
    assert len({c.configuration.key for c in cells_of(sharded, tmp_path)}) == len(summary)
    assert len(cells_of(sharded, tmp_path)) == 3 * len(summary)
    rows = pq.read_table(tmp_path / "results.parquet").to_pylist()
    norms = [[x["norm"] for x in rows if x["machine"] == machine and x["threat"] == "gaussian_noise"]
             for machine in ("loihi", "reference")]
    assert norms[0] == norms[1]
    assert min(norms[0]) > 0


def test_a_compiled_program_runs_again_to_the_same_bytes(model, tmp_path):
    for name in ("loihi", "crossbar:pcm"):
        program = compile(workflow.load(model).lower(), name)
        program.save(tmp_path / name)
        for way, machine in (("saved", str(tmp_path / name)), ("named", name)):
            run(small_plan(model, machines=(machine,), chips=1, images=4), tmp_path / way / name)
        saved, named = ((tmp_path / way / name / "results.parquet").read_bytes() for way in ("saved", "named"))
        assert saved == named


def test_a_program_of_another_network_is_refused_wherever_a_machine_is_named(model, tmp_path):
    """Of equal shapes: an evaluation, a transfer, and what the measurements run; only `why` may compare two."""
    folder, net = str(tmp_path / "other"), workflow.load(model)
    compile(small_network(6).lower(), "loihi").save(Path(folder))
    for run_it in (lambda: small_plan(model, machines=(folder,)), lambda: programs.programs_of(net, [folder], []),
                   lambda: programs.program_of(folder, net.lower())):
        with pytest.raises(Refusal, match="another network"):
            run_it()
    assert programs.program_like(folder, net.lower()).digest() == load_program(folder).digest()


def test_two_programs_of_one_name_are_refused_and_one_twice_is_one(model, tmp_path):
    """A program that was calibrated on other images bears its machine's name; run in its place it would be a lie."""
    net = workflow.load(model)
    compile(net.lower(), "crossbar:pcm").save(tmp_path / "same")
    net = replace(net, calibration=net.calibration.flip(0)[:7] * 0.5)
    compile(net.lower(), "crossbar:pcm").save(tmp_path / "calibrated")
    same, calibrated = (str(tmp_path / name) for name in ("same", "calibrated"))
    assert list(programs.named_programs(workflow.load(model), ["crossbar:pcm", same, same])) == ["crossbar:pcm"]
    assert list(programs.named_programs(workflow.load(model), [same, "loihi"])) == ["crossbar:pcm", "loihi"]
    for machines in (["crossbar:pcm", calibrated], [same, calibrated]):
        with pytest.raises(Refusal, match="two different programs have one name"):
            programs.named_programs(workflow.load(model), machines)


def test_chips_are_programmed_only_where_there_are_chips(finished):
    plan, _, _ = finished
    assert chips_of(plan, "crossbar:pcm") == [0, 1]
    assert chips_of(plan, "crossbar:ideal") == chips_of(plan, "loihi") == [None]


def test_everything_that_decides_an_outcome_is_in_the_key(finished):
    plan, folder, _ = finished
    cell = next(c for c in cells_of(plan, folder)
                if c.configuration.source and c.configuration.chip_seed == 1 and len(c.images) > 2)
    base, data = cell.configuration, cell.images
    changes = {"model": "x", "dataset": "x", "machine": "x", "program": "x", "reference": "x", "code": {"pgd": 0},
               "threat": replace(base.threat, strength=9), "chip_seed": 2, "seed": 7,
               "settings": FAST.model_copy(update={"iterations": 4}), "votes": 9, "device": "cuda",
               "source": replace(base.source, program="x"), "published": "x", "joined": (base.source,),
               "data_sha256": "x", "begun": base.source, "black_box": base.source}
    assert set(changes) == {f.name for f in fields(base)}
    keys = {replace(base, **{name: value}).key for name, value in changes.items()}
    assert len(keys | {base.key}) == len(changes) + 1
    others = {"data": "x", "images": data.images + 2**-20, "labels": data.labels.roll(1), "ids": data.ids + 1}
    assert {*others, "sha256", "class_names"} == {f.name for f in fields(data)}   # in the configuration; words alone
    stems = {replace(cell, images=replace(data, **{name: value})).stem for name, value in others.items()}
    assert len(stems | {cell.stem}) == len(others) + 1


def test_a_white_box_takes_over_what_the_same_attack_made_on_the_other_machines(finished):
    """No image that any machine of the run made for another fools that one, and its final row says otherwise."""
    plan, folder, summary = finished
    cells = cells_of(plan, folder)
    ends = {(c.configuration.machine, c.configuration.chip_seed): c for c in cells if c.configuration.joined}
    assert [(m, chip, [one.configuration.machine for one in cell.joined]) for (m, chip), cell in ends.items()] == [
        ("reference", None, ["reference", "loihi", "crossbar:pcm"]), ("loihi", None, ["loihi", "crossbar:pcm"]),
        ("crossbar:pcm", 0, ["crossbar:pcm", "loihi"]), ("crossbar:pcm", 1, ["crossbar:pcm", "loihi"])]
    assert {c.configuration.depth for c in cells} == {0, 1, 2}
    for name in ("reference", "loihi"):
        cell, machine = ends[name, None], simulators.open(plan.programs[name])
        made = torch.stack([part.adversarial() for part in cell.joined])
        fooled = torch.stack([machine.relax(images).prediction != cell.images.labels for images in made])
        first = fooled.int().argmax(0)   # the own where none does
        assert torch.equal(cell.adversarial(), made[first, torch.arange(len(first))])
        rows, own = (one.read().to_pydict() for one in (cell, cell.joined[0]))
        assert [p == label for p, label in zip(rows["prediction"], rows["label"])] == (~fooled.any(0)).tolist()
        names = [f"transfer:{part.configuration.machine}" for part in cell.joined]
        assert rows["broken_by"] == [names[k] if k else by for k, by in zip(first.tolist(), own["broken_by"])]
        found = next(r for r in summary if (r["machine"], r["threat"].name) == (name, "pgd_l2"))
        assert [lost for lost, _ in found["others"].values()] == (fooled[1:] & ~fooled[0]).sum(1).tolist()
        assert found["others_only"] * found["n"] == pytest.approx((first > 0).sum().item())
    assert {c.stem for c in cells if not c.shown} == {part.stem for c in cells for part in c.joined}
    assert {r["key"] for r in summary} == {c.configuration.key for c in cells if c.shown}


def make_nothing(cell, machine):
    """Store a white box on the reference as one that changes no image."""
    end, nothing = machine.relax(cell.images.images), [0.0] * len(cell.images)
    right, said = (end.prediction == cell.images.labels).tolist(), end.prediction.tolist()
    told = cell.read().to_pydict() | {
        "prediction": said, "reference_prediction": said, "steps": end.steps.double().tolist(), "norm": nothing,
        "logit_rms": nothing, "read_accuracy": list(map(float, right)), "reference_correct_clean": right,
        "broken_by": ["" if one else "clean" for one in right]}
    cell.stored.write(pa.table(told, schema=SCHEMA), cell.images.images.numpy(), 0.0, {})


def test_what_the_own_attack_made_of_a_machine_without_noise_is_judged_once(tmp_path, monkeypatch):
    """Rows of a joined white box are what the machine says; asked is what others broke, as their own rows say."""
    plan = small_plan("digits", ["loihi"], ["pgd_l2@2"], images=4)
    cell = next(c for c in cells_of(plan, tmp_path) if c.configuration.joined and c.machine == "reference")
    with Machines({plan.model: plan.programs}, "cpu") as machines:
        assert list(run_task(sorted(with_needs([cell]), key=lambda c: c.configuration.depth), machines))
    machine, asked, relax = simulators.open(plan.programs["reference"]), [], InProcessMachine.relax
    monkeypatch.setattr(InProcessMachine, "relax", lambda self, images, *args, **kwargs: (
        asked.append(len(images)) or relax(self, images, *args, **kwargs)))
    for weak in (False, True):
        if weak:
            make_nothing(cell.joined[0], machine)
        asked.clear()
        run_cell(cell, machine, machine)
        images, rows, labels = cell.adversarial(), cell.read().to_pydict(), cell.images.labels
        changed = differing(images, cell.joined[0].adversarial())
        assert weak == changed.any()
        assert set(asked) == {int(changed.sum())} - {0}
        fooled = torch.stack([machine.relax(part.adversarial()).prediction != labels for part in cell.joined])
        assert torch.equal(changed, fooled[1:].any(0) & ~fooled[0])
        end = machine.relax(images)
        assert rows["prediction"] == rows["reference_prediction"] == end.prediction.tolist()
        assert (rows["steps"], rows["converged"]) == (end.steps.tolist(), end.converged.tolist())
        assert rows["norm"] == pytest.approx(perturbation(cell.images.images, images, "l2").tolist())


def wrong(cell):
    rows = cell.read().to_pydict()
    return [p != label for p, label in zip(rows["prediction"], rows["label"])]


def test_larger_strengths_go_on_from_smaller_ones_and_probes_from_where_attacks_ended(model, tmp_path):
    """What fell stays broken, in a row for each image; the key of a strength holds those below it."""
    plan = small_plan(model, ("loihi",), ("pgd_l2@0.8", "pgd_l2@0.2"), images=8)
    summary, cells = evaluate(plan, tmp_path)
    direct = {(c.configuration.machine, c.configuration.threat.strength, c.images.digest): c for c in cells
              if c.configuration.threat.is_direct}
    assert len(direct) == 2 * 2 * 2   # machines, strengths, and shards: the images that are probed, and the others
    for (machine, strength, images), cell in direct.items():
        own = cell.joined[0] if cell.configuration.joined else cell
        if strength == 0.2:
            assert own.configuration.begun is None
        else:
            weaker = direct[machine, 0.2, images]
            assert own.begun.stem in {c.stem for c in (weaker, *weaker.joined)}
            assert all(strong or not weak for weak, strong in zip(wrong(weaker), wrong(cell)))
    assert {row["n"] for row in summary} == {8}
    alone = {c.configuration.key for c in cells_of(small_plan(model, ("loihi",), ("pgd_l2@0.8",), images=8), tmp_path)
             if c.configuration.threat.is_direct}
    assert not alone & {c.configuration.key for c in cells}
    probe([(plan, tmp_path, cells)])
    probed = [c for c in cells_of(probe_plan(plan), tmp_path / "probes") if c.shown and c.configuration.begun]
    assert {c.begun.stem for c in probed} <= {c.stem for c in cells_of(plan, tmp_path)}
    for cell in probed:
        assert all(after or not before for before, after in zip(wrong(cell.begun), wrong(cell)))
        with simulators.open(plan.programs[cell.configuration.machine]) as machine:
            assert cell.read()["prediction"].to_pylist() == machine.relax(cell.adversarial()).prediction.tolist()


def test_the_black_box_that_an_attack_ends_with_is_asked_once(model, tmp_path, monkeypatch):
    """Where it is asked for itself, of the same images, as hard: what it broke the attack breaks, in its queries."""
    searched, search = [], Square.run
    monkeypatch.setattr(Square, "run", lambda self, machine, *rest: (
        searched.append((machine.name, self.eps)) or search(self, machine, *rest)))
    settings = FAST.model_copy(update={"ensemble": "paper", "queries": 60, "label": "predicted"})
    plan = small_plan(model, ("loihi",), ("autoattack_linf@0.1", "autoattack_linf@0.02", "square_linf@0.1"), images=8,
                      settings=settings, run=Run(jobs=1))
    run(plan, tmp_path)
    assert sorted(searched) == [(name, eps) for name in ("loihi", "reference") for eps in (0.02, 0.1)]
    own = {(c.configuration.machine, str(c.threat)): c for cell in cells_of(plan, tmp_path)
           for c in (cell, *cell.joined[:1]) if not c.configuration.joined}
    for machine in ("reference", "loihi"):
        square, strong, weak = (own[machine, name] for name in (
            "square_linf@0.1", "autoattack_linf@0.1", "autoattack_linf@0.02"))
        assert strong.configuration.black_box == square.configuration
        assert weak.configuration.black_box is None
        alone, all_broken = square.read().to_pydict(), strong.read().to_pydict()
        assert all(all_broken["broken_by"][n] for n, by in enumerate(alone["broken_by"]) if by)
        taken = [n for n, by in enumerate(all_broken["broken_by"]) if by == "square"]
        assert taken
        assert torch.equal(strong.adversarial()[taken], square.adversarial()[taken])
        tried = [n for n, by in enumerate(all_broken["broken_by"]) if by in ("square", "")]
        assert [all_broken["queries"][n] for n in tried] == [alone["queries"][n] for n in tried]
    threat, last = parse_threat("autoattack_linf@0.1"), parse_threat("square_linf@0.1")
    assert plan.black_box("loihi", threat) == last
    assert plan.black_box("loihi", last) is None
    for other in (replace(plan, attacks=replace(plan.attacks, settings_overrides={last: FAST})),
                  replace(plan, limits=Limits(image_limits={("loihi", "autoattack_linf"): 3}))):
        assert other.black_box("loihi", threat) is None


class Newer(PGDAttack):
    version = 99


def newer_machines(kind):
    """Entries of the registry for all machines of a kind, with a version raised."""
    return [(REGISTRY, name, replace(known, version=99)) for name, known in REGISTRY.items() if known.kind == kind]


def test_the_key_holds_the_code_of_the_machine_of_the_reference_and_of_the_threat(finished, monkeypatch):
    """A version raised changes the cells of its kind, those made from them, and no others."""
    plan, folder, _ = finished
    kinds = {(c.configuration.machine, c.configuration.threat.name): c.stem for c in cells_of(plan, folder)}
    on = [(newer_machines("crossbar"), lambda machine, _: machine.startswith("crossbar")),
          (newer_machines("loihi"), lambda machine, _: machine.startswith("loihi")),
          (newer_machines("reference"), lambda *_: True),
          ([(ATTACKS, "pgd_l2", Newer("pgd_l2", "l2"))], lambda _, threat: "pgd" in threat),
          ([(CORRUPTIONS, "contrast", replace(CORRUPTIONS["contrast"], version=99))],
           lambda _, threat: threat == "contrast")]
    for newer, changed in on:
        with monkeypatch.context() as raised:
            for entry in newer:
                raised.setitem(*entry)
            asked = replace(plan)   # a plan holds the versions that it was asked with
            after = {(c.configuration.machine, c.configuration.threat.name): c.stem for c in cells_of(asked, folder)}
        assert {case for case in kinds if kinds[case] != after[case]} == {case for case in kinds if changed(*case)}


def test_a_key_hashes_all_that_decides_an_outcome_byte_for_byte():
    chip = Configuration(model="m", dataset="d", machine="crossbar:pcm", program="p", reference="r",
                         code={"verdict": 7, "é": 1}, threat=Threat("contrast", 3.0), chip_seed=12, seed=4,
                         settings=None, votes=5)
    text = ('{"chip_seed": 12, "code": {"verdict": 7, "\\u00e9": 1}, "dataset": "d", "device": "cpu", "joined": [], '
            '"machine": "crossbar:pcm", "model": "m", "program": "p", "published": null, "reference": "r", "seed": 4, '
            '"settings": null, "source": null, "threat": "contrast@3", "votes": 5}')
    assert chip.draws == hashlib.sha256(text.encode()).hexdigest()[:16]


def test_keys_that_are_hashed_together_are_those_of_each_cell_alone(finished):
    """What a cell is put together from, or goes on from, is of its own chip."""
    plan, folder, _ = finished
    every = [cell.configuration for cell in cells_of(plan, folder)]
    assert {c.chip_seed for c in every} == {None, 0, 1}
    assert [c.key for c in every] == [replace(c).key for c in every]
    assert len({c.key for c in every}) == len({(c.machine, c.threat, c.chip_seed, len(c.joined)) for c in every})
    assert all(own.chip_seed == c.chip_seed for c in every for own in c.joined[:1])


def test_cells_are_missing_whose_record_is(finished, tmp_path):
    plan, folder, _ = finished
    cells = cells_of(plan, shutil.copytree(folder, tmp_path / "copied"))
    assert not missing(cells)
    for cell in cells[::3]:
        cell.stored.record_path.unlink()
    elsewhere = cells_of(plan, tmp_path / "nowhere")
    assert missing([*cells, *elsewhere]) == [*cells[::3], *elsewhere]


def test_each_purpose_of_a_cell_draws_its_own_numbers(finished):
    plan, folder, _ = finished
    cells = [c for c in cells_of(plan, folder) if c.configuration.machine == "crossbar:pcm"]
    seeds = [c.generator(purpose).initial_seed() for c in cells for purpose in ("attack", "verdict")]
    assert len(set(seeds)) == len(seeds) == 2 * len(cells)


def test_attacks_draw_alike_at_every_strength_of_machines_without_noise(model, tmp_path):
    """Noisy machines draw anew in every cell, and every machine for another attack or seed."""
    plan = small_plan(model, threats=("square_linf@0.1", "square_linf@0.2", "square_l2@0.2"))
    machines = {name: simulators.open(program) for name, program in plan.programs.items()}
    seeds = defaultdict(list)
    for cell in (c for seed in (0, 1) for c in cells_of(replace(plan, asked=replace(plan.asked, seed=seed)), tmp_path)):
        c = cell.configuration
        if c.threat.is_attack and c.threat.source is None:
            machine = machines[c.machine]
            own = "" if machine.deterministic else cell.stem
            seeds[c.threat.kind, c.seed, own].append(cell.attack_generator(machine).initial_seed())
    assert all(len(set(alike)) == 1 for alike in seeds.values())
    assert len({alike[0] for alike in seeds.values()}) == len(seeds)
    assert {len(alike) for alike in seeds.values()} == {1, 2, 4}, "two strengths or one, on reference and loihi"
    for machine in machines.values():
        machine.close()


def test_the_baseline_of_the_mce_is_a_machine_of_the_run_or_another_model(tmp_path):
    threats = [parse_threat("contrast@3"), parse_threat("square_l2@0.5")]
    ask = {"images": 4, "settings": FAST}
    plan = workflow.plan_evaluation("digits", Request(["reference"], threats, baseline="digits-bp-s11", **ask))
    rows = {(r["machine"], r["threat"].name): r for r in evaluate(plan, tmp_path)[0]}
    assert set(rows) == {("reference", "clean"), ("reference", "contrast"), ("reference", "square_l2"),
                         ("digits-bp-s11", "clean"), ("digits-bp-s11", "contrast")}
    other = reference_of(load("digits-bp-s11"))
    with simulators.open(other) as machine:
        right = machine.relax(plan.images.images).prediction == plan.images.labels
    assert rows["digits-bp-s11", "clean"]["accuracy"] == float(right.float().mean())
    assert (plan.asked.machines, plan.asked.baseline) == (("reference",), "digits-bp-s11")
    same = workflow.plan_evaluation("digits", Request(["loihi"], threats, baseline="loihi[weight_bits=8]", **ask))
    assert (same.asked.baseline, "digits-bp-s11" in same.programs) == ("loihi", False)
    with pytest.raises(Refusal, match="allowed: reference, loihi;"):
        workflow.plan_evaluation("digits", Request(["loihi"], threats, baseline="crossbar:pcm", **ask))


def test_a_torch_module_meets_what_the_machines_meet(model, tmp_path):
    contrast = [parse_threat("contrast@3")]
    plan = workflow.plan_evaluation(model, Request(["reference"], contrast, images=6, settings=FAST))
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(plan.images.images[0].numel(), 10))
    summary, _ = evaluate(workflow.with_module(plan, "mine", module), tmp_path)
    rows = {(r["machine"], r["threat"].name): r for r in summary}
    assert set(rows) == {(machine, threat) for machine in ("reference", "mine") for threat in ("clean", "contrast")}
    right = module(plan.images.images).argmax(1) == plan.images.labels
    assert rows["mine", "clean"]["accuracy"] == float(right.double().mean())
    for name in ("reference", "loihi[weight_bits=4]"):
        with pytest.raises(Refusal, match="another machine"):
            workflow.with_module(plan, name, module)


def test_a_module_on_tiles_meets_what_the_machines_meet_on_chips_of_its_own(model, tmp_path):
    contrast = [parse_threat("contrast@3")]
    plan = workflow.plan_evaluation(model, Request(["reference"], contrast, images=6, chips=2, settings=FAST))
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(plan.images.images[0].numel(), 10))
    tiles = put_on_tiles(record(module, plan.images.images, 10), "crossbar:pcm")
    summary = workflow.run(workflow.with_module(plan, "mine", tiles), tmp_path, command="", title="").summary
    seen = [(r["chip_seed"], r["saturation"]) for r in summary if (r["machine"], r["threat"].name) == ("mine", "clean")]
    assert [chip for chip, _ in seen] == [0, 1]
    assert all(share is not None for _, share in seen)
    assert "mine-crossbar-pcm-analog-tiles" in {path.stem for path in (tmp_path / "tables").iterdir()}
    wrong = put_on_tiles(record(module, plan.images.images, 10), "crossbar:ideal")
    with pytest.raises(Refusal, match="other images or classes"):
        workflow.with_module(plan, "mine", replace(wrong, interface=replace(wrong.interface, classes=9)))


def test_modules_without_parameters_have_a_report_and_tables_of_their_own(model, tmp_path):
    square = [parse_threat("square_linf@0.1")]
    plan = workflow.plan_evaluation(model, Request(["reference"], square, images=4, settings=FAST))
    pixels = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.AdaptiveAvgPool1d(10))
    dense = [torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(10)) for _ in range(2)]
    for name, module in (("pixels", pixels), ("first", dense[0]), ("second", dense[1])):
        plan = workflow.with_module(plan, name, module)
    workflow.run(plan, tmp_path, command="", title="")
    written = {path.stem for path in (tmp_path / "tables").iterdir()}
    assert {"first-float-feed-forward", "second-float-feed-forward"} <= written
    assert "pixels-float-feed-forward" not in written
    assert {f"{plan.model}-{name}" for name in ("pixels", "first", "second")} <= {
        path.stem for path in (tmp_path / "cards").iterdir()}


def test_a_module_that_cannot_meet_the_plan_is_refused_before_any_work(model):
    ask = {"images": 4, "settings": FAST}
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(10), Detach())
    black = workflow.plan_evaluation(model, Request(["reference"], [parse_threat("square_l2@0.1")], **ask))
    assert "mine" in workflow.with_module(black, "mine", module).asked.machines
    white = workflow.plan_evaluation(model, Request(["reference"], [parse_threat("pgd_l2@0.1")], **ask))
    with pytest.raises(Refusal, match=r"mine: the module carries no gradient.*pgd_l2@0.1"):
        workflow.with_module(white, "mine", module)
    with pytest.raises(Refusal, match=r"mine: the module gives no logits"):
        workflow.with_module(white, "mine", torch.nn.Flatten())


class Detach(torch.nn.Module):
    def forward(self, x):
        return x.detach()


def test_every_rung_meets_the_threats_that_are_to_be_explained(model):
    threat, other = parse_threat("pgd_l2@0.5"), parse_threat("contrast@3")
    plan = workflow.plan_evaluation(model, Request(["loihi"], [other], explained=[threat], images=4, settings=FAST))
    rungs = [name for name, _ in named(rungs_of(plan.programs["loihi"].target))]
    assert len(rungs) == 3
    assert [(name, threat) in plan.pairs() for name in rungs] == [True] * 3
    assert [name for name in rungs if (name, other) in plan.pairs()] == ["reference", "loihi"]


@pytest.fixture(scope="module")
def uncut(model, tmp_path_factory):
    """What the command of the next test asks for, and its results without interruption."""
    plan, folder = small_plan(model, machines=("crossbar:ideal", "lava"), threats=("contrast@3",), images=4, chips=1,
                              settings=AttackSettings()), tmp_path_factory.mktemp("uncut")
    run(plan, folder)
    return plan, (folder / "results.parquet").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_evaluation_loses_at_most_the_cell_in_flight(model, uncut, tmp_path, ending):
    """With workers, and Lava in one of them: nothing of it outlives the command; one process goes on where it was."""
    command = [sys.executable, "-m", "ep_hw.cli", "evaluate", model, "--on", "crossbar:ideal", "--on", "lava",
               "--images", "4", "--chips", "1", "--corruption", "contrast@3", "--jobs", "2",
               "--out", str(tmp_path / "cut")]
    blocks = abandoned_memory()
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
                               env={**os.environ, "OMP_NUM_THREADS": "1"}, start_new_session=True)
    cells, deadline = tmp_path / "cut" / "cells", time.monotonic() + 120
    while len(list(cells.glob("*.json"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    family = descendants(process.pid)
    assert len(family) >= 3
    os.killpg(process.pid, ending) if ending == signal.SIGINT else process.send_signal(ending)   # as a terminal does
    _, errors = process.communicate(timeout=30)
    assert process.returncode == (130 if ending == signal.SIGINT else -signal.SIGKILL)
    assert b"Traceback" not in errors
    assert all_end(family)
    assert not left_since(blocks)
    assert not (tmp_path / "cut/summary.json").exists()
    kept = {p: p.stat().st_mtime_ns for p in cells.glob("*.json")}   # written last
    assert len(kept) >= 3
    plan, results = uncut
    run(plan, tmp_path / "cut")
    assert all(p.stat().st_mtime_ns == time_ns for p, time_ns in kept.items())
    assert (tmp_path / "cut/results.parquet").read_bytes() == results


@pytest.mark.slow
def test_workers_that_are_still_starting_die_with_the_command(model, tmp_path):
    """One that asks to die with its parent after the parent died would wait for work for ever."""
    command = [sys.executable, "-m", "ep_hw.cli", "evaluate", model, "--on", "crossbar:pcm", "--images", "4", "--chips",
               "2", "--jobs", "2", "--out", str(tmp_path / "cut")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 60
    while len(descendants(process.pid)) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.communicate(timeout=30)   # their standard error is the command's: it closes when the last of them is gone
    assert process.returncode == -signal.SIGKILL


def row(threat, strength, accuracy, machine="loihi", zero_gradient=0.0):
    return {"machine": machine, "chip_seed": None, "threat": Threat.named(threat, strength), "accuracy": accuracy,
            "n": 100, "ci_low": accuracy - 0.05, "ci_high": accuracy + 0.05, "zero_gradient": zero_gradient}


HONEST = [row("clean", 0, 0.9), row("pgd_l2", 0.5, 0.5), row("pgd_l2", 1, 0.2), row("square_l2", 1, 0.6),
          row("transfer:reference:pgd_l2", 0.5, 0.7), row("contrast", 1, 0.1), row("contrast", 3, 0.8)]


def test_an_honest_evaluation_raises_no_flag():
    made = {verdict.check: (verdict.made, verdict.findings) for verdict in verdicts(HONEST)}
    assert made == {"a larger budget never helps the defender": (3, ()),
                    "the black box (Square) is no stronger than the white box": (1, ()),
                    "the transfer is no stronger than the adaptive attack": (1, ()),
                    "the adaptive attack's own gradients are as strong as the transfer from the reference": (1, ()),
                    "most gradients are not zero": (2, ())}


def test_images_made_elsewhere_may_harm_less_where_they_went_further():
    rows = [*HONEST, row("transfer:reference:pgd_l2", 1, 0.8)]
    assert not any("rises" in finding for verdict in verdicts(rows) for finding in verdict.findings)


def test_attackers_who_met_other_images_are_compared_within_half_an_interval():
    """As in a family's budget: 7 of the first 11 images stand before the attack, 14 of 28 before its transfer."""
    white, transfer = row("pgd_l2", 0.5, 7 / 11), row("transfer:reference:pgd_l2", 0.5, 0.5)
    low, high = wilson(7, 11)
    few = [{**white, "n": 11, "ci_low": low, "ci_high": high}, {**transfer, "n": 28}]
    found = [verdict for verdict in verdicts(few) if "transfer" in verdict.check]
    assert [(verdict.images, verdict.findings) for verdict in found] == [(11, ()), (11, ())]
    assert any(verdict.findings for verdict in verdicts([white, transfer]))


@pytest.mark.parametrize(("planted", "words"), [
    (row("pgd_l2", 1, 0.7), "rises"), (row("square_l2", 1, 0.1), "black-box"),
    (row("transfer:reference:pgd_l2", 0.5, 0.3), "the transfer"), (row("pgd_l2", 0.5, 0.5, zero_gradient=0.8), "80%"),
    (row("pgd_l2", 0.5, 0.95), "rises")])
def test_a_planted_fault_raises_its_flag(planted, words):
    same = [r for r in HONEST if r["threat"] != planted["threat"]]
    assert any(words in finding for verdict in verdicts([*same, planted]) for finding in verdict.findings)
