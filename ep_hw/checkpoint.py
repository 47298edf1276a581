"""Checkpoints: safetensors with a validated JSON header. Nothing is ever unpickled.

The header says what the weights are: spec, recipe, data, accuracy and the sha256 of the tensors.
"""

import hashlib
import json
from importlib import resources
from pathlib import Path
from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Discriminator, Tag, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ep_hw.baselines import Baseline, CNNSpec, ViTSpec
from ep_hw.drawn import DRAWN, SEED, draw
from ep_hw.network import EPNetwork, NetworkSpec, layer_shapes
from mapping.errors import Refusal
from mapping.files import write_atomically

FORMAT = "ep-hw checkpoint 1"


class TrainedOn(BaseModel):
    """The data set, the seed of its split, and the numbers of training and test images."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    split_seed: int
    train: int
    test: int


def _architecture(spec) -> str:
    """Which network a header's spec is of; those of EP networks do not say."""
    return spec.get("architecture", "ep") if isinstance(spec, dict) else getattr(spec, "architecture", "ep")


class Header(BaseModel):
    """What a checkpoint says of itself; `accuracy` maps a split to a fraction, `recipe` is kept as it was."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: str
    name: str
    spec: Annotated[Annotated[NetworkSpec, Tag("ep")] | Annotated[CNNSpec, Tag("cnn")] | Annotated[ViTSpec, Tag("vit")],
                    Discriminator(_architecture)]
    recipe: dict
    data: TrainedOn
    accuracy: dict[str, float]
    sha256: str


def save_checkpoint(net: EPNetwork | Baseline, path: str | Path, *, recipe: dict, data: dict,
                    accuracy: dict[str, float]):
    """Write a network; the file appears whole or not at all.

    Raises:
        Refusal: the folder cannot be written.
    """
    tensors = _tensors(net)
    header = Header(format=FORMAT, name=net.name, spec=net.spec, recipe=recipe, data=data, accuracy=accuracy,
                    sha256=digest(tensors))
    write_atomically(path, save(tensors, {"ep_hw": header.model_dump_json()}))


def load(model: str | Path) -> EPNetwork | Baseline:
    """A packaged model ("digits") or a drawn one ("cifar10-paper-random") by name, or a checkpoint file.

    Raises:
        Refusal: unknown name, missing, truncated or altered file, wrong shapes, weights that are not finite.
    """
    if str(model) in DRAWN:
        return _drawn(str(model))
    path = packaged_models().get(str(model), Path(model))
    header, tensors = _read(path)
    network = EPNetwork if isinstance(header.spec, NetworkSpec) else Baseline
    return network.of(header.spec, tensors, header.name, header.model_dump(mode="json"))


def model_names() -> list[str]:
    """Names that `load` knows."""
    return [*packaged_models(), *DRAWN]


def packaged_models() -> dict[str, Path]:
    """Name -> file of the models that the package ships."""
    folder = Path(str(resources.files("ep_hw") / "models"))
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"))}


def digest(tensors: dict[str, torch.Tensor]) -> str:
    """sha256 over names, shapes and bytes of the tensors, in name order."""
    content = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        content.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        content.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return content.hexdigest()


def _drawn(name: str) -> EPNetwork:
    """A network drawn from a seed, with the provenance of one that saw no image."""
    net = draw(name)
    seen = TrainedOn(name=DRAWN[name].data, split_seed=0, train=0, test=0)
    header = Header(format=FORMAT, name=name, spec=net.spec, recipe={"seed": SEED}, data=seen, accuracy={},
                    sha256=digest(_tensors(net)))
    net.provenance = header.model_dump(mode="json")
    return net


def _tensors(net: EPNetwork | Baseline) -> dict[str, torch.Tensor]:
    return {k: v.detach().cpu().contiguous() for k, v in net.tensors().items()}


def _read(path: Path) -> tuple[Header, dict[str, torch.Tensor]]:
    if not path.is_file():
        raise Refusal("no such model", where="MODEL", got=str(path),
                      allowed=f"{', '.join(model_names())} or a checkpoint file",
                      remedy="train one with 'ep-hw train'")
    try:
        with safe_open(str(path), "pt") as file:
            header = _header(path, (file.metadata() or {}).get("ep_hw", "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError, ValidationError, json.JSONDecodeError) as error:
        reason = _first(error) if isinstance(error, ValidationError) else str(error)
        raise Refusal("not a readable checkpoint", where=str(path), got=reason, allowed=FORMAT,
                      remedy="train it again, or restore the file") from None
    _check(path, header, tensors)
    return header, tensors


def _first(error: ValidationError) -> str:
    found = error.errors()[0]
    return ".".join(map(str, found["loc"])) + ": " + found["msg"]


def _header(path: Path, text: str) -> Header:
    """The version first: what another one holds is its own affair."""
    content = json.loads(text)
    version = content.get("format", FORMAT) if isinstance(content, dict) else FORMAT
    if version != FORMAT:
        raise Refusal("checkpoint of another version", where=str(path), got=version, allowed=FORMAT,
                      remedy="train it again with this version")
    return Header.model_validate(content)


def _check(path: Path, header: Header, tensors: dict[str, torch.Tensor]):
    expected = _expected(header.spec, tensors)
    for name in (*expected, *tensors):
        got = _shape_and_type(tensors[name]) if name in tensors else "nothing"
        wanted = expected.get(name, "nothing")
        if got != wanted:
            raise Refusal("tensor has the wrong shape or type", where=f"{path}, {name}", got=got, allowed=wanted,
                          remedy="spec and weights must come from one training run")
    if digest(tensors) != header.sha256:
        raise Refusal("checkpoint is damaged", where=str(path), got=f"sha256 {digest(tensors)[:12]}",
                      allowed=header.sha256[:12], remedy="train it again, or restore the file")


def _expected(spec, tensors: dict[str, torch.Tensor]) -> dict[str, str]:
    """Shape and type of every tensor that a spec needs; of calibration images, which are optional, any number."""
    if not isinstance(spec, NetworkSpec):
        with torch.device("meta"):   # shapes alone: a forged spec cannot ask for memory
            return {name: _shape_and_type(tensor) for name, tensor in spec.build().state_dict().items()}
    images = {name: (*tensor.shape[:1], *spec.image_shape) for name, tensor in tensors.items() if name == "calibration"}
    shapes = {f"weight{n}": shape for n, shape in enumerate(layer_shapes(spec))}
    shapes |= {f"bias{n}": shape[:1] for n, shape in enumerate(layer_shapes(spec))} | images
    return {name: f"{torch.float32} {shape}" for name, shape in shapes.items()}


def _shape_and_type(tensor: torch.Tensor) -> str:
    return f"{tensor.dtype} {tuple(tensor.shape)}"
