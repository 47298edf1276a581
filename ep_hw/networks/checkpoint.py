"""Checkpoints: sealed files (mapping.sealed) whose header says what the weights are. Nothing is ever unpickled."""

from dataclasses import replace
from importlib import resources
from os.path import isfile
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Discriminator, Field, SerializerFunctionWrapHandler, Tag, model_serializer, model_validator

from ep_hw.data.opening import is_place
from ep_hw.data.registry import DATA_SETS
from ep_hw.networks.baselines import Baseline, CNNSpec, ViTSpec
from ep_hw.networks.network import EPNetwork, NetworkSpec
from ep_hw.networks.own import PREFIX, registered
from ep_hw.networks.random import RANDOM_NETWORKS, SEED, random_network
from mapping.errors import Refusal
from mapping.fields import Fraction, Name, Seed, Sha256, Stated, Text, check_named
from mapping.files import check_new, refusing, write_atomically
from mapping.names import suggesting
from mapping.sealed import Layout, Sealed, checksum, open_sealed, seal

FORM = "ep-hw checkpoint 2"
MOST_IMAGES = 4096   # that a checkpoint keeps to calibrate converters with
_REMEDY = "train it again, or restore the file"
_OLDER = ("train it again; an EP network can also be exported by the version that wrote it ('ep-hw export') and "
          "brought in by this one ('ep-hw import NAME.pt --map NAME.toml --loss cross-entropy --readout outside --pool "
          "max --stride 1')")
Images = Annotated[int, Field(ge=0, lt=2**40)]


class TrainedOn(Stated):
    """What a network was trained on.

    Attributes:
        name: of the data set.
        split_seed: of its splits.
        train: how many training images.
        test: how many test images.
        source: the file or folder of a data set of one's own, as it was named.
        division: how it came by its splits, in words.
        sha256: of each split of such a set.
    """

    name: Name
    split_seed: Seed
    train: Images
    test: Images
    source: Text | None = None
    division: Text | None = None
    sha256: dict[str, Sha256] | None = None

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without what is not said of packaged data."""
        return {key: value for key, value in handler(self).items() if value is not None}


def _architecture(spec: object) -> str:
    """The kind of network that a header's spec is of; the specs of EP networks do not say."""
    return str(spec.get("architecture", "ep") if isinstance(spec, dict) else getattr(spec, "architecture", "ep"))


class Header(Stated):
    """What a checkpoint says of itself.

    Attributes:
        name: of the network.
        spec: its shape and dynamics.
        recipe: that it was trained by, kept as it was.
        data: that it was trained on.
        accuracy: the fraction of each split that it classifies correctly.
    """

    name: Name
    spec: Annotated[Annotated[NetworkSpec, Tag("ep")] | Annotated[CNNSpec, Tag("cnn")] | Annotated[ViTSpec, Tag("vit")],
                    Discriminator(_architecture)]
    recipe: dict
    data: TrainedOn
    accuracy: dict[Literal["validation", "test"], Fraction]

    @model_validator(mode="after")
    def _made_for(self) -> "Header":
        """A network made for other images or classes than its data set's could not be asked about it."""
        data_set, own = DATA_SETS.get(self.data.name), (self.spec.image_shape, self.spec.classes)
        if data_set and own != (data_set.image_shape, data_set.classes):
            raise ValueError(f"{data_set.name} has images {data_set.image_shape} of {data_set.classes} classes, not "
                             f"{own[0]} of {own[1]}")
        return self


def save_checkpoint(net: EPNetwork | Baseline, path: str | Path, *, recipe: dict, data: dict,
                    accuracy: dict[str, float]):
    """Write a network; the file appears whole or not at all.

    Raises:
        Refusal: the file exists, the folder cannot be written, or the network's name is none.
    """
    check_named(net.name, path)
    with refusing("a network that no checkpoint holds", where=path, allowed="an accuracy and counts in their ranges",
                  remedy="correct what is said of it"):
        header = Header(name=net.name, spec=net.spec, recipe=recipe, data=data, accuracy=accuracy)
    check_new(path)
    write_atomically(path, seal(FORM, header.model_dump(mode="json"), _arrays(net)))


