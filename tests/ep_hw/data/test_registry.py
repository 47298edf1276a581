"""A data set of one's own: registered, it is loaded, trained on and evaluated by its name."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from pydantic import ValidationError

from ep_hw.data import BaseDataset, DataSource, Split, load_data, register_data
from ep_hw.learning.training import parse_recipe, train
from ep_hw.networks.checkpoint import load
from ep_hw.networks.programs import network_and_images
from mapping import Refusal

RECIPE = {"data": "stripes", "channels": (4,), "paddings": (1,), "pools": (2,), "free_steps": 8, "nudged_steps": 4,
          "beta": 0.5, "rates": (0.1, 0.1), "steps": 20, "batch": 10, "epochs": 1}


class Stripes(BaseDataset):
    """Class 0 is dark on the left, class 1 at the top."""

    def load(self, split: str, data_source: DataSource) -> Split:
        count = {"train": 40, "validation": 10, "test": 20}[split]
        labels = torch.arange(count) % self.classes
        images = torch.ones(count, *self.image_shape)
        images[labels == 0, :, :, :3] = 0
        images[labels == 1, :, :3] = 0
        return Split(self.name, images, labels, torch.arange(count))


STRIPES = register_data(Stripes(name="stripes", classes=2, image_shape=(1, 6, 6)))


def test_it_is_loaded_by_its_name_beside_the_others():
    assert len(load_data("stripes", "validation")) == 10
    with pytest.raises(Refusal, match=r"digits, cifar10, cifar100, .*stripes, an .npz .*; train, validation, test"):
        load_data("stripes", "all")


def test_a_network_is_trained_on_it_and_shown_its_images(tmp_path):
    train(parse_recipe(RECIPE), 1, tmp_path / "mine.safetensors", name="mine")
    net, shown = network_and_images(tmp_path / "mine.safetensors", 6, 0)
    assert (net.spec.image_shape, net.spec.classes) == ((1, 6, 6), 2)
    assert sorted(shown.labels.unique().tolist()) == [0, 1]
    assert load(tmp_path / "mine.safetensors").provenance["data"] == {"name": "stripes", "split_seed": 0, "train": 40,
                                                                      "test": 20}


def test_a_recipe_whose_network_its_images_do_not_fit_is_refused():
    with pytest.raises(ValidationError, match=r"on images of stripes: .*nothing is left of a map of 6x6"):
        parse_recipe(RECIPE | {"pools": (8,)})
    with pytest.raises(ValidationError, match="no data set 'dots'"):
        parse_recipe(RECIPE | {"data": "dots"})


def test_a_split_that_it_does_not_have_is_refused():
    register_data(replace(STRIPES, name="stripes to test on", splits=("test",)))
    assert len(load_data("stripes to test on", "test")) == 20
    with pytest.raises(Refusal, match=r"got stripes to test on, train; allowed: .*; test; remedy"):
        load_data("stripes to test on", "train")


def test_a_name_means_one_data_set():
    assert register_data(replace(STRIPES)) == STRIPES
    with pytest.raises(Refusal, match="the name means another data set"):
        register_data(replace(STRIPES, classes=3))
    with pytest.raises(Refusal, match="not a name"):
        register_data(replace(STRIPES, name="../stripes"))


WRONG = {
    "no channels": {"images": torch.zeros(20, 6, 6)}, "too bright": {"images": torch.full((20, 1, 6, 6), 1.5)},
    "no numbers": {"images": torch.full((20, 1, 6, 6), torch.nan)}, "a third class": {"labels": torch.full((20,), 2)},
    "doubles": {"images": torch.zeros(20, 1, 6, 6, dtype=torch.float64)}, "float labels": {"labels": torch.zeros(20)},
    "no images": {"images": torch.zeros(0, 1, 6, 6), "labels": torch.zeros(0, dtype=torch.int64)},
    "another name": {"data": "digits"}}


@pytest.mark.parametrize("name", WRONG)
def test_a_split_that_its_data_set_describes_wrongly_is_refused(name):
    class Wrong(Stripes):
        def load(self, split: str, data_source: DataSource) -> Split:
            return replace(super().load(split, data_source), **WRONG[name])

    register_data(Wrong(name=name, classes=2, image_shape=(1, 6, 6)))
    with pytest.raises(Refusal, match="the split is not what its data set says"):
        load_data(name, "test")


@dataclass(frozen=True, kw_only=True)
class Broken(BaseDataset):
    """Loads what it is told to."""

    made: Callable[[], object]

    def load(self, split, data_source):
        return self.made()


@pytest.mark.parametrize(("made", "words"), [
    (lambda: None, "loads no split; got NoneType"), (lambda: ([], []), "loads no split; got tuple"),
    (lambda: {}["train"], "cannot be loaded; got KeyError: 'train', line [0-9]+ of test_registry.py")])
def test_a_data_set_that_loads_nothing_is_refused_under_its_name(made, words):
    with pytest.raises(Refusal, match=f"broken: the data set {words}"):
        load_data(Broken(name="broken", classes=2, image_shape=(1, 6, 6), made=made), "test")
