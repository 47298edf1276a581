"""The training loop, one for every kind of recipe, with checkpoints that survive a kill.

Every epoch has its own random generator, whose state is kept with the rest, so that a resumed run and an uninterrupted
one give the same bytes.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field

from ep_hw.data.held import HeldSplit
from ep_hw.data.registry import data_set, held_data, known_names
from ep_hw.data.source import DEFAULT_SOURCE, BaseDataset, DataSource
from ep_hw.data.splits import SPLIT_SEED, SPLITS, Split
from ep_hw.learning.training.augmentation import augment
from ep_hw.learning.training.learners import Learner, learner_of
from ep_hw.learning.training.recipe import AnyRecipe
from ep_hw.networks.accuracy import accuracy
from ep_hw.networks.baselines import Baseline
from ep_hw.networks.checkpoint import load, save_checkpoint
from ep_hw.networks.images import CALIBRATION_IMAGES
from ep_hw.networks.network import EPNetwork
from ep_hw.threads import threads
from ep_hw.versions import TRAINING, libraries
from mapping.errors import Refusal
from mapping.fields import Sha256, Stated, check_named
from mapping.files import check_new, check_writable, refusing, write_atomically
from mapping.sealed import describe, open_sealed, seal
from simulators.heap import kept
from simulators.registry import check_device

WATCHED = 500   # held-out images that each epoch's line is about
SAVE_EVERY_S = 120.0
FORM = "ep-hw unfinished training 2"
Done = Annotated[int, Field(ge=0, le=2**32)]


@dataclass(frozen=True)
class Epoch:
    """One line of the training log, about the first held-out images: validation's where they are kept, else test's.

    Attributes:
        number: of the epoch, from 1.
        of: how many epochs there are.
        rate: the factor of the learning rates.
        accuracy: the fraction of the images that the network classifies correctly.
        residual: largest change of a state over the last sweep, over these images.
        steps: mean number of time steps until they settled.
        seconds: that the epoch took.
    """

    number: int
    of: int
    rate: float
    accuracy: float
    residual: float
    steps: float
    seconds: float


def train(recipe: AnyRecipe, seed: int, out: str | Path, *, name: str, data_source: DataSource = DEFAULT_SOURCE,
          device: str = "cpu", log: Callable[[Epoch], None] = lambda epoch: None) -> EPNetwork | Baseline:
    """Train a network and write its checkpoint to `out`.

    `out`.part, written every few minutes and after each epoch, holds everything needed to go on; a run with the same
    recipe and seed continues it.

    Args:
        recipe: to train by.
        seed: of weights, order and noise.
        out: the checkpoint to write.
        name: of the network.
        data_source: where the recipe's data lie, or what takes their place.
        device: "cpu" or "cuda".
        log: called with each epoch's line.

    Returns:
        The network, read back from `out`.

    Raises:
        Refusal: `out` exists, `out`.part belongs to another recipe, seed or data, or the data or the device are
            missing.
    """
    check_device(device)
    check_named(name, out)
    check_writable(Path(out).parent)
    check_new(out)
    with kept(), threads(recipe.threads):
        known = _data_of(recipe, data_source)
        recipe = recipe.on(known)
        _train(recipe, seed, out, name, known, *_splits(recipe, known, data_source), device, log)
    return load(out)


def _data_of(recipe: AnyRecipe, data_source: DataSource) -> BaseDataset:
    if known := data_source.data or (recipe.data and data_set(recipe.data)):
        return known
    raise Refusal("the recipe names no data", where="recipe", got="nothing", allowed=known_names()
                  + ", an .npz or a folder of class folders", remedy="name a data set with --data, or in the recipe")


def _train(recipe: AnyRecipe, seed: int, out: str | Path, name: str, known: BaseDataset, train_split: HeldSplit,
           held_out: dict[str, HeldSplit], device: str, log: Callable[[Epoch], None]):
    learner = learner_of(recipe, recipe.spec(train_split), seed, device)
    part = _Part(Path(f"{out}.part"), learner, _run_of(recipe, seed, train_split))
    watched = next(iter(held_out.values())).take(slice(WATCHED))
    at = part.resume()
    for epoch in range(at.epoch, recipe.epochs):
        started = time.perf_counter()
        _train_epoch(learner, recipe, train_split, seed, at if epoch == at.epoch else _Place(epoch), part)
        part.save(_Place(epoch + 1))
        log(_epoch_line(learner, recipe, watched, epoch, time.perf_counter() - started))
    net = replace(learner.finished(train_split.take(slice(CALIBRATION_IMAGES)).images), name=name)
    save_checkpoint(net, out, recipe={**recipe.model_dump(mode="json"), "seed": seed},
                    data={"name": recipe.data, "split_seed": SPLIT_SEED, "train": len(train_split),
                          "test": len(held_out["test"]), **_own(known, {"train": train_split, **held_out})},
                    accuracy={split: accuracy(net.machine(), images) for split, images in held_out.items()})
    part.path.unlink(missing_ok=True)


def _own(known: BaseDataset, splits: dict[str, HeldSplit]) -> dict[str, Any]:
    """What a checkpoint keeps of a data set that its name alone does not tell."""
    sha256 = {name: split.sha256 for name, split in splits.items() if split.sha256}
    return {"source": known.source or None, "division": known.division or None, "sha256": sha256} if sha256 else {}


def _run_of(recipe: AnyRecipe, seed: int, split: HeldSplit) -> str:
    """sha256 of everything that decides the outcome of a run: recipe, seed, images and code."""
    content = [recipe.fingerprint(seed), split.digest, TRAINING, libraries()]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def rate_at(recipe: AnyRecipe, rate: float, epoch: int) -> float:
    """A learning rate in an epoch: it falls along half a cosine to the recipe's last rate, then stays or restarts."""
    decay = recipe.decay_epochs or recipe.epochs
    if recipe.restart and epoch >= decay:
        rate, epoch, decay = recipe.restart * rate, epoch - decay, recipe.epochs - decay
    fraction = 0.5 * (1 + math.cos(math.pi * min(epoch, decay) / decay))
    return recipe.last_rate + (rate - recipe.last_rate) * fraction


