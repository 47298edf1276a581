"""Data sets: fixed disjoint splits, real CIFAR-10 where it is present, pickles that carry arrays only."""

import os
import pickle

import numpy as np
import pytest
import torch

from ep_hw.data import load_data
from mapping import Refusal


def test_digits_splits_are_fixed_disjoint_and_complete():
    splits = [load_data("digits", name) for name in ("train", "validation", "test")]
    ids = torch.cat([s.ids for s in splits])
    assert sorted(ids.tolist()) == list(range(1797))
    assert [len(s) for s in splits] == [1200, 237, 360]
    assert torch.equal(splits[2].ids, load_data("digits", "test").ids)
    for split in splits:
        assert split.images.shape[1:] == (1, 8, 8)
        assert split.images.min() == 0
        assert split.images.max() == 1
        assert split.labels.bincount().min() > 0


def test_real_cifar_has_the_published_statistics(cifar_root):
    """Published train mean 125.307, 122.950, 113.865; here 5000 images are held out for validation."""
    parts = [load_data("cifar10", name, cifar_root) for name in ("train", "validation", "test")]
    assert [len(p) for p in parts] == [45000, 5000, 10000]
    mean = (parts[0].images.mean((0, 2, 3)) * 9 + parts[1].images.mean((0, 2, 3))) / 10 * 255
    assert np.allclose(mean, [125.307, 122.950, 113.865], atol=0.02)
    assert parts[2].labels.bincount().tolist() == [1000] * 10


def batch_folder(tmp_path, content: bytes):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    (folder / "test_batch").write_bytes(content)
    return tmp_path


def test_a_batch_in_the_official_layout_is_read(tmp_path):
    pixels = np.arange(2 * 3072, dtype=np.int64).astype(np.uint8).reshape(2, 3072)
    root = batch_folder(tmp_path, pickle.dumps({"data": pixels, "labels": [3, 7]}, protocol=2))
    split = load_data("cifar10", "test", root)
    assert split.labels.tolist() == [3, 7]
    assert np.array_equal((split.images.numpy() * 255).round().reshape(2, -1), pixels)


def test_cifar100_is_read_by_its_fine_labels_and_the_last_5000_images_are_held_out(tmp_path):
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    pixels, fine = np.zeros((5003, 3072), np.uint8), [n % 100 for n in range(5003)]
    batch = {"data": pixels, "fine_labels": fine, "coarse_labels": [n % 20 for n in range(5003)]}
    (folder / "train").write_bytes(pickle.dumps(batch, protocol=2))
    train, validation = (load_data("cifar100", name, tmp_path) for name in ("train", "validation"))
    assert train.labels.tolist() == fine[:3]
    assert validation.labels.tolist() == fine[3:]
    with pytest.raises(Refusal, match="not a CIFAR batch"):
        load_data("cifar100", "test", tmp_path)


class Dangerous:
    def __reduce__(self):
        return os.mkdir, ("planted",)


@pytest.mark.parametrize("content", [pickle.dumps({"data": Dangerous()}), pickle.dumps([1, 2]), b"", b"junk",
                                     pickle.dumps({"data": np.zeros((2, 5), np.uint8), "labels": [0, 1]})])
def test_anything_but_arrays_is_refused_and_nothing_is_executed(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    root = batch_folder(tmp_path, content)
    with pytest.raises(Refusal, match="not a CIFAR batch"):
        load_data("cifar10", "test", root)
    assert not (tmp_path / "planted").exists()


def test_missing_data_and_unknown_names_are_refused(tmp_path, monkeypatch):
    monkeypatch.delenv("EP_HW_DATA", raising=False)
    with pytest.raises(Refusal, match="--data-root"):
        load_data("cifar10", "test")
    with pytest.raises(Refusal, match="data set not found"):
        load_data("cifar10", "test", tmp_path)
    with pytest.raises(Refusal, match="digits, cifar10, cifar100"):
        load_data("mnist", "test")
