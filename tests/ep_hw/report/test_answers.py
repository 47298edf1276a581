"""`ep_hw.evaluate` and its results: what Python and notebooks see is what the folder holds."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from networks import saved, small_network
from PIL import Image

import ep_hw
from ep_hw.analysis.results import write_results
from ep_hw.data import Dataset, load_data
from ep_hw.report.pictures import picture_files
from ep_hw.threats.attacks import AttackSettings
from ep_hw.threats.registry import CORRUPTIONS
from mapping.errors import Refusal
from simulators.reference import ReferenceMachine

FAST = AttackSettings(gradients=("bptt@5",), iterations=3, queries=20, eot=1, votes=3)
MACHINES, THREATS = ["loihi", "crossbar:pcm/aged"], ["pgd_l2@0.5", "contrast@3"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(saved(small_network(5, steps=20), tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def found(model, tmp_path_factory):
    return ep_hw.evaluate(model, on=MACHINES, threats=THREATS, images=8, chips=2, settings=FAST,
                          out=tmp_path_factory.mktemp("run"))


def test_accuracies_are_those_of_the_summary(found):
    rows = json.loads((found.folder / "summary.json").read_text())
    for machine in ("reference", *MACHINES):
        for threat in ("clean", *THREATS):
            own = [r["accuracy"] for r in rows if r["machine"] == machine
                   and threat == r["threat"] + (f"@{r['strength']:g}" if r["strength"] else "")]
            estimate = found.accuracy(machine, threat)
            assert estimate.value == pytest.approx(np.mean(own))
            assert estimate.low <= estimate.value <= estimate.high
    assert {"reference", *MACHINES} <= set(found.machines)
    assert {"clean", *THREATS} <= set(found.threats)


def test_pictures_are_the_images_behind_an_accuracy(found):
    table = found.images
    for machine, chip in (("reference", None), ("crossbar:pcm/aged", 1)):
        seen = found.pictures(machine, "pgd_l2@0.5", chip)
        rows = table.filter(pc.field("machine").isin([machine]) & (pc.field("threat") == "pgd_l2") & (
            pc.field("chip_seed").is_null() if chip is None else pc.field("chip_seed") == chip)).to_pydict()
        place = [rows["image_id"].index(i) for i in seen.ids.tolist()]
        assert seen.clean.shape == seen.changed.shape == (8, 1, 8, 8)
        assert seen.labels.tolist() == [rows["label"][n] for n in place]
        assert seen.predictions.tolist() == [rows["prediction"][n] for n in place]
        norms = np.linalg.norm((seen.changed - seen.clean).reshape(8, -1), axis=1)
        assert norms == pytest.approx([rows["norm"][n] for n in place], abs=1e-6)
    first = found.pictures("crossbar:pcm/aged", "pgd_l2@0.5")
    assert np.array_equal(first.changed, found.pictures("crossbar:pcm/aged", "pgd_l2@0.5", 0).changed)


def test_what_a_corruption_makes_is_made_again(found):
    """The same on every machine, and what its rows measured."""
    seen = [found.pictures(machine, "contrast@3") for machine in ("reference", "loihi", "crossbar:pcm/aged")]
    assert all(np.array_equal(one.changed, seen[0].changed) for one in seen)
    rows = found.images.filter((pc.field("machine") == "loihi") & (pc.field("threat") == "contrast")).to_pydict()
    norms = np.linalg.norm((seen[1].changed - seen[1].clean).reshape(8, -1), axis=1)
    assert norms == pytest.approx(rows["norm"], abs=1e-6)
    network = ReferenceMachine(small_network(5, steps=20).lower())
    assert network.relax(torch.from_numpy(seen[0].changed)).prediction.tolist() == seen[0].predictions.tolist()


def test_a_transfer_shows_what_was_made_on_its_source(found):
    made = found.pictures("loihi", "transfer:reference:pgd_l2@0.5")
    rows = found.images.filter((pc.field("machine") == "loihi") & (
        pc.field("threat") == "transfer:reference:pgd_l2")).to_pydict()
    norms = np.linalg.norm((made.changed - made.clean).reshape(8, -1), axis=1)
    assert norms == pytest.approx(rows["norm"], abs=1e-6)
    assert made.predictions.tolist() == rows["prediction"]
    twin = found.pictures("crossbar:pcm/aged", "transfer:reference:pgd_l2@0.5", 1)
    assert np.array_equal(twin.changed, made.changed)


def test_a_corruption_that_makes_others_now_is_refused(found, monkeypatch):
    kept = CORRUPTIONS["contrast"]
    monkeypatch.setitem(CORRUPTIONS, "contrast", replace(kept, function=lambda x, constant, rng: x / 2))
    with pytest.raises(Refusal, match="makes other images than were evaluated"):
        found.pictures("loihi", "contrast@3")


@pytest.mark.parametrize("kind", ["npz", "npy"])
def test_the_command_writes_the_same_images(ep_hw, found, tmp_path, kind):
    """From a folder alone, by names that mean the same machine; PNG to a level, differences as their names say."""
    asked = "--on", "crossbar:pcm/aged[]", "--threat", "pgd_l2@1/2", "--chip", 1
    code, out, err = ep_hw("images", found.folder, *asked, "--to", kind, "--out", "taken")
    assert code == 0, err
    seen, taken = found.pictures("crossbar:pcm/aged", "pgd_l2@0.5", 1), tmp_path / "taken"
    stored = np.load(taken / "images.npz") if kind == "npz" else {f.stem: np.load(f) for f in taken.glob("*.npy")}
    assert set(stored) == {*seen._fields} - {"class_names"}
    assert all(np.array_equal(array, getattr(seen, name)) for name, array in stored.items())
    told = zip(seen.ids, seen.labels, seen.labels, seen.predictions, seen.predictions)
    assert (taken / "images.csv").read_text().splitlines()[1:] == [",".join(map(str, row)) for row in told]
    assert f"8 images of crossbar:pcm/aged[] pgd_l2@1/2 chip 1, {(seen.predictions == seen.labels).sum()} of" in out
    for number, clean, changed in zip(seen.ids, seen.clean, seen.changed):
        (difference,) = taken.glob(f"{number}-difference-x*.png")
        factor = int(difference.stem.partition("-x")[2])
        drawn = {f"{number}-clean.png": clean, f"{number}-changed.png": changed,
                 difference.name: 0.5 + factor * (changed - clean)}
        for name, image in drawn.items():
            assert np.abs(np.asarray(Image.open(taken / name)) / 255 - image[0]).max() <= 0.51 / 255


def test_shards_are_put_together_and_older_ones_left_alone(model, tmp_path):
    """300 images make two cells; beside them comes the cell of the first 8 under the same key."""
    few, many = (ep_hw.evaluate(model, on=["reference"], threats=["pgd_l2@0.5"], images=count, out=tmp_path / name,
                                settings=FAST.model_copy(update={"iterations": 1}))
                 for name, count in (("few", 8), ("many", 300)))
    seen = many.pictures("reference", "pgd_l2@0.5")
    rows = many.images.filter((pc.field("machine") == "reference") & (pc.field("threat") == "pgd_l2"))
    norms = np.linalg.norm((seen.changed - seen.clean).reshape(300, -1), axis=1)
    assert norms == pytest.approx(rows["norm"].to_numpy(), abs=1e-6)
    for path in (few.folder / "cells").iterdir():
        (many.folder / "cells" / path.name).write_bytes(path.read_bytes())
    assert len(list((many.folder / "cells").glob(f"{rows['key'][0]}-*.npy"))) == 3
    assert np.array_equal(many.pictures("reference", "pgd_l2@0.5").changed, seen.changed)


WRONG = {"machine": ("--on lohi --threat pgd_l2@0.5", "did you mean loihi?"),
         "chip": ("--on crossbar:pcm/aged --threat pgd_l2@0.5 --chip 7", "no images were changed"),
         "threat": ("--on loihi --threat contrast@4", "no images were changed"),
         "clean": ("--on loihi --threat clean", "no images were changed"),
         "unknown": ("--on loihi --threat pgd@0.5", "unknown threat"),
         "data": ("--on loihi --threat pgd_l2@0.5 --data {data}", "other images than were evaluated"),
         "folder": ("--on loihi --threat pgd_l2@0.5 --out {there}", "output folder exists")}


@pytest.mark.parametrize("name", WRONG)
def test_the_command_refuses_what_was_not_evaluated(refused, found, tmp_path, name):
    np.savez(tmp_path / "other.npz", images=np.zeros((40, 8, 8)), labels=np.arange(40) % 10)
    (tmp_path / "there").mkdir()
    asked, words = WRONG[name]
    asked = asked.format(data=tmp_path / "other.npz", there=tmp_path / "there")
    assert words in refused("images", found.folder, *asked.split())


SPOILED = {"a column is gone": lambda rows: rows.drop(["norm"]), "none are left": lambda rows: rows.slice(0, 0),
           "a value is gone": lambda rows: rows.set_column(0, "key", pa.nulls(len(rows), pa.string()))}


@pytest.mark.parametrize("how", SPOILED)
def test_rows_that_are_not_complete_are_refused(refused, found, tmp_path, how):
    folder = tmp_path / "run"
    folder.mkdir()
    table = SPOILED[how](found.images)
    write_results(folder, table.schema, [(table, list(found.summary))])
    assert "not complete" in refused("images", folder, "--on", "loihi", "--threat", "pgd_l2@0.5")


def test_a_cell_that_is_gone_or_damaged_is_refused(found, tmp_path):
    shutil.copytree(found.folder, tmp_path / "copy")
    copy = replace(found, folder=tmp_path / "copy")
    for path in (copy.folder / "cells").glob("*.npy"):
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Refusal, match="a stored cell is damaged"):
        copy.pictures("loihi", "pgd_l2@0.5")
    shutil.rmtree(copy.folder / "cells")
    with pytest.raises(Refusal, match="a cell of the evaluation is missing"):
        copy.pictures("loihi", "pgd_l2@0.5")


def test_what_was_not_evaluated_is_refused_with_what_was(found):
    with pytest.raises(Refusal, match=r"lava under clean; allowed: .*loihi.*pgd_l2@0.5"):
        found.accuracy("lava")
    for machine, threat, chip in (("loihi", "contrast@4", None), ("lava", "pgd_l2@0.5", None),
                                  ("crossbar:pcm/aged", "pgd_l2@0.5", 7)):
        with pytest.raises(Refusal, match="no images were changed"):
            found.pictures(machine, threat, chip)


def test_it_shows_itself_in_a_line_and_in_a_notebook(found):
    assert re.fullmatch(r"<Results of small: \d+ machines, \d threats(, \d+ failed checks)?; \S+report.html>",
                        repr(found))
    page = found._repr_html_()
    accuracy = found.accuracy("loihi", "contrast@3")
    assert f"<td>{100 * accuracy.value:.1f} ({100 * accuracy.low:.1f} to {100 * accuracy.high:.1f})</td>" in page
    assert page.count("Trust check violated") == len(found.flags)
    assert found.report.is_file()
    assert found.figures
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in found.figures.values())


def test_the_same_question_goes_on_in_its_folder(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, again = (ep_hw.evaluate(model, on=["loihi"], images=4, chips=1) for _ in range(2))
    assert first.folder == again.folder
    assert first.folder.name.startswith("ep-hw-evaluate-small-")
    other = ep_hw.evaluate(model, on=["loihi"], images=5, chips=1)
    assert other.folder != first.folder


def test_a_module_is_a_model_as_it_is(tmp_path):
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    found = ep_hw.evaluate(module, data="digits", on=["crossbar:ideal"], images=40, out=tmp_path / "own")
    test = load_data("digits", "test")
    rows = found.images.filter(pc.field("machine") == "crossbar:ideal").to_pydict()
    places = [test.ids.tolist().index(i) for i in rows["image_id"]]
    assert rows["prediction"] == module(test.images[places]).argmax(1).tolist()
    with pytest.raises(Refusal, match="no data for the module"):
        ep_hw.evaluate(module)


def test_a_module_stays_as_it_is(tmp_path):
    """In training mode for instance, where an evaluation is made between two epochs."""
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(), torch.nn.Linear(64, 10))
    ep_hw.evaluate(module, data="digits", on=["reference"], images=4, out=tmp_path / "own")
    assert all(part.training for part in module.modules())


def test_images_of_ones_own_take_the_place_of_the_models(model, tmp_path):
    names = [f"kind {n}" for n in range(10)]
    own = Dataset(torch.full((30, 1, 8, 8), 0.5), torch.arange(30) % 10, class_names=names)
    found = ep_hw.evaluate(model, on=["loihi"], threats=["contrast@3"], images=3, data=own, out=tmp_path / "own")
    assert np.all(found.images["label"].to_numpy() < 10)
    assert len(set(found.images["prediction"].to_pylist())) == 1   # all images are the same
    seen = found.pictures("loihi", "contrast@3")
    rows = picture_files(seen, "npz")["images.csv"].decode().splitlines()
    assert rows[1:] == [f"{i},{label},kind {label},{guess},kind {guess}"
                        for i, label, guess in zip(seen.ids, seen.labels, seen.predictions)]
