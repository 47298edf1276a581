"""Images that a network is shown, of the data that a source names or else of those that it was trained on."""

import logging
from dataclasses import replace
from functools import cache
from typing import Protocol, TypeVar

import torch

from ep_hw.data.held import HeldSplit
from ep_hw.data.opening import is_place
from ep_hw.data.registry import DATA_SETS, data_set, held_data, known_names, load_data
from ep_hw.data.source import DEFAULT_SOURCE, BaseDataset, DataSource
from ep_hw.data.splits import EVERY, Choose, Split
from ep_hw.networks.shapes import ImageSpec
from mapping.errors import Refusal

UNKNOWN = "none"          # data of a network that was trained elsewhere
CALIBRATION_IMAGES = 64   # that training keeps in an EP network's checkpoint


AnySplit = TypeVar("AnySplit", Split, HeldSplit)


class Trained(Protocol):
    """A network, and what it says of itself."""

    @property
    def name(self) -> str: ...
    @property
    def spec(self) -> ImageSpec: ...
    @property
    def provenance(self) -> dict: ...


def data_named(net: Trained) -> str:
    """What names the data that a network was trained on: their file or folder, or their name."""
    said = net.provenance["data"]
    return said.get("source") or said["name"]


def data_of(net: Trained, data_source: DataSource = DEFAULT_SOURCE) -> BaseDataset:
    """The data set that a network is shown.

    Raises:
        Refusal: it is not there, or its images or classes are not the network's.
    """
    known = data_source.data or _remembered(net)
    spec = net.spec
    theirs, own = ({"channels": shape[0], "size": "x".join(map(str, shape[1:])), "classes": classes}
                   for shape, classes in ((known.image_shape, known.classes), (spec.image_shape, spec.classes)))
    if differing := [part for part in own if own[part] != theirs[part]]:
        raise Refusal(f"the data do not fit the network in {', '.join(differing)}", where=known.name,
                      got=", ".join(f"{part} {theirs[part]}" for part in differing),
                      allowed=f"{', '.join(f'{part} {own[part]}' for part in differing)} of {net.name}",
                      remedy="name data that fit with --data, or train a network on these")
    return known


def _remembered(net: Trained) -> BaseDataset:
    named = data_named(net)
    if named not in DATA_SETS and not is_place(named):
        raise Refusal("the data that it was trained on are not there", where=net.name, got=named,
                      allowed=f"{known_names()}, an .npz or a folder of class folders",
                      remedy="name them with --data, or put the file beside the checkpoint")
    return data_set(named)


def images_for(net: Trained, split: str, data_source: DataSource = DEFAULT_SOURCE, choose: Choose = EVERY) -> Split:
    """Images of a split for a network; it is said where they are others than it was trained beside.

    Raises:
        Refusal: see `data_of`, `load_data`.
    """
    known = data_of(net, data_source)
    return _said(net, known, split, load_data(known, split, data_source, choose))


def held_for(net: Trained, split: str, data_source: DataSource = DEFAULT_SOURCE, choose: Choose = EVERY) -> HeldSplit:
    """Like `images_for`, as they are stored: what is taken becomes floats."""
    known = data_of(net, data_source)
    return _said(net, known, split, held_data(known, split, data_source)).chosen(choose)


def _said(net: Trained, known: BaseDataset, split: str, images: AnySplit) -> AnySplit:
    """The images; it is said where they are others than a network was trained beside."""
    said = net.provenance["data"]
    before, now = said.get("sha256", {}).get(split, ""), images.sha256
    if before != now if before and now else said["name"] not in (known.name, UNKNOWN):
        _say(f"{net.name} was trained on {_spelled(said['name'], before)}; the {split} images are those of "
             f"{_spelled(known.name, now)}")
    return images


def _spelled(name: str, sha256: str) -> str:
    return f"{name} (sha256 {sha256[:12]})" if sha256 else name


@cache
def _say(sentence: str):
    """Once."""
    logging.getLogger(__name__).warning("%s", sentence)


def training_images(net: Trained, data_source: DataSource = DEFAULT_SOURCE,
                    count: int = CALIBRATION_IMAGES) -> torch.Tensor:
    """The first `count` training images, by which hardware is sized for a model that brings none, which is said once.

    Raises:
        Refusal: the data are not there, or do not fit.
    """
    known = data_of(net, data_source)
    return _first_images(data_named(net), known.name, replace(data_source, root=data_source.folder), count)


@cache
def _first_images(named: str, name: str, data_source: DataSource, count: int) -> torch.Tensor:
    images = load_data(data_source.data or named, "train", data_source, Choose(count)).images.clone()
    logging.getLogger(__name__).warning("calibration: the first %d training images of %s, since the model brings none",
                                        len(images), name)
    return images
