"""What a network is shown: its own data, wherever they lie, or those that are named; what is other is said."""

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import ep_hw as package
import mapping
from ep_hw import workflow
from ep_hw.data import Dataset, DataSource, Split, load_data
from ep_hw.evaluation.plan import cells_of
from ep_hw.evaluation.suites import Request
from ep_hw.learning.in_situ.run import plan_tuning
from ep_hw.learning.in_situ.settings import TuningSettings
from ep_hw.learning.training import load_recipe, parse_recipe, train
from ep_hw.networks.images import images_for, training_images
from ep_hw.networks.network import EPNetwork
from ep_hw.studies.execution import plan_study
from ep_hw.studies.networks import plan_networks
from ep_hw.studies.study import NetworkStudy, Study
from mapping import Refusal
from mapping.loading import load_program

LAYERS = {"channels": (3,), "paddings": (1,), "pools": (2,), "batch": 20, "epochs": 1}
EP = LAYERS | {"free_steps": 6, "nudged_steps": 3, "beta": 0.5, "rates": (0.1, 0.1), "steps": 10}
SLOW = {"rate": 0.01}
KINDS = {"ep": EP, "bp": LAYERS | SLOW | {"kind": "bp"}, "ff": LAYERS | SLOW | {"kind": "ff"},
         "adv": LAYERS | SLOW | {"kind": "adv", "eps": 0.5, "attack_steps": 1},
         "vit": SLOW | {"kind": "vit", "patch": 3, "layers": 1, "heads": 1, "dim": 4, "hidden": 4, "batch": 20,
                        "epochs": 1}}


def arrays(seed=0, side=6, channels=2, classes=3):
    images = np.random.default_rng(seed).integers(0, 256, (60, channels, side, side)).astype(np.uint8)
    return images, np.arange(60) % classes


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """A file of images in the current folder."""
    monkeypatch.chdir(tmp_path)
    np.savez("mine.npz", **dict(zip(("images", "labels"), arrays())))
    return tmp_path / "mine.npz"


@pytest.fixture
def trained(archive):
    """A network that was trained on it."""
    return train(parse_recipe(EP | {"data": "mine.npz"}), 1, "net.safetensors", name="net")


@pytest.mark.parametrize("kind", KINDS)
def test_networks_of_every_kind_are_trained_on_any_data(archive, kind):
    source = DataSource(data=Dataset(*arrays(), name="own"))
    net = train(parse_recipe(KINDS[kind]), 1, f"{kind}.safetensors", name=kind, data_source=source)
    assert (net.spec.image_shape, net.spec.classes, net.data) == ((2, 6, 6), 3, "own")
    assert net.provenance["recipe"]["data"] == "own"
    assert len(images_for(net, "test", source)) == 12
    with pytest.raises(Refusal, match=r"the data that it was trained on are not there; got own; .*--data"):
        images_for(net, "test")


def test_a_twin_is_taught_on_data_of_ones_own(trained):
    recipe = parse_recipe(KINDS["ff"] | {"data": "mine.npz", "teacher": "net.safetensors"})
    assert train(recipe, 1, "twin.safetensors", name="twin").provenance["recipe"]["teacher"] == "net.safetensors"


@pytest.mark.parametrize("other", [{"classes": 4}, {"side": 8}])
def test_a_teacher_of_other_data_is_refused(trained, other):
    recipe = parse_recipe(KINDS["ff"] | {"teacher": "net.safetensors"})
    source = DataSource(data=Dataset(*arrays(**other)))
    with pytest.raises(Refusal, match="the teacher was trained for other images or classes"):
        train(recipe, 1, "twin.safetensors", name="twin", data_source=source)


def test_a_checkpoint_remembers_its_data(trained):
    splits = {name: load_data("mine.npz", name).sha256 for name in ("train", "validation", "test")}
    assert trained.provenance["data"] == {
        "name": "mine.npz", "split_seed": 0, "train": 42, "test": 12, "source": "mine.npz", "sha256": splits,
        "division": "20% of each class for test, 10% for validation, drawn by seed 0"}


