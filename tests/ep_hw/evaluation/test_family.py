"""Families: who belongs to one, what is decided from their intervals, and a tiny one evaluated end to end."""

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import saved, small_network
from scipy import stats

import ep_hw
from ep_hw import workflow
from ep_hw.analysis import paper
from ep_hw.analysis.corruption_error import SEVERITIES
from ep_hw.analysis.points import Estimate, pool
from ep_hw.analysis.statistics import difference_interval, smallest_detectable, student, wilson
from ep_hw.data import load_data
from ep_hw.evaluation.allocation import LEAST, allocate, share_out
from ep_hw.evaluation.budget import LEAST_QUERIES, TRIAL_QUERIES
from ep_hw.evaluation.execution import silent
from ep_hw.evaluation.plan import Limits, cells_of
from ep_hw.evaluation.price import Price
from ep_hw.evaluation.suites import Request
from ep_hw.networks.baselines import Baseline, CNNSpec
from ep_hw.networks.checkpoint import packaged_models, provenance_of
from ep_hw.networks.family import ADVERSARIAL, BP, EP, KINDS, VIT, Member, kind_of, members
from ep_hw.networks.seeds import named_networks, same_recipe
from ep_hw.report.contents import seeds_pooled
from ep_hw.report.entry import Entry, lead
from ep_hw.report.models import TOLLS, Claim, Contest, claims, models
from ep_hw.report.tolls import Open, Toll, stated, tolls
from ep_hw.threats.attacks import AttackSettings
from ep_hw.threats.corruptions import ALL, MAIN
from ep_hw.threats.threat import Threat, parse_threat
from mapping.files import parse_signed, sign

N = 200
PGD = paper.STRENGTHS["table 3", "pgd_l2"]


def row(accuracy, threat="clean", strength=0.0, machine="reference"):
    low, high = wilson(round(accuracy * N), N)
    return {"model": "net", "dataset": "cifar10", "machine": machine, "threat": Threat(threat, strength),
            "chip_seed": None, "n": N, "accuracy": accuracy, "ci_low": low, "ci_high": high, "agreement": 1.0,
            "flips_to_wrong": 0, "flips_to_right": 0}


def entry(name, seeds, machine="reference"):
    """A model whose seeds have these accuracies, one list a seed: clean, then Table 3's strengths.

    What is harder is failed on the same images and others.
    """
    cases = [("clean", 0.0), *(("pgd_l2", s) for s in PGD.values())]
    right = tuple({Threat(*case): np.arange(N) < round(a * N) for a, case in zip(accuracies, cases)}
                  for accuracies in seeds)
    return Entry(name, machine, tuple(pool([row(a, *case, machine) for a, case in zip(accuracies, cases)])
                                      for accuracies in seeds), right)


def test_members_are_found_by_name_kind_by_kind():
    found = members("digits", packaged_models())
    assert [m.kind for m in found] == [kind for kind in KINDS.values() for _ in range(5)]
    seeds = {kind: {m.model.rpartition("-")[2] for m in found if m.kind == kind} for kind in KINDS.values()}
    assert set(map(frozenset, seeds.values())) == {frozenset({"s11", "s13", "s17", "s19", "s31"})}
    assert members("digits-bp-s11", packaged_models()) == ()
    names = ["x", "x-bp", "x-vit-s1", "x-noise-s1", "x-ep-s1-old", "xy-bp", "y.x-bp"]
    assert members("x", names) == (Member("x-bp", BP), Member("x-vit-s1", VIT))
    assert members("x.", ["xy-bp"]) == ()


def test_no_packaged_network_counts_as_an_ep_network_that_its_recipe_does_not_make_one():
    names = packaged_models()
    counted = {member.model for name in names for member in members(name, names) if member.kind == EP}
    assert counted >= {"digits-ep-s11", "cifar10-small-ep-s2"}
    assert {kind_of({"recipe": provenance_of(name)[0].recipe}) for name in counted} == {EP}


def made(name, kind="ep", **recipe):
    """A network that says how it was made; all that pooling asks of its plan."""
    return SimpleNamespace(model=name, provenance={"recipe": {"kind": kind, "data": "digits", **recipe}, "data": {}})


