"""Where Lava has no interpreter: that is said before anything runs, and all else goes on."""

import json

import pytest
from networks import saved, small_network

from simulators.loihi import interpreter

WANTED = ("--on", "lava", "--corruption", "contrast@3", "--images", 4, "--jobs", 1, "--alone", "--out", "run")


@pytest.fixture
def model(tmp_path):
    saved(small_network(5, steps=20), tmp_path)
    return "small.safetensors"


@pytest.fixture
def no_lava(monkeypatch):
    with monkeypatch.context() as there:
        there.setattr(interpreter, "find_spec", lambda name: None)
        there.setenv(interpreter.VARIABLE, "/none")
        yield there


def rows(folder) -> dict[tuple[str, str], dict]:
    return {(row["machine"], row["threat"]): row for row in json.loads((folder / "run/summary.json").read_text())}


def test_all_else_goes_on_and_lava_joins_once_it_is_there(ep_hw, model, no_lava, tmp_path, caplog):
    code, _, err = ep_hw("evaluate", model, "--on", "loihi", *WANTED)
    assert code == 0, err
    (said,) = [record.message for record in caplog.records if "left out" in record.message]
    assert said.startswith("lava left out: machine lava: no interpreter for Lava; got EP_HW_LAVA_PYTHON=/none: No such")
    assert "lava" not in {machine for machine, _ in rows(tmp_path)}
    assert "Without lava: " in (tmp_path / "run/report.html").read_text()
    no_lava.undo()
    assert ep_hw("evaluate", model, "--on", "loihi", *WANTED)[0] == 0
    found = rows(tmp_path)
    for threat in ("clean", "contrast"):
        assert found["lava", threat]["accuracy"] == found["loihi", threat]["accuracy"]


def test_where_nothing_else_is_asked_it_is_refused(refused, model, no_lava):
    assert "remedy: leave EP_HW_LAVA_PYTHON out, and uv makes one" in refused("evaluate", model, *WANTED)
    line = refused("evaluate", model, "--on", "loihi", *WANTED, "--baseline", "lava")
    assert "no interpreter for Lava" in line