def test_they_are_found_where_they_were_and_beside_the_checkpoint(trained, tmp_path, monkeypatch):
    shown = images_for(trained, "test")
    (tmp_path / "elsewhere").mkdir()
    for file in ("mine.npz", "net.safetensors"):
        shutil.move(file, tmp_path / "elsewhere" / file)
    with pytest.raises(Refusal, match=r"the data that it was trained on are not there; got mine\.npz"):
        images_for(trained, "test")
    moved = package.load("elsewhere/net.safetensors")
    assert images_for(moved, "test").digest == shown.digest
    assert torch.equal(training_images(moved), trained.calibration)


def test_images_that_are_others_are_said_to_be(trained, caplog):
    with caplog.at_level(logging.WARNING):
        images_for(trained, "test")
        assert not caplog.records
        np.savez("mine.npz", images=arrays(seed=1)[0], labels=arrays()[1])
        images_for(trained, "test")
        images_for(trained, "test", DataSource(data=Dataset(*arrays(), name="the same")))
        (said,) = caplog.records
    assert "net was trained on mine.npz (sha256 " in said.getMessage()
    assert "; the test images are those of mine.npz (sha256 " in said.getMessage()


OTHERS = {"size": {"side": 8}, "channels": {"channels": 1}, "classes": {"classes": 4},
          "channels, size, classes": {"channels": 4, "side": 7, "classes": 2}}


@pytest.mark.parametrize("part", OTHERS)
def test_what_does_not_fit_is_named(trained, part):
    other = DataSource(data=Dataset(*arrays(**OTHERS[part]), name="other"))
    for ask in (lambda: images_for(trained, "test", other), lambda: trained.calibrated_on(other)):
        with pytest.raises(Refusal, match=f"other: the data do not fit the network in {part}; got "):
            ask()


def test_a_recipe_that_does_not_fit_is_refused(archive):
    for change, said in (({"pools": (8,)}, r"own: the network does not fit the data; got on images of own: .*a map"),
                         ({}, "the recipe names no data")):
        source = DataSource(data=Dataset(*arrays(), name="own")) if change else DataSource()
        with pytest.raises(Refusal, match=said):
            train(parse_recipe(EP | change), 1, "net.safetensors", name="net", data_source=source)


def test_a_channel_without_content_is_refused(archive):
    images, labels = arrays()
    images[:, 1] = 7
    with pytest.raises(Refusal, match=r"same everywhere; got channel 1 of 2"):
        train(parse_recipe(EP), 1, "net.safetensors", name="net", data_source=DataSource(data=Dataset(images, labels)))


def keys(source):
    plan = workflow.plan_evaluation("net.safetensors", Request(["loihi"], images=4), data_source=source)
    return [cell.configuration.key for cell in cells_of(plan, source.root)]


def test_the_sha256_of_the_split_is_in_the_keys_of_its_cells(trained, tmp_path):
    images, labels = arrays()
    before = keys(DataSource(tmp_path))
    assert before == keys(DataSource(tmp_path, data=Dataset(images, labels, name="mine.npz")))
    images[load_data("mine.npz", "test").ids[-1]] ^= 1
    assert not set(before) & set(keys(DataSource(tmp_path, data=Dataset(images, labels, name="mine.npz"))))


def test_a_network_without_images_of_its_own_is_calibrated_on_those_named(trained):
    bare = EPNetwork(trained.spec, trained.weights, trained.biases, provenance=trained.provenance)
    named = Dataset(*arrays(seed=3), name="named")
    assert torch.equal(bare.calibrated().calibration, trained.calibration)
    assert torch.equal(bare.calibrated_on(DataSource(data=named)).calibration, load_data(named, "train").images[:64])