@given(recipes=st.lists(st.tuples(st.sampled_from([*KINDS.items()]), st.integers(0, 2)), max_size=16))
def test_seeds_of_one_recipe_are_pooled_and_no_other_network_joins_them(recipes):
    own = made("net", epochs=0, seed=0)
    family = [(kind, made(f"net-{code}-s{n}", code, epochs=epochs, seed=n)) for n, ((code, kind), epochs)
              in enumerate(recipes, 1)]
    called, networks = seeds_pooled(own, own, [(kind, one, one) for kind, one in family])
    assert sorted(one.model for ones in networks.values() for one in ones) == sorted(
        one.model for one in (own, *(one for _, one in family)))
    for name, ones in networks.items():
        assert all(same_recipe(ones[0].provenance, one.provenance) for one in ones)
        assert name in (*KINDS.values(), "net") or [one.model for one in ones] == [name]
    assert networks[called][0] is own
    seeds = sum((kind, one.provenance["recipe"]["epochs"]) == (EP, 0) for kind, one in family)
    assert called == (EP if seeds < 5 else "net")
    assert len(networks[EP]) == seeds + (called == EP)


def test_the_packaged_families_pool_what_their_checkpoints_say():
    """The paper's five seeds of digits as they are; all that there are of cifar10-small, itself the first."""
    pooled = {}
    for model in ("digits", "cifar10-small"):
        plans = {name: SimpleNamespace(model=name, provenance=provenance_of(name)[0].model_dump(mode="json"))
                 for name in packaged_models()}
        found = [(m.kind, plans[m.model], m.model) for m in members(model, packaged_models())]
        pooled[model] = seeds_pooled(plans[model], model, found)
    assert pooled["digits"] == ("digits", {"digits": ["digits"], **{
        kind: [f"digits-{code}-s{seed}" for seed in (11, 13, 17, 19, 31)] for code, kind in KINDS.items()}})
    called, networks = pooled["cifar10-small"]
    assert called == EP
    assert networks[EP][:2] == ["cifar10-small", "cifar10-small-ep-s2"]
    assert set(networks[EP]) == set(named_networks("seeds:cifar10-small"))
    assert all(len(ones) == 1 for kind, ones in networks.items() if kind != EP)


@given(right=st.tuples(*[st.integers(0, N)] * 2))
def test_two_seeds_have_student_s_interval_of_one_degree_of_freedom(right):
    """Or that of the images, where it is wider."""
    first, second = (count / N for count in right)
    mean = entry(EP, [[first], [second]]).mean([Threat("clean", 0.0)])
    half = np.tan(0.475 * np.pi) * abs(first - second) / 2   # Student's t of one degree of freedom is Cauchy's
    images = wilson(round(mean.value * N), N)
    assert mean.value == pytest.approx((first + second) / 2)
    assert mean.low == pytest.approx(max(0, min(images.low, mean.value - half)), abs=1e-9)
    assert mean.high == pytest.approx(min(1, max(images.high, mean.value + half)), abs=1e-9)


@pytest.mark.parametrize(("ends", "outcome"), [
    ((0.1, 0.02, 0.2), "reproduced"), ((-0.1, -0.2, -0.02), "not reproduced"), ((0.1, -0.02, 0.2), "undecided")])
def test_a_verdict_is_decided_from_the_interval_of_the_lead(ends, outcome):
    ours, theirs = Estimate(0.6, 0.5, 0.7), Estimate(0.5, 0.4, 0.6)
    verdict = Contest(EP, VIT, ours, theirs, Estimate(*ends))
    assert verdict.outcome == outcome
    behind = Estimate(*(end - 0.3 for end in ends))
    assert Contest(EP, VIT, ours, theirs, behind, allowed=0.3).outcome == outcome
    clear = Contest(EP, BP, Estimate(0.6, 0.6, 0.6), Estimate(0.1, 0.1, 0.1), Estimate(0.5, 0.4, 0.6))
    claim = Claim("EP wins", "Clean images", (clear, verdict))
    assert claim.outcome == outcome, "one pair is enough to refute or to leave open"
    assert f"EP wins: {outcome}" in str(claim)
    assert ("(open: EP-CNN over ViT)" in str(claim)) == (outcome == "undecided")
    shown = [f"{100 * abs(end):.1f}" for end in ends]
    assert all(number in str(claim) for number in ("60.0 %", "50.0 %", *shown))


