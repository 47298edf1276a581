"""A user's own attack and corruption: registered in a script, met in worker processes, read again without it."""

import json
import subprocess
import sys

import numpy as np
import pytest

from ep_hw.analysis.comparison import FinishedRun, over_runs
from ep_hw.analysis.corruption import corruption_rows, means
from ep_hw.analysis.points import pool
from ep_hw.threats import registry
from ep_hw.threats.attacks.square import SquareAttack
from ep_hw.threats.corruptions import ALL
from ep_hw.threats.threat import Threat, parse_threat
from mapping import Refusal

SCRIPT = '''
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ep_hw.threats import Attack, parse_threat, register_attack, register_corruption
from ep_hw.threats.attacks import Attempt, Candidate


@dataclass(frozen=True)
class Brighter(Attempt):
    """Every pixel raised by eps."""

    eps: float

    def run(self, machine, images, labels, generator):
        return Candidate.of((images + self.eps).clamp(0, 1), queries=torch.ones(len(images)))

    def __str__(self):
        return "brighter"


class BrighterAttack(Attack):
    code, version, access = "brighter", 3, "black box"

    def attempts(self, machine, strength, settings):
        return [Brighter(strength)]


register_attack(BrighterAttack("brighter_linf", "linf"))


@register_corruption((0.9, 0.7, 0.5, 0.3, 0.1), random=False, version=7)
def dim(x, factor, rng):
    return factor * x


if __name__ == "__main__":
    from ep_hw import workflow
    from ep_hw.data.splits import Split
    from ep_hw.evaluation.execution import Run
    from ep_hw.evaluation.plan import Asked, Plan
    from ep_hw.evaluation.suites import SUITES
    from simulators.module import Interface, ModuleProgram

    members = {threat.corruption for suite in SUITES.values() for threat in suite.threats if threat.is_corruption}
    Path("corruptions.txt").write_text(" ".join(sorted(members)))
    torch.manual_seed(0)
    images, interface = torch.rand(6, 1, 4, 4), Interface((1, 4, 4), 10)
    programs = {name: ModuleProgram(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 10)), interface)
                for name in ("reference", "other")}
    labels = programs["reference"].module(images).argmax(1)
    threats = tuple(map(parse_threat, ("brighter_linf@0.5", "dim@4")))
    asked = Asked(machines=tuple(programs), threats=(*threats, replace(threats[0], source="other")))
    plan = Plan(model="linear", images=Split("random", images, labels, torch.arange(6)), programs=programs, asked=asked,
                run=Run(jobs=2))
    workflow.run(plan, Path("run"), command="mine", title="mine")
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mine")
    (folder / "mine.py").write_text(SCRIPT)
    subprocess.run([sys.executable, "mine.py"], cwd=folder, check=True, timeout=300)
    return folder


@pytest.mark.slow
def test_an_own_attack_and_corruption_run_in_workers_on_every_machine(folder):
    rows = json.loads((folder / "run/summary.json").read_text())
    met = {(row["machine"], row["threat"], row["strength"]) for row in rows}
    assert met == {("reference", "clean", 0.0), ("other", "clean", 0.0), ("reference", "brighter_linf", 0.5),
                   ("other", "brighter_linf", 0.5), ("reference", "transfer:other:brighter_linf", 0.5),
                   ("reference", "dim", 4.0), ("other", "dim", 4.0)}


def test_what_it_does_to_images_is_what_the_rows_tell(folder):
    rows = FinishedRun.of(folder / "run").results.to_pylist()
    broken = [row for row in rows if row["broken_by"] == "brighter"]
    assert {row["threat"] for row in broken} == {"brighter_linf"}
    assert all(row["norm"] == pytest.approx(0.5) and row["queries"] == 1 for row in broken)
    clean = {row["image_id"]: row["norm"] for row in rows if row["threat"] == "clean"}
    assert all(row["norm"] > clean[row["image_id"]] == 0 for row in rows if row["threat"] == "dim")


def test_the_report_shows_both(folder):
    page = (folder / "run/report.html").read_text()
    assert "brighter_linf at 0.5" in page
    assert "dim" in page


def test_runs_with_threats_that_are_not_registered_here_can_be_compared(folder):
    with pytest.raises(Refusal, match="unknown threat"):
        parse_threat("brighter_linf@0.5")
    rows = over_runs(2 * [FinishedRun.of(folder / "run")])
    assert {row["threat"] for row in rows} >= {"brighter_linf", "transfer:other:brighter_linf", "dim"}
    with pytest.raises(Refusal, match="no such attack or corruption is registered"):
        _ = Threat("brighter_linf", 0.5).definition


def test_a_new_corruption_joins_no_suite(folder):
    """Though it was registered before the suites were imported."""
    assert (folder / "corruptions.txt").read_text() == " ".join(sorted(ALL))


@pytest.fixture
def dim(monkeypatch):
    """A corruption that is registered for one test."""
    monkeypatch.setitem(registry.CORRUPTIONS, "dim", None)   # puts back what there was
    del registry.CORRUPTIONS["dim"]

    @registry.register_corruption((0.9, 0.7, 0.5, 0.3, 0.1), random=False, version=7)
    def dim(x, factor, rng):
        return factor * x


def test_a_new_corruption_joins_no_mean(dim):
    assert parse_threat("dim@3").code == ("dim", 7)
    rows = [{"machine": "reference", "threat": Threat(name, float(severity)), "chip_seed": None, "n": 10,
             "accuracy": 0.1 if name == "dim" else 0.5, "agreement": 1.0, "flips_to_wrong": 0, "flips_to_right": 0}
            for name in ("dim", *ALL) for severity in range(1, 6)]
    points = pool(rows)
    assert means(points, "reference", "reference") == {
        "mean of the 15": 0.5, "mean of all 19": 0.5, "mCE against reference": 1.0}
    assert [row.name for row in corruption_rows(points)] == [*ALL, "dim"]


def test_the_same_definition_may_be_registered_again():
    known = registry.ATTACKS["square_l2"]
    assert registry.register_attack(SquareAttack("square_l2", "l2")) == known


@pytest.mark.parametrize("name", ["pgd_l2", "clean", "fog", "a:b", "a@b", "a/b", ""])
def test_a_name_that_is_taken_or_cannot_be_read_back_is_refused(name):
    with pytest.raises(Refusal):
        registry.register_attack(SquareAttack(name, "l2"))


def test_one_code_has_one_version():
    class Other(SquareAttack):
        version = SquareAttack.version + 1

    with pytest.raises(Refusal, match="two versions of the same code"):
        registry.register_attack(Other("other_l2", "l2"))


def test_a_corruption_has_five_severities():
    with pytest.raises(Refusal, match="five severities"):
        registry.register_corruption((1, 2), random=False)(lambda x, c, rng: np.zeros_like(x))
