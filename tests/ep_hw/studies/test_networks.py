"""Studies over networks: the worth of a group against others, by hand and end to end on tiny untrained networks."""

import json
import re
from dataclasses import replace
from itertools import chain
from math import fsum

import numpy as np
import pytest
from networks import saved, small_network
from typer.testing import CliRunner

from ep_hw.analysis.points import pool
from ep_hw.analysis.statistics import wilson
from ep_hw.cli.commands import app
from ep_hw.evaluation.execution import Run
from ep_hw.evaluation.plan import Limits
from ep_hw.networks.checkpoint import load, packaged_models, save_checkpoint
from ep_hw.report.entry import Entry
from ep_hw.studies.networks import gain_of, plan_networks, run_networks, said
from ep_hw.studies.study import NetworkStudy, load_study
from ep_hw.studies.worth import Verdict, worths_of
from ep_hw.threats.threat import CLEAN, parse_threat
from mapping import Refusal

N = 200
PGD = parse_threat("pgd_l2@0.5")


def entry(kind, clean, attacked, seeds=2):
    """Networks of these accuracies; who falls under attack is who would have been wrong next."""
    rows = [{"model": "net", "dataset": "digits", "machine": "reference", "threat": threat, "chip_seed": None, "n": N,
             "accuracy": a, "ci_low": wilson(round(a * N), N).low, "ci_high": wilson(round(a * N), N).high,
             "agreement": 1.0, "flips_to_wrong": 0, "flips_to_right": 0}
            for threat, a in ((CLEAN, clean), (PGD, attacked))]
    right = {threat: np.arange(N) < round(a * N) for threat, a in ((CLEAN, clean), (PGD, attacked))}
    return Entry(kind, "reference", (pool(rows),) * seeds, (right,) * seeds)


@pytest.mark.parametrize(("other", "worth", "beyond", "kind"), [
    ((0.9, 0.5), 0.3, 0.3, "more"), ((0.6, 0.5), 0.3, 0.0, "open"), ((0.9, 0.9), -0.1, -0.1, "less")])
def test_a_group_that_is_only_better_at_the_task_is_not_more_robust(other, worth, beyond, kind):
    clean, attacked = worths_of([entry("first", 0.9, 0.8), entry("other", *other)], [PGD])
    assert clean.beyond is None
    assert clean.worth.value == pytest.approx(0.9 - other[0])
    assert (attacked.worth.value, attacked.beyond.value) == pytest.approx((worth, beyond))
    verdict = Verdict.of([clean, attacked])
    assert {name: len(getattr(verdict, name)) for name in ("more", "less", "open")} == {
        name: int(name == kind) for name in ("more", "less", "open")}
    assert ("apart" in str(verdict)) == (kind == "open")


def test_the_packaged_study_compares_seeds_at_four_gains_and_twins():
    study = load_study("feedback")
    assert {len(names) for names in study.networks.values()} == {5}
    assert {name for names in study.networks.values() for name in names} <= set(packaged_models())
    gains = {group: {load(name).spec.feedback_gain for name in names} for group, names in study.networks.items()}
    assert gains == {"gain 1": {1.0}, "gain 0.3": {0.3}, "gain 0.1": {0.1}, "gain 0": {0.0}, "twin": {0.0}}
    recipes = [load(name).provenance["recipe"] for name in study.networks["twin"]]
    assert [r["teacher"] for r in recipes] == [f"digits-ep-s{r['seed']}" for r in recipes]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dial")
    for name, gain in (("whole", 1.0), ("half", 0.5), ("none", 0.0)):
        net = replace(small_network(5, feedback_gain=gain), name=name)
        save_checkpoint(net, folder / f"{name}.safetensors", recipe={}, accuracy={},
                        data={"name": "digits", "split_seed": 0, "train": 0, "test": 360})
    return folder


def study_of(folder, **changes):
    return NetworkStudy(**{"title": "Feedback?", "threats": ("pgd_l2@0.5",), "images": 6, "machines": ("loihi",),
                           "networks": {name: (str(folder / f"{name}.safetensors"),) for name in
                                        ("whole", "half", "none")},
                           "attack": {"gradients": ("bptt@3",), "iterations": 1}, **changes})


