"""Files that are imported: named for what they are, whole or refused, never run, allocated or believed unchecked."""

import io
import os
import time
import warnings
import zipfile
from contextlib import suppress

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save as save_safetensors

from ep_hw.networks.exchange.archive import read_archive
from ep_hw.networks.exchange.layers import state_dict
from mapping import Refusal

WEIGHT = torch.linspace(-1, 1, 36).view(4, 1, 3, 3)


def saved(content, **settings) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **settings)
    return buffer.getvalue()


WHOLE = saved({"w": WEIGHT})


def read(path, content: bytes) -> torch.Tensor:
    """The tensor `w` of a file with that content."""
    path.write_bytes(content)
    archive = read_archive(path)
    return archive.tensor("w", archive.stored("w", state_dict(archive, None)["w"]))


def rewritten(content: bytes, change=lambda name, data: data, extra=(), **settings) -> bytes:
    """The archive again, its checksums right, with members changed or added."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w", **settings) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
        for name, data in extra:
            new.writestr(name, data)
    return buffer.getvalue()


def in_pickle(old: bytes, new: bytes, content: bytes = WHOLE) -> bytes:
    """The archive with one place of its pickle changed."""
    def change(name, data):
        if not name.endswith("data.pkl"):
            return data
        assert data.count(old) == 1
        return data.replace(old, new)
    return rewritten(content, change)


OTHERS = {
    "a web page": b"\n<!DOCTYPE html>\n<html><body>Sign in</body></html>", "an empty file": b"",
    "a git-lfs pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
    "half of it": WHOLE[:len(WHOLE) // 2], "a safetensors file": save_safetensors({"w": WEIGHT}),
    "torch before 1.6": saved({"w": WEIGHT}, _use_new_zipfile_serialization=False),
    "a TorchScript program": rewritten(WHOLE, extra=[("archive/constants.pkl", b"")]),
    "a zip archive of something else": WHOLE.replace(b"data.pkl", b"data.bin"),
    "text: '.*Not Found": b'{"message": "Not Found"}\n', "bytes: 00 01": bytes(range(30)),
    "packed by gzip": b"\x1f\x8b\x08rest", "a pickle": b"\x80\x04N.",
    "big-endian": rewritten(WHOLE, lambda name, data: b"big" if name.endswith("byteorder") else data)}


@pytest.mark.parametrize("words", OTHERS)
def test_a_file_of_another_kind_is_named(words, tmp_path):
    with pytest.raises(Refusal, match=f"got [^;]*{words}") as caught:
        read(tmp_path / "x.pt", OTHERS[words])
    for unwanted in ("\n", "\x1b", "weights_only=False"):
        assert unwanted not in str(caught.value)


def test_what_is_no_regular_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, words in ((".", "a folder"), ("pipe", "a pipe"), ("none.pt", "No such file"), ("a\0b", "null byte")):
        with pytest.raises(Refusal, match=f"not a file of tensors; got [^;]*{words}"):
            read_archive(tmp_path / name)


class Planted:
    def __reduce__(self):
        return os.mkdir, ("planted",)


def test_no_code_is_run_and_a_whole_model_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for content, words in ((Planted(), "pickled 'posix.mkdir'"), ([WEIGHT], "got list"), ({"w": Planted()}, "'w'"),
                           (torch.nn.Sequential(), "pickled 'torch.nn.modules.container.Sequential'")):
        with pytest.raises(Refusal, match=words):
            read(tmp_path / "x.pt", saved(content))
    assert not (tmp_path / "planted").exists()


@pytest.mark.parametrize("tensor", [
    WEIGHT, WEIGHT.half(), WEIGHT.bfloat16(), WEIGHT.double() / 3, torch.nn.Parameter(WEIGHT),
    torch.rand(2, 3, 4, 4).contiguous(memory_format=torch.channels_last), torch.rand(6, 5)[1::2, 2:],
    torch.rand(3, 4).T],
    ids=["float32", "float16", "bfloat16", "float64", "parameter", "channels_last", "slice", "transposed"])
@pytest.mark.parametrize("protocol", [2, 5])
def test_a_dense_tensor_comes_in_as_its_float32(tensor, protocol, tmp_path):
    assert torch.equal(read(tmp_path / "x.pt", saved({"w": tensor}, pickle_protocol=protocol)), tensor.float())


UNREADABLE = {
    "LongStorage": WEIGHT.long(), "BoolStorage": WEIGHT > 0, "ComplexFloatStorage": WEIGHT.to(torch.complex64),
    "_rebuild_sparse_tensor": WEIGHT.to_sparse(), "_rebuild_meta_tensor": WEIGHT.to("meta"),
    "_rebuild_tensor_v3": WEIGHT.to(torch.float8_e4m3fn), "conjugated": WEIGHT.to(torch.complex64).conj().imag,
    "NaN": WEIGHT.where(WEIGHT < 0.9, torch.nan), "too large for float32": WEIGHT.double() * 1e300,
    "0 numbers": WEIGHT[:0]}


@pytest.mark.parametrize("words", UNREADABLE)
def test_other_tensors_are_refused_by_their_kind(words, tmp_path):
    with pytest.raises(Refusal, match=f"x.pt, w: a tensor cannot be read; got .*{words}"):
        read(tmp_path / "x.pt", saved({"w": UNREADABLE[words]}))


SIZE, STRIDE, LENGTH = b"(K\x04K\x01K\x03K\x03t", b"(K\tK\tK\x03K\x01t", b"K\x24t"
HUGE = b"\x8a\x08" + (10**18).to_bytes(8, "little")
FORGED = {
    "more rows": (SIZE, b"(K\x05K\x01K\x03K\x03t"), "expanded": (STRIDE, b"(K\x00K\tK\x03K\x01t"),
    "overlap": (STRIDE, b"(K\x08K\tK\x03K\x01t"), "huge": (SIZE, b"(" + HUGE + b"K\x01K\x03K\x03t"),
    "huge and expanded": (SIZE + b"q\x08" + STRIDE, b"(" + HUGE + b"K\x01K\x03K\x03tq\x08(K\x00K\tK\x03K\x01t"),
    "huge storage": (LENGTH, HUGE + b"t"), "negative": (SIZE, b"(J\xff\xff\xff\xffK\x01K\x03K\x03t"),
    "offset": (b"QK\x00", b"QK\x01"), "a storage of another": (b"X\x01\x00\x00\x000q\x05", b"X\x01\x00\x00\x001q\x05"),
    "no shape": (SIZE, b"K\x04"), "other numbers": (b"FloatStorage", b"DoubleStorage"),
    "quantised": (b"FloatStorage", b"QInt8Storage"), "nothing": (b"_rebuild_tensor_v2", b"_rebuild_tensor_v9")}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_tensor_is_refused_before_anything_is_allocated(name, tmp_path):
    before, started = _peak(), time.process_time()
    with pytest.raises(Refusal, match="a tensor cannot be read"):
        read(tmp_path / "x.pt", in_pickle(*FORGED[name]))
    assert _peak() - before < 50 * 2**20
    assert time.process_time() - started < 2


def _peak() -> int:
    """Bytes that this process had in memory at most."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