@given(seed=st.integers(0, 2**32 - 1), seeds=st.tuples(st.integers(1, 5), st.integers(1, 5)), n=st.integers(2, 40))
@settings(max_examples=40)
def test_a_lead_is_as_unsure_as_the_images_and_as_the_seeds(seed, seeds, n):
    """Against scipy's Welch and the interval over images; it turns with the models, and needs no seeds."""
    rng = np.random.default_rng(seed)
    ours, theirs = ((rng.random((k, n)) < p).astype(float) for k, p in zip(seeds, (0.7, 0.5)))
    found, turned = lead(ours, theirs), lead(theirs, ours)
    assert (found.value, found.low, found.high) == pytest.approx((-turned.value, -turned.high, -turned.low))
    assert found.value == pytest.approx(ours.mean() - theirs.mean())
    over_images = difference_interval(ours.mean(0) - theirs.mean(0))
    ends = [over_images]
    if min(seeds) > 1 and max(ours.mean(1).var(), theirs.mean(1).var()) > 1e-12:
        ends.append(stats.ttest_ind(ours.mean(1), theirs.mean(1), equal_var=False).confidence_interval())
    assert found.low == pytest.approx(max(-1, min(end.low for end in ends)))
    assert found.high == pytest.approx(min(1, max(end.high for end in ends)))
    assert lead(ours, np.hstack([theirs, theirs])) == found, "images that only one of them met do not count"


def test_claims_are_about_the_models_and_threats_that_were_run():
    """Adversarial training far above EP, EP far above ViT, and level with BP."""
    worth = {ADVERSARIAL[0]: 0.8, ADVERSARIAL[1]: 0.7, EP: 0.5, VIT: 0.2, BP: 0.5}
    entries = {name: entry(name, [[a + d] * 5 for d in (-0.01, 0, 0.01)]) for name, a in worth.items()}
    found = {claim.text: claim for claim in claims(list(entries.values()))}
    assert {text: claim.outcome for text, claim in found.items()} == {
        f"Adversarial training beats {EP} under pgd_l2": "reproduced",
        f"{EP} beats {VIT} and {BP} under pgd_l2": "undecided",
        f"{EP} pays with less than 2 points of clean accuracy": "undecided"}
    assert [v.outcome for v in found[f"{EP} beats {VIT} and {BP} under pgd_l2"].verdicts] == ["reproduced", "undecided"]
    assert [c.text for c in claims([entries[EP]])] == []


def test_claims_are_stated_on_every_machine_and_each_machine_takes_its_toll():
    """On loihi every EP network loses the same 10 points, every BP-CNN 30: the difference is beyond doubt."""
    clean = {("reference", EP): 0.9, ("reference", BP): 0.9, ("loihi", EP): 0.8, ("loihi", BP): 0.6}
    entries = [entry(kind, [[worth] * 5] * 2, machine) for (machine, kind), worth in clean.items()]
    shown = models("net", "digits", entries, None, [])
    texts = [claim.text for claim in shown.claims]
    assert {f"{EP} beats {BP} under pgd_l2", f"{EP} beats {BP} under pgd_l2 on loihi"} <= set(texts), "no ViT is here"
    toll = next(toll for toll in shown.answers[TOLLS] if toll.measure == "clean images")
    assert (toll.machine, toll.kind, toll.outcome) == ("loihi", BP, "less")
    assert (toll.own, toll.other, toll.difference.value) == pytest.approx((0.1, 0.3, 0.2))
    assert toll.difference.low > 0.1
    assert str(toll).startswith("Clean images, loihi costs EP-CNN 10.0 points and BP-CNN 30.0: less, by 20.0 [")
    turned = tolls(*([entry(k, [[w] * 5] * 2, m) for (m, k), w in zip(clean, worth) if m == machine]
                     for machine, worth in (("reference", (0.9, 0.9, 0.6, 0.8)), ("loihi", (0.9, 0.9, 0.6, 0.8)))),
                   {"clean images": [Threat("clean", 0.0)]})
    assert [t.outcome for t in turned] == ["more"]
    same = tolls(entries[:2], [entry(k, [[0.8] * 5] * 2, "loihi") for k in (EP, BP)],
                 {"clean images": [Threat("clean", 0.0)], "under pgd_l2": [Threat("pgd_l2", 0.123)]})
    assert [t.outcome for t in same] == ["undecided"], "nothing met the other measure"
    assert [type(one) for one in stated([toll, *same, *same])] == [Toll, Open]
    assert "cannot tell apart" in str(stated(same)[0])


