"""docs/extending.md is true: its files, as they stand there, add what they say, in worker processes too."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOC = (Path(__file__).parents[1] / "docs" / "extending.md").read_text()
FILES = {name: text for text, name in re.findall(r"```(?:python|toml)\n(# (\S+)\n.*?)```", DOC, re.S)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    subprocess.run([sys.executable, "run.py"], cwd=folder, check=True, timeout=300)
    return folder


@pytest.mark.parametrize("name", FILES)
def test_each_is_one_short_file(name):
    assert sum(bool(line.strip()) for line in FILES[name].splitlines()) <= 30


@pytest.mark.slow
def test_all_of_them_meet_in_one_evaluation(folder):
    rows = json.loads((folder / "bars-run/summary.json").read_text())
    met = {(row["machine"], row["threat"]) for row in rows}
    machines = ("reference", "coarse[weight_steps=1]", "crossbar:flash")
    assert {(m, t) for m in machines for t in ("clean", "shade", "dead_rows")} <= met
    assert {row["dataset"] for row in rows} == {"bars"}
    accuracy = {(row["machine"], row["threat"]): row["accuracy"] for row in rows if row["chip_seed"] in (None, 0)}
    assert accuracy["reference", "clean"] > 0.9
    assert accuracy["reference", "shade"] <= accuracy["reference", "clean"]
    assert ("crossbar:flash/programmed", "clean") in met, "a device has its rungs"


def test_a_module_lies_on_tiles(folder):
    ended = subprocess.run([sys.executable, "own_module.py"], cwd=folder, check=True, timeout=100, capture_output=True,
                           text=True)
    assert "crossbar:pcm: analog tiles" in ended.stdout
    assert ended.stdout.endswith("torch.Size([5])\n")
