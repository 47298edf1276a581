"""Checkpoints: safetensors with a validated JSON header. Nothing is ever unpickled.

The header says what the weights are: spec, recipe, data, accuracy and the sha256 of the tensors.
"""

import hashlib
import json
import os
import tempfile
from importlib import resources
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ep_hw.drawn import DRAWN, SEED, draw
from ep_hw.network import EPNetwork, NetworkSpec, layer_shapes
from mapping.errors import Refusal

FORMAT = "ep-hw checkpoint 1"


class TrainedOn(BaseModel):
    """The data set, the seed of its split, and the numbers of training and test images."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    split_seed: int
    train: int
    test: int


class Header(BaseModel):
    """What a checkpoint says of itself; `accuracy` maps a split to a fraction, `recipe` is kept as it was."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: str
    name: str
    spec: NetworkSpec
    recipe: dict
    data: TrainedOn
    accuracy: dict[str, float]
    sha256: str


def save_checkpoint(net: EPNetwork, path: str | Path, *, recipe: dict, data: dict, accuracy: dict[str, float]):
    """Write a network; the file appears whole or not at all.

    Raises:
        Refusal: the folder cannot be written.
    """
    tensors = _tensors(net)
    header = Header(format=FORMAT, name=net.name, spec=net.spec, recipe=recipe, data=data, accuracy=accuracy,
                    sha256=digest(tensors))
    write_atomically(path, save(tensors, {"ep_hw": header.model_dump_json()}))


def load(model: str | Path) -> EPNetwork:
    """A packaged model ("digits") or a drawn one ("cifar10-paper-random") by name, or a checkpoint file.

    Raises:
        Refusal: unknown name, missing, truncated or altered file, wrong shapes, weights that are not finite.
    """
    if str(model) in DRAWN:
        return _drawn(str(model))
    path = packaged_models().get(str(model), Path(model))
    header, tensors = _read(path)
    depth = len(layer_shapes(header.spec))
    net = EPNetwork(header.spec, [tensors[f"weight{n}"] for n in range(depth)],
                    [tensors[f"bias{n}"] for n in range(depth)], tensors.get("calibration"), header.name,
                    header.model_dump(mode="json"))
    net.lower()  # refuses weights that are not finite, naming the layer
    return net


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


def check_writable(folder: str | Path):
    """Make a folder, and refuse now rather than after hours of work one that nothing can be written into."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise Refusal("cannot write into the output folder", where=str(folder), got=error.strerror,
                      allowed="a writable folder", remedy="choose another --out") from None


def write_atomically(path: str | Path, blob: bytes):
    """Write a file by way of a temporary one beside it, so that it is there whole or not at all."""
    path = Path(path)
    scratch = path.with_name(f".{path.name}.tmp")  # what a killed run left is overwritten by the next
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            scratch.write_bytes(blob)
            os.replace(scratch, path)
        finally:
            scratch.unlink(missing_ok=True)
    except OSError as error:
        raise Refusal("cannot write", where=str(path), got=error.strerror, allowed="a writable folder",
                      remedy="choose another place") from None


def _drawn(name: str) -> EPNetwork:
    """A network drawn from a seed, with the provenance of one that saw no image."""
    net = draw(name)
    seen = TrainedOn(name=DRAWN[name].data, split_seed=0, train=0, test=0)
    header = Header(format=FORMAT, name=name, spec=net.spec, recipe={"seed": SEED}, data=seen, accuracy={},
                    sha256=digest(_tensors(net)))
    net.provenance = header.model_dump(mode="json")
    return net


def _tensors(net: EPNetwork) -> dict[str, torch.Tensor]:
    tensors = {f"weight{n}": w for n, w in enumerate(net.weights)} | {f"bias{n}": b for n, b in enumerate(net.biases)}
    if net.calibration is not None:
        tensors["calibration"] = net.calibration
    return {k: v.detach().cpu().contiguous() for k, v in tensors.items()}


def _read(path: Path) -> tuple[Header, dict[str, torch.Tensor]]:
    if not path.is_file():
        raise Refusal("no such model", where="MODEL", got=str(path),
                      allowed=f"{', '.join(model_names())} or a checkpoint file",
                      remedy="train one with 'ep-hw train'")
    try:
        with safe_open(str(path), "pt") as file:
            header = Header.model_validate_json((file.metadata() or {}).get("ep_hw", "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError, ValidationError, json.JSONDecodeError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise Refusal("not a readable checkpoint", where=str(path), got=reason, allowed=FORMAT,
                      remedy="train it again, or restore the file") from None
    _check(path, header, tensors)
    return header, tensors


def _check(path: Path, header: Header, tensors: dict[str, torch.Tensor]):
    expected = {f"weight{n}": tuple(s) for n, s in enumerate(layer_shapes(header.spec))}
    expected |= {f"bias{n}": tuple(s[:1]) for n, s in enumerate(layer_shapes(header.spec))}
    for name, shape in expected.items():
        got = tuple(tensors[name].shape) if name in tensors else "nothing"
        if got != shape:
            raise Refusal("tensor has the wrong shape", where=f"{path}, {name}", got=got, allowed=shape,
                          remedy="spec and weights must come from one training run")
    if header.format != FORMAT or digest(tensors) != header.sha256:
        raise Refusal("checkpoint is damaged", where=str(path), got=f"{header.format}, {digest(tensors)[:12]}",
                      allowed=f"{FORMAT}, {header.sha256[:12]}", remedy="train it again, or restore the file")