def test_a_study_over_networks_leaves_a_report_that_answers(tiny, tmp_path):
    study = study_of(tiny)
    plans = [(group, replace(plan, limits=Limits(probed=0))) for group, plan in plan_networks(study, run=Run(jobs=1))]
    assert [gain_of(plan) for _, plan in plans] == [1.0, 0.5, 0.0]
    verdicts = run_networks(study, plans, tmp_path, "ep-hw study")
    assert [(v.machine, v.first, v.other) for v in verdicts] == [
        (machine, "whole", other) for machine in ("reference", "loihi") for other in ("half", "none")]
    content = json.loads((tmp_path / "study.json").read_text())
    assert [one["sentence"] for one in content["answers"]["Feedback?"]] == list(map(str, verdicts))
    assert len(content["worths"]) == 8
    page = (tmp_path / "report.html").read_text()
    assert all(str(verdict) in page for verdict in verdicts)
    assert f'<p class="answer">{said(verdicts)}</p>' in page
    taken = [[row["seconds"] for row in json.loads(file.read_text())]
             for file in tmp_path.glob("networks/*/summary.json")]
    assert len(taken) == 3
    assert f"{fsum(chain(*taken)):.3g} s of one core" in page
    assert page.index("Group against group") < page.index('id="s0-found"'), "what was asked comes first"
    assert (tmp_path / "figures/feedback.png").stat().st_size > 5000
    charts = page.partition("by rising feedback gain")[2]
    told = re.findall(r'data-tip="(\w+) on (\w+), clean: [0-9.]+ % \[', charts)[:6]
    assert all(f"{group}, gamma {gain}<" in charts for group, gain in (("none", 0), ("half", 0.5), ("whole", 1)))
    assert "Feedback gain (gamma, 1 in the paper): 1 of whole; 0.5 of half; 0 of none." in content["notes"]
    assert told == [(group, machine) for machine in ("reference", "loihi") for group in ("none", "half", "whole")]


def test_bad_studies_over_networks_are_refused(tiny, tmp_path):
    twice = study_of(tiny, networks={"a": (str(tiny / "whole.safetensors"),), "b": (str(tiny / "whole.safetensors"),)})
    with pytest.raises(Refusal, match="twice"):
        plan_networks(twice)
    file = tmp_path / "bad.toml"
    file.write_text('title = "x"\n[networks]\n"one" = ["digits"]\n')
    result = CliRunner().invoke(app, ["study", str(file)])
    assert result.exit_code != 0
    assert "networks" in str(result.exception or result.output)


def test_the_answer_says_once_what_is_true_of_several_machines_and_groups():
    def verdicts(machine, *, whole=(), none=()):
        return [Verdict(machine, "whole", other, more, less, ("square at 1",)) for other, (more, less) in (
            ("half", (whole, ())), ("third", (whole, ())), ("none", ((), none)))]

    assert said([*verdicts("reference"), *verdicts("loihi")]) == (
        "On every machine nothing tells whole apart from half and third and none in robustness.")
    assert said([*verdicts("reference"), *verdicts("loihi", whole=("fog at 1", "pgd at 2"), none=("fog at 1",))]) == (
        "On loihi whole is more robust than half and third under fog at 1, pgd at 2. "
        "On loihi whole is less robust than none under fog at 1. "
        "On reference nothing tells whole apart from half and third and none in robustness.")
    both = Verdict("reference", "whole", "none", ("fog at 1",), ("pgd at 2",), ())
    assert said([both]) == ("On every machine whole is more robust than none under fog at 1 and less robust than none "
                            "under pgd at 2.")


def test_a_group_of_a_study_has_networks_of_one_kind(tiny, tmp_path):
    mixed = saved(small_network(6), tmp_path, "mixed", recipe={"kind": "hybrid"})
    groups = {"EP": (str(tiny / "whole.safetensors"), str(mixed)), "none": (str(tiny / "none.safetensors"),)}
    with pytest.raises(Refusal, match=r"networks, EP.*EP-CNN, hybrid.*one kind a group"):
        plan_networks(study_of(tiny, networks=groups))