def test_commands_refuse_data_in_a_line(trained, refused, tmp_path):
    np.savez(tmp_path / "small.npz", images=np.zeros((30, 4, 4), np.uint8), labels=np.arange(30) % 3)
    assert "do not fit the network in channels, size; got channels 1, size 4x4" in refused(
        "compile", tmp_path / "net.safetensors", "--on", "crossbar:pcm", "--out", "prog", "--data", "small.npz")
    assert "no such file or folder; got nowhere.npz" in refused(
        "train", "digits", "--out", "new.safetensors", "--data", "nowhere.npz")
    assert "no data set; got .safetensors" in refused("data", "net.safetensors")
    np.savez(tmp_path / "loud.npz", images=arrays()[0].astype(float), labels=arrays()[1])
    assert "loud.npz, images: values that are no pixels; got values from 0 to 25" in refused("data", "loud.npz")
    (tmp_path / "bad.npz").write_bytes(b"PK")
    assert "bad.npz: not an archive of images and labels" in refused("data", "bad.npz")


def test_a_program_is_calibrated_on_the_data_named(trained, ep_hw, tmp_path):
    np.savez(tmp_path / "other.npz", images=arrays(seed=5)[0], labels=arrays()[1])
    for name in ("mine", "other"):
        code, out, err = ep_hw("compile", "net.safetensors", "--on", "crossbar:pcm", "--out", name, "--data",
                               f"{name}.npz")
        assert code == 0, err
        assert f"{name}.npz: 3 classes (0: 20, 1: 20, 2: 20), images of 2x6x6; train 42, validation 6, test 12" in out
    programs = [load_program(tmp_path / name) for name in ("mine", "other")]
    assert programs[0].digest() == mapping.compile(trained.lower(), "crossbar:pcm").digest() != programs[1].digest()


def test_studies_and_tuning_show_the_data_named(trained):
    source = DataSource(data=Dataset(*arrays(seed=3), name="named"))
    study = Study(title="bits", model="net.safetensors", machines=("loihi",), images=3)
    over_networks = NetworkStudy(title="seeds", networks={"one": ("net.safetensors",), "other": ("twin.safetensors",)})
    shutil.copy("net.safetensors", "twin.safetensors")
    with pytest.raises(Refusal, match="a network stands in the study twice"):
        plan_networks(over_networks, data_source=source)
    tuning = plan_tuning("net.safetensors", "crossbar:pcm", [0], TuningSettings(), data_source=source)
    shown = [plan_study(study, data_source=source).images, tuning.test, tuning.task.train, tuning.task.watch]
    assert {(split.data, bool(split.sha256)) for split in shown} == {("named", True)}
    assert plan_study(study).images.data == "mine.npz"


def test_an_exported_network_is_imported_with_its_data(trained, ep_hw):
    assert ep_hw("export", "net.safetensors", "--out", "out")[0] == 0
    Path("moved").mkdir()
    shutil.copy("mine.npz", "moved")
    for place in (".", "moved"):
        code, out, err = ep_hw("import", "out/net.pt", "--map", "out/net.toml", "--out", f"{place}/again.safetensors",
                               "--data", f"{place}/mine.npz")
        assert code == 0, err
        assert "of 12 test images" in out
        assert package.load(f"{place}/again.safetensors").provenance["data"]["source"] == f"{place}/mine.npz"


@pytest.mark.parametrize("classes", [2, 47])
def test_the_packaged_recipe_for_mnist_is_for_any_number_of_classes(classes):
    images, labels = arrays(side=28, channels=1, classes=classes)
    recipe = load_recipe("mnist").on(Dataset(images, labels, test=(images, labels), validation=(images, labels)))
    shown = Split("own", torch.rand(60, 1, 28, 28), torch.from_numpy(labels), torch.arange(60))
    assert (recipe.data, recipe.spec(shown).classes) == ("own", classes)