def test_tables_are_means_over_seeds_with_student_intervals_beside_what_was_printed():
    rng = np.random.default_rng(0)
    accuracies = rng.integers(40, 160, (5, 5)) / N
    shown = models("net", "cifar10", [entry(EP, accuracies), entry("net", accuracies[:1], "loihi")], None, [])
    table = {t.name: t for t in shown.tables}["models-table 3"]
    *printed, ours, hardware = table.rows
    assert {r.name for r in printed} == set(KINDS.values())
    assert all(r.printed for r in printed)
    for column, label in enumerate(("clean", *PGD)):
        cell = ours.cells[label]
        assert cell.value == pytest.approx(accuracies[:, column].mean())
        images, seeds = wilson(round(cell.value * N), N), student(accuracies[:, column])
        assert (cell.low, cell.high) == pytest.approx((max(0, min(images.low, seeds.low)),
                                                       min(1, max(images.high, seeds.high))))
        assert (hardware.cells[label].low, hardware.cells[label].high) == pytest.approx(
            wilson(round(accuracies[0, column] * N), N))
    assert (ours.n, hardware.name) == (N, "net on loihi")
    assert not any(t.name == "models-table 5" for t in shown.tables), "nothing was measured under Square"
    assert not any(r.printed for t in models("net", "digits", [entry(EP, accuracies)], None, []).tables for r in t.rows)


def test_corruptions_of_seeds_are_averaged_and_related_to_the_mean_baseline():
    order = list(ALL)

    def accuracy(shift, name, severity):
        return 0.9 - 0.1 * severity + shift - 0.01 * order.index(name) % 0.05

    def network(shift):
        return pool([row(accuracy(shift, name, s), name, s) for name in order for s in SEVERITIES])

    def right(shift):
        return {Threat(name, s): np.arange(N) < round(N * accuracy(shift, name, s))
                for name in order for s in SEVERITIES}

    def worth(shift, names):
        return np.mean([accuracy(shift, name, s) for name in names for s in SEVERITIES])

    shown = models("net", "digits", [
        Entry(name, "reference", tuple(map(network, shifts)), tuple(map(right, shifts)))
        for name, shifts in ((BP, (-0.02, 0.0)), (EP, (0.03, 0.05)))], None, [])
    table = {t.name: t for t in shown.tables}["models-corruptions"]
    for r, shifts in zip(table.rows, ((-0.02, 0.0), (0.03, 0.05))):
        assert r.cells["mean of the 15"].value == pytest.approx(np.mean([worth(d, MAIN) for d in shifts]))
        assert r.cells["mean of all 19"].value == pytest.approx(np.mean([worth(d, ALL) for d in shifts]))
    error = {name: 1 - np.mean([worth(d, [name]) for d in (-0.02, 0.0)]) for name in MAIN}
    relative = [np.mean([(1 - worth(d, [name])) / error[name] for name in MAIN]) for d in (0.03, 0.05)]
    cell = table.rows[1].cells[f"mCE against {BP}"]
    assert cell.value == pytest.approx(np.mean(relative))
    assert (cell.low, cell.high) == pytest.approx(student(relative))
    best = next(c for c in shown.claims if c.text == f"{EP} is the best under corruptions")
    assert [(v.better, v.worse) for v in best.verdicts] == [(EP, BP)]
    assert not any("mCE:" in note for note in shown.notes)


