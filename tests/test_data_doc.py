"""docs/data.md is true: its files and commands, as they stand there, lead from arrays of one's own to a report."""

import json
import re
import runpy
from pathlib import Path

import pytest

import ep_hw as package

DOC = (Path(__file__).parents[1] / "docs" / "data.md").read_text()
FILES = {name: text for text, name in re.findall(r"```(?:python|toml)\n(# (\S+)\n.*?)```", DOC, re.S)}
BLOCKS = re.findall(r"```sh\n(.*?)```", DOC, re.S)
COMMANDS = [line for block in BLOCKS for line in block.replace("\\\n", "").splitlines()]


@pytest.mark.slow
def test_the_commands_lead_from_an_archive_to_a_report(ep_hw, tmp_path, capsys):
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    runpy.run_path(str(tmp_path / "make.py"))
    said = {}
    for command in COMMANDS:
        program, *arguments = command.split()
        assert program == "ep-hw"
        code, said[arguments[0]], err = ep_hw(*arguments, *["--jobs", "1"] * (arguments[0] == "evaluate"))
        assert code == 0, err
    assert "), images of 1x28x28; train 210, validation 30, test 60" in said["data"]
    net = package.load("mine.safetensors")
    assert (net.spec.image_shape, net.spec.classes) == ((1, 28, 28), 5)
    assert net.provenance["accuracy"]["test"] > 0.5
    assert "tuned" in said["tune"]
    rows = [row for run in ("run", "run-lava") for row in json.loads(Path(run, "summary.json").read_text())]
    met = {(row["machine"], row["threat"]) for row in rows}
    assert met >= {(m, t) for m in ("reference", "loihi", "crossbar:pcm") for t in ("clean", "pgd_l2", "fog")}
    assert ("lava", "clean") in met
    assert {row["dataset"] for row in rows} == {"mine.npz"}
    capsys.readouterr()
    runpy.run_path(str(tmp_path / "own.py"))
    assert capsys.readouterr().out.startswith("mine: 5 classes (row: 60, column: 60, ")


def test_every_kind_of_data_that_has_a_name_is_named():
    from ep_hw.data import DATA_SETS

    named = {word for words in re.findall(r"`([^`\n]+)`", DOC) for word in re.findall(r"\w+", words)}
    ours = [name for name, known in DATA_SETS.items() if type(known).__module__.startswith("ep_hw.")]
    assert {re.sub(r"^torchvision:|\[.*", "", name) for name in ours} <= named
    assert len(ours) > 5
