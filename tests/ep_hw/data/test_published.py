"""Published sets as torchvision keeps them: the images and labels that it reads, and nothing from damaged files."""

import bz2
import hashlib
import shutil
import struct
import zipfile
import zlib
from functools import partial
from gzip import compress
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import pytest
import torch
from published import levels, lines_file, matlab_file, mnist_files
from torchvision import datasets

from ep_hw.data import DATA_SETS, DataSource, data_set, load_data
from ep_hw.data.published import DIVISIONS
from ep_hw.data.registry import held_data
from ep_hw.learning.training.recipe import parse_recipe
from mapping import Refusal

EMNIST = [f"torchvision:EMNIST[split={split}]" for split in DIVISIONS]
NAMES = ["torchvision:FashionMNIST", *EMNIST, "torchvision:SVHN", "torchvision:USPS"]


def written(name, root, packed=True):
    """Small files of a set below a root, and a function that opens it by torchvision."""
    title, _, split = name.removeprefix("torchvision:").removesuffix("]").partition("[split=")
    if title == "SVHN":
        files = {f"{own}_32x32.mat": matlab_file(count, packed) for own, count in (("train", 60), ("test", 20))}
    elif title == "USPS":
        files = {"usps.bz2": lines_file(60), "usps.t.bz2": lines_file(20)}
    else:
        stems = (f"emnist-{split}-train", f"emnist-{split}-test") if split else ("train", "t10k")
        known = DATA_SETS[name]
        made = mnist_files(*stems, known.classes, int(split == "letters"), each=4)
        files = {f"{title}/raw/{file}": content for file, content in made.items()}
    for file, content in files.items():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(content)
    return sorted(files)


def theirs(name, root, split, monkeypatch, **settings):
    """The set as torchvision opens it."""
    title, _, part = name.removeprefix("torchvision:").removesuffix("]").partition("[split=")
    kind = getattr(datasets, title)
    if title == "SVHN":
        known = {own: ["", file.name, hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()]
                 for own in ("train", "test") for file in [root / f"{own}_32x32.mat"]}
        monkeypatch.setattr(kind, "split_list", known)
        return kind(str(root), split=split)
    return kind(str(root), train=split == "train", **({"split": part} if part else {}))


@pytest.mark.parametrize("name", NAMES)
def test_images_and_labels_are_those_that_torchvision_reads(name, tmp_path, monkeypatch):
    written(name, tmp_path)
    source, known = DataSource(tmp_path), data_set(name)
    for split in ("train", "test"):
        their, ours = theirs(name, tmp_path, split, monkeypatch), load_data(known, split, source)
        pixels = torch.as_tensor(np.asarray(their.data)).reshape(-1, *known.image_shape)
        targets = torch.as_tensor(np.asarray(their.labels if "SVHN" in name else their.targets)).long()
        assert torch.equal((ours.images * 255).round().byte(), pixels[ours.ids])
        assert torch.equal(ours.labels, targets[ours.ids] - int("letters" in name))
        assert held_data(known, split, source).digest == ours.digest
    assert {split: len(load_data(known, split, source)) for split in known.splits}["test"] == len(targets)
    assert len(set(known.class_names)) == len(known.class_names)
    if name in EMNIST and "letters" not in name:
        assert known.class_names == tuple(their.classes)


@pytest.mark.parametrize("packed", [False, True])
def test_a_matlab_file_is_read_packed_or_plain_in_any_order(tmp_path, packed):
    written("torchvision:SVHN", tmp_path, packed)
    first = load_data("torchvision:SVHN", "test", DataSource(tmp_path))
    (tmp_path / "test_32x32.mat").write_bytes(turned(matlab_file(20, packed)))
    assert load_data("torchvision:SVHN", "test", DataSource(tmp_path)).digest == first.digest
    assert first.images.shape == (20, 3, 32, 32)


def turned(blob):
    """A MAT-file whose second matrix comes first."""
    _, size = struct.unpack("<II", blob[128:136])
    return blob[:128] + blob[136 + size:] + blob[128:136 + size]


def repacked(blob, change=lambda content: content, cut=0, tail=b""):
    """A MAT-file with another content in its first packed matrix."""
    _, size = struct.unpack("<II", blob[128:136])
    packed = zlib.compress(change(zlib.decompress(blob[136:136 + size])))
    packed = packed[:len(packed) - cut] + tail
    return blob[:128] + struct.pack("<II", 15, len(packed)) + packed + blob[136 + size:]