def test_a_baseline_without_errors_is_named():
    def entry(name):
        accuracy = {(c, s): 1.0 if (name, c) == (BP, "fog") else 0.5 for c in ALL for s in SEVERITIES}
        right = {Threat(*case): np.arange(N) < round(N * a) for case, a in accuracy.items()}
        return Entry(name, "reference", (pool([row(a, *case) for case, a in accuracy.items()]),), (right,))

    shown = models("net", "digits", [entry(BP), entry(EP)], None, [])
    cells = [r.cells for t in shown.tables if t.name == "models-corruptions" for r in t.rows]
    assert [c[f"mCE against {BP}"] for c in cells] == [None, None]
    assert f"No mCE: {BP} makes no error on fog." in shown.notes


PRICES = st.builds(Price, st.floats(0, 100), st.floats(0.01, 20))
COSTS = st.fixed_dictionaries({(machine, kind): PRICES for machine in ("reference", "loihi")
                               for kind in ("", "pgd_l2", "square_linf", "cw_l2")})


@given(costs=COSTS, seconds=st.floats(0, 5).map(lambda power: 10**power), asked=st.integers(LEAST_QUERIES, 5000),
       available=st.integers(64, 500))
@settings(max_examples=80)
def test_a_budget_is_kept_or_what_is_least_is_run(costs, seconds, asked, available):
    images, queries, limits, skipped, used = share_out(costs, seconds, asked, available)
    attacks = [case for case in costs if case[1] and case not in skipped]
    assert 64 <= images <= available
    assert LEAST_QUERIES <= queries <= asked
    assert limits.keys() <= set(attacks)
    assert all(LEAST <= n < images for n in limits.values())
    assert all(n <= limits.get(("reference", kind), images) for (_, kind), n in limits.items())
    assert all(machine != "reference" and kind for machine, kind in skipped)
    taken = sum(price.of(limits.get(case, images)) * (queries / TRIAL_QUERIES if case[1].startswith("square") else 1)
                for case, price in costs.items() if case not in skipped)
    assert used == pytest.approx(taken)
    if used > seconds * (1 + 1e-9):
        assert len(skipped) == 3, "everything that may be left out"
        assert limits == dict.fromkeys(attacks, LEAST)
    elif images > 64:
        assert not limits, "more images only where attacks meet them too"


def test_dear_attacks_meet_limits_images_by_the_root_of_their_price():
    costs = {("reference", ""): Price(0, 1), ("reference", "pgd_l2"): Price(30, 1), ("reference", "cw_l2"): Price(0, 9),
             ("loihi", "pgd_l2"): Price(0, 0.5)}
    images, _, limits, skipped, used = share_out(costs, 64 + 30 + 57 + 19 * 9 + 57 / 2, 100, 500)
    assert images == 64
    assert limits == {("reference", "pgd_l2"): 57, ("reference", "cw_l2"): 19, ("loihi", "pgd_l2"): 57}
    assert skipped == ()
    assert used == 64 + 30 + 57 + 19 * 9 + 57 / 2
    dear = costs | {("loihi", "cw_l2"): Price(0, 500)}
    assert share_out(dear, 300, 100, 500)[3] == (("loihi", "cw_l2"),)


