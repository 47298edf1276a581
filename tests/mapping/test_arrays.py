"""Arrays of files: what numpy writes is read as numpy reads it; what only looks like it is refused at once."""

import os
import struct
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapping.arrays import map_array

DTYPES = ("|u1", "<i8", ">i4", "|b1", "<f4", ">f8", "<u2")


@given(st.sampled_from(DTYPES), st.lists(st.integers(1, 4), max_size=4), st.booleans(), st.sampled_from([1, 2, 3]))
def test_what_numpy_writes_is_read_to_the_bit(tmp_path_factory, dtype, shape, fortran, version):
    path = tmp_path_factory.mktemp("arrays") / "array.npy"
    array = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    with open(path, "wb") as file:
        np.lib.format.write_array(file, np.asarray(array, order="F" if fortran else "C"), (version, 0))
    found = map_array(path)
    assert found.dtype == array.dtype
    assert np.array_equal(found, array)


def npy(header: str, content: bytes = b"\0" * 12) -> bytes:
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header) + 1) + header.encode() + b"\n" + content


def header(descr="'|u1'", shape="(3, 4)", fortran="False") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}"


def test_python_2_s_long_numbers_are_read(tmp_path):
    (tmp_path / "a.npy").write_bytes(npy(header(shape="(3L, 4L)")))
    assert map_array(tmp_path / "a.npy").shape == (3, 4)


DAMAGED = {
    "empty": b"", "junk": b"junk", "a zip": b"PK\3\4" + b"\0" * 100, "magic alone": b"\x93NUMPY",
    "another version": b"\x93NUMPY\4\0" + npy(header())[8:], "cut header": npy(header())[:40],
    "cut": npy(header())[:-1], "longer": npy(header()) + b"\0", "objects": npy(header("'|O'")),
    "text": npy(header("'<U3'")), "a record": npy(header("[('a', '|u1')]")), "negative": npy(header(shape="(-3, -4)")),
    "huge": npy(header(shape="(1000000000000000000, 4)")), "overflow": npy(header(shape=f"({2**62}, {2**62}, 16)")),
    "none": npy(header(shape="(0, 4)"), b""), "floats": npy(header(shape="(3.0, 4)")), "code": npy("print(1)"),
    "a call": npy(header(shape="(int(3), 4)")), "deep": npy(header(shape="(" * 400 + "3" + ",)" * 400)),
    "deeper": npy("-" * 900 + "1"), "a key twice": npy(header()[:-2] + "'shape': (12,), }"),
    "order": npy(header(fortran="1")), "a long header": npy(header() + " " * 2000),
    "a length beyond the file": b"\x93NUMPY\2\0\xff\xff\xff\x7f" + b"{",
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_anything_else_is_refused_at_once(tmp_path, content):
    (tmp_path / "a.npy").write_bytes(content)
    start = time.process_time()
    with pytest.raises(ValueError, match=r"array|npy"):
        map_array(tmp_path / "a.npy")
    assert time.process_time() - start < 0.5


def test_pipes_folders_and_devices_do_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, "/dev/zero", tmp_path / "gone"):
        with pytest.raises(OSError, match="file"):
            map_array(path)
