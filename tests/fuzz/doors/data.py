"""Doors of data and of other people's networks: published sets, CIFAR-C, photographs, torch.save."""

import gzip
import hashlib
import io
import pickle
import tarfile
import zipfile
from argparse import Namespace
from collections import OrderedDict
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch
from PIL import Image

from ep_hw.data import DataSource, Split, data_set, load_data
from ep_hw.data.fetching import Archive
from ep_hw.networks.exchange import import_checkpoint
from ep_hw.networks.exchange.give_out import _toml, key_map, state_dict
from ep_hw.threats.corruptions.official import OfficialSet
from ep_hw.threats.corruptions.photographs import _folders, frost_photographs
from tests.fuzz import pickles
from tests.fuzz.door import Door, digest
from tests.fuzz.doors.networks import files_in
from tests.fuzz.edits import BYTE_EDITS, Edited, Files, in_one_file, replaced
from tests.support.networks import small_network
from tests.support.published import lines_file, matlab_file, mnist_files

COUNT = 20
LABELS = (np.arange(COUNT) % 10).tolist()
ABSURD_LABELS = (-1, 255, 10, 10**30, 2**63, 1.5, float("nan"), True, "3", None, [1], b"1")


def _pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)


class Cifar(Door):
    """A batch of a CIFAR set; nothing vouches for its pixels."""

    def __init__(self, data: str, file: str, labels: str):
        self.name = self.data = data
        self.file, self.labels = file, labels

    @property
    def edits(self):
        return (replaced, *(in_one_file(edit, strict=False) for edit in BYTE_EDITS), *[self.forged] * 4,
                *[self.planted] * 3, *[self.relabelled] * 3)

    def make(self):
        return [{self.file: pickle.dumps(self._batch(), protocol)} for protocol in (2, 4)]

    def open(self, folder):
        return load_data(self.data, "test", DataSource(folder))

    def _batch(self, **changes):
        batch = {"data": _pixels(COUNT, 3072), "labels": LABELS, **changes}
        return {self.labels: batch.pop("labels"), **batch, "batch_label": "testing batch 1 of 1"}

    def _with(self, rng, what: str, **changes) -> Edited:
        return Edited(what, {self.file: pickles.dumped(rng, self._batch(**changes))})

    def forged(self, rng, files):
        """Arrays that are none."""
        return self._with(rng, "a forged array", **{rng.choice(("data", "labels", "extra")): pickles.forged_array(rng)})

    def planted(self, rng, files):
        """Code anywhere."""
        return self._with(rng, "planted code", **{rng.choice(("data", "labels", "extra")): pickles.planted(rng)})

    def relabelled(self, rng, files):
        """Labels and pixels that no image has."""
        absurd = rng.choice(ABSURD_LABELS)
        changes = rng.choice(({"labels": [*LABELS[:-1], absurd]}, {"labels": LABELS[:-1]}, {"labels": absurd},
                              {"labels": np.array(LABELS, float)}, {"data": _pixels(COUNT, 3071)}, {"labels": []},
                              {"data": _pixels(COUNT, 3072).astype(float)}, {"data": _pixels(COUNT, 3072).tolist()},
                              {"data": _pixels(0, 3072), "labels": []}))
        return self._with(rng, f"{changes!r:.60}", **changes)


class OwnArchive(Door):
    """An .npz of one's own; its members have checksums, which whoever writes it makes fit."""

    name = "npz"

    @property
    def edits(self):
        return (replaced, *(in_one_file(edit, strict=False) for edit in BYTE_EDITS), *[self.forged] * 6)

    def make(self):
        pixels = _pixels(COUNT, 6, 7)
        return [{"mine.npz": _zipped({"images": pixels, "labels": np.arange(COUNT) % 2}, packed=packed)}
                for packed in (False, True)]

    def open(self, folder):
        own = data_set(str(folder / "mine.npz"))
        return [load_data(own, split) for split in own.splits]

    def forged(self, rng, files):
        """Arrays that are none, or of absurd sizes and types, under right checksums."""
        names = rng.choice((("images", "labels"), ("test_images", "test_labels"), ("images",)))
        arrays = (_pixels(COUNT, 6, 7), _pixels(COUNT, 6, 7) / 255, _pixels(COUNT), np.zeros(COUNT, int),
                  np.arange(COUNT) % 2, np.full((COUNT, 6, 7), np.nan), np.zeros((0, 6, 7)),
                  np.zeros((COUNT, 6, 7), np.complex64), np.full(COUNT, 2**62), np.zeros((COUNT, 2**20)),
                  forged_npy(rng, {"x.npy": b""}).files["x.npy"])
        made = {name: rng.choice(arrays) for name in names}
        return Edited(f"{[type(array).__name__ for array in made.values()]} {names}",
                      {"mine.npz": _zipped(made, rng.choice((False, True)))}, strict=False)


def _zipped(members: dict[str, np.ndarray | bytes], packed: bool) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content if isinstance(content, bytes) else _npy(content),
                             archive.compression)
    return out.getvalue()