def test_machines_that_meet_fewer_images_meet_the_first_of_the_reference_s(tiny):
    """Cells are cut alike, so that a machine's source is always there; transfers meet all that their source made."""
    plan = replace(family_plan(tiny, 12)[0], limits=Limits(
        image_limits={("reference", "pgd_l2"): 9, ("loihi", "pgd_l2"): 5}, shard=4))
    pgd, contrast = (parse_threat(text) for text in ("pgd_l2@0.5", "contrast@3"))
    sizes = {case: [len(shard) for shard in plan.shards(*case)] for case in (
        ("reference", pgd), ("loihi", pgd), ("loihi", replace(pgd, source="reference")),
        ("reference", replace(pgd, source="loihi")), ("loihi", contrast))}
    assert list(sizes.values()) == [[4, 1, 4], [4, 1], [4, 1, 4], [4, 1], [4, 4, 4]]
    cells = cells_of(plan, Path())
    sources = {cell.source.stem for cell in cells if cell.configuration.source}
    assert sources
    assert sources <= {cell.stem for cell in cells}
    met = plan.shards("reference", pgd)
    assert torch.cat([shard.ids for shard in met]).equal(plan.images.ids[:9])
    beyond = replace(plan, limits=Limits(image_limits={("reference", "pgd_l2"): 16}, shard=4))   # of 12 there are
    assert [len(shard) for shard in beyond.shards("reference", pgd)] == [4, 4, 4]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Two untrained networks on file: an EP network, and a BP-CNN as another member of its family."""
    folder = tmp_path_factory.mktemp("family")
    spec = CNNSpec(image_shape=(1, 8, 8), channels=(4,), paddings=(1,), pools=(2,), classes=10, mean=(0.3,),
                   scale=(1.1,))
    for name, net in (("tiny", small_network(5, feedback_gain=0.5)), ("tiny-bp-s1", Baseline.initialise(spec, 1))):
        saved(net, folder, name)
    return folder


def family_plan(folder, images=6):
    threats = [*(parse_threat(f"pgd_l2@{s!r}") for s in PGD.values()), parse_threat("contrast@3")]
    settings = AttackSettings(gradients=("bptt@3",), iterations=1)
    plan = workflow.plan_evaluation(str(folder / "tiny.safetensors"), Request(["loihi"], threats, images=images,
                                                                              settings=settings))
    plan = replace(plan, limits=Limits(probed=0))
    found = members("tiny", [path.stem for path in folder.glob("*.safetensors")])
    assert found == (Member("tiny-bp-s1", BP),)
    return plan, workflow.family_plans(plan, [Member(str(folder / f"{m.model}.safetensors"), m.kind) for m in found])


def evaluated(folder, out, progress=silent):
    plan, others = family_plan(folder)
    workflow.run(plan.showing(progress), out, command="ep-hw", title="tiny", others=others)


class Stopped(Exception):
    pass


def stop(cell, number, total):
    if number == 9:
        raise Stopped


@pytest.mark.slow
def test_a_family_is_evaluated_into_one_folder_and_goes_on_after_a_stop(tiny, tmp_path):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    evaluated(tiny, whole)
    with pytest.raises(Stopped):
        evaluated(tiny, stopped, stop)
    kept = {path: path.stat().st_mtime_ns for path in stopped.rglob("*.arrow")}
    assert len(kept) >= 9
    evaluated(tiny, stopped)
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in kept.items())
    for name in ("results.parquet", "family/tiny-bp-s1/results.parquet", "comparison.json",
                 "tables/models-table-3.csv", "figures/tiny-models-pgd_l2.png", "figures/tiny-models-pgd_l2.svg"):
        assert (stopped / name).read_bytes() == (whole / name).read_bytes(), name
    summary = json.loads((whole / "family/tiny-bp-s1/summary.json").read_text())
    assert {(r["model"], r["machine"]) for r in summary} == {("tiny-bp-s1", m) for m in ("reference", "loihi")}
    card = json.loads((whole / "cards/tiny-bp-s1-reference.json").read_text())
    assert (card["model"], card["architecture"]["architecture"]) == ("tiny-bp-s1", "cnn")
    assert card["clean"]["accuracy"] == next(r["accuracy"] for r in summary if r["threat"] == "clean")
    shown = load_data("digits", "test")
    for name, folder in (("tiny", whole), ("tiny-bp-s1", whole / "family/tiny-bp-s1")):
        rows = [r for r in pq.read_table(folder / "results.parquet").to_pylist()
                if (r["machine"], r["threat"]) == ("reference", "clean")]
        images = torch.stack([shown.images[shown.ids == r["image_id"]][0] for r in rows])
        predicted = ep_hw.load(str(tiny / f"{name}.safetensors")).machine().relax(images).prediction
        assert [r["prediction"] for r in rows] == predicted.tolist(), name
    content = json.loads((whole / "comparison.json").read_text())
    rows = {r["name"]: r for r in content["tables"][0]["rows"]}
    assert list(rows) == [BP, EP, f"{BP} on loihi", f"{EP} on loihi"]
    for label, strength in PGD.items():
        assert rows[BP]["cells"][label]["value"] == next(
            r["accuracy"] for r in summary if (r["machine"], r["strength"]) == ("reference", strength))
    gain = "Feedback gain (gamma, 1 in the paper): 0.5 of tiny."
    assert gain in content["notes"]
    assert json.loads((whole / "cards/tiny-reference.json").read_text())["architecture"]["feedback_gain"] == 0.5
    page = (whole / "report.html").read_text()
    assert gain in page
    assert 0 < page.index('id="comparison"') < page.index('id="s0-found"')
    assert all(claim["sentence"] in page for claim in content["claims"] if "'" not in claim["sentence"])
    every_mark_opens_its_images(page, {EP: "", BP: BP}, whole)


def every_mark_opens_its_images(page, kinds, folder):
    """Every mark of the first picture: those images, of that network, machine and threat, that the network answered so.

    Args:
        kinds: what the picture calls the network -> what the gallery does.
        folder: of the run, with the family's.
    """
    picture = page.partition('id="answer"')[2].partition('class="cite"')[0]
    marks = re.findall(r'data-tip="([^":]+?)(?: on (\w+))?, ([^":]+): [^"]*" data-images="([^"]+)"', picture)
    assert {(kind, machine, threat == "clean") for kind, machine, threat, _ in marks} == {
        (kind, machine, clean) for kind in kinds for machine in ("", "loihi") for clean in (True, False)}
    for kind, machine, threat, place in marks:
        gallery = page.partition(f'id="{place}"')[2].partition("</figure>")[0]
        on = f"{kinds[kind]} on {machine or 'reference'}" if kinds[kind] else machine or "reference"
        assert f"<h3>{on}, {threat}</h3>" in gallery
        own = folder / "family/tiny-bp-s1" if kinds[kind] else folder
        rows = {row["image_id"]: row["prediction"] for row in pq.read_table(own / "results.parquet").to_pylist()
                if (row["machine"], str(Threat.named(row["threat"], row["strength"]))) == (
                    machine or "reference", threat.replace(" at ", "@"))}
        told = re.findall(r"image (\d+)[^<]*</p>\s*<p>.*?(?:predicted|changed)\s*<span[^>]*>(\w+)<", gallery, re.DOTALL)
        assert told
        assert {int(image): int(predicted) for image, predicted in told}.items() <= rows.items()


def test_a_budget_is_measured_once_over_the_family(tiny, tmp_path):
    def plans_of(images, queries):
        plan, others = family_plan(tiny, 12)
        return [plan, *(other for _, other in others)]

    chosen = allocate(plans_of, 100, 12, 1e5, tmp_path)
    assert (chosen.images, chosen.image_limits, chosen.skipped) == (12, (), ())
    kept = tmp_path / "budget/allocation.json"
    kept.write_bytes(sign(parse_signed(kept.read_bytes()) | {
        "images": 9, "image_limits": [["reference", "pgd_l2", 6], ["loihi", "pgd_l2", 5]],
        "skipped": [["loihi", "pgd_l2"]]}))
    again = allocate(plans_of, 100, 12, 1e5, tmp_path)
    plan = again.of(plans_of(12, 100)[0])
    assert allocate(plans_of, 101, 12, 1e5, tmp_path / "other").question != again.question
    assert (again.images, plan.limits.image_limits["reference", "pgd_l2"]) == (9, 6)
    assert not any(m == "loihi" and t.is_attack and not t.source for m, t in plan.pairs())
    assert "pgd_l2 met the first 6 (reference) of 12 images" in again.sentence(plan)
    assert "pgd_l2 was not run on loihi" in again.sentence(plan)
    several = replace(plan, asked=replace(plan.asked, chips=3))
    assert ["--chips" in one.sentence(several) for one in (again, chosen)] == [True, False]
    assert "--chips" not in again.sentence(replace(plan, asked=replace(plan.asked, chips=1)))
    assert f"{100 * smallest_detectable(6):.1f} under the dearest attack" in again.sentence(plan)
    assert {sum(map(len, plan.shards(m, t))) for m, t in plan.pairs() if t.is_attack} == {6}
