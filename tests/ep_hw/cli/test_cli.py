"""The command line as a user meets it: one clear line for every mistake, exit code 2, nothing half-written."""

import hashlib
import json
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from networks import saved, small_network
from typer.main import get_command

from ep_hw import __version__, demo
from ep_hw.cli.commands import app
from ep_hw.networks.checkpoint import load, packaged_models
from mapping import REGISTRY, compile, load_program
from mapping.crossbar.target import CROSSBAR_RUNGS
from mapping.program import FILE

PAGE = Path(__file__).parents[3] / "docs" / "python.md"


def poisoned(tmp_path) -> Path:
    net = small_network()
    net.weights[0][:] = float("nan")
    return saved(net, tmp_path, "nan")


def truncated(tmp_path) -> Path:
    path = tmp_path / "short.safetensors"
    path.write_bytes(packaged_models()["digits"].read_bytes()[:5000])
    return path


BAD = {
    "no model": ("evaluate nothing", "no such model"),
    "truncated": ("evaluate {truncated}", "not a readable checkpoint"),
    "nan": ("compile {poisoned} --on loihi --out p", "layer conv1: weight is not finite"),
    "machine": ("evaluate digits --on spinnaker", "unknown machine"),
    "option": ("evaluate digits --on loihi[weight_bits=40]", "weight_bits: option out of range"),
    "threat": ("evaluate digits --attack bim@1", "unknown threat"),
    "strength": ("evaluate digits --attack pgd_l2", "strength is not a number"),
    "kind": ("evaluate digits --corruption pgd_l2@1", "wrong kind of threat"),
    "severity": ("evaluate digits --corruption contrast@9", "severity out of range"),
    "twice": ("evaluate digits --seed 1 --images 2 --seed 2", "--seed: an option is given twice"),
    "machine's option twice": ("evaluate digits --on loihi[weight_bits=4,weight_bits=8]", "given twice"),
    "no value": ("tune digits --write=", "--write: an option without a value"),
    "no machine": ("evaluate digits --on reference --on=", "--on: an option without a value"),
    "clean": ("evaluate digits --attack clean@3", "clean images have no strength"),
    "infinite": ("tune digits --rate 1e400", "'--rate': '1e400' is no number from 1e-12 to 1000000"),
    "endless": ("evaluate digits --budget 1e300h", "no such budget"),
    "many": ("evaluate digits --jobs 1000000000", "'--jobs': '1000000000' is no whole number from 1 to 1024"),
    "gradient": ("evaluate digits --attack pgd_l2@1 --gradient adjoint", "unknown gradient"),
    "images": ("evaluate digits --images 0", "images"),
    "flag": ("evaluate digits --fast", "No such option"),
    "missing": ("compile digits", "Missing"),
    "recipe": ("train imagenet --out m.safetensors", "no readable recipe"),
    "unwritable": ("evaluate digits --on reference --images 2 --out /proc/nowhere", "cannot write into"),
    "unwritable demo": ("demo --out /proc/nowhere", "cannot write into"),
    "folder in the way": ("compile digits --on loihi --out .", "output folder exists"),
    "device": ("evaluate digits --on reference --images 2 --device tpu", "device"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_mistake_gets_one_line_and_exit_code_2(refused, tmp_path, name):
    command, words = BAD[name]
    files = {"truncated": truncated, "poisoned": poisoned}
    command = command.format(**{k: make(tmp_path) for k, make in files.items() if f"{{{k}}}" in command})
    assert words in refused(*command.split())


def test_machines_and_models_are_listed(ep_hw):
    code, out, _ = ep_hw("machines")
    assert code == 0
    assert all(name in out for name in REGISTRY if "/" not in name)
    assert all(f"crossbar:PRESET/{rung}" in out for rung in CROSSBAR_RUNGS)
    code, out, _ = ep_hw("models")
    assert code == 0
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in out.splitlines() if line.startswith("│")]
    gains = {row[0]: row[2] for row in rows}
    assert {name: gains[name] for name in ("digits", "digits-gain03-s11", "digits-twin-s11", "digits-bp-s11")} == {
        "digits": "1", "digits-gain03-s11": "0.3", "digits-twin-s11": "0", "digits-bp-s11": ""}


def test_the_version_and_help_of_every_command_are_a_flag_away(ep_hw):
    assert ep_hw("--version") == (0, f"ep-hw {__version__}\n", "")
    assert version("ep-hw") == __version__
    code, out, _ = ep_hw("-h")
    assert (code, out) == (0, ep_hw("--help")[1])
    for name, command in get_command(app).commands.items():
        code, shown, err = ep_hw(name, "-h")
        assert (code, err, shown) == (0, "", ep_hw(name, "--help")[1])
        assert name in out
        assert command.help.split(".")[0].split()[0] in shown


@pytest.mark.parametrize("target", ["loihi", "crossbar:pcm"])
def test_compile_prints_the_mapping_report_and_saves_a_program(ep_hw, tmp_path, target):
    code, out, _ = ep_hw("compile", "digits", "--on", target, "--out", "prog")
    assert code == 0
    assert all(word in out for word in ("conv1", "conv2", "readout"))
    assert str(load_program(tmp_path / "prog").target) == target
    again = ep_hw("compile", "digits", "--on", target, "--out", "prog2")
    assert again[0] == 0
    assert (tmp_path / "prog" / FILE).read_bytes() == (tmp_path / "prog2" / FILE).read_bytes()


@pytest.mark.parametrize("damage", ["truncate", "swap", "remove", "version"])
def test_a_damaged_program_is_refused(ep_hw, refused, tmp_path, damage):
    ep_hw("compile", "digits", "--on", "loihi", "--out", "prog")
    path = tmp_path / "prog" / FILE
    blob = path.read_bytes()
    damaged = {"truncate": blob[:-10], "swap": blob[:-1] + b"\x7f", "version": blob.replace(b"program 3", b"program 9")}
    path.unlink()
    if damage in damaged:
        path.write_bytes(damaged[damage])
    assert "compile the model again" in refused("evaluate", "digits", "--on", "prog")


def test_evaluate_prints_a_summary_and_names_its_files(ep_hw, tmp_path):
    code, out, _ = ep_hw("evaluate", "digits", "--on", "loihi", "--images", 5, "--corruption", "jpeg@3", "--jobs", 1,
                         "--out", "run")
    assert code == 0
    assert "jpeg_compression@3" in out
    named = re.findall(r"[a-z]+\.html|[a-z]+\.json|[a-z]+\.parquet|figures|tables|cards", out.splitlines()[-1])
    assert {"report.html", "summary.json", "results.parquet", "figures", "tables", "cards"} <= set(named)
    assert all((tmp_path / "run" / name).exists() for name in named)
    sums = [line.split("  ") for line in (tmp_path / "run/SHA256SUMS").read_text().splitlines()]
    assert {name for _, name in sums} >= {"summary.json", "results.parquet"}
    assert all(hashlib.sha256((tmp_path / "run" / name).read_bytes()).hexdigest() == found for found, name in sums)
    (table,) = json.loads((tmp_path / "run/comparison.json").read_text())["tables"]
    seen = ["BP-CNN", "Adv-CNN(0.5)", "Adv-CNN(1.0)", "ViT", "EP-CNN"]
    assert [row["name"] for row in table["rows"]] == [
        *seen, "BP-CNN on loihi", "Adv-CNN(0.5) on loihi", "Adv-CNN(1.0) on loihi", "EP-CNN on loihi"]
    assert all(set(row["cells"]) == {"clean", "jpeg_compression 3"} for row in table["rows"])


@pytest.mark.parametrize(("block", "images"), [(0, "images=100"), (1, "[:100]")])
def test_the_pages_python_examples_run(tmp_path, block, images):
    """Of an attack fewer steps and images."""
    code = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[block]
    assert images in code
    less = "images=2, alone=True, settings=ep_hw.threats.attacks.AttackSettings(gradients=('bptt@5',), iterations=2)"
    code = f"import ep_hw.threats.attacks\n{code.replace('images=100', less)}"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=tmp_path,
                            env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()


@pytest.mark.slow
def test_the_demo_writes_its_report_and_lava_says_what_its_twin_says(ep_hw, monkeypatch, tmp_path):
    """The demo as it is, of fewer images and chips, and attacked for less long."""
    less = demo.SETTINGS.model_copy(update={"iterations": 2, "queries": 10, "votes": 1})
    for size, value in (("IMAGES", 8), ("CHIPS", 1), ("PROBED", 2), ("SETTINGS", less)):
        monkeypatch.setattr(demo, size, value)
    code, _, err = ep_hw("demo", "--jobs", 1)
    assert code == 0, err
    folder = tmp_path / "ep-hw-demo"
    assert {"report.html", "summary.json", "results.parquet"} <= {p.name for p in folder.iterdir()}
    rows = {(r["machine"], r["chip_seed"], r["threat"], r["strength"]): r
            for r in json.loads((folder / "summary.json").read_text())}
    for threat, strength in (("clean", 0.0), ("jpeg_compression", 5.0)):
        assert rows["lava", None, threat, strength]["accuracy"] == rows["loihi", None, threat, strength]["accuracy"]
    assert rows["reference", None, "clean", 0.0]["accuracy"] > 0.95
    assert rows["crossbar:pcm", 0, "pgd_l2", 1.0]["accuracy"] < 0.3


def test_a_program_runs_in_a_process_that_did_not_compile_it(tmp_path):
    for target in ("loihi", "crossbar:pcm"):
        load_packaged("digits", target).save(tmp_path / target)
        code = f"import mapping; print(mapping.load_program({str(tmp_path / target)!r}).target)"
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        assert result.stdout.strip() == target, result.stderr


def load_packaged(name: str, target: str):
    return compile(load(name).lower(), target)
