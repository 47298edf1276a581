"""`ep-hw why` as a user meets it: the verdict first, programs from folders, whole files, one-line mistakes."""

import json
from dataclasses import replace
from functools import partial

import pytest

from ep_hw import load
from mapping import compile

QUICK = ("--images", "4", "--steps", "6")


@pytest.fixture
def why(ep_hw):
    """Run `ep-hw why digits ...` in a folder of its own: (exit code, stdout, stderr)."""
    return partial(ep_hw, "why", "digits")


def test_the_verdict_comes_first_and_files_hold_every_number(why, tmp_path):
    code, out, _ = why("reference", "loihi", *QUICK, "--out", "answer")
    assert code == 0
    assert out.startswith("reference and loihi diverge at time step 1 in layer1")
    assert "FAULT" not in out
    document = json.loads((tmp_path / "answer/why.json").read_text())
    assert document["parting"] == {"step": 1, "layer": "layer1"}
    assert [c["after"] for c in document["contributions"]] == ["loihi:weights", "loihi"]
    assert not any(f["fault"] for f in document["findings"])
    assert sorted(p.name for p in (tmp_path / "answer").iterdir()) == ["question.json", "why.json", "why.png",
                                                                          "why.svg"]
    before = {p.name: p.read_bytes() for p in (tmp_path / "answer").iterdir()}
    why("reference", "loihi", *QUICK, "--out", "answer")
    assert before == {p.name: p.read_bytes() for p in (tmp_path / "answer").iterdir()}


def test_a_damaged_program_in_a_folder_is_explained(why, tmp_path):
    program = compile(load("digits").lower(), "crossbar:pcm/programmed")
    conv2 = program.layers[1]
    turned = replace(conv2, stored=replace(conv2.stored, g_us=conv2.stored.g_us[..., ::-1, :].copy()))
    replace(program, layers=(program.layers[0], turned, program.layers[2])).save(tmp_path / "prog")
    code, out, _ = why("reference", "prog", *QUICK)
    assert code == 0
    assert out.startswith("FAULT: conv2 of crossbar:ideal: its weights are the checkpoint's, flipped upside down.")


@pytest.mark.parametrize(("arguments", "words"), [
    (("reference", "spinnaker"), "unknown machine"),
    (("reference", "loihi", "--images", "0"), "images"),
    (("reference", "loihi", "--out", "/proc/nowhere"), "cannot write into"),
    (("reference",), "Missing"),
])
def test_a_mistake_gets_one_line_and_exit_code_2(refused, arguments, words):
    assert words in refused("why", "digits", *arguments)