def load(model: str | Path) -> EPNetwork | Baseline:
    """A model by name, packaged ("digits"), random ("cifar10-paper-random") or a user's ("plugin:NAME"), or a file.

    Raises:
        Refusal: unknown name, missing, truncated or altered file, wrong shapes, weights that are not finite.
    """
    if str(model) in RANDOM_NETWORKS:
        return _random(str(model))
    if str(model).startswith(PREFIX):
        return registered(str(model))
    sealed, header = _open(model)
    arrays = sealed.arrays(_layout(header.spec, sealed))
    tensors = {name: torch.from_numpy(a) for name, a in arrays.items()}
    provenance = _provenance(_beside(header, sealed.path), sealed.sha256)
    if isinstance(header.spec, NetworkSpec):
        return EPNetwork.of(header.spec, tensors, header.name, provenance)
    return Baseline.of(header.spec, tensors, header.name, provenance)


def provenance_of(model: str | Path) -> tuple[Header, str]:
    """A model's header and the sha256 of its tensors, which are not read.

    Raises:
        Refusal: see `load`.
    """
    if str(model) in RANDOM_NETWORKS:
        return _header_of_random(net := random_network(str(model))), checksum(_arrays(net))
    sealed, header = _open(model)
    return header, sealed.sha256


def model_names() -> list[str]:
    """Names that `load` knows."""
    return [*packaged_models(), *RANDOM_NETWORKS]


def packaged_models() -> dict[str, Path]:
    """Name -> file of the models that the package ships."""
    folder = Path(str(resources.files(__package__) / "models"))
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"))}


def _random(name: str) -> EPNetwork:
    """A network of random weights, with the provenance of one that saw no image."""
    net = random_network(name)
    return replace(net, provenance=_provenance(_header_of_random(net), checksum(_arrays(net))))


def _header_of_random(net: EPNetwork) -> Header:
    seen = TrainedOn(name=RANDOM_NETWORKS[net.name].data, split_seed=0, train=0, test=0)
    return Header(name=net.name, spec=net.spec, recipe={"seed": SEED}, data=seen, accuracy={})


def _beside(header: Header, path: Path) -> Header:
    """The header; data that are not where it says are named where they lie beside the checkpoint, if they do."""
    source = header.data.source
    if source and not is_place(source) and is_place(near := str(path.parent / Path(source).name)):
        return header.model_copy(update={"data": header.data.model_copy(update={"source": near})})
    return header


def _provenance(header: Header, sha256: str) -> dict:
    return {**header.model_dump(mode="json"), "sha256": sha256}


def _arrays(net: EPNetwork | Baseline) -> dict[str, np.ndarray]:
    return {name: tensor.detach().cpu().contiguous().numpy() for name, tensor in net.tensors().items()}


def _open(model: str | Path) -> tuple[Sealed, Header]:
    path = packaged_models().get(str(model), Path(model))
    if not isfile(path):
        raise Refusal("no such model", where="MODEL", got=str(path), **suggesting(
            str(model), names := model_names(), allowed=f"{', '.join(names)} or a checkpoint file",
            remedy="train one with 'ep-hw train'"))
    sealed = open_sealed(path, FORM, _REMEDY, _OLDER)
    return sealed, sealed.read_as(Header)


def _layout(spec: NetworkSpec | CNNSpec | ViTSpec, sealed: Sealed) -> Layout:
    """The tensors of a spec, and those calibration images that the file has, `MOST_IMAGES` at most."""
    _, shape = sealed.layout.get("calibration", ("", ()))
    if isinstance(spec, NetworkSpec) and shape:
        return {**spec.layout(), "calibration": ("float32", (min(shape[0], MOST_IMAGES), *spec.image_shape))}
    return spec.layout()
