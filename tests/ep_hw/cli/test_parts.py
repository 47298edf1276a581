"""`--only` and `--again`: parts of an evaluation, made alone or once more; the whole is what it is in one run."""

import json
import logging

import pytest
from networks import saved, small_network

from ep_hw.cli.printing import remarks_last
from mapping.errors import Refusal

COMMAND = ("evaluate", "small.safetensors", "--on", "loihi", "--attack", "pgd_l2@0.5", "--corruption", "contrast@3",
           "--images", 6, "--jobs", 1, "--iterations", 2, "--gradient", "bptt@5", "--out", "run")


@pytest.fixture
def evaluate(ep_hw, tmp_path):
    saved(small_network(5, steps=20), tmp_path)
    return lambda *more: ep_hw(*COMMAND, *more)


def records(folder):
    return {path.name: path.stat().st_mtime_ns for path in (folder / "run/cells").glob("*.json")}


def test_a_part_alone_leaves_the_rest_to_the_whole(evaluate, tmp_path):
    code, out, _ = evaluate("--only", "loihi:contrast@3")
    assert code == 0
    assert "cells are missing; the same command without --only" in out
    assert not (tmp_path / "run/report.html").exists()
    (first,) = records(tmp_path)
    code, _, err = evaluate()
    assert code == 0, err
    after = records(tmp_path)
    assert len(after) > 5
    assert first in after
    rows = json.loads((tmp_path / "run/summary.json").read_text())
    assert ("loihi", "contrast") in {(row["machine"], row["threat"]) for row in rows}


def test_a_part_comes_with_what_it_takes_images_from(evaluate, tmp_path):
    assert evaluate("--only", "loihi:transfer:reference:pgd_l2@0.5")[0] == 0
    assert len(records(tmp_path)) == 2   # the attack on the reference as well
    made = records(tmp_path)
    evaluate("--only", "*:clean", "--only", "loihi:*")
    assert made.items() <= records(tmp_path).items()


def test_a_part_once_more_is_computed_anew_to_the_same_bytes(evaluate, tmp_path):
    evaluate()
    before, results = records(tmp_path), (tmp_path / "run/results.parquet").read_bytes()
    code, _, err = evaluate("--again", "reference:contrast@3")
    assert code == 0, err
    after = records(tmp_path)
    assert before.keys() == after.keys()
    assert sum(before[name] != after[name] for name in before) == 1
    assert (tmp_path / "run/results.parquet").read_bytes() == results


@pytest.mark.parametrize(("option", "name", "words"), [
    ("--only", "loihi:contrast@4", "did you mean loihi:contrast@3"), ("--again", "lava:*", "no such part"),
    ("--only", "loihi", "no such part")])
def test_a_part_that_there_is_not_is_refused(evaluate, option, name, words):
    code, _, err = evaluate(option, name)
    assert code == 2
    assert words in err


def test_remarks_come_last_and_not_before_a_refusal(capsys):
    log = logging.getLogger("ep_hw.here")
    with remarks_last():
        log.warning("a remark")
        assert capsys.readouterr().err == ""
    assert capsys.readouterr().err == "a remark\n"

    def refuse():
        with remarks_last():
            log.warning("a remark")
            raise Refusal("no", where="here", got="that", allowed="this", remedy="do")

    with pytest.raises(Refusal):
        refuse()
    assert capsys.readouterr().err == ""
