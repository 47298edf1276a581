"""Transfer matrices, averaged gradients and slices of the loss: against closed forms and against the machines asked."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from linear import LinearMachine
from networks import random_images, small_network

import mapping
import simulators
from ep_hw.data import Split
from ep_hw.evaluation.plan import cells_of, evaluate
from ep_hw.measurements.adversary_figures import transfer_figure
from ep_hw.measurements.eot import measure_eot
from ep_hw.measurements.landscape import STEPS, measure_slice
from ep_hw.measurements.transfer import plan_transfer, transfer_rows, transfer_table
from ep_hw.networks.checkpoint import load
from ep_hw.threats.attacks import AttackSettings, Unrolled
from ep_hw.threats.threat import parse_threat
from mapping import Refusal
from simulators.module import Interface, ModuleProgram

SHAPE = (1, 6, 6)
THREAT = parse_threat("pgd_l2@0.3")
NAMES = ("loihi", "crossbar:ideal", "mine")


def split(n=24, shape=SHAPE, machine=None):
    x = random_images(n, shape)
    labels = torch.zeros(n).long() if machine is None else machine.relax(x).prediction
    return Split("random", x, labels, torch.arange(n))


@pytest.fixture(scope="module")
def transferred(tmp_path_factory):
    """A user's own module among the machines, in one line."""
    net = small_network(3)
    programs = {name: mapping.compile(net.lower(), name) for name in NAMES[:2]}
    programs["mine"] = ModuleProgram(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)),
                                     Interface((1, 8, 8), 10))
    reference = simulators.open(mapping.compile(net.lower(), "reference"))
    plan = plan_transfer(net, split(16, (1, 8, 8), reference), programs, THREAT, settings=AttackSettings(
        gradients=("bptt@5",), iterations=4))
    folder = tmp_path_factory.mktemp("transfer")
    summary, cells = evaluate(plan, folder)
    return plan, folder, summary, cells


def test_every_cell_is_its_target_asked_about_its_source_s_images(transferred):
    plan, _, summary, cells = transferred
    rows = transfer_rows(summary, NAMES, THREAT)
    assert [(row["source"], row["target"]) for row in rows] == [(s, t) for s in NAMES for t in NAMES]
    made = {c.configuration.machine: c.adversarial() for c in cells
            if c.configuration.threat == THREAT and c.stored.images_path.exists()}
    for row in rows:
        with simulators.open(plan.programs[row["target"]]) as machine:
            right = machine.relax(made[row["source"]]).prediction == plan.images.labels
        assert row["accuracy"] == pytest.approx(float(right.float().mean()))


def test_images_are_made_once(transferred):
    plan, folder, _, _ = transferred
    made = list((folder / "cells").glob("*.npy"))
    assert len(made) == len(NAMES) + 1   # and on the reference, whose images every white box tries last
    assert len({c.stem for c in cells_of(plan, folder) if c.configuration.threat.source}) == len(NAMES) * 2


def test_table_and_heat_map_hold_every_number(transferred):
    rows = transfer_rows(transferred[2], NAMES, THREAT)
    table = transfer_table(rows, list(map(load, ("digits-gain03-s11", "digits-bp-s11"))))
    assert table.notes[1:] == ("Feedback gain (gamma, 1 in the paper): 0.3 of digits-gain03-s11.",)
    assert [cell for line in table.rows for cell in line[1:]] == [f"{row['accuracy']:.3f}" for row in rows]
    shown = [text.get_text() for text in transfer_figure(rows).axes[0].texts]
    assert shown == [f"{100 * row['accuracy']:.0f}" for row in rows]


@pytest.mark.parametrize("text", ["fog@3", "transfer:reference:pgd_l2@1", "pgd_unclipped_l2@1"])
def test_only_attacks_made_on_a_machine_transfer(text):
    with pytest.raises(Refusal, match="nothing to transfer"):
        plan_transfer(small_network(3), split(), {}, parse_threat(text))


