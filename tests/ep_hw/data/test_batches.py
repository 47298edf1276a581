"""CIFAR batches: what Python 2 and today's Python write reads alike; whatever else a pickle can say is refused."""

import copyreg
import io
import os
import pickle
import re
import struct
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ep_hw.data.batches import read_batch
from ep_hw.data.pickles import MOST_INSTRUCTIONS


def batch(images=3, seed=0) -> dict:
    rng = np.random.default_rng(seed)
    return {"batch_label": "testing batch 1 of 1", "labels": rng.integers(0, 10, images).tolist(),
            "data": rng.integers(0, 256, (images, 3072), dtype=np.uint8),
            "filenames": [f"leptodactylus_s_{n:06d}.png" for n in range(images)]}


def same(read, wanted: dict) -> bool:
    pixels, labels = read
    return (np.array_equal(pixels, wanted["data"]) and pixels.dtype == np.uint8 and labels.dtype == np.int64
            and labels.tolist() == wanted["labels"])


FRAME = b"\x95"


@given(st.integers(1, 5), st.integers(0, 99), st.integers(2, 5), st.booleans(), st.booleans())
@settings(max_examples=40)
def test_what_todays_python_and_either_numpy_write_is_read(images, seed, protocol, fortran, other):
    wanted = batch(images, seed)
    wanted["data"] = np.asarray(wanted["data"], order="F" if fortran else "C")
    content = pickle.dumps(wanted, protocol)
    assert same(read_batch(of_other_numpy(content) if other else content, "labels", 10), wanted)


def of_other_numpy(content: bytes) -> bytes:
    """The pickle with numpy's modules as numpy 2 calls them, or numpy 1 where this is numpy 2."""
    ours, theirs = (b"numpy._core", b"numpy.core") if np.__version__ >= "2" else (b"numpy.core", b"numpy._core")
    assert ours in content
    content = content.replace(b"c" + ours, b"c" + theirs)
    for module in (b".multiarray", b".numeric"):
        content = content.replace(*(bytes([0x8C, len(name + module)]) + name + module for name in (ours, theirs)))
    assert ours not in content
    return content[:3] + struct.pack("<Q", len(content) - 11) + content[11:] if content[2:3] == FRAME else content


