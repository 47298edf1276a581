"""Published corruption sets: a small folder in their format, read by the ids of the clean test images."""

import io
import os
import pickle

import numpy as np
import pytest
import torch
from networks import saved, small_network

import simulators
from ep_hw.data import DataSource, load_data
from ep_hw.evaluation.plan import cells_of, evaluate
from ep_hw.evaluation.suites import Request
from ep_hw.threats.corruptions.official import OfficialSet
from ep_hw.threats.threat import parse_threat
from ep_hw.workflow import plan_evaluation
from mapping import Refusal

IMAGES = 30   # of the test set; the published file holds five times as many
DATA = {"name": "cifar10", "split_seed": 0, "train": 0, "test": IMAGES}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A test batch, and CIFAR-10-C with fog and frost: pixel value 10 s + 1 for fog at severity s, marked by its id."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, IMAGES)
    for folder in ("cifar-10-batches-py", "CIFAR-10-C"):
        (root / folder).mkdir()
    batch = {"data": rng.integers(0, 256, (IMAGES, 3072), dtype=np.uint8), "labels": labels.tolist()}
    (root / "cifar-10-batches-py/test_batch").write_bytes(pickle.dumps(batch, protocol=2))
    published = np.zeros((5 * IMAGES, 32, 32, 3), np.uint8)
    for place in range(5 * IMAGES):
        published[place] = 10 * (place // IMAGES + 1)
        published[place, 0, 0] = (place % IMAGES, place // IMAGES, 255)
    for name in ("fog", "frost"):
        np.save(root / "CIFAR-10-C" / f"{name}.npy", published)
    np.save(root / "CIFAR-10-C" / "labels.npy", np.tile(labels, 5))
    return root


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    net = small_network(5, image_shape=(3, 32, 32), mean=(0.5,) * 3, scale=(0.7,) * 3, steps=20)
    return str(saved(net, tmp_path_factory.mktemp("model"), data=DATA))


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_images_are_found_by_severity_and_id(root, severity):
    clean = load_data("cifar10", "test", DataSource(root)).take(torch.tensor([7, 0, 29]))
    found = OfficialSet.of("cifar10", DataSource(root)).corrupted("fog", severity, clean)
    assert found.shape == (3, 3, 32, 32)
    assert (found[:, 0, 0, 0] * 255).round().tolist() == [7, 0, 29]
    assert (found[:, 1, 0, 0] * 255).round().tolist() == [severity - 1] * 3
    assert torch.equal(found[:, 2, 0, 0], torch.ones(3))
    assert ((found[:, :, 5:] * 255).round() == 10 * severity).all()


def test_an_evaluation_shows_the_published_images_to_every_machine(root, model, tmp_path):
    threats = [parse_threat("official:fog@2"), parse_threat("official:frost@5")]
    plan = plan_evaluation(model, Request(["loihi"], threats, images=8), data_source=DataSource(root))
    summary, _ = evaluate(plan, tmp_path)
    rows = {(row["machine"], str(row["threat"])): row["accuracy"] for row in summary}
    for name, severity in (("fog", 2), ("frost", 5)):
        images = plan.official.corrupted(name, severity, plan.images)
        for machine in ("reference", "loihi"):
            right = simulators.open(plan.programs[machine]).relax(images).prediction == plan.images.labels
            assert rows[machine, f"official:{name}@{severity}"] == pytest.approx(float(right.float().mean()))


def test_other_published_images_are_another_cell(root, model, tmp_path):
    fog = [parse_threat("official:fog@2")]
    plan = plan_evaluation(model, Request(["reference"], fog, images=8), data_source=DataSource(root))
    before = {cell.stem for cell in cells_of(plan, tmp_path)}
    path = root / "CIFAR-10-C" / "fog.npy"
    kept = np.load(path)
    np.save(path, kept + np.uint8(1))
    try:
        after = {cell.stem for cell in cells_of(plan, tmp_path)}
    finally:
        np.save(path, kept)
    assert len(before & after) == len(before) - 1
    assert {cell.stem for cell in cells_of(plan, tmp_path)} == before


@pytest.mark.parametrize(("text", "words"), [
    ("official:snow@1", "snow.npy"), ("official:fog@6", "severity out of range"),
    ("official:pgd_l2@1", "unknown threat")])
def test_what_is_not_there_is_refused_before_any_work(root, model, text, words):
    with pytest.raises(Refusal, match=words):
        plan_evaluation(model, Request(["reference"], [parse_threat(text)], images=4), data_source=DataSource(root))


def zipped(array) -> bytes:
    """An .npz, whatever its name."""
    written = io.BytesIO()
    np.savez_compressed(written, array)
    return written.getvalue()


@pytest.mark.parametrize("damage", ["labels", "shape", "length", "type", "junk", "empty", "zip", "negative", "large",
                                    "floats", "objects", "pipe", "folder"])
def test_a_set_of_something_else_is_refused(root, tmp_path, damage):
    clean = load_data("cifar10", "test", DataSource(root))
    folder = tmp_path / "CIFAR-10-C"
    folder.mkdir()
    labels, fog = np.tile(clean.labels.numpy(), 5), np.zeros((5 * IMAGES, 32, 32, 3), np.uint8)
    known = {"labels": (labels + 1) % 10, "negative": np.where(labels, labels, -1), "large": labels + 2**40,
             "floats": labels.astype(float), "objects": labels.astype(object)}
    np.save(folder / "labels.npy", known.get(damage, labels))
    np.save(folder / "fog.npy", {"shape": fog[..., :1], "length": fog[1:], "type": fog.view(np.int8)}.get(damage, fog))
    if damage in ("junk", "empty", "zip"):
        (folder / "fog.npy").write_bytes({"junk": b"junk", "empty": b""}.get(damage, zipped(fog)))
    if damage in ("pipe", "folder"):
        (folder / "fog.npy").unlink()
        (os.mkfifo if damage == "pipe" else os.mkdir)(folder / "fog.npy")
    with pytest.raises(Refusal, match="not a published set"):
        OfficialSet.of("cifar10", DataSource(tmp_path)).corrupted("fog", 1, clean)


def test_without_a_folder_or_for_other_data_they_are_refused(tmp_path, monkeypatch):
    monkeypatch.delenv("EP_HW_DATA", raising=False)
    for data, root, words in (("cifar10", tmp_path, "not there"), ("cifar100", None, "not there"),
                              ("digits", tmp_path, "no corruptions were published")):
        with pytest.raises(Refusal, match=words):
            OfficialSet.of(data, DataSource(root))


def test_the_name_reads_back():
    assert str(parse_threat("official:jpeg@3")) == "official:jpeg_compression@3"
    assert parse_threat("official:fog@3").is_corruption
    assert not parse_threat("fog@3").is_official