class NoisySlope(LinearMachine):
    """Fresh noise on every weight of the second class, another for each image: the gradient of a binary linear model
    is w + sigma n.
    """

    def relax(self, images, steps=None, nudge=None, generator=None, **rest):
        flat, end = images.flatten(1), LinearMachine(self.weight, self.bias, SHAPE).relax(images)
        noise = self.sigma * torch.randn(flat.shape, generator=generator)
        return replace(end, logits=end.logits + torch.stack([torch.zeros(len(flat)), (noise * flat).sum(1)], 1))


def test_the_cosine_of_averaged_gradients_is_that_of_averaged_noise():
    """E cos = 1 / sqrt(1 + sigma^2 d / (n |w|^2)) for d pixels, but for the yardstick's own noise."""
    weight = torch.zeros(2, 36)
    weight[1] = 1.0
    machine, sigma = NoisySlope(weight, torch.zeros(2), SHAPE, 2.0), 2.0
    points = list(measure_eot(machine, split(8), 0.1, (1, 4, 25), Unrolled(5, "margin"), 2, 0))
    for point in points:
        truth = 5 * 25
        expected = 1 / np.sqrt((1 + sigma**2 / point.draws) * (1 + sigma**2 / truth))
        assert point.row()["cosine"] == pytest.approx(expected, abs=0.13)
    cosines = [point.row()["cosine"] for point in points]
    assert cosines == sorted(cosines)


def test_without_noise_there_is_nothing_to_average():
    machine = LinearMachine(torch.zeros(2, 36), torch.zeros(2), SHAPE)
    with pytest.raises(Refusal, match="no noise to average"):
        list(measure_eot(machine, split(), 0.1, (1,), Unrolled(5), 2, 0))


def test_a_slice_is_the_loss_at_those_images():
    weight = torch.randn(2, 36, generator=torch.Generator().manual_seed(0))
    machine = LinearMachine(weight, torch.zeros(2), SHAPE)
    found = measure_slice(machine, split(machine=machine), Unrolled(5), 0.2, 0)
    middle = STEPS // 2
    clean = torch.nn.functional.cross_entropy(machine.relax(random_images(24, SHAPE)).logits,
                                              split(machine=machine).labels)
    assert found.loss[middle, middle] == pytest.approx(float(clean), rel=1e-5)
    assert (np.diff(found.loss[:, middle]) > 0).all()
    assert found.aimed == 1
    saturated = LinearMachine(1e6 * weight, torch.zeros(2), SHAPE)
    flat = measure_slice(saturated, split(machine=machine), Unrolled(5), 1e-4, 0)
    assert flat.aimed < 0.5, "a saturated loss has no slope to aim with"


@pytest.mark.slow
@pytest.mark.parametrize(("command", "rows"), [
    ("transfer digits --on loihi --other digits --images 4 --iterations 2 --gradient bptt@5 --jobs 1", 4),
    ("eot digits --images 3 --draws 1 --draws 2 --iterations 2 --time 3", 2),
    ("slice digits --on reference --images 3 --gradient bptt@5", STEPS**2)])
def test_the_commands_leave_table_and_plot(ep_hw, tmp_path, command, rows):
    code, _, err = ep_hw(*command.split(), "--out", "out")
    assert code == 0, err
    name = command.split()[0]
    assert len(list(csv.DictReader((tmp_path / f"out/{name}.csv").open()))) == rows
    assert json.loads((tmp_path / f"out/{name}.json").read_text())["model"] == "digits"
    assert all((tmp_path / f"out/{name}.{kind}").stat().st_size for kind in ("png", "svg"))
    assert "data-tip" in (tmp_path / "out/report.html").read_text()


@pytest.mark.parametrize(("command", "words"), [
    ("eot digits --on loihi", "no noise to average"), ("transfer digits --attack fog@3", "nothing to transfer"),
    ("transfer digits --on spinnaker", "unknown machine"), ("slice digits --gradient spsa@2", "unknown gradient")])
def test_mistakes_get_one_line(refused, command, words):
    assert words in refused(*command.split())
