"""Data sets: fixed disjoint splits, real CIFAR-10 where it is present, files that are something else."""

import hashlib
import io
import os
import pickle
import tarfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from processes import umask
from sklearn.datasets import load_digits

from ep_hw.data import DataSource, load_data
from ep_hw.data.cifar import CIFAR10
from ep_hw.data.fetching import Archive
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


def test_digits_are_scikit_learns():
    theirs, ours = load_digits(), [load_data("digits", name) for name in ("train", "validation", "test")]
    ids, images, labels = (torch.cat([getattr(split, name) for split in ours]) for name in ("ids", "images", "labels"))
    assert np.array_equal(images.numpy()[:, 0] * 16, theirs.images[ids])
    assert np.array_equal(labels.numpy(), theirs.target[ids])


def test_real_cifar_has_the_published_statistics(cifar_root):
    """Published train mean 125.307, 122.950, 113.865; here 5000 images are held out for validation."""
    parts = [load_data("cifar10", name, DataSource(cifar_root)) for name in ("train", "validation", "test")]
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
    split = load_data("cifar10", "test", DataSource(root))
    assert split.labels.tolist() == [3, 7]
    assert np.array_equal((split.images.numpy() * 255).round().reshape(2, -1), pixels)


def test_cifar100_is_read_by_its_fine_labels_and_the_last_5000_images_are_held_out(tmp_path):
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    pixels, fine = np.zeros((5003, 3072), np.uint8), [n % 100 for n in range(5003)]
    batch = {"data": pixels, "fine_labels": fine, "coarse_labels": [n % 20 for n in range(5003)]}
    (folder / "train").write_bytes(pickle.dumps(batch, protocol=2))
    train, validation = (load_data("cifar100", name, DataSource(tmp_path)) for name in ("train", "validation"))
    assert train.labels.tolist() == fine[:3]
    assert validation.labels.tolist() == fine[3:]
    with pytest.raises(Refusal, match="not a CIFAR batch"):
        load_data("cifar100", "test", DataSource(tmp_path))
    (folder / "train").write_bytes(official_batch(5000, "fine_labels"))
    with pytest.raises(Refusal, match="too few training images"):
        load_data("cifar100", "train", DataSource(tmp_path))


def official_batch(images: int, key: str = "labels", label: int = 7) -> bytes:
    return pickle.dumps({"data": np.zeros((images, 3072), np.uint8), key: [label] * images}, protocol=2)


class Dangerous:
    def __reduce__(self):
        return os.mkdir, ("planted",)


@pytest.mark.parametrize("content", [pickle.dumps({"data": Dangerous()}), b"", official_batch(2, label=10),
                                     official_batch(2, label=-1), official_batch(0)])
