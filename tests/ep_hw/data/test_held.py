"""Splits that are trained on: the same images as in memory, whatever they are read from, and the same moments."""

import pickle
import struct

import numpy as np
import pytest
import torch
from PIL import Image

from ep_hw.data import Dataset
from ep_hw.data.held import HeldSplit
from ep_hw.data.registry import data_set, held_data, load_data
from ep_hw.data.source import DataSource
from ep_hw.data.splits import Choose
from ep_hw.learning.training import recipe

RNG = np.random.default_rng(0)
COUNT = 60
LABELS = np.arange(COUNT) % 4
SHAPES = {"NHW": (COUNT, 5, 6), "NHWC": (COUNT, 5, 6, 3), "NCHW": (COUNT, 3, 5, 6)}


def levels(layout):
    return RNG.integers(0, 256, SHAPES[layout], np.uint8)


def written(kind, tmp_path):
    if kind.startswith("npz"):
        _, save, dtype, layout = kind.split()
        images = levels(layout)
        arrays = {"images": images if dtype == "uint8" else (images / 255).astype(dtype), "labels": LABELS}
        getattr(np, save)(tmp_path / "own.npz", **arrays)
        return data_set(str(tmp_path / "own.npz"))
    if kind == "folder":
        for n, image in enumerate(levels("NHWC")):
            (tmp_path / "own" / f"class {LABELS[n]}").mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(tmp_path / "own" / f"class {LABELS[n]}" / f"{n}.png")
        return data_set(str(tmp_path / "own"))
    if kind == "memory":
        return Dataset(levels("NHW"), LABELS, test=(levels("NHW"), LABELS))
    if kind == "torchvision":
        raw = tmp_path / "MNIST" / "raw"
        raw.mkdir(parents=True)
        for stem in ("train", "t10k"):
            images, labels = RNG.integers(0, 256, (COUNT, 28, 28), np.uint8), (np.arange(COUNT) % 10).astype(np.uint8)
            for name, array in ((f"{stem}-images-idx3-ubyte", images), (f"{stem}-labels-idx1-ubyte", labels)):
                head = struct.pack(f">{1 + array.ndim}I", 0x800 + array.ndim, *array.shape)
                (raw / name).write_bytes(head + array.tobytes())
        return data_set("torchvision:MNIST")
    return data_set("digits")


KINDS = [*(f"npz {save} {dtype} {layout}" for save in ("savez", "savez_compressed") for dtype in ("uint8", "float32")
           for layout in SHAPES if save == "savez" or layout == "NHWC"), "folder", "memory", "torchvision", "digits"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_held_split_is_the_split(kind, tmp_path):
    known, source = written(kind, tmp_path), DataSource(tmp_path)
    held, loaded = ([read(known, split, source) for split in ("train", "validation", "test")]
                    for read in (held_data, load_data))
    for one, other in zip(held, loaded):
        assert (one.digest, one.sha256, len(one), one.class_names) == (
            other.digest, other.sha256, len(other), other.class_names)
        for index in (slice(None), slice(3), torch.randperm(len(other))[:7]):
            taken, wanted = one.take(index), other.take(index)
            assert torch.equal(taken.images, wanted.images)
            assert taken.images.is_contiguous()
            assert torch.equal(taken.labels, wanted.labels)
            assert torch.equal(taken.ids, wanted.ids)
        assert [part.digest for part in one.parts(7)] == [part.digest for part in other.parts(7)]
    for choose in (Choose(7, seed=3), Choose(5), Choose(None, seed=3)):
        some, wanted = held[0].chosen(choose), choose.of(loaded[0])
        travelled = pickle.loads(pickle.dumps(some))
        assert some.digest == travelled.digest == wanted.digest
        assert len(travelled.pixels[0].array) == len(some)
    both, index = held[0].and_then(held[1]), torch.randperm(len(held[0]) + len(held[1]))
    assert torch.equal(both.take(index).images, torch.cat([split.images for split in loaded[:2]])[index])
    assert torch.equal(both.take(index).labels, torch.cat([split.labels for split in loaded[:2]])[index])


@pytest.mark.parametrize("shift", [0.0, 1000.0])
def test_moments_of_parts_are_those_of_the_whole(monkeypatch, shift):
    images = (torch.rand(23, 3, 4, 5, generator=torch.Generator().manual_seed(1)) + shift).float()
    split = HeldSplit.of(load_data("digits", "test").take(slice(23)))
    split = HeldSplit(data="own", image_shape=(3, 4, 5), labels=split.labels, ids=split.ids,
                      pixels=(type(split.pixels[0])(images.numpy(), "NCHW", np.arange(23)),))
    whole = recipe._moments(split)
    monkeypatch.setattr(recipe, "AT_ONCE", 0)
    monkeypatch.setattr(recipe, "READ", 7 * 60)
    for one, other in zip(recipe._moments(split), whole):
        assert torch.allclose(one, other, rtol=1e-12 * (1 + shift), atol=0)


def test_what_lies_in_parts_is_written_once_where_there_is_room(tmp_path, monkeypatch):
    known = written("npz savez_compressed uint8 NHW", tmp_path)
    parts = [known.portions[split].rows.in_place for split in known.splits]
    assert all(one is parts[0] for one in parts)
    assert isinstance(parts[0].array, np.memmap)
