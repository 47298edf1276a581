"""Checkpoints come back bit for bit; any other file is refused in one line before anything is built from it."""

import json
import time
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import DIGITS, saved, small_network
from safetensors.numpy import load_file, save

import ep_hw
from ep_hw.networks.baselines import Baseline, ViTSpec
from ep_hw.networks.checkpoint import FORM, load, provenance_of, save_checkpoint
from mapping import Refusal
from mapping.sealed import open_sealed, seal

VIT = ViTSpec(image_shape=(1, 8, 8), classes=10, mean=(0.3,), scale=(1.1,), patch=4, layers=1, heads=2, dim=8,
              hidden=12)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A network, its file, and what the file holds."""
    net = replace(small_network(), name="small")
    path = tmp_path_factory.mktemp("whole") / "n.safetensors"
    save_checkpoint(net, path, recipe={"rate": 0.5}, data=DIGITS, accuracy={"test": 0.75})
    return net, path, open_sealed(path, FORM, remedy="").header, load_file(path)


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    path = tmp_path_factory.mktemp("vit") / "v.safetensors"
    save_checkpoint(Baseline.initialise(VIT, 0), path, recipe={}, data=DIGITS, accuracy={})
    return open_sealed(path, FORM, remedy="").header, load_file(path)


def refused(path, blob, words):
    path.write_bytes(blob)
    with pytest.raises(Refusal, match=words) as caught:
        ep_hw.load(path)
    assert str(caught.value).isprintable()


def test_a_checkpoint_comes_back_bit_for_bit(whole):
    net, path, header, _ = whole
    again = ep_hw.load(path)
    assert (again.spec, again.name) == (net.spec, "small")
    for a, b in zip([*net.weights, *net.biases, net.calibration], [*again.weights, *again.biases, again.calibration]):
        assert torch.equal(a, b)
    about, sha256 = provenance_of(path)
    assert again.provenance == {**header, "sha256": sha256} == {**about.model_dump(mode="json"), "sha256": sha256}


THREE = {"channels": (3, 4, 5), "paddings": (1, 1, 1), "pools": (2, 2, 1)}


def test_a_feedback_gain_a_layer_comes_back_and_equal_ones_are_one_number(tmp_path):
    net = small_network(**THREE, feedback_gain=(1.0, 0.3, 0.1))
    again = ep_hw.load(saved(net, tmp_path))
    assert again.spec.feedback_gain == (1.0, 0.3, 0.1)
    assert again.lower().gains == (0, 0.3, 0.1, 0)
    assert again.provenance["spec"]["feedback_gain"] == [1.0, 0.3, 0.1]
    assert all(torch.equal(a, b) for a, b in zip(net.machine().relax(net.calibration).states,
                                                 again.machine().relax(net.calibration).states))
    for equal in ((0.3, 0.3, 0.3), (1.0, 0.3, 0.3)):   # what the first layer would feed back is fed to nobody
        assert small_network(**THREE, feedback_gain=equal).spec == small_network(**THREE, feedback_gain=0.3).spec


def test_feedback_that_is_cut_between_layers_is_refused():
    with pytest.raises(ValueError, match="either all feedback gains are 0 or none is"):
        small_network(**THREE, feedback_gain=(1.0, 0.3, 0.0))
    assert not small_network(**THREE, feedback_gain=(0.3, 0.0, 0.0)).lower().has_feedback


@settings(max_examples=100)
@given(data=st.data())
def test_a_changed_byte_is_refused_or_changes_nothing(whole, tmp_path_factory, data):
    net, path, header, _ = whole
    blob, bad = path.read_bytes(), tmp_path_factory.getbasetemp() / "changed.safetensors"
    place = data.draw(st.integers(0, len(blob) - 1))
    bad.write_bytes(blob[:place] + bytes([data.draw(st.integers(0, 255))]) + blob[place + 1:])
    try:
        again = ep_hw.load(bad)
    except Refusal:
        return
    assert {k: v for k, v in again.provenance.items() if k != "sha256"} == header
    assert all(torch.equal(again.tensors()[name], tensor) for name, tensor in net.tensors().items())


FORGED = [({"slope": float(2**40)}, "spec.ep.slope"), ({"slope": "0.5"}, "spec.ep.slope: .*valid number"),
          ({"mean": [True]}, "spec.ep.mean"), ({"scale": [0]}, "spec.ep.scale"), ({"scale": [1, 1]}, "mean and scale"),
          ({"pools": [0, 2]}, "spec.ep.pools"), ({"pools": [2.0, 2]}, "spec.ep.pools.0: .*valid integer"),
          ({"paddings": [-1, 1]}, "spec.ep.paddings"), ({"paddings": [1]}, "one entry a layer"),
          ({"steps": 0}, "spec.ep.steps"), ({"steps": 10**9}, "spec.ep.steps"), ({"kernel": 9}, "nothing is left"),
          ({"channels": [10**12, 6]}, "spec.ep.channels"), ({"channels": [65536, 65536]}, "weights, more than"),
          ({"image_shape": [1, 60000, 60000], "pools": [99, 99]}, "values an image, more"), ({"more": 1}, "more"),
          ({"channels": [4] * 10_000, "paddings": [1] * 10_000, "pools": [1] * 10_000}, "spec.ep.channels"),
          ({"channels": [4] * 30_000, "paddings": [1] * 30_000, "pools": [1] * 30_000}, "more than 32768 values"),
          ({"channels": [8, 6]}, "tensor has the wrong shape or type"), ({"architecture": ["ep"]}, "spec"),
          ({"architecture": "cnn"}, "spec.cnn"), ({"feedback_gain": [0.3]}, "one feedback gain a layer"),
          ({"feedback_gain": [0.3, -0.3]}, "spec.ep.feedback_gain"), ({"feedback_gain": []}, "spec.ep.feedback_gain"),
          ({"feedback_gain": [1] * 10_000}, "spec.ep.feedback_gain")]


@pytest.mark.parametrize(("changes", "words"), FORGED, ids=lambda value: str(value)[:40])
def test_a_forged_spec_is_refused_before_anything_is_built(whole, tmp_path, changes, words):
    """Sealed anew, as a forger would."""
    *_, header, arrays = whole
    blob = seal(FORM, {**header, "spec": {**header["spec"], **changes}}, arrays)
    begun = time.process_time()
    refused(tmp_path / "f", blob, words)
    assert time.process_time() - begun < 2


@pytest.mark.parametrize(("changes", "words"), [
    ({"layers": 30_000}, "spec.vit.layers"), ({"dim": 10**18}, "dim"), ({"dim": 60_000, "heads": 1}, "weights, more"),
    ({"layers": 250}, "wrong shape or type"), ({"patch": 1, "image_shape": [1, 4096, 4096]}, "an image, more"),
    ({"patch": 3}, "multiple"), ({"heads": 3}, "multiple")])
def test_a_forged_transformer_takes_neither_time_nor_memory(vit, tmp_path, changes, words):
    header, arrays = vit
    blob = seal(FORM, {**header, "spec": {**header["spec"], **changes}}, arrays)
    begun = time.process_time()
    tracemalloc.start()
    refused(tmp_path / "f", blob, words)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.process_time() - begun < 2
    assert peak < 2e7


@pytest.mark.parametrize(("changes", "words"), [
    ({"name": "../up"}, "name"), ({"name": "a\x1b[31m"}, "name"), ({"name": ""}, "name"), ({"name": "x" * 200}, "name"),
    ({"name": "a\0b"}, "name"), ({"name": ".hidden"}, "name"), ({"name": 3}, "name"), ({"more": 1}, "more"),
    ({"accuracy": {"test": 1.5}}, "accuracy.test"), ({"accuracy": {"training": 1}}, "accuracy.training"),
    ({"data": {**DIGITS, "name": "a/b"}}, "data.name"), ({"data": {**DIGITS, "train": -1}}, "data.train"),
    ({"recipe": []}, "recipe"), ({"data": {**DIGITS, "name": "cifar10"}}, r".*cifar10 has images \(3, 32, 32\) of 10")])
def test_a_forged_header_is_refused(whole, tmp_path, changes, words):
    *_, header, arrays = whole
    refused(tmp_path / "f", seal(FORM, {**header, **changes}, arrays), f"header is not right; got {words}")


@pytest.mark.parametrize(("name", "change", "words"), [
    ("weight1", lambda w: w[:, :2], "weight1: tensor has the wrong shape or type; got float32 \\(6, 2, 3, 3\\)"),
    ("weight1", lambda w: w.astype(np.float16), "weight1: tensor has the wrong shape or type"),
    ("weight1", lambda w: w * np.float32("inf"), "layer conv2: weight is not finite"),
    ("calibration", lambda x: x[:0], "calibration images are none"),
    ("calibration", lambda x: x * np.float32("nan"), "calibration images are none"),
    ("calibration", lambda x: x + 1, "calibration images are none"),
    ("calibration", lambda x: x[0], "calibration: tensor has the wrong shape or type"),
    ("stranger", lambda x: np.zeros(2), "stranger: tensor has the wrong shape or type")])
def test_other_tensors_are_refused_by_name(whole, tmp_path, name, change, words):
    *_, header, arrays = whole
    refused(tmp_path / "f", seal(FORM, header, {**arrays, name: change(arrays.get(name))}), words)


def test_a_file_of_the_first_version_is_refused_with_what_helps(whole, tmp_path):
    *_, header, arrays = whole
    old = json.dumps({**header, "format": "ep-hw checkpoint 1", "sha256": "0"})
    refused(tmp_path / "f", save(arrays, {"ep_hw": old}),
            "checkpoint of another version; got ep-hw checkpoint 1; allowed: ep-hw checkpoint 2.*'ep-hw export'")


def test_what_is_no_checkpoint_is_said_in_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(tmp_path / "f", b"", "not a readable checkpoint")
    refused(tmp_path / "f", save({"a": np.zeros(1)}), "no header of one")
    for path in ("nothing", "a" * 5000, "a\0b", tmp_path, "/dev/zero"):
        with pytest.raises(Refusal, match="no such model"):
            load(path)


@pytest.mark.parametrize("name", ["a/b", "..", "bell\a", "", " x"])
def test_no_network_is_saved_under_what_is_no_name(whole, tmp_path, name):
    net = replace(small_network(), name=name)
    with pytest.raises(Refusal, match="not a name"):
        save_checkpoint(net, tmp_path / "n.safetensors", recipe={}, data=DIGITS, accuracy={})
    assert not list(tmp_path.iterdir())
