"""Networks that bring no calibration images: they get those that training would have kept, where their data are."""

import logging

import pytest
import torch
from networks import small_network

import ep_hw
import mapping
from ep_hw.data import DataSource
from ep_hw.networks.checkpoint import save_checkpoint
from ep_hw.networks.exchange import export_checkpoint, import_checkpoint
from ep_hw.networks.network import EPNetwork
from ep_hw.networks.programs import network_and_images
from mapping import Refusal


def without(data: str) -> EPNetwork:
    net = small_network()
    return EPNetwork(net.spec, net.weights, net.biases, provenance={"data": {"name": data}})


def test_an_imported_network_is_calibrated_on_what_training_kept(tmp_path):
    digits = ep_hw.load("digits")
    export_checkpoint(digits, tmp_path)
    again, _ = import_checkpoint(tmp_path / "digits.pt", str(tmp_path / "digits.toml"), tmp_path / "a.safetensors")
    assert torch.equal(again.calibration, digits.calibration)
    programs = [mapping.compile(net.lower(), "crossbar:pcm") for net in (again, digits)]
    assert programs[0].digest() == programs[1].digest()


def test_calibration_images_are_taken_when_a_model_is_opened_and_said_once(tmp_path, caplog):
    digits, path = ep_hw.load("digits"), tmp_path / "bare.safetensors"
    bare = EPNetwork(digits.spec, digits.weights, digits.biases, name="bare")
    save_checkpoint(bare, path, recipe={}, data=digits.provenance["data"], accuracy={})
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            net, _ = network_and_images(path, 5, 0, DataSource(tmp_path))
            assert torch.equal(net.calibration, digits.calibration)
    assert [record.getMessage() for record in caplog.records] == [
        "calibration: the first 64 training images of digits, since the model brings none"]


def test_own_calibration_images_stay():
    net = small_network()
    assert net.calibrated() is net


def test_where_the_data_are_nowhere_converters_are_refused_with_an_option_of_the_command_line(tmp_path, monkeypatch):
    monkeypatch.delenv("EP_HW_DATA", raising=False)
    stranger = without("cifar10").calibrated(DataSource(tmp_path))
    assert stranger.calibration is None
    with pytest.raises(Refusal, match=r"--data-root or EP_HW_DATA.*crossbar:pcm/read"):
        mapping.compile(stranger.lower(), "crossbar:pcm")