ONES = np.ones((20, 1), np.uint8)
WRONG = {
    "cut": lambda: matlab_file(20)[:-9], "cut plain": lambda: matlab_file(20, False)[:9000], "empty": lambda: b"",
    "another head": lambda: b"x" * 200, "no y": lambda: matlab_file(20, y=np.zeros((0, 0))),
    "more labels": lambda: matlab_file(20, y=np.ones((21, 1))), "class 0": lambda: matlab_file(20, y=0 * ONES),
    "class 11": lambda: matlab_file(20, y=11 * ONES), "a third": lambda: matlab_file(20, z=ONES),
    "floats": lambda: matlab_file(20, X=np.zeros((32, 32, 3, 20))), "text": lambda: matlab_file(20, y=np.array(["a"])),
    "another size": lambda: matlab_file(20, X=levels(16, 16, 3, 20)), "objects": lambda: matlab_file(
        20, y=np.array([1, "a"], object)), "wrong checksum": lambda: repacked(matlab_file(20), cut=4, tail=bytes(4)),
    "more than it says": lambda: repacked(matlab_file(20), lambda x: x + bytes(8)),
    "less than it says": lambda: repacked(matlab_file(20), lambda x: x[:-8]),
    "a lying size": lambda: repacked(matlab_file(20), lambda x: x.replace(
        struct.pack("<IIII", 32, 32, 3, 20), struct.pack("<IIII", 32, 32, 3, 2**31 - 1)))}


@pytest.mark.parametrize("what", WRONG)
def test_another_matlab_file_is_refused(what, tmp_path):
    written("torchvision:SVHN", tmp_path)
    (tmp_path / "test_32x32.mat").write_bytes(WRONG[what]())
    with pytest.raises(Refusal, match="not a file of this set"):
        load_data("torchvision:SVHN", "test", DataSource(tmp_path))


LINE = " ".join(f"{n}:0.5" for n in range(1, 257))
OTHER_LINES = {"cut": lines_file(20)[:-9], "no lines": bz2.compress(b" \n"), "not packed": b"1 1:0.5",
               "a short line": lines_file(20, 255), "class 0": bz2.compress(f"0 {LINE}".encode()),
               "class 11": bz2.compress(f"11 {LINE}".encode()), "half a class": bz2.compress(f"1.5 {LINE}".encode()),
               "beyond 1": bz2.compress(f"1 {LINE}".replace("7:0.5", "7:1.5").encode()),
               "no number": bz2.compress(f"1 {LINE}".replace("7:0.5", "7:nan").encode()),
               "another order": bz2.compress(f"1 {LINE}".replace("7:", "9:").encode()),
               "a word": bz2.compress(f"1 {LINE} x".encode()), "one more": bz2.compress(f"1 {LINE} 257:0".encode()),
               "a bomb": bz2.compress(bytes(2**26 + 1))}


@pytest.mark.parametrize("what", OTHER_LINES)
def test_other_lines_are_refused(what, tmp_path):
    written("torchvision:USPS", tmp_path)
    (tmp_path / "usps.t.bz2").write_bytes(OTHER_LINES[what])
    with pytest.raises(Refusal, match="not a file of this set"):
        load_data("torchvision:USPS", "test", DataSource(tmp_path))


@pytest.fixture
def server(tmp_path):
    """The address of a server of a folder."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def offered(name, folder, address, monkeypatch):
    """Let torchvision fetch a set from a server."""
    files = [folder / file for file in written(name, folder)]
    title = name.removeprefix("torchvision:").partition("[")[0]

    def md5(path):
        return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()

    if title == "EMNIST":
        with zipfile.ZipFile(folder / "gzip.zip", "w") as archive:
            for file in files:
                archive.writestr(f"gzip/{file.name}.gz", compress(file.read_bytes()))
        monkeypatch.setattr(datasets.EMNIST, "url", f"{address}/gzip.zip")
        monkeypatch.setattr(datasets.EMNIST, "md5", md5(folder / "gzip.zip"))
    else:
        monkeypatch.setattr(getattr(datasets, title), "split_list", {
            split: [f"{address}/{file.name}", file.name, md5(file)] for split, file in zip(("test", "train"), files)
        } if title == "SVHN" else {split: [f"{address}/{file.name}", file.name, md5(file)]
                                   for split, file in zip(("train", "test"), files)})


@pytest.mark.parametrize("name", [EMNIST[3], "torchvision:SVHN", "torchvision:USPS"])
def test_a_set_is_fetched_where_it_is_missing_or_half_there(name, tmp_path, server, monkeypatch):
    folder, address = server
    offered(name, folder, address, monkeypatch)
    source, there = DataSource(tmp_path / "new", download=True), DataSource(folder)
    digest = load_data(name, "test", there).digest
    assert load_data(name, "test", source).digest == digest
    (tmp_path / "new" / data_set(name).files("test")[0]).unlink()
    assert load_data(name, "test", source).digest == digest
    shutil.rmtree(tmp_path / "new")
    with pytest.raises(Refusal, match="data set not found"):
        load_data(name, "test", DataSource(tmp_path / "new"))
    for file in [*folder.rglob("*.zip"), *folder.glob("*.mat"), *folder.glob("*.bz2")]:
        file.unlink()
    with pytest.raises(Refusal, match="download failed"):
        load_data(name, "test", source)


def test_emnist_is_named_with_its_division():
    with pytest.raises(Refusal, match=r"several divisions; got torchvision:EMNIST; allowed: .*\[split=letters\]"):
        data_set("torchvision:EMNIST")
    with pytest.raises(Refusal, match=r"did you mean torchvision:EMNIST\[split=letters\]"):
        data_set("torchvision:EMNIST[split=leters]")
    with pytest.raises(ValueError, match=r"did you mean torchvision:EMNIST\[split=byclass\]"):
        parse_recipe({"data": "torchvision:EMNIST"})
