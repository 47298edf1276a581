"""docs/devices.md is true: its files and commands, as they stand there."""

import csv
import re
import shlex
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from registries import restored

import mapping
from mapping.crossbar.presets import PRESETS

DOC = (Path(__file__).parents[1] / "docs" / "devices.md").read_text()
FILES = {text.split("\n")[0].removeprefix("# "): text for text in re.findall(r"```toml\n(.*?)```", DOC, re.DOTALL)}
COMMANDS = [shlex.split(line) for block in re.findall(r"```bash\n(.*?)```", DOC, re.DOTALL)
            for line in block.splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("lab")


@pytest.fixture
def run(ep_hw, folder, monkeypatch):
    """Run a command where the page's files lie."""
    for name, text in FILES.items():
        (folder / name).write_text(text)
    monkeypatch.chdir(folder)
    return ep_hw


@pytest.fixture(scope="module", autouse=True)
def devices():
    """Devices of the page are known to its tests alone."""
    with restored(mapping.REGISTRY, PRESETS):
        yield


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[1])
def test_a_command_of_the_page_answers(run, command):
    assert command[0] == "ep-hw"
    code, out, _ = run(*command[1:])
    assert code == 0
    assert "lab" in out


def test_what_the_commands_wrote_is_about_the_device(folder):
    errors = [row for row in csv.DictReader((folder / "curves" / "devices.csv").open()) if row["device"] == "lab"]
    assert {row["age_s"] for row in errors} == {"0.0", "3600.0", "86400.0", "10000000.0"}
    held = [row for row in csv.DictReader((folder / "chip-0.csv").open()) if float(row["target_us"]) > 0]
    program = mapping.load_program(folder / "mapped")
    assert len(held) == sum(layer.stored.g_us.size for layer in program.layers)
    assert 0 < sum(row["conductance_us"] == "2" for row in held) / len(held) < 0.05   # stuck off, or as low by chance
    for run in ("run", "ageing"):
        rows = pq.read_table(folder / run / "results.parquet").to_pylist()
        own = [row for row in rows if row["machine"].startswith("crossbar:lab") and row["chip_seed"] is not None]
        assert {row["chip_seed"] for row in own} == {0, 1}
        assert 0.5 < sum(row["prediction"] == row["label"] for row in own) / len(own) <= 1