class Pictures(Door):
    """A folder of class folders; nothing vouches for its pictures."""

    name = "pictures"
    edits = (replaced, *(in_one_file(edit, strict=False) for edit in BYTE_EDITS))

    def make(self):
        pixels = _pixels(COUNT, 9, 8)
        return [{f"mine/{n % 2}/{n}.{kind}": _encoded(image, kind) for n, image in enumerate(pixels)}
                for kind in ("png", "jpeg")]

    def open(self, folder):
        own = data_set(str(folder / "mine"))
        return [load_data(own, split) for split in own.splits]


def _encoded(image: np.ndarray, kind: str) -> bytes:
    out = io.BytesIO()
    Image.fromarray(image).save(out, kind)
    return out.getvalue()


def _npy(array: np.ndarray, **settings) -> bytes:
    blob = io.BytesIO()
    np.save(blob, array, **settings)
    return blob.getvalue()


def forged_npy(rng, files) -> Edited:
    """A .npy file whose header lies, or that is an archive, or that pickles code."""
    name = rng.choice([name for name in files if name.endswith(".npy")])
    shape = rng.choice(("-1", "10**30", "2**62", "1" * 400, "-50, 32, 32, 3", "9999999999999, 32, 32, 3",
                        "50, 32, 32, 3, 0", "0", ""))
    header = rng.choice((f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({shape},)}}",
        "{'descr': '|O', 'fortran_order': False, 'shape': (50,)}", "{'descr': [('a', 'u1')], 'shape': (50,)}", "{}",
        "__import__('os').system('touch canary')", "{" * 5000, "'" + "a" * 60000))
    blob = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(64)
    archive = io.BytesIO()
    np.savez(archive, np.zeros(3))
    array = rng.choice((np.zeros((0, 32, 32, 3), np.uint8), np.zeros((50, 32, 32, 3)), np.zeros((50, 32, 3), np.uint8),
                        np.full(50, -1), np.full(50, np.nan), np.array(b"x"), np.zeros((50, 32, 32, 4), np.uint8)))
    content = rng.choice((blob, blob, archive.getvalue(), _npy(array), _npy(np.array([pickles.planted(rng)]),
                                                                         allow_pickle=True)))
    return Edited(f"{name}: {content[:80]!r}", {**files, name: content})


class Published(Door):
    """The test split of a set as torchvision keeps it; nothing vouches for its pixels but what the form itself does."""

    edits = (replaced, *(in_one_file(edit, strict=False) for edit in BYTE_EDITS))

    def __init__(self, name: str, folder: str, *forms: Files):
        self.name, self.forms = name, [{f"{folder}{file}": content for file, content in files.items()}
                                       for files in forms]

    def make(self):
        return self.forms

    def open(self, folder):
        return load_data(self.name, "test", DataSource(folder))


def _matlab_files(packed: bool) -> Files:
    return {f"{split}_32x32.mat": matlab_file(count, packed) for split, count in (("train", 40), ("test", COUNT))}


class CifarC(Door):
    """CIFAR-10-C; nothing vouches for its pixels."""

    name = "cifar-c"
    edits = (replaced, *(in_one_file(edit, strict=False) for edit in BYTE_EDITS), *[forged_npy] * 6)

    def make(self):
        return [{"CIFAR-10-C/fog.npy": _npy(_pixels(5 * COUNT, 32, 32, 3)),
                 "CIFAR-10-C/labels.npy": _npy(np.array(LABELS * 5))}]

    def open(self, folder):
        ids = torch.arange(0, COUNT, 2)
        clean = Split("cifar10", torch.zeros(len(ids), 3, 32, 32), torch.tensor(LABELS)[ids], ids)
        return OfficialSet.of("cifar10", DataSource(folder)).corrupted("fog", 3, clean)


class Download(Door):
    """An archive as it is fetched, here from a file, whose name is the md5 that it must have."""

    name = "download"
    edits = tuple(map(in_one_file, BYTE_EDITS))

    @property
    def forgeries(self):
        return (*map(in_one_file, BYTE_EDITS), *[self.forged] * 6)

    def make(self):
        return [self.resealed({"": _tar({"set/a": b"first", "set/b": b"second" * 99})})]

    def open(self, folder):
        archive = next(folder.iterdir(), folder / "missing")
        Archive(archive.as_uri(), archive.name, 10**6).fetch("set", ("a", "b"), folder / "root")
        return files_in(folder / "root"), sorted(path.name for path in folder.iterdir() if path != archive)

    def resealed(self, files):
        return {hashlib.md5(blob, usedforsecurity=False).hexdigest(): blob for blob in files.values()}

    def forged(self, rng, files):
        """Links out of the folder, devices, members of absurd size or name, and ten megabytes packed into little."""
        info = tarfile.TarInfo("set/a")
        info.type = rng.choice((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE))
        info.linkname = rng.choice(("../../escaped", "/etc/passwd", "set/b", "a" * 300))
        lie = tarfile.TarInfo("set/a")
        lie.size = rng.choice((10**12, 8**11, 1))
        blob = rng.choice((_tar({}, info), _tar({"set/b": b"x"}, info), _tar({}, lie), _tar({"set/a": bytes(10**7)}),
                           _tar({"../set/a": b"", "/set/b": b""}), _tar({"set/a": b"1", "./set/b": b"2"})))
        return Edited("a forged archive", {"": blob})


