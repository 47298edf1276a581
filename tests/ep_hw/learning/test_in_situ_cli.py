"""`ep-hw tune` as a user meets it: whole files that repeat to the byte, a program to evaluate, one-line mistakes."""

import csv
import json

import pytest
from networks import saved, small_network


def save_small(folder):
    for name, seed in (("small", 3), ("noisy", 4)):
        saved(small_network(seed, gain=1.5), folder, name)


def test_tuning_leaves_a_comparison_and_chips_to_evaluate(ep_hw, tmp_path):
    save_small(tmp_path)
    command = ("tune", "small.safetensors", "--on", "crossbar:reram_wan[age=1d]", "--beside", "noisy.safetensors",
               "--chips", 2, "--epochs", 1, "--batch", 120, "--images", 40)
    contents = []
    for out in ("first", "second"):
        code, printed, err = ep_hw(*command, "--out", out)
        assert code == 0, err
        assert all(word in printed for word in ("digital", "mapped", "noise-aware", "tuned", "pulses", "Gong"))
        contents.append({str(p.relative_to(tmp_path / out)): p.read_bytes() for p in (tmp_path / out).rglob("*.*")
                         if p.name not in ("question.json", "report.html")})   # the commands name other folders
    assert contents[0] == contents[1]
    kinds = {f"tuning.{kind}" for kind in ("csv", "json", "png", "svg")}
    assert set(contents[0]) == kinds | {"program.safetensors", "chips/chip-0.safetensors",
                                        "chips/chip-1.safetensors"}
    rows = list(csv.DictReader(contents[0]["tuning.csv"].decode().splitlines()))
    assert [(r["variant"], r["chip"]) for r in rows] == [
        ("digital", ""), *[(v, str(chip)) for v in ("mapped", "noise-aware", "tuned") for chip in range(2)]]
    assert json.loads(contents[0]["tuning.json"])["noise_aware"] == "noisy"

    code, _, err = ep_hw("evaluate", "small.safetensors", "--on", "first", "--images", 40, "--jobs", 1, "--chips", 2,
                         "--out", "run")
    assert code == 0, err
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    tuned = {row["chip_seed"]: row["accuracy"] for row in summary if "tuned=on" in row["machine"]}
    assert tuned == {int(r["chip"]): pytest.approx(float(r["accuracy"])) for r in rows if r["variant"] == "tuned"}


@pytest.mark.parametrize(("command", "words"), [
    ("tune digits --on reference", "only programmed chips"),
    ("tune digits --on loihi --cluster local:1", "a cluster tunes crossbars"),
    ("tune digits --on loihi --pairs 2", "for crossbars"), ("tune digits --world pgd_l2@1", "a world is"),
    ("tune digits --on crossbar:sonos", "no write model"),
    ("tune digits --on crossbar:pcm[encoding=offset]", "lowered"), ("tune digits --write pulses", "unknown write"),
    ("tune digits-bp-s11", "only networks with feedback"),
    ("tune digits-gain0-s11", "only networks with feedback"), ("tune digits --rate 0", "--rate"),
    ("tune digits --beta -1", "--beta"), ("tune digits --on crossbar:pcm[tuned=on]", "not compiled"),
    ("tune digits --beside digits-bp-s11", "only networks with feedback")])
def test_a_mistake_is_refused_before_anything_is_tuned(refused, command, words):
    assert words in refused(*command.split())