def python_2(wanted: dict) -> bytes:
    """The instructions of the published files, one by one: text in bytes, memo numbers, numpy's state of an array."""
    def text(word):
        return b"U" + bytes([len(word)]) + word + b"q" + bytes([len(word)])

    pixels = wanted["data"]
    labels = b"]q\x03(" + b"".join(b"K" + bytes([label]) for label in wanted["labels"]) + b"e"
    names = b"]q\x04(" + b"".join(text(name.encode()) for name in wanted["filenames"]) + b"e"
    dtype = (b"cnumpy\ndtype\nq\x05" + text(b"u1") + b"K\x00K\x01\x87q\x06Rq\x07(K\x03" + text(b"|")
             + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb")
    array = (b"cnumpy.core.multiarray\n_reconstruct\nq\x08cnumpy\nndarray\nq\x09K\x00\x85" + text(b"b")
             + b"\x87Rq\x0a(K\x01K" + bytes([len(pixels)]) + b"M\x00\x0c\x86" + dtype + b"\x89T"
             + struct.pack("<i", pixels.size) + pixels.tobytes() + b"tb")
    entries = {b"batch_label": text(b"testing batch 1 of 1"), b"labels": labels, b"data": array, b"filenames": names}
    return b"\x80\x02}q\x01(" + b"".join(text(key) + value for key, value in entries.items()) + b"u."


def test_what_python_2_wrote_is_read():
    wanted = batch(7)
    content = python_2(wanted)
    assert same(read_batch(content, "labels", 10), wanted)
    for encoding in ("latin1", "bytes"):   # loaded and written again, keys as text and as bytes
        again = pickle.dumps(pickle.loads(content, encoding=encoding), 4)
        assert same(read_batch(again, "labels", 10), wanted)


ANY = re.compile("[a-z]")   # no more is known of the reason


class Reduced:
    """Pickles as a call with arguments, and a state for its result."""

    def __init__(self, *parts):
        self.parts = parts

    def __reduce__(self):
        return self.parts


class Persistent(pickle.Pickler):
    def persistent_id(self, thing):
        return "anything" if isinstance(thing, np.ndarray) else None


def with_persistent_id() -> bytes:
    written = io.BytesIO()
    Persistent(written, 4).dump(batch())
    return written.getvalue()


def with_extension_code() -> bytes:
    copyreg.add_extension("numpy", "dtype", 7)
    try:
        return pickle.dumps(batch(), 2)
    finally:
        copyreg.remove_extension("numpy", "dtype", 7)


def state(pixels: np.ndarray) -> tuple:
    return pixels.__reduce__()[2]


PIXELS = batch()["data"]
RAW = PIXELS.tobytes()
REBUILD, EMPTY = PIXELS.__reduce__()[:2]
RECORD = np.dtype([("pixel", "u1")])
FIELDS = Reduced(np.dtype, ("V8", False, True),
                 (3, "|", None, ("f",), {"f": (np.dtype("O"), 0)}, 8, 1, 27))   # follows pointers in the bytes
ARRAYS = {
    "a constructor with a buffer": Reduced(np.ndarray, ((3, 3072), np.dtype("u1"), RAW)),
    "a forged dtype": Reduced(REBUILD, EMPTY, (1, (3, 3072), FIELDS, False, RAW)),
    "a dtype of objects": Reduced(REBUILD, EMPTY, (1, (3, 3072), np.dtype("O"), False, [None] * 9216)),
    "a record": PIXELS.view(RECORD),
    "signed": PIXELS.view(np.int8),
    "wide": PIXELS.astype(np.int64),
    "a state of a state": Reduced(REBUILD, EMPTY, (1, (3, 3072), Reduced(np.dtype, ("u1", False, True)), False, RAW)),
    "another subclass": Reduced(REBUILD, (np.memmap, (0,), b"b"), state(PIXELS)),
    "too few bytes": Reduced(REBUILD, EMPTY, (1, (3, 3072), np.dtype("u1"), False, RAW[:-1])),
    "a huge shape": Reduced(REBUILD, EMPTY, (1, (10**18, 3072), np.dtype("u1"), False, RAW)),
    "a negative shape": Reduced(REBUILD, EMPTY, (1, (-3, 3072), np.dtype("u1"), False, RAW)),
    "an odd order": Reduced(REBUILD, EMPTY, (1, (3, 3072), np.dtype("u1"), 5, RAW)),
    "three axes": PIXELS.reshape(3, 3, 1024),
    "other pixels": np.zeros((3, 3071), np.uint8),
    "no images": np.zeros((0, 3072), np.uint8),
    "text": "x" * 9216,
    "a list": [[0] * 3072] * 3,
    "a command": Reduced(os.mkdir, ("planted",)),
    "a command as bytes": Reduced(REBUILD, EMPTY, (1, (3, 3072), np.dtype("u1"), False, Reduced(os.mkdir, ("x",)))),
    "a module's attribute": os.mkdir,
    "an instance": Reduced(copyreg._reconstructor, (object, object, None), {"planted": 1}),
}
LABELS = {"a negative": [-1, 0, 1], "a large one": [0, 255, 1], "a huge one": [0, 10**30, 1], "a float": [0, 1.0, 2],
          "a truth": [0, True, 2], "none": [0, None, 2], "text": ["0", "1", "2"], "too few": [0, 1],
          "too many": [0, 1, 2, 3], "nested": [[0], [1], [2]], "a tuple": (0, 1, 2), "an array": np.arange(3)}
WHOLE = {
    "nothing": b"", "junk": b"junk", "text": b"<html>", "no dictionary": pickle.dumps([1, 2]),
    "no data": pickle.dumps({}), "too many instructions": b"\x80\x02" + b"N" * MOST_INSTRUCTIONS + b".",
    "protocol 0": pickle.dumps(batch(), 0), "a persistent id": with_persistent_id(),
    "an extension code": with_extension_code(), "more after the end": pickle.dumps(batch()) + b".",
    "a key twice": b"\x80\x02}(U\x01aK\x01U\x01aK\x02u.", "a key of no text": b"\x80\x02}(K\x01K\x02u.",
    "an odd number of entries": b"\x80\x02}(U\x01au.", "a state for a list": b"\x80\x02](K\x01tb.",
    "no mark": b"\x80\x02}u.", "below a mark": b"\x80\x02}(sK\x01.", "an empty stack": b"\x80\x02a.",
    "a memo that is empty": b"\x80\x02h\x07.", "nothing to keep": b"\x80\x02q\x00.",
    "a protocol to come": b"\x80\x06}.", "an endless name": b"\x80\x02c" + b"x" * 10**6,
}
BOMBS = {
    "a long string": b"\x80\x04\x8d" + b"\xff" * 7 + b"\x0fabc.",
    "long bytes": b"\x80\x05\x96" + b"\xff" * 8 + b"abc.",
    "a long memo": b"\x80\x02]r\xff\xff\xff\xff.",
    "a long integer": b"\x80\x02\x8b\xff\xff\xff\x7fabc.",
    "a long frame": b"\x80\x04\x95" + b"\xff" * 8 + b"}.",
    "many lists": b"\x80\x02" + b"]" * 10**5 + b".",
    "lists that double": b"\x80\x02]q\x00" + b"(" + b"h\x00" * 10 + b"e" + b"](h\x00h\x00e" * 10**4 + b".",
    "a list of itself": b"\x80\x02]q\x00h\x00a.",
    "deep tuples": b"\x80\x02)" + b"\x85" * 3 * 10**4 + b".",
    "a deep key": b"\x80\x02})" + b"\x85" * 3 * 10**4 + b"K\x01s.",
    "deep marks": b"\x80\x02" + b"(" * 10**5 + b".",
    "an encoding again and again": b"\x80\x02c_codecs\nencode\nX\x40\x42\x0f\x00" + b"a" * 3 * 10**4
                                   + b"U\x06latin1\x86q\x00" + b"0c_codecs\nencode\nh\x00R" * 10**4 + b".",
}


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("protocol", [2, 5])
def test_only_uint8_arrays_are_data(tmp_path, monkeypatch, name, protocol):
    monkeypatch.chdir(tmp_path)
    content = pickle.dumps(batch() | {"data": ARRAYS[name]}, protocol)
    with pytest.raises(ValueError, match=r"data|pixels|images|name|bytes|state|BIN"):
        read_batch(content, "labels", 10)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", LABELS)
def test_only_integers_below_the_number_of_classes_are_labels(name):
    with pytest.raises(ValueError, match=r"labels|BINFLOAT"):
        read_batch(pickle.dumps(batch() | {"labels": LABELS[name]}, 4), "labels", 10)


@pytest.mark.parametrize("content", WHOLE.values(), ids=WHOLE)
def test_anything_else_is_refused(content):
    with pytest.raises(ValueError, match=ANY):
        read_batch(content, "labels", 10)


@pytest.mark.parametrize("content", BOMBS.values(), ids=BOMBS)
def test_no_forged_size_costs_time_or_memory(content):
    tracemalloc.start()
    start = time.process_time()
    with pytest.raises(ValueError, match=ANY):
        read_batch(content, "labels", 10)
    taken, peak = time.process_time() - start, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**18 + 100 * len(content)
    assert taken < 2


@given(st.data())
@settings(max_examples=60)
def test_a_file_that_was_cut_or_changed_is_refused_or_says_what_it_says(data):
    """A changed byte of a pixel or a label is another pixel or label; of anything else it is no batch, or no matter."""
    wanted = batch(2)
    content = python_2(wanted) if data.draw(st.booleans()) else pickle.dumps(wanted, 4)
    place, value = data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(0, 255))
    with pytest.raises(ValueError, match=ANY):
        read_batch(content[:place], "labels", 10)
    changed = content[:place] + bytes([value]) + content[place + 1:]
    try:
        pixels, labels = read_batch(changed, "labels", 10)
    except ValueError:
        return
    assert (pixels != wanted["data"]).sum() + (labels != wanted["labels"]).sum() <= 1


def test_a_published_file_has_far_fewer_instructions_than_are_allowed():
    """The training file of CIFAR-100: four instructions an image."""
    assert MOST_INSTRUCTIONS > 4 * 50_000 + 100
