"""Sealed files: what was sealed comes back, and no other byte of header or arrays is believed."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from mapping import Refusal
from mapping.files import write_atomically
from mapping.sealed import describe, open_sealed, seal

FORM, HEADER = "ep-hw thing 3", {"rate": 0.25, "name": "x"}
ARRAYS = {"a": np.arange(6.0).reshape(2, 3), "b": np.array(3.0, np.float32), "c": np.zeros((0, 2), np.int64)}
EXPECTED = {name: describe(array) for name, array in ARRAYS.items()}


def read(path):
    sealed = open_sealed(path, FORM, remedy="seal it again")
    return sealed.header, sealed.arrays(EXPECTED)


def same(found) -> bool:
    header, arrays = found
    return header == HEADER and all(np.array_equal(arrays[k], v) and describe(arrays[k]) == describe(v)
                                    for k, v in ARRAYS.items())


@pytest.fixture(scope="module")
def blob():
    return seal(FORM, HEADER, ARRAYS)


def test_the_same_content_gives_the_same_bytes(blob):
    assert {seal(FORM, HEADER, ARRAYS) for _ in range(20)} == {blob}


def test_header_and_arrays_come_back(tmp_path, blob):
    write_atomically(tmp_path / "f", blob)
    assert same(read(tmp_path / "f"))
    assert not (HEADER.keys() & {"format"})


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_changed_byte_is_refused_or_changes_nothing(tmp_path_factory, blob, data):
    path = tmp_path_factory.getbasetemp() / "changed"
    place = data.draw(st.integers(0, len(blob) - 1))
    write_atomically(path, blob[:place] + bytes([data.draw(st.integers(0, 255))]) + blob[place + 1:])
    try:
        found = read(path)
    except Refusal:
        return
    assert same(found)


def test_a_header_is_believed_without_its_arrays_and_only_as_it_was_written(tmp_path, blob):
    for place, said in ((blob.rindex(b"0.25"), "not a readable thing; got a header that was changed"),
                        (len(blob) - 2, "the file is damaged")):
        write_atomically(tmp_path / "f", blob[:place] + b"1" + blob[place + 1:])
        if said.startswith("the"):
            assert open_sealed(tmp_path / "f", FORM, remedy="seal it again").header == HEADER
        with pytest.raises(Refusal, match=said):
            read(tmp_path / "f")
    write_atomically(tmp_path / "f", save(ARRAYS, {**metadata_of(blob), "more": "x"}))
    with pytest.raises(Refusal, match="a header that was changed"):
        read(tmp_path / "f")


def metadata_of(blob) -> dict:
    return json.loads(blob[8:8 + int.from_bytes(blob[:8], "little")])["__metadata__"]


def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path, blob):
    for length in range(0, len(blob), 7):
        write_atomically(tmp_path / "f", blob[:length])
        with pytest.raises(Refusal, match="not a readable thing"):
            read(tmp_path / "f")


@pytest.mark.parametrize(("arrays", "said"), [
    ({**ARRAYS, "d": np.zeros(2)}, "f, d.*float64 \\(2,\\); allowed: nothing"),
    ({"a": ARRAYS["a"], "b": ARRAYS["b"]}, "f, c.*got nothing"),
    ({**ARRAYS, "a": ARRAYS["a"].astype(np.float32)}, "f, a.*got float32 \\(2, 3\\); allowed: float64 \\(2, 3\\)")])
def test_other_arrays_than_expected_are_refused_by_name(tmp_path, arrays, said):
    write_atomically(tmp_path / "f", seal(FORM, HEADER, arrays))
    with pytest.raises(Refusal, match=said):
        read(tmp_path / "f")


def test_other_versions_and_kinds_say_so(tmp_path):
    write_atomically(tmp_path / "old", seal("ep-hw thing 2", {}, {}))
    with pytest.raises(Refusal, match="thing of another version; got ep-hw thing 2; allowed: ep-hw thing 3"):
        read(tmp_path / "old")
    write_atomically(tmp_path / "other", seal("ep-hw chip 3", {}, {}))
    with pytest.raises(Refusal, match="not a readable thing; got no header of one \\(ep-hw chip 3\\)"):
        read(tmp_path / "other")


def test_a_claimed_size_allocates_nothing(tmp_path):
    """A header of terabytes, and a tensor of more bytes than the file has."""
    (tmp_path / "header").write_bytes((2**42).to_bytes(8, "little") + b"{}")
    table = b'{"a":{"dtype":"F64","shape":[1000000000000],"data_offsets":[0,8000000000000]}}'
    (tmp_path / "tensor").write_bytes(len(table).to_bytes(8, "little") + table)
    for name in ("header", "tensor"):
        with pytest.raises(Refusal, match="not a readable thing"):
            read(tmp_path / name)
