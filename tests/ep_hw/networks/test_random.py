"""The drawn network of the paper's size: always the same, never mistaken for a trained one, taken by every command."""

import pytest
from typer.testing import CliRunner

import ep_hw
from ep_hw.cli.commands import app
from ep_hw.networks.random import RANDOM_NETWORKS
from mapping import load_program

NAME = "cifar10-paper-random"


def test_it_is_the_same_network_every_time_and_says_that_it_is_untrained():
    net = ep_hw.load(NAME)
    assert list(RANDOM_NETWORKS) == [NAME]
    assert net.provenance["sha256"].startswith("82e29d8709c4")
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
    out = CliRunner().invoke(app, ["compile", NAME, "--target", "loihi", "--out", str(tmp_path / "program")]).output
    assert all(word in out for word in ("conv1", "conv4", "readout", "feedback", "state bits"))
    assert "Verdict: 110 cores on 1 chip(s)" in out
    program = load_program(tmp_path / "program")
    assert program.is_proven
