"""Training an EP-CNN by the symmetric rule, with checkpoints that survive a kill.

A recipe is a TOML file in `ep_hw/recipes`. Every epoch draws from its own generator, so that a resumed run and an
uninterrupted one give the same bytes.
"""

import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

import tomli
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from ep_hw.checkpoint import check_writable, load, save_checkpoint, write_atomically
from ep_hw.data import SPLIT_SEED, Split, load_data
from ep_hw.learning import ep_gradient
from ep_hw.network import EPNetwork, NetworkSpec
from ep_hw.threads import threads
from mapping.errors import Refusal
from simulators.reference import ReferenceMachine

CALIBRATION_IMAGES = 64


class Recipe(BaseModel):
    """How to train a network. Steps count time steps (an alternating sweep is two); one rate a layer, readout last.

    Training images are drawn anew each epoch: `shift` translates by up to so many whole pixels, `flip` mirrors half of
    them, `affine` gives the largest rotation (degrees), zoom (fraction) and translation (pixels), all bilinear; edges
    are repeated. `gain` multiplies the initial weights; `threads` is torch's, on which the last bits depend.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: str
    channels: tuple[int, ...]
    paddings: tuple[int, ...]
    pools: tuple[int, ...]
    schedule: Literal["synchronous", "alternating"] = "alternating"
    steps: int = Field(200, ge=1)
    tolerance: float = Field(1e-3, gt=0)
    free_steps: int = Field(ge=1)
    nudged_steps: int = Field(ge=1)
    beta: float = Field(gt=0)
    rates: tuple[float, ...]
    batch: int = Field(ge=1)
    epochs: int = Field(ge=1)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(3e-4, ge=0)
    gain: float = Field(1.0, gt=0)
    shift: int = Field(0, ge=0)
    flip: bool = False
    affine: tuple[float, float, float] = (0.0, 0.0, 0.0)
    keep_validation: bool = True
    threads: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _lengths(self):
        layers = len(self.channels)
        if not layers == len(self.paddings) == len(self.pools) == len(self.rates) - 1:
            raise ValueError("one entry a layer is needed in channels, paddings and pools, and one more in rates")
        return self

    def spec(self, train: Split) -> NetworkSpec:
        """The network for these training images: normalised by their mean and three standard deviations."""
        dims = (0, 2, 3)
        mean, std = train.images.double().mean(dims), train.images.double().std(dims)
        return NetworkSpec(image_shape=tuple(train.images.shape[1:]), channels=self.channels, paddings=self.paddings,
                           pools=self.pools, classes=int(train.labels.max()) + 1, mean=tuple(mean.tolist()),
                           scale=tuple((3 * std).tolist()), schedule=self.schedule, steps=self.steps,
                           tolerance=self.tolerance)


@dataclass(frozen=True)
class Epoch:
    """One line of the training log. `residual` is the largest last-sweep change over the test images."""

    number: int
    of: int
    rate: float
    accuracy: float
    residual: float
    steps: float
    seconds: float


def recipes() -> dict[str, Path]:
    """Name -> file of the recipes that the package ships."""
    folder = Path(str(resources.files("ep_hw") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def load_recipe(name: str | Path) -> Recipe:
    """A packaged recipe by name, or a TOML file.

    Raises:
        Refusal: no such recipe, or a field that is missing, unknown or out of range.
    """
    path = recipes().get(str(name), Path(name))
    try:
        return Recipe.model_validate(tomli.loads(path.read_text()))
    except ValidationError as error:
        first = error.errors()[0]
        raise Refusal(first["msg"], where=f"{path}, {'.'.join(map(str, first['loc']))}", got=first["input"],
                      allowed=", ".join(Recipe.model_fields), remedy="correct the recipe") from None
    except (OSError, ValueError) as error:
        raise Refusal("no readable recipe", where=str(path), got=error, allowed=", ".join(recipes()),
                      remedy="name a packaged recipe or a TOML file") from None


def train(recipe: Recipe, seed: int, out: str | Path, *, name: str, root=None, download: bool = False,
          log: Callable[[Epoch], None] = lambda epoch: None) -> EPNetwork:
    """Train a network and write its checkpoint to `out`.

    After each epoch `out`.part holds everything needed to go on; a run with the same recipe and seed continues it.

    Raises:
        Refusal: `out`.part belongs to another recipe or seed, or the data are missing.
    """
    check_writable(Path(out).parent)
    train_split = load_data(recipe.data, "train", root, download)
    if not recipe.keep_validation:
        train_split = _join(train_split, load_data(recipe.data, "validation", root))
    test = load_data(recipe.data, "test", root)
    net = EPNetwork.initialise(recipe.spec(train_split), seed)
    net.name = name
    for weight in net.weights[:-1]:
        weight.mul_(recipe.gain)
    optimiser = _optimiser(net, recipe)
    part = Path(f"{out}.part")
    fingerprint = hashlib.sha256(f"{recipe.model_dump_json()} {seed}".encode()).hexdigest()
    first = _resume(part, net, optimiser, fingerprint)
    for epoch in range(first, recipe.epochs):
        started = time.perf_counter()
        with threads(recipe.threads):
            _train_epoch(net, optimiser, recipe, train_split, seed, epoch)
        _save_part(part, net, optimiser, fingerprint, epoch + 1)
        log(_epoch_line(net, recipe, test, epoch, time.perf_counter() - started))
    net.calibration = train_split.images[:CALIBRATION_IMAGES].clone()
    save_checkpoint(net, out, recipe={**recipe.model_dump(mode="json"), "seed": seed},
                    data={"name": recipe.data, "split_seed": SPLIT_SEED, "train": len(train_split),
                          "test": len(test)},
                    accuracy={"test": accuracy(net, test)})
    part.unlink(missing_ok=True)
    return load(out)


def accuracy(net: EPNetwork, split: Split) -> float:
    """Fraction of the split that the reference classifies correctly."""
    machine = ReferenceMachine(net.lower())
    hits = [(machine.relax(images).prediction == labels).sum().item()
            for images, labels in zip(split.images.split(500), split.labels.split(500))]
    return sum(hits) / len(split)


def cosine(epoch: int, epochs: int) -> float:
    """Factor on the learning rates in an epoch: from 1 towards 0 along half a cosine."""
    return 0.5 * (1 + math.cos(math.pi * epoch / epochs))


def _train_epoch(net, optimiser, recipe: Recipe, split: Split, seed: int, epoch: int):
    generator = torch.Generator().manual_seed(1_000_003 * (seed + 1) + epoch)
    for group, rate in zip(optimiser.param_groups, recipe.rates):
        group["lr"] = rate * cosine(epoch, recipe.epochs)
    substrate = net.substrate()
    for index in torch.randperm(len(split), generator=generator).split(recipe.batch):
        images = augment(split.images[index], recipe, generator)
        gradient, _ = ep_gradient(substrate, images, split.labels[index], schedule=recipe.schedule,
                                  free_steps=recipe.free_steps, nudged_steps=recipe.nudged_steps, beta=recipe.beta)
        for weight, bias, (weight_gradient, bias_gradient) in zip(net.weights, net.biases, gradient):
            weight.grad, bias.grad = weight_gradient, bias_gradient
        optimiser.step()


def augment(images, recipe: Recipe, generator):
    """Random variants (B, C, H, W) of training images, as the recipe says."""
    if any(recipe.affine):
        images = _warp(images, recipe.affine, generator)
    if recipe.shift:
        images = _translate(images, recipe.shift, generator)
    if recipe.flip:
        mirrored = torch.rand(len(images), generator=generator) < 0.5
        images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
    return images


def _translate(images, shift: int, generator):
    b, _, h, w = images.shape
    padded = F.pad(images, (shift,) * 4, mode="replicate")
    dy, dx = torch.randint(0, 2 * shift + 1, (2, b, 1, 1), generator=generator)
    rows, columns = dy + torch.arange(h)[:, None], dx + torch.arange(w)
    return padded[torch.arange(b)[:, None, None], :, rows, columns].permute(0, 3, 1, 2).contiguous()


def _warp(images, affine: tuple[float, float, float], generator):
    b, _, h, w = images.shape
    turn, zoom, dy, dx = torch.rand(4, b, generator=generator) * 2 - 1
    angle, zoom = turn * math.radians(affine[0]), 1 + zoom * affine[1]
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    rows = [torch.stack([cos, -sin, dx * affine[2] * 2 / w], 1), torch.stack([sin, cos, dy * affine[2] * 2 / h], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _optimiser(net: EPNetwork, recipe: Recipe) -> torch.optim.SGD:
    groups = [{"params": [w, b], "lr": rate} for w, b, rate in zip(net.weights, net.biases, recipe.rates)]
    return torch.optim.SGD(groups, momentum=recipe.momentum, weight_decay=recipe.weight_decay)


def _epoch_line(net, recipe, test: Split, epoch: int, seconds: float) -> Epoch:
    end = ReferenceMachine(net.lower()).relax(test.images[:500])
    hits = (end.prediction == test.labels[:500]).float().mean().item()
    return Epoch(epoch + 1, recipe.epochs, cosine(epoch, recipe.epochs), hits, end.residual.max().item(),
                 end.steps.float().mean().item(), seconds)


def _save_part(part: Path, net, optimiser, fingerprint: str, epoch: int):
    parameters = [*net.weights, *net.biases]
    tensors = {f"p{n}": p for n, p in enumerate(parameters)}
    tensors |= {f"m{n}": optimiser.state[p]["momentum_buffer"] for n, p in enumerate(parameters)}
    blob = save_tensors({k: v.contiguous() for k, v in tensors.items()},
                        {"fingerprint": fingerprint, "epoch": str(epoch)})
    write_atomically(part, blob)


def _resume(part: Path, net, optimiser, fingerprint: str) -> int:
    """Load an unfinished run into `net` and `optimiser`; the number of epochs it has done."""
    if not part.exists():
        return 0
    try:
        with safe_open(str(part), "pt") as file:
            metadata = file.metadata()
    except SafetensorError as error:
        raise Refusal("an unfinished run cannot be read", where=str(part), got=error, allowed="a whole file",
                      remedy="remove it and train again") from None
    if metadata["fingerprint"] != fingerprint:
        raise Refusal("an unfinished run of another recipe or seed is in the way", where=str(part),
                      got=metadata["fingerprint"][:12], allowed=fingerprint[:12],
                      remedy="finish it with its own recipe and seed, or remove the file")
    tensors = load_tensors(part.read_bytes())
    for n, parameter in enumerate([*net.weights, *net.biases]):
        parameter.copy_(tensors[f"p{n}"])
        optimiser.state[parameter]["momentum_buffer"] = tensors[f"m{n}"]
    return int(metadata["epoch"])


def _join(a: Split, b: Split) -> Split:
    return Split(a.data, *(torch.cat([getattr(a, k), getattr(b, k)]) for k in ("images", "labels", "ids")))
