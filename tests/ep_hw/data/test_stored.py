"""Data sets of one's own: arrays, archives and folders give the same images; what is none is refused."""

import gzip
import hashlib
import tracemalloc
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import datasets

from ep_hw.data import Dataset, DataSource, data_set, load_data
from ep_hw.data.splits import Choose
from mapping import Refusal

SPLITS = ("train", "validation", "test")
SIDES = st.integers(5, 12)


def arrays(shape, kind="uint8", seed=0):
    """Images and labels of three classes."""
    rng, labels = np.random.default_rng(seed), np.arange(shape[0]) % 3
    levels = rng.integers(0, 256, shape)
    return levels.astype(np.uint8) if kind == "uint8" else (levels / 255).astype(kind), labels


@st.composite
def stored(draw):
    """Images of any layout, size and type with labels of any type of whole numbers, and (C, H, W) of the former."""
    channels, height, width = draw(st.integers(1, 4)), draw(SIDES), draw(SIDES)
    layout = draw(st.sampled_from(("NHW", "NCHW", "NHWC")))
    shape = {"NHW": (height, width), "NCHW": (channels, height, width), "NHWC": (height, width, channels)}[layout]
    kind = draw(st.sampled_from(("uint8", "float16", "float32", "float64", ">f4")))
    images, labels = arrays((draw(st.integers(12, 40)), *shape), kind, draw(st.integers(0, 99)))
    labels = labels.astype(draw(st.sampled_from(("uint8", "int64", ">i4"))))
    shape = 1 if layout == "NHW" else channels, height, width
    return images, labels[:, None] if draw(st.booleans()) else labels, shape


def expected(images):
    """(N, C, H, W) floats: the channels are the axis that is short."""
    x = torch.from_numpy(images.astype(np.float64) / (255 if images.dtype == np.uint8 else 1)).float()
    x = x[:, None] if x.ndim == 3 else x
    return x if x.shape[1] <= 4 else x.movedim(-1, 1)


@settings(max_examples=40)
@given(stored(), st.booleans())
def test_an_archive_gives_back_what_was_saved(tmp_path_factory, made, compressed):
    images, labels, shape = made
    file = tmp_path_factory.mktemp("npz") / "mine.npz"
    (np.savez_compressed if compressed else np.savez)(file, images=images, labels=labels, more=np.zeros(3))
    own = data_set(str(file))
    assert (own.name, own.classes, own.image_shape) == ("mine.npz", 3, shape)
    read = [load_data(own, split) for split in SPLITS]
    assert sorted(torch.cat([split.ids for split in read]).tolist()) == list(range(len(labels)))
    for split in read:
        assert torch.equal(split.images, expected(images)[split.ids])
        assert split.labels.tolist() == labels.ravel()[split.ids].tolist()
    in_memory = Dataset(images, labels, name="mine.npz")
    assert [load_data(in_memory, split).digest for split in SPLITS] == [split.digest for split in read]
    assert [load_data(in_memory, split).sha256 for split in SPLITS] == [split.sha256 for split in read]


@settings(max_examples=15)
@given(st.integers(1, 3), SIDES, SIDES, st.sampled_from((1, 3)), st.booleans())
def test_a_folder_gives_back_what_was_saved(tmp_path_factory, seed, height, width, channels, divided):
    folder = tmp_path_factory.mktemp("pictures")
    images, labels = arrays((24, height, width, 3)[:4 if channels == 3 else 3], seed=seed)
    for place, (image, label) in enumerate(zip(images, labels)):
        inner = folder / (("test" if place >= 18 else "train") if divided else "") / f"class {label}"
        inner.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(inner / f"{place:02}.png")
    own = data_set(str(folder))
    assert (own.classes, own.class_names, own.image_shape) == (3, ("class 0", "class 1", "class 2"),
                                                               (channels, height, width))
    read = [load_data(own, split) for split in SPLITS]
    shown = {image.numpy().tobytes(): int(label) for split in read for image, label in zip(split.images, split.labels)}
    assert shown == {image.numpy().tobytes(): label for image, label in zip(expected(images), labels)}
    if divided:
        tested = {image.numpy().tobytes() for image in expected(images)[18:]}
        assert {image.numpy().tobytes() for image in read[2].images} == tested


