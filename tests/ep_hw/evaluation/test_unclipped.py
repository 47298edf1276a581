"""Pixels that leave [0, 1]: only by name, only on machines that are no hardware; and machines without feedback."""

from dataclasses import fields

import pytest
import torch
from linear import LinearMachine
from networks import random_images, seeded, small_network
from typer.main import get_command

import mapping
import simulators
from ep_hw.cli.commands import app
from ep_hw.cli.evaluation import AttackOptions
from ep_hw.threats.attacks import AttackSettings, attack, perturbation
from ep_hw.threats.threat import Threat
from mapping import Refusal
from simulators.module import ModuleMachine
from simulators.reference import ReferenceMachine

SETTINGS = AttackSettings(gradients=("ep@1", "bptt@5", "bptt@10", "bptt@5:margin"), iterations=20)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_at_the_edge_of_the_box_only_unclipped_images_reach_the_boundary(norm):
    """White images and a boundary beyond white: the box keeps a clipped attack from it, the ball does not."""
    weight = torch.stack([torch.full((36,), -1.0), torch.full((36,), 1.0)])
    machine, images = Unbounded(weight, torch.tensor([73.0, 0.0]), (1, 6, 6)), torch.ones(2, 1, 6, 6)
    assert (machine.relax(images).prediction == 0).all()
    radius = 0.5 / (6 if norm == "l2" else 36)
    for kind, eps, wins in ((f"pgd_{norm}", 3 * radius, False), (f"pgd_unclipped_{norm}", 0.98 * radius, False),
                            (f"pgd_unclipped_{norm}", 1.02 * radius, True)):
        found = attack(machine, Threat(kind, eps), images, torch.zeros(2).long(), SETTINGS.model_copy(
            update={"gradients": ("bptt@5",)}), seeded())
        assert [bool(by) for by in found.broken_by] == [wins] * 2
        assert (found.images.max() > 1) == ("unclipped" in kind)


class Unbounded(LinearMachine):
    """A linear machine that takes any pixel."""

    @property
    def unclipped(self):
        return self


def test_the_reference_takes_such_images_only_when_asked():
    machine, images = ReferenceMachine(small_network(3).lower()), random_images(4)
    labels = machine.relax(images).prediction
    found = attack(machine, Threat("pgd_unclipped_l2", 4.0), images, labels, SETTINGS, seeded())
    assert perturbation(images, found.images, "l2").max() <= 4 + 1e-5
    assert found.images.max() > 1
    assert torch.equal(machine.unclipped.relax(images).logits, machine.relax(images).logits)
    with pytest.raises(Refusal, match="out of range"):
        machine.relax(found.images)


@pytest.mark.parametrize("name", ["loihi", "crossbar:ideal"])
def test_hardware_refuses_them(name):
    machine = simulators.open(mapping.compile(small_network(3).lower(), name))
    with pytest.raises(Refusal, match="outside"):
        attack(machine, Threat("pgd_unclipped_linf", 0.1), random_images(2), torch.zeros(2).long(), SETTINGS, seeded())


def test_a_plan_with_hardware_refuses_them_in_one_line(refused):
    command = ("evaluate", "digits", "--on", "loihi", "--attack", "pgd_unclipped_l2@0.5")
    assert "pixels outside [0, 1]" in refused(*command)


def feedforward():
    torch.manual_seed(0)
    return ModuleMachine(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)), (1, 8, 8), 10)


def test_a_module_is_attacked_once_for_each_loss_and_never_nudged():
    machine, images = feedforward(), random_images(5)
    labels = machine.relax(images).prediction
    tried = Threat("pgd_l2").attack.attempts(machine, 1.0, SETTINGS)
    assert [a.gradient.loss for a in tried] == ["cross_entropy", "margin"]
    found = attack(machine, Threat("pgd_l2", 8.0), images, labels, SETTINGS, seeded())
    assert all(found.broken_by)
    assert attack(machine, Threat("pgd_unclipped_l2", 8.0), images, labels, SETTINGS, seeded()).images.max() > 1


def test_gradients_that_need_feedback_are_refused_by_name_where_there_is_none():
    with pytest.raises(Refusal, match=r"ep@1.*bptt"):
        Threat("pgd_l2").attack.attempts(feedforward(), 1.0, AttackSettings(gradients=("ep@1", "adjoint@10")))


def said(command):
    given = get_command(app).commands["evaluate"].make_context("evaluate", command.split()).params
    return AttackOptions(**{field.name: given[field.name] for field in fields(AttackOptions)})


def test_options_of_the_command_line_are_settings_of_the_attack():
    command = ("digits --attack cw_l2@0.1 --restarts 3 --label predicted --searches 5 --ensemble paper --eot 7 "
               "--votes 9 --iterations 11 --queries 13 --average 3 --patience 0.4 --gradient ep@0.50 --gradient ep@0.5")
    kept, wanted = AttackSettings(iterations=4, gradients=("bptt@5",)), AttackSettings(
        gradients=("ep@0.5",), restarts=3, label="predicted", searches=5, ensemble="paper", eot=7, votes=9,
        iterations=11, queries=13, average=3, patience=0.4)
    assert said(command).settings(kept) == wanted
    assert not [name for name in AttackSettings.model_fields if getattr(wanted, name) == getattr(kept, name)]
    assert said("digits").settings(kept) == kept


def test_frost_without_photographs_is_refused_before_any_work(refused, tmp_path, monkeypatch):
    from ep_hw.threats.corruptions import photographs

    photographs.frost_photographs.cache_clear()
    monkeypatch.setattr(photographs, "_folders", lambda: [tmp_path])
    command = ("evaluate", "digits", "--on", "reference", "--corruption", "frost@3", "--out", "run")
    assert "photographs of frost are missing" in refused(*command)
