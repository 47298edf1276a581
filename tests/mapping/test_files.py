"""Files: strict readers refuse what they cannot mean, writers leave a file whole or as it was."""

import os
import stat
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ep_hw.learning.in_situ.settings import TuningSettings
from mapping import Refusal
from mapping.fields import Count, PerChannel, read_as
from mapping.files import (
    check_new,
    check_possible,
    check_writable,
    parse_json,
    parse_signed,
    parse_toml,
    read_bytes,
    refusing,
    replacing,
    sign,
    slug,
    slugs,
    write_atomically,
)

ABSURD = {"a key twice": '{"a": 1, "a": 2}', "NaN": "[NaN]", "infinity": "[-Infinity]", "overflow": "[1e400]",
          "65 bits": "[18446744073709551617]", "thousands of digits": "9" * 5000, "deep": "[" * 17 + "]" * 17,
          "very deep": "[" * 100_000 + "]" * 100_000, "no JSON": "{", "empty": ""}
ABSURD_TOML = {"a key twice": "a = 1\na = 2", "NaN": "a = nan", "infinity": "a = [-inf]", "overflow": "a = 1e400",
               "thousands of digits": "a = " + "9" * 5000, "very deep": "a = " + "[" * 10_000 + "]" * 10_000,
               "a date": "a = 2020-01-01", "a time": "a = [{b = 07:32:00}]", "no TOML": "a ="}


@pytest.mark.parametrize("text", ABSURD.values(), ids=ABSURD)
def test_json_that_is_absurd_is_a_value_error(text):
    with pytest.raises(ValueError, match=r"\S"):
        parse_json(text)


@pytest.mark.parametrize("text", ABSURD_TOML.values(), ids=ABSURD_TOML)
def test_toml_that_is_absurd_is_a_value_error(text):
    with pytest.raises(ValueError, match=r"\S"):
        parse_toml(text.encode())


@pytest.mark.parametrize("text", ["{key} = 1", "[{key}]", "a = 1\n{key}", "a = {{ b = 1, {key} = 2 }}"])
def test_keys_deep_within_each_other_are_refused_before_they_are_parsed(text):
    """Python's parser takes the square of their number."""
    with pytest.raises(ValueError, match="keys within each other"):
        parse_toml(text.format(key="a" + ".b" * 50_000).encode())


def test_unknown_fields_are_told_with_those_most_like_them():
    with pytest.raises(ValueError, match=r"^epoch: there is no such field, did you mean epochs\?$"):
        read_as(TuningSettings, {"epoch": 3})
    with pytest.raises(ValueError, match=r"^dd: there is no such field$"):
        read_as(TuningSettings, {"epochs": 3, "dd": {}})


def test_dots_of_a_text_are_no_keys():
    text = "A sentence. And another. " * 9
    assert parse_toml(f"# {text}\ntitle = '{text}'\nlong = \"\"\"\n{text}\n\"\"\"".encode())["title"] == text


def test_what_is_sensible_is_read_as_it_is():
    assert parse_json('{"a": [1, -2.5, true, null, "x", {"b": 9223372036854775807}]}') == {
        "a": [1, -2.5, True, None, "x", {"b": 2**63 - 1}]}
    assert parse_toml(b"a = [1, -2.5, true]\n[b]\nc = '\xc3\xa9'") == {"a": [1, -2.5, True], "b": {"c": "\u00e9"}}


def test_only_regular_files_within_the_limit_are_read(tmp_path):
    file, link, pipe = (tmp_path / name for name in ("file", "link", "pipe"))
    file.write_bytes(b"12345")
    link.symlink_to(file)
    os.mkfifo(pipe)
    assert read_bytes(file, 5) == read_bytes(link, 5) == b"12345"
    for wrong, limit in ((file, 4), (pipe, 5), (tmp_path, 5), ("/dev/zero", 5), (tmp_path / "none", 5)):
        with pytest.raises(OSError, match=r"\S"):
            read_bytes(wrong, limit)


def test_what_says_that_it_is_empty_is_read_within_the_limit():
    status = read_bytes("/proc/self/status")
    assert status.startswith(b"Name:")
    assert status.endswith(b"\n")
    with pytest.raises(OSError, match="more than 100 bytes"):
        read_bytes("/proc/self/status", 100)


def test_what_is_too_large_is_not_read_at_all(tmp_path):
    hole, small = tmp_path / "hole", tmp_path / "small"
    hole.touch()
    small.write_bytes(b"x")
    os.truncate(hole, 2**41)
    tracemalloc.start()
    try:
        with pytest.raises(OSError, match="more than 268435456 bytes"):
            read_bytes(hole, 2**28)
        assert read_bytes(small, 2**32) == b"x"
        with pytest.raises(ValueError, match="more than 32768 values"):
            read_as(dict[str, PerChannel[Count]], {"channels": [0] * 40_000})
        with pytest.raises(ValueError, match=r"channels\.0"):
            read_as(dict[str, PerChannel[Count]], {"channels": [0] * 30_000})
        assert tracemalloc.get_traced_memory()[1] < 2**25
    finally:
        tracemalloc.stop()