@given(st.integers(0, len(WHOLE) - 1), st.integers(0, 7))
def test_a_flipped_bit_is_refused_or_changes_nothing(tmp_path_factory, place, bit):
    content = bytearray(WHOLE)
    content[place] ^= 1 << bit
    with suppress(Refusal):
        assert torch.equal(read(tmp_path_factory.getbasetemp() / "flipped.pt", bytes(content)), WEIGHT)


def _wrong_number() -> bytes:
    number = WEIGHT.numpy().tobytes()[-4:]
    return WHOLE.replace(number, number[:-1] + b"\x40")


def _twice() -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")   # zipfile's own, about the name
        return rewritten(WHOLE, extra=[("archive/data/0", WEIGHT.numpy().tobytes())])


def _encrypted() -> bytes:
    content = bytearray(WHOLE)
    content[WHOLE.rindex(b"PK\x01\x02", 0, WHOLE.rindex(b"archive/data/0")) + 8] |= 1
    return bytes(content)


DAMAGED = {
    "wrong checksum of 'archive/data/0'": _wrong_number, "two members of one name": _twice,
    "'archive/data/0' encrypted": _encrypted,
    "compressed": lambda: rewritten(WHOLE, extra=[("archive/bomb", bytes(10**7))], compression=zipfile.ZIP_DEFLATED),
    "a list of members": lambda: rewritten(WHOLE, extra=[(f"archive/{n:060}", b"") for n in range(12_000)])}


@pytest.mark.parametrize("words", DAMAGED)
def test_a_damaged_archive_is_refused(words, tmp_path):
    with pytest.raises(Refusal, match=f"the file is damaged; got .*{words}"):
        read(tmp_path / "x.pt", DAMAGED[words]())


NO_DATA = {
    "too many instructions": b"]" * 400_000, "no name where one belongs": b"}(" + b")" * 200_000 + b"u.",
    "EMPTY_SET at byte 2": b"\x8f.", "data.pkl of 5000002 bytes": b"N" * 5_000_000, "cut short": b"X\xff\xff\xff\x7f"}


@pytest.mark.parametrize("words", NO_DATA)
def test_a_pickle_that_is_no_data_ends_soon(words, tmp_path):
    pickled = b"\x80\x02" + NO_DATA[words]
    content = rewritten(WHOLE, lambda name, data: pickled if name.endswith("data.pkl") else data)
    before, started = _peak(), time.process_time()
    with pytest.raises(Refusal, match=f"not a file of tensors; got {words}"):
        read(tmp_path / "x.pt", content)
    assert _peak() - before < 100 * 2**20
    assert time.process_time() - started < 2
