"""`ep-hw uncertainty` and `ep-hw temporal` as a user meets them: whole files, one-line mistakes, nothing half-done."""

import csv
import json

import pytest


@pytest.mark.parametrize(("command", "rows", "title"), [
    ("uncertainty digits --on reference --images 6 --draws 2 --size 2 --size 4", 2, "random perturbation"),
    ("temporal digits --on loihi --images 6 --eps 0.5 --time 5 --step 4 --step 20 --iterations 3", 4, "pgd_l2@0.5")])
def test_a_measurement_leaves_its_table_and_plot_and_repeats_to_the_byte(ep_hw, tmp_path, command, rows, title):
    name = command.split()[0]
    contents = []
    for _ in range(2):
        code, out, err = ep_hw(*command.split(), "--out", "measured")
        assert code == 0, err
        assert title in " ".join(out.split())
        contents.append({path.name: path.read_bytes() for path in (tmp_path / "measured").iterdir()})
    assert contents[0] == contents[1]
    written = {f"{name}.{kind}" for kind in ("csv", "json", "png", "svg")}
    assert set(contents[0]) == {"question.json", "report.html", *written}
    assert b"data-tip" in contents[0]["report.html"]
    assert len(list(csv.DictReader(contents[0][f"{name}.csv"].decode().splitlines()))) == rows
    assert len(json.loads(contents[0][f"{name}.json"])["rows"]) == rows


@pytest.mark.parametrize(("command", "words"), [
    ("uncertainty digits --on loihi --on crossbar:pcm", "predictions change without any perturbation"),
    ("uncertainty digits --size 0", "--size"), ("temporal digits --time 0", "--time"),
    ("temporal digits --on spinnaker", "unknown machine"), ("temporal digits --eps -1", "--eps"),
    ("temporal digits-bp-s11", "without feedback answers in one pass")])
def test_a_mistake_is_refused_before_anything_is_measured(refused, command, words):
    assert words in refused(*command.split())
