"""The random network of the paper's size: always the same, never mistaken for a trained one, taken by every command."""

import pytest
import torch
from typer.testing import CliRunner

import ep_hw
from ep_hw.cli.commands import app
from ep_hw.networks.random import RANDOM_NETWORKS
from mapping import load_program
from mapping.loihi.placement import place

NAME = "cifar10-paper-random"


@pytest.fixture(scope="module")
def net():
    return ep_hw.load(NAME)


def test_it_is_the_same_network_every_time_whatever_was_random_before(net):
    torch.manual_seed(3)
    torch.rand(5)
    again = ep_hw.load(NAME)
    assert all(torch.equal(ours, other) for ours, other in zip(net.tensors().values(), again.tensors().values()))
    assert again.provenance == net.provenance
    assert net.spec == RANDOM_NETWORKS[NAME].spec


def test_its_weights_are_uniform_within_one_over_the_square_root_of_the_fan_in(net):
    for weight in net.weights:
        bound, n = weight[0].numel()**-0.5, weight.numel()
        shares = torch.histc(weight / bound, 4, -1, 1) / n
        assert weight.abs().max() <= bound
        assert (shares - 1 / 4).abs().max() < 5 * (3 / 16 / n)**0.5   # standard deviations of a quarter's share


def test_it_says_that_it_is_untrained(net):
    assert net.provenance["accuracy"] == {}
    assert net.provenance["data"] == {"name": "cifar10", "split_seed": 0, "train": 0, "test": 0}
    assert [tuple(w.shape) for w in net.weights] == [(128, 3, 3, 3), (256, 128, 3, 3), (512, 256, 3, 3),
                                                     (512, 512, 3, 3), (10, 512, 1, 1)]


def test_models_lists_it_as_random():
    out = CliRunner().invoke(app, ["models"]).output
    row = next(line for line in out.splitlines() if NAME in line)
    assert "random, untrained" in row


@pytest.mark.slow
def test_compiling_it_prints_layers_placement_and_verdict(tmp_path):
    out = CliRunner().invoke(app, ["compile", NAME, "--on", "loihi", "--out", str(tmp_path / "program")]).output
    assert all(word in out for word in ("conv1", "conv4", "readout", "feedback", "state bits"))
    program = load_program(tmp_path / "program")
    cores, chips = ({getattr(block, kind) for block in place(program.graph, program.target).blocks}
                    for kind in ("core", "chip"))
    assert f"Verdict: {len(cores)} cores on {len(chips)} chip(s)" in out
    assert program.is_proven