def test_anything_but_a_batch_is_refused_in_one_line_and_nothing_is_executed(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    root = batch_folder(tmp_path, content)
    with pytest.raises(Refusal, match=r"test_batch: not a CIFAR batch.*; remedy"):
        load_data("cifar10", "test", DataSource(root))
    assert not (tmp_path / "planted").exists()


@pytest.mark.parametrize("kind", ["folder", "pipe", "link to a pipe", "device", "dangling link", "nothing",
                                  "too large"])
def test_what_is_no_file_is_refused_at_once(tmp_path, kind):
    root = batch_folder(tmp_path, b"")
    path, pipe = root / "cifar-10-batches-py/test_batch", tmp_path / "pipe"
    path.unlink()
    os.mkfifo(pipe)
    {"folder": path.mkdir, "pipe": lambda: os.mkfifo(path), "link to a pipe": lambda: path.symlink_to(pipe),
     "device": lambda: path.symlink_to("/dev/zero"), "dangling link": lambda: path.symlink_to("gone"),
     "nothing": lambda: None, "too large": lambda: os.truncate(os.open(path, os.O_CREAT | os.O_RDWR), 2**40)}[kind]()
    with pytest.raises(Refusal, match="not a CIFAR batch"):
        load_data("cifar10", "test", DataSource(root))


def test_a_linked_folder_and_file_are_read(tmp_path):
    (tmp_path / "disk").mkdir()
    batch_folder(tmp_path / "disk", b"")
    (tmp_path / "disk/kept").write_bytes(official_batch(2))
    path = tmp_path / "disk/cifar-10-batches-py/test_batch"
    path.unlink()
    path.symlink_to(tmp_path / "disk/kept")
    (tmp_path / "root").symlink_to(tmp_path / "disk")
    assert load_data("cifar10", "test", DataSource(tmp_path / "root")).labels.tolist() == [7, 7]


def archive(members: dict[str, bytes | str]) -> bytes:
    """A gzipped tar of files, and of links where the content is text."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w:gz") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
            else:
                member.size = len(content)
            tar.addfile(member, io.BytesIO(content if isinstance(content, bytes) else b""))
    return written.getvalue()


BATCHES = {f"cifar-10-batches-py/{name}": official_batch(1001)
           for name in (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch")}


@pytest.fixture
def published(tmp_path):
    """Publishes an archive below a file's address; returns CIFAR-10 as it is published there, and where that is."""
    def publish(content: bytes):
        path = tmp_path / "server/cifar.tar.gz"
        path.parent.mkdir()
        path.write_bytes(content)
        archive = Archive(path.as_uri(), hashlib.md5(content).hexdigest(), 2**24)
        return replace(CIFAR10, archive=archive), path

    return publish


def test_a_download_takes_out_the_batches_and_nothing_else(tmp_path, published):
    data_set, _ = published(archive(BATCHES | {
        "../escaped": b"x", "cifar-10-batches-py/../../escaped": b"x", "/tmp/escaped-ep": b"x",
        "cifar-10-batches-py/batches.meta": pickle.dumps(Dangerous())}))
    split = data_set.load("train", DataSource(tmp_path / "new/root", download=True))
    assert split.labels.tolist() == [7] * 5
    assert [str(p.relative_to(tmp_path / "new")) for p in sorted((tmp_path / "new").rglob("*")) if p.is_file()] == [
        f"root/{name}" for name in sorted(BATCHES)]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new", "server"]
    assert (tmp_path / "new/root/cifar-10-batches-py").stat().st_mode & 0o777 == 0o777 & ~umask()


@pytest.mark.parametrize("fault", ["md5", "too large", "missing", "link", "no archive", "no server"])
def test_a_download_that_is_something_else_leaves_nothing(tmp_path, published, fault):
    name = "cifar-10-batches-py/test_batch"
    content = {"missing": archive({k: v for k, v in BATCHES.items() if k != name}), "no archive": b"<html>",
               "link": archive(BATCHES | {name: "../../secret"})}.get(fault, archive(BATCHES))
    data_set, path = published(content)
    if fault in ("md5", "too large"):
        path.write_bytes(content + b"x" * (1 if fault == "md5" else 2**24))
    if fault == "no server":
        path.unlink()
    with pytest.raises(Refusal, match="download failed"):
        data_set.load("test", DataSource(tmp_path / "root", download=True))
    assert not list((tmp_path / "root").iterdir())


def test_missing_data_and_unknown_names_are_refused(tmp_path, monkeypatch):
    monkeypatch.delenv("EP_HW_DATA", raising=False)
    with pytest.raises(Refusal, match="--data-root"):
        load_data("cifar10", "test")
    with pytest.raises(Refusal, match="data set not found"):
        load_data("cifar10", "test", DataSource(tmp_path))
    with pytest.raises(Refusal, match="did you mean torchvision:MNIST"):
        load_data("mnist", "test")


def test_a_source_names_its_own_folder_or_else_the_environments(tmp_path, monkeypatch):
    monkeypatch.setenv("EP_HW_DATA", str(tmp_path))
    assert DataSource().folder == tmp_path
    assert DataSource(tmp_path / "own").folder == tmp_path / "own"
    monkeypatch.setenv("EP_HW_DATA", "")
    assert DataSource().folder is None