def _tar(members: dict[str, bytes], *forged: tarfile.TarInfo) -> bytes:
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as tar:
        for info in forged:
            tar.addfile(info)
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


class Frost(Door):
    """The published photographs, known by their checksums."""

    name = "frost"
    edits = (*[replaced] * 3, *(in_one_file(edit) for edit in BYTE_EDITS))

    def make(self):
        folder = _folders()[-1]
        return [{f"frost/{path.name}": path.read_bytes() for path in sorted(folder.glob("frost*.??g"))}]

    def open(self, folder):
        import os

        os.environ["EP_HW_FROST"] = str(folder / "frost")
        return frost_photographs.__wrapped__()


class Import(Door):
    """A file of torch.save."""

    name = "import"

    @property
    def edits(self):
        return (*[replaced] * 2, *(in_one_file(edit, suffix=".pt") for edit in BYTE_EDITS), *[self.planted] * 3,
                *[self.other] * 3, *[rezipped] * 6)

    @cached_property
    def _net(self):
        net = small_network(3)
        return replace(net, provenance={"data": {"name": "digits"}})

    def make(self):
        state, keys = state_dict(self._net), _toml(key_map(self._net))
        lines = keys.splitlines(keepends=True)
        open_keys = "".join(line for line in lines if not line.startswith(("loss", "readout", "pool =")))
        options = Namespace(loss="cel", softmax=True, pools="mm", strides=[1, 1], paddings=[1, 1])
        trained = {"model_state_dict": OrderedDict(state), "opt": options, "epoch": 3, "acc": [0.5, None]}
        return [{"net.pt": _saved(state), "map.toml": keys.encode()},
                {"net.pt": _saved(trained), "map.toml": (open_keys + 'state_dict = "model_state_dict"\n').encode()}]

    def open(self, folder):
        return import_checkpoint(folder / "net.pt", str(folder / "map.toml"), folder / "out.safetensors")

    def meaning(self, imported):
        net, _ = imported
        return digest((net.spec, net.weights, net.biases))

    def planted(self, rng, files):
        """Code in a pickle, bare or as torch lays it out."""
        data = pickles.dumped(rng, {"synapses.0.weight": rng.choice((pickles.planted, pickles.forged_array))(rng)})
        return Edited("planted code", {**files, "net.pt": rng.choice((data, pickles.torch_zip(data)))})

    def other(self, rng, files):
        """State dicts that hold something else than this network's tensors."""
        state, name = dict(state_dict(self._net)), rng.choice(sorted(state_dict(self._net)))
        tensor = state[name]
        state[name] = rng.choice((tensor * float("nan"), tensor + float("inf"), tensor * 1e38, tensor.double(),
                                  tensor[:0], tensor.half(), tensor.to(torch.complex64), tensor.to_sparse(),
                                  tensor.to("meta"), tensor[None], tensor.flatten(), tensor.expand(2, *tensor.shape),
                                  None, 1.0, "x", tensor.bool(), torch.zeros(1).expand(10**9),
                                  torch.zeros(0, 10**9), [tensor]))
        fewer = {n: t for n, t in state.items() if n != name}
        changed = rng.choice((state, state, state, {**state, "more": tensor}, [state], {"state_dict": state}, {},
                              tensor, fewer, {**state, 3: tensor}, torch.nn.ReLU()))
        return Edited(f"{name}: {type(changed).__name__} of {state[name]!r:.60}", {**files, "net.pt": _saved(changed)},
                      strict=False)


def rezipped(rng, files) -> Edited:
    """A member of the archive edited, under a checksum that fits."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(files["net.pt"])) as before, zipfile.ZipFile(out, "w") as after:
        names = before.namelist()
        chosen, edit = rng.choice([names[0], names[0], *names]), rng.choice(BYTE_EDITS)   # the first one is the pickle
        for name in names:
            blob = before.read(name)
            after.writestr(zipfile.ZipInfo(name), edit(rng, blob) if name == chosen else blob)
    return Edited(f"{chosen} {edit.__name__}, with its checksum", {**files, "net.pt": out.getvalue()}, strict=False)


def _saved(content) -> bytes:
    blob = io.BytesIO()
    torch.save(content, blob)
    return blob.getvalue()


PUBLISHED = (Published("torchvision:KMNIST", "KMNIST/raw/", mnist_files("train", "t10k", each=3)),
             Published("torchvision:SVHN", "", *map(_matlab_files, (False, True))),
             Published("torchvision:USPS", "", {"usps.bz2": lines_file(40), "usps.t.bz2": lines_file(COUNT)}))
DOORS = (*PUBLISHED, Cifar("cifar10", "cifar-10-batches-py/test_batch", "labels"),
         Cifar("cifar100", "cifar-100-python/test", "fine_labels"), Download(), CifarC(), OwnArchive(), Pictures(),
         Frost(), Import())