def test_what_a_reader_raises_becomes_one_refusal_and_refusals_pass():
    for error in (OSError(2, "No such file"), ValueError("bad"), RecursionError(), MemoryError()):
        with pytest.raises(Refusal, match=r"x: unreadable; got .+; allowed: b; remedy: c"), \
                refusing("unreadable", where="x", allowed="b", remedy="c"):
            raise error
    own = Refusal("own", where="", got="", allowed="", remedy="")
    with pytest.raises(Refusal, match="own"), refusing("unreadable", where="x", allowed="b", remedy="c"):
        raise own


@pytest.mark.parametrize("flushed", [True, False])
def test_a_file_is_on_the_disk_before_it_takes_its_place_where_it_is_to_be(tmp_path, monkeypatch, flushed):
    done, fsync, move = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: done.append(os.fstat(file).st_size) or fsync(file))
    monkeypatch.setattr(os, "replace", lambda old, new: done.append("replaced") or move(old, new))
    write_atomically(tmp_path / "file", b"1234", flushed)
    assert done == [4] * flushed + ["replaced"]
    assert (tmp_path / "file").read_bytes() == b"1234"


def test_a_file_is_replaced_whole_with_the_mode_that_the_umask_leaves(tmp_path):
    path = tmp_path / "new" / "file"
    before = os.umask(0o027)
    try:
        write_atomically(path, b"first")
        write_atomically(path, b"second")
    finally:
        os.umask(before)
    assert path.read_bytes() == b"second"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(path.parent) == ["file"]


def test_a_link_is_replaced_and_not_followed(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"precious")
    link.symlink_to(target)
    write_atomically(link, b"new")
    assert (target.read_bytes(), link.read_bytes(), link.is_symlink()) == (b"precious", b"new", False)


def test_a_failed_write_leaves_what_was_there_and_nothing_else(tmp_path):
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    for place in (tmp_path / "folder", tmp_path / "folder" / ("x" * 300), "nul\0byte"):
        with pytest.raises(Refusal, match="cannot write"):
            write_atomically(place, b"blob")
    with pytest.raises(Refusal, match="cannot write into the output folder"):
        check_writable("/proc/none")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["folder", "inside"]


def test_a_file_written_part_by_part_takes_its_place_once_all_is_in_it(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match="invalid literal"), replacing(path) as file:   # not said to be the path's
        file.write(b"%d" % int("half"))
    assert (path.read_bytes(), os.listdir(tmp_path)) == (b"old", ["file"])
    with replacing(path) as file:
        file.write(b"ne")
        assert path.read_bytes() == b"old"
        file.write(b"w")
    assert path.read_bytes() == b"new"


def test_what_was_signed_is_believed_and_nothing_else():
    content = {"images": 64, "names": ["a", None], "rate": 0.1}
    assert parse_signed(sign(content)) == content
    for wrong in (sign(content).replace(b"64", b"65"), sign(content)[:-1], b"[]", b"{}", b"null", b"[" * 9999,
                  b'{"content": {}, "sha256": ""}'):
        with pytest.raises(ValueError, match=r"\S"):
            parse_signed(wrong)


def test_a_new_file_is_one_that_is_not_there_not_even_as_a_link(tmp_path):
    check_new(tmp_path / "new")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for path in (tmp_path, tmp_path / "link"):
        with pytest.raises(Refusal, match="the file exists already"):
            check_new(path)


def test_a_refusal_is_one_line_that_cannot_steer_a_terminal():
    hostile = "a\x1b[31m\r\n\x00b\u202e\u009bc"
    line = str(Refusal("what", where=hostile, got=hostile, allowed=hostile, remedy=hostile))
    assert line.isprintable()
    assert r"a\x1b[31m \x00b\u202e\x9bc" in line


@given(texts=st.lists(st.text(max_size=300), max_size=8))
def test_a_slug_is_a_plain_file_name_and_no_two_are_one(texts):
    names = list(slugs([*texts, *texts]))
    assert len(set(names)) == len(names) == 2 * len(texts)
    for name in names:
        assert len(name.encode()) < 140
        assert not set(name) & set("/\\\0 \n")
        assert not name.startswith(".")
    assert slug("crossbar:pcm[age=1d]/aged") == "crossbar-pcm-age=1d-aged"
    assert slug("сеть") == "сеть"


def test_a_place_is_tried_without_a_trace(tmp_path):
    (tmp_path / "kept").mkdir()
    for possible in (tmp_path / "a" / "b" / "c", tmp_path / "kept", tmp_path / "kept" / "new"):
        check_possible(possible)
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "kept"]
    (tmp_path / "file").write_text("x")
    for impossible in ("/proc/new", tmp_path / "file", tmp_path / "file" / "new", tmp_path / ("x" * 300), "a\0b"):
        with pytest.raises(Refusal, match="cannot write into"):
            check_possible(impossible)
    assert (tmp_path / "file").read_text() == "x"