def _splits(recipe: AnyRecipe, known: BaseDataset, data_source: DataSource) -> tuple[HeldSplit, dict[str, HeldSplit]]:
    """Training images, and the held-out splits by name."""
    train_split, validation, test = (held_data(known, name, data_source) for name in SPLITS)
    if recipe.keep_validation:
        return train_split, {"validation": validation, "test": test}
    return train_split.and_then(validation), {"test": test}


def _train_epoch(learner: Learner[Any], recipe: AnyRecipe, split: HeldSplit, seed: int, at: "_Place", part: "_Part"):
    generator = torch.Generator().manual_seed(1_000_003 * (seed + 1) + at.epoch)
    learner.epoch = at.epoch
    if recipe.restart and (at.epoch, at.batches) == (recipe.decay_epochs, 0):
        learner.optimiser.state.clear()
    batches = torch.randperm(len(split), generator=generator).split(recipe.batch)
    if at.generator is not None:
        generator.set_state(at.generator)
    saved = time.monotonic()
    for done, index in enumerate(batches[at.batches:], at.batches + 1):
        warmth = min(1.0, (at.epoch * len(batches) + done) / recipe.warm_up) if recipe.warm_up else 1.0
        for group, rate in zip(learner.optimiser.param_groups, learner.rates):
            group["lr"] = warmth * rate_at(recipe, rate, at.epoch)
        batch = split.take(index)
        learner.step(augment(batch.images, recipe, generator), batch.labels, generator)
        if time.monotonic() > saved + SAVE_EVERY_S:
            part.save(_Place(at.epoch, done, generator.get_state()))
            saved = time.monotonic()


def _epoch_line(learner: Learner[Any], recipe: AnyRecipe, watched: Split, epoch: int, seconds: float) -> Epoch:
    end = learner.machine().relax(watched.images)
    right = (end.prediction == watched.labels).float().mean().item()
    factor = rate_at(recipe, 1.0, epoch)
    return Epoch(epoch + 1, recipe.epochs, factor, right, end.residual.max().item(), end.steps.float().mean().item(),
                 seconds)


@dataclass(frozen=True, eq=False)
class _Place:
    """How far a run has come.

    Attributes:
        epoch: whole epochs done.
        batches: done of the next epoch.
        generator: state of that epoch's generator.
    """

    epoch: int
    batches: int = 0
    generator: torch.Tensor | None = None


class _Unfinished(Stated):
    """What the file of an unfinished run says.

    Attributes:
        fingerprint: of the run, see `_run_of`.
        epoch: see `_Place`.
        batches: see `_Place`.
    """

    fingerprint: Sha256
    epoch: Done
    batches: Done


class _Part:
    """The file of an unfinished run.

    Args:
        path: of the file.
        learner: of the run.
        fingerprint: of the run, see `_run_of`.
    """

    def __init__(self, path: Path, learner: Learner[Any], fingerprint: str):
        self.path, self.learner, self.fingerprint = path, learner, fingerprint

    def save(self, place: _Place):
        arrays = {key: value.detach().cpu().numpy() for key, value in self.learner.tensors().items()}
        if place.generator is not None:
            arrays["generator"] = place.generator.numpy()
        header = _Unfinished(fingerprint=self.fingerprint, epoch=place.epoch, batches=place.batches)
        write_atomically(self.path, seal(FORM, header.model_dump(), arrays))

    def resume(self) -> _Place:
        """Load an unfinished run, if there is one, into the learner: the place where it stopped."""
        if not self.path.exists():
            return _Place(0)
        sealed = open_sealed(self.path, FORM, remedy="remove it and train again")
        header = sealed.read_as(_Unfinished)
        if header.fingerprint != self.fingerprint:
            raise Refusal("an unfinished run of another recipe, seed or data is in the way", where=str(self.path),
                          got=header.fingerprint[:12], allowed=self.fingerprint[:12],
                          remedy="finish it with its own recipe, seed and data, or remove the file")
        layout = self.learner.layout(sealed.layout)
        ranges = self.learner.ranges(layout)
        if header.batches:
            layout["generator"] = describe(torch.Generator().get_state().numpy())
        arrays = sealed.arrays(layout, ranges)
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        generator = tensors.pop("generator", None)
        self.learner.restore(tensors)
        with refusing("values out of range", where=f"{self.path}, generator", allowed="a generator's state",
                      remedy=sealed.remedy):
            return _Place(header.epoch, header.batches, generator if generator is None else _valid(generator))


def _valid(state: torch.Tensor) -> torch.Tensor:
    """The state of a generator, as it is.

    Raises:
        ValueError: no generator can have it.
    """
    try:
        return torch.Generator().set_state(state).get_state()
    except RuntimeError as error:
        raise ValueError(str(error)) from None