def test_parts_of_a_split_are_the_split_in_part(tmp_path):
    images, labels = arrays((60, 6, 7))
    np.savez(tmp_path / "mine.npz", images=images, labels=labels)
    whole = load_data(str(tmp_path / "mine.npz"), "train")
    for choose in (Choose(5), Choose(7, seed=3), Choose(seed=1), Choose(1000, seed=1)):
        part = load_data(str(tmp_path / "mine.npz"), "train", choose=choose)
        assert part.digest == choose.of(whole).digest
        assert part.sha256 == whole.sha256


def test_the_sha256_of_a_split_is_of_its_images_and_labels():
    images, labels = arrays((60, 6, 7))
    before = load_data(Dataset(images, labels), "test")
    changed = images.copy()
    changed[before.ids[0], 0, 0] ^= 1
    assert load_data(Dataset(changed, labels), "test").sha256 != before.sha256
    assert load_data(Dataset(changed, labels), "train").sha256 == load_data(Dataset(images, labels), "train").sha256
    moved = labels.copy()
    moved[before.ids[:2]] = moved[before.ids[1]], moved[before.ids[0]]
    assert load_data(Dataset(images, moved), "train").sha256 == load_data(Dataset(images, labels), "train").sha256


def test_splits_hold_the_stated_share_of_each_class():
    own = Dataset(*arrays((90, 5, 5)))
    assert [own.counts(split).tolist() for split in SPLITS] == [[21] * 3, [3] * 3, [6] * 3]
    assert own.sentence() == ("own: 3 classes (0: 30, 1: 30, 2: 30), images of 1x5x5; train 63, validation 9, test 18 "
                              "(20% of each class for test, 10% for validation, drawn by seed 0)")
    many = Dataset(np.zeros((100, 5, 5), np.uint8), np.minimum(np.arange(100) // 4, 20))
    assert many.sentence().startswith("own: 21 classes (of 4 to 20 images), images of 1x5x5; ")


def test_tensors_are_taken_as_arrays_are():
    images, labels = arrays((30, 5, 5), "float32")
    tensors = Dataset(torch.from_numpy(images).requires_grad_(), torch.from_numpy(labels))
    assert load_data(tensors, "test").digest == load_data(Dataset(images, labels), "test").digest
    assert repr(tensors) == f"<{tensors.sentence()}>"


def test_own_splits_stay_as_they_are(tmp_path):
    images, labels = arrays((60, 5, 5))
    np.savez(tmp_path / "med.npz", train_images=images[:30], train_labels=labels[:30, None], val_images=images[30:45],
             val_labels=labels[30:45, None], test_images=images[45:], test_labels=labels[45:, None])
    own = data_set(str(tmp_path / "med.npz"))
    assert own.division == "its own train, validation, test"
    assert load_data(own, "test").images.sum() == expected(images[45:]).sum()
    half = Dataset(images[:30], labels[:30], test=(images[45:], labels[45:]))
    assert half.division == "its own train, test; 10% of each class of train for validation, drawn by seed 0"
    assert [len(load_data(half, split)) for split in SPLITS] == [27, 3, 15]


def test_a_test_set_alone_has_no_other_split(tmp_path):
    images, labels = arrays((30, 5, 5))
    np.savez(tmp_path / "only.npz", test_images=images, test_labels=labels)
    own = data_set(str(tmp_path / "only.npz"))
    assert len(load_data(own, "test")) == 30
    with pytest.raises(Refusal, match=r"got only.npz, train; allowed: .*; test; remedy"):
        load_data(own, "train")


def test_channels_first_and_last_are_told_apart_or_asked_for(tmp_path):
    images, labels = arrays((30, 3, 5, 3))
    np.savez(tmp_path / "mine.npz", images=images, labels=labels)
    with pytest.raises(Refusal, match=r"channels may come first or last; got \(30, 3, 5, 3\).*layout=NHWC"):
        data_set(str(tmp_path / "mine.npz"))
    assert data_set(f"{tmp_path}/mine.npz[layout=NHWC]").image_shape == (3, 3, 5)
    assert data_set(f"{tmp_path}/mine.npz[layout=NCHW]").image_shape == (3, 5, 3)
    assert Dataset(np.zeros((30, 9, 9, 7), np.uint8), labels).image_shape == (7, 9, 9)
    assert Dataset(np.zeros((30, 7, 9, 9), np.uint8), labels).image_shape == (7, 9, 9)
    for shape in ((30, 5, 6, 7), (30, 1, 1, 9), (30, 6, 6, 6)):
        with pytest.raises(Refusal, match="channels may come first or last"):
            Dataset(np.zeros(shape, np.uint8), labels)


IMAGES, LABELS = arrays((30, 5, 5))
WRONG = {
    "values that are no pixels; got NaN": (np.full((30, 5, 5), np.nan), LABELS),
    r"values that are no pixels; got values from [\d.]+ to \d{3}": (np.linspace(0, 255, 750).reshape(30, 5, 5), LABELS),
    "values that are no pixels; got values from -1 to ": (np.where(IMAGES > 9, IMAGES / 255, -1), LABELS),
    "images of another type; got int64": (IMAGES.astype(int), LABELS),
    "images of another type; got bool": (IMAGES > 9, LABELS),
    "an array that holds no images": (IMAGES.reshape(30, 25), LABELS),
    r"an array that holds no images; got .0, 5, 5.|0 bytes for an array": (IMAGES[:0], LABELS[:0]),
    "other numbers of images and labels; got 30 images, 29 labels": (IMAGES, LABELS[1:]),
    "labels that name no class; got from -1": (IMAGES, LABELS - 1),
    "labels that name no class; got from 0 to 70000": (IMAGES, LABELS * 35_000),
    "labels that name no class each; got float64": (IMAGES, LABELS.astype(float)),
    r"labels that name no class each; got int64 \(30, 2\)": (IMAGES, np.stack([LABELS, LABELS], 1)),
    r"no image of class \[1\]|class 1; too few|class 1: too few": (IMAGES, LABELS * 2),
    "1 classes": (IMAGES, LABELS * 0),
    "too few images of a class to draw splits from; got 2": (IMAGES[:8], LABELS[:8])}


@pytest.mark.parametrize("said", WRONG)
def test_what_is_no_data_set_is_refused_in_memory_and_in_an_archive(tmp_path, said):
    images, labels = WRONG[said]
    np.savez(tmp_path / "mine.npz", images=images, labels=labels)
    for named in (lambda: Dataset(images, labels), lambda: str(tmp_path / "mine.npz")):
        with pytest.raises(Refusal, match=said):
            load_data(named(), "test")


def saved(**arrays):
    return lambda file: np.savez(file, **arrays)


def truncated(file):
    np.savez(file, images=IMAGES, labels=LABELS)
    file.write_bytes(file.read_bytes()[:-200])


def flipped(file):
    np.savez(file, images=IMAGES, labels=LABELS)
    content = bytearray(file.read_bytes())
    content[400] ^= 1
    file.write_bytes(content)


def pickled(file):
    np.savez(file, images=np.array([None] * 30), labels=LABELS)


def shortened(file):
    """An array of fewer bytes than it claims, under a right checksum."""
    np.savez(file, images=IMAGES, labels=LABELS)
    with zipfile.ZipFile(file) as whole:
        members = {name: whole.read(name) for name in whole.namelist()}
    with zipfile.ZipFile(file, "w") as short:
        for name, content in members.items():
            short.writestr(name, content[:-3] if name == "images.npy" else content)


FILES = {"no zip": lambda file: file.write_bytes(b"PK" + bytes(50)), "nothing": lambda file: file.write_bytes(b""),
         "truncated": truncated, "a flipped bit": flipped, "a pickle": pickled, "fewer bytes than claimed": shortened,
         "no labels": saved(images=IMAGES), "other names": saved(x=IMAGES, y=LABELS),
         "both kinds of names": saved(images=IMAGES, labels=LABELS, test_images=IMAGES, test_labels=LABELS),
         "a single number": saved(images=IMAGES, labels=np.int64(3)),
         "splits of two sizes": saved(train_images=IMAGES, train_labels=LABELS, test_images=IMAGES[:, 1:],
                                      test_labels=LABELS),
         "the first index fastest": saved(images=np.asfortranarray(IMAGES), labels=LABELS)}


@pytest.mark.parametrize("name", FILES)
def test_an_archive_that_is_none_is_refused(tmp_path, name):
    FILES[name](tmp_path / "mine.npz")
    with pytest.raises(Refusal, match=r"mine\.npz.*; remedy: "):
        load_data(str(tmp_path / "mine.npz"), "test")


@pytest.mark.parametrize("images", [IMAGES[:20], IMAGES[:, 1:], IMAGES / 255])
def test_an_archive_that_changes_while_it_is_read_is_refused(tmp_path, images):
    saved(images=IMAGES, labels=LABELS)(tmp_path / "mine.npz")
    opened = data_set(str(tmp_path / "mine.npz"))
    saved(images=images, labels=LABELS[:len(images)])(tmp_path / "mine.npz")
    with pytest.raises(Refusal, match="another program has just written anew"):
        load_data(opened, "test")


def pictures(folder):
    for place, (image, label) in enumerate(zip(IMAGES, LABELS)):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / str(label) / f"{place}.png")
    return folder


FOLDERS = {
    "two sizes": lambda folder: Image.fromarray(IMAGES[0][1:]).save(folder / "0" / "x.png"),
    "two kinds": lambda folder: Image.fromarray(np.dstack([IMAGES[0]] * 3)).save(folder / "0" / "x.png"),
    "16 bits": lambda folder: Image.fromarray(IMAGES[0].astype(np.uint16)).save(folder / "0" / "x.png"),
    "another file": lambda folder: (folder / "0" / "notes.txt").write_text("mine"),
    "no picture": lambda folder: (folder / "0" / "x.png").write_bytes(b"\x89PNG"),
    "a folder for a picture": lambda folder: (folder / "0" / "x.png").mkdir(),
    "truncated": lambda folder: [f.write_bytes(f.read_bytes()[:-30]) for f in folder.rglob("*.png")],
    "an empty class": lambda folder: (folder / "3").mkdir(),
    "a split beside classes": lambda folder: (folder / "train").mkdir()}


def test_a_picture_that_changes_while_it_is_read_is_refused(tmp_path):
    opened = data_set(str(pictures(tmp_path / "mine")))
    for file in tmp_path.rglob("*.png"):
        Image.fromarray(IMAGES[0][1:]).save(file)
    with pytest.raises(Refusal, match="a picture that has changed its size"):
        load_data(opened, "test")


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_that_is_none_is_refused(tmp_path, name):
    FOLDERS[name](pictures(tmp_path / "mine"))
    with pytest.raises(Refusal, match=r"mine.*; remedy: "):
        load_data(str(tmp_path / "mine"), "test")


def test_a_file_does_not_take_the_name_of_a_known_set(tmp_path):
    pictures(tmp_path / "digits")
    with pytest.raises(Refusal, match="the name means another data set; got digits"):
        data_set(str(tmp_path / "digits"))


def idx(array):
    return bytes((0, 0, 8, array.ndim)) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


@pytest.fixture
def mnist(tmp_path):
    """A small MNIST in the folder that torchvision makes, and the images of its files."""
    raw, made = tmp_path / "MNIST" / "raw", {}
    raw.mkdir(parents=True)
    for stem, count in (("train", 60), ("t10k", 20)):
        images, labels = arrays((count, 28, 28), seed=count)[0], (np.arange(count) % 10).astype(np.uint8)
        (raw / f"{stem}-images-idx3-ubyte").write_bytes(idx(images))
        (raw / f"{stem}-labels-idx1-ubyte").write_bytes(idx(labels))
        made[stem] = images, labels
    return tmp_path, made


def test_mnist_is_read_where_torchvision_keeps_it(mnist):
    root, _ = mnist
    theirs = datasets.MNIST(str(root), train=False)
    ours = load_data("torchvision:MNIST", "test", DataSource(root))
    assert torch.equal((ours.images[:, 0] * 255).round().byte(), theirs.data[ours.ids])
    assert torch.equal(ours.labels, theirs.targets[ours.ids])
    assert [len(load_data("torchvision:MNIST", split, DataSource(root))) for split in SPLITS] == [50, 10, 20]


@pytest.fixture
def published(mnist, monkeypatch):
    """MNIST as it would be fetched: packed files of known md5 on a server."""
    root, _ = mnist
    raw, resources = root / "MNIST" / "raw", []
    for file in sorted(raw.iterdir()):
        packed = file.with_name(f"{file.name}.gz")
        packed.write_bytes(gzip.compress(file.read_bytes()))
        resources.append((packed.name, hashlib.md5(packed.read_bytes(), usedforsecurity=False).hexdigest()))
    monkeypatch.setattr(datasets.MNIST, "resources", resources)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=raw)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(datasets.MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
        yield root
        server.shutdown()


def test_mnist_is_fetched_where_it_is_missing_or_half_there(published, tmp_path):
    source, there = DataSource(tmp_path / "new", download=True), DataSource(published)
    digest = load_data("torchvision:MNIST", "test", there).digest
    assert load_data("torchvision:MNIST", "test", source).digest == digest
    (tmp_path / "new" / "MNIST" / "raw" / "t10k-labels-idx1-ubyte").unlink()
    assert load_data("torchvision:MNIST", "test", source).digest == digest


def test_a_download_that_fails_is_refused(published, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.MNIST, "mirrors", [f"{datasets.MNIST.mirrors[0]}nowhere/"])
    with pytest.raises(Refusal, match="download failed"):
        load_data("torchvision:MNIST", "test", DataSource(tmp_path / "new", download=True))


def test_a_large_archive_is_read_in_parts(tmp_path):
    """A few of its images take a fraction of the memory that all of them would."""
    np.savez_compressed(tmp_path / "large.npz", images=np.zeros((2**15, 64, 64), np.uint8), labels=np.arange(2**15) % 2)
    tracemalloc.start()
    try:
        shown = load_data(str(tmp_path / "large.npz"), "test", choose=Choose(10, seed=0))
        assert tracemalloc.get_traced_memory()[1] < 80 * 2**20 < 4 * 2**27   # bytes
    finally:
        tracemalloc.stop()
    assert shown.images.shape == (10, 1, 64, 64)


def test_a_damaged_or_missing_mnist_is_refused(mnist, monkeypatch):
    root, _ = mnist
    file = root / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(Refusal, match="not a file of this set; got 15679 bytes"):
        load_data("torchvision:MNIST", "test", DataSource(root))
    with pytest.raises(Refusal, match=r"data set not found; got .*KMNIST"):
        load_data("torchvision:KMNIST", "test", DataSource(root))
    monkeypatch.delenv("EP_HW_DATA", raising=False)
    with pytest.raises(Refusal, match="no data folder named"):
        load_data("torchvision:MNIST", "test")
