"""Recipes: how a network is trained, as typed TOML. `kind` says by which rule; a file without one means "ep".

| kind     | network                     | rule                                                      |
| -------- | --------------------------- | --------------------------------------------------------- |
| `ep`     | EP-CNN                      | equilibrium propagation, symmetric nudges                 |
| `hybrid` | its layers                  | the same, from weights that were backpropagated           |
| `ff`     | its layers without feedback | backpropagation of labels, or of a teacher's answers      |
| `bp`     | CNN with batch norm         | backpropagation                                           |
| `adv`    | the same                    | backpropagation on images perturbed by l2 PGD             |
| `vit`    | vision transformer          | backpropagation                                           |
"""

import hashlib
import json
import math
from abc import abstractmethod
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import torch
from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    ValidationError,
    model_serializer,
    model_validator,
)
from torch import Tensor

from ep_hw.data.held import READ, HeldSplit
from ep_hw.data.registry import DataName, data_set
from ep_hw.data.source import BaseDataset
from ep_hw.data.splits import Split
from ep_hw.networks.baselines import CNNSpec, ViTSpec
from ep_hw.networks.checkpoint import provenance_of
from ep_hw.networks.network import NetworkSpec
from ep_hw.networks.shapes import Chain, ImageSpec, Transformer
from mapping.errors import Refusal
from mapping.fields import Count, Fraction, PerLayer, Positive, Stated, Steps, one_if_equal, read_as
from mapping.files import parse_toml, read_bytes, reason, refusing
from mapping.names import suggesting

_NEWER = {"restart": 0, "weight_noise": 0, "start": "", "feedback_norm": 0, "strides": None, "feedback_gain": 1.0,
          "optimiser": "sgd", "warm_up": 0, "average": 0,
          "weight_bits": 0}   # what recipes do that do not name these fields
AT_ONCE = 160_000_000   # values whose mean is taken at once: those of the 50,000 images of CIFAR
Rate = Annotated[float, Field(gt=0, le=1000)]
Share = Annotated[float, Field(ge=0, lt=1)]
Pixels = Annotated[float, Field(ge=0, le=64)]
R = TypeVar("R", bound="BaseRecipe")


class BaseRecipe(Stated):
    """The fields of every recipe: data, batches, rates over time, augmentation.

    Training images are shown in random order, each a random variant; beyond an edge its pixels are repeated.

    Attributes:
        data: the data set; None where whoever trains says which.
        batch: images between two updates.
        epochs: passes over the training images.
        decay_epochs: epochs over which rates fall along half a cosine to `last_rate`, where they stay; all if None.
        last_rate: see above.
        restart: the fraction of the first rates at which they begin again after `decay_epochs`, with new momenta, to
            fall over the epochs left; 0 for no restart. Source: Loshchilov and Hutter, ICLR 2017 (warm restarts).
        warm_up: batches over which the rates rise to their first values.
        weight_noise: standard deviation of the normal errors that each batch's weights have, in units of each layer's
            largest weight: training for chips whose weights are not quite what was asked for.
        weight_bits: each batch meets the weights as a digital machine of so many bits has them (mapping.digital (1)),
            and its gradient goes to the weights themselves; 0 for floats. Source: Jacob et al. 2018.
        weight_decay: added to the gradient, times the weight (by AdamW, taken from the weight itself).
        shift: the most whole pixels by which an image is translated.
        flip: half of the images are mirrored.
        affine: largest rotation (degrees), zoom (fraction) and translation (pixels), all bilinear.
        keep_validation: validation images are held out. Without, they are trained on as well: for final runs of a
            recipe that was chosen on them.
        threads: of torch, on which the last bits depend.
    """

    _newer: ClassVar[dict[str, Any]] = _NEWER

    data: DataName | None = None
    batch: Count
    epochs: Count
    decay_epochs: Count | None = None
    last_rate: float = Field(0.0, ge=0, le=1000)
    restart: Fraction = 0.0
    warm_up: int = Field(0, ge=0, le=10**6)
    weight_noise: Fraction = 0.0
    weight_bits: Literal[0, 2, 3, 4, 5, 6, 7, 8] = 0
    weight_decay: float = Field(3e-4, ge=0, le=1000)
    shift: int = Field(0, ge=0, le=64)
    flip: bool = False
    affine: tuple[Annotated[float, Field(ge=0, le=180)], Share, Pixels] = (0.0, 0.0, 0.0)
    keep_validation: bool = True
    threads: int = Field(1, ge=1, le=1024)

    @model_validator(mode="after")
    def _restart(self) -> "BaseRecipe":
        if self.restart and not (self.decay_epochs and self.decay_epochs < self.epochs):
            raise ValueError("a restart needs decay_epochs, fewer than epochs")
        return self

    @model_validator(mode="after")
    def _fits_its_data(self) -> "BaseRecipe":
        """A network that its data's images do not fit is refused before they are read."""
        if self.data:
            self._check_fits(data_set(self.data))
        return self

    def _check_fits(self, data: BaseDataset):
        channels, *_ = shape = data.image_shape
        try:
            self.network(ImageSpec(image_shape=shape, classes=data.classes, mean=(0.0,) * channels,
                                   scale=(1.0,) * channels))
        except ValidationError as error:
            raise ValueError(f"on images of {data.name}: {reason(error)}") from None

    def on(self: R, data: BaseDataset) -> R:
        """The recipe for a data set, which takes the place of its own.

        Raises:
            Refusal: the network does not fit it.
        """
        with refusing("the network does not fit the data", where=data.name, allowed="a network for its images",
                      remedy="correct the recipe's layers"):
            self._check_fits(data)
        return self.model_copy(update={"data": data.name})

    @abstractmethod
    def network(self, images: ImageSpec) -> ImageSpec:
        """The spec of the network for images of that kind."""

    def spec(self, train: Split | HeldSplit) -> ImageSpec:
        """The spec of the network for these training images."""
        return self.network(images_of(train))

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The recipe as a dictionary, without newer fields that change nothing: its fingerprint is that of older runs.
        """
        return {key: value for key, value in handler(self).items()
                if key not in self._newer or value != self._newer[key]}

    def fingerprint(self, seed: int) -> str:
        """sha256 of everything that decides the outcome of a run."""
        content = json.dumps([self.model_dump(mode="json"), seed], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()


class Recipe(Chain, BaseRecipe):
    """Equilibrium propagation.

    With a teacher the nudges pull towards its softmax on the same images in place of the labels. Source: Hinton et al.
    2015 (distillation).

    Attributes:
        kind: "ep", or "hybrid" where training begins at weights that were not learnt by the EP rule.
        schedule: of all phases, and of the network.
        steps: the network's longest free phase, in time steps (an alternating sweep is two).
        tolerance: residual at which an image's free phase ends, once the network is trained.
        free_steps: time steps of a batch's free phase.
        last_free_steps: the same in the last epoch; between, steps grow (or shrink) linearly. `free_steps` if None.
        nudged_steps: time steps of each nudged phase.
        free_tolerance: residual at which a batch's free phase ends earlier.
        precision: of the phases' convolutions; weights, states and contrasts are float32.
        beta: strength of the nudges.
        feedback_gain: gamma of the network, one number for all layers or one a layer, see `NetworkSpec`; at 0 there is
            nothing to learn by.
        rates: the first learning rate of each layer, the readout last.
        optimiser: "sgd" with `momentum`, or "adamw".
        momentum: of SGD's updates.
        average: the network that is kept is an average of the weights after each update, of which that share stays at
            the next (ep_hw.learning.training.average); 0 to keep the last weights.
        gain: multiplies the initial weights below the readout, one number for all or one a layer.
        start: name or file of the network whose weights (times `gain`) training begins at; random ones if empty. Of
            the kind "ep" it is an EP network too, or untrained.
        teacher: name or file of the network whose answers are learnt, by whatever rule it was trained; the labels if
            empty.
        feedback_norm: after each batch, every layer that feeds back is brought towards an operator norm of at most
            that (ep_hw.learning.training.feedback); 0 for no limit.
    """

    _newer: ClassVar[dict[str, Any]] = _NEWER | {"teacher": "", "last_free_steps": None}

    kind: Literal["ep", "hybrid"] = "ep"
    schedule: Literal["synchronous", "alternating"] = "alternating"
    steps: Steps = 200
    tolerance: Positive = 1e-3
    free_steps: Steps
    last_free_steps: Steps | None = None
    nudged_steps: Steps
    free_tolerance: Positive | None = None
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"
    beta: Rate
    feedback_gain: Annotated[Rate | PerLayer[Rate], AfterValidator(one_if_equal)] = 1.0
    rates: PerLayer[Annotated[float, Field(ge=0, le=1000)]]
    optimiser: Literal["sgd", "adamw"] = "sgd"
    momentum: Share = 0.9
    average: Share = 0.0
    gain: Positive | PerLayer[Positive] = 1.0
    start: str = Field("", max_length=1000)
    teacher: str = Field("", max_length=1000)
    feedback_norm: float = Field(0.0, ge=0, le=1e6)

    @model_validator(mode="after")
    def _rates(self) -> "Recipe":
        if len(self.rates) != len(self.channels) + 1:
            raise ValueError("one rate a layer is needed, and one for the readout")
        if isinstance(self.gain, tuple) and len(self.gain) != len(self.channels):
            raise ValueError("one gain a layer is needed, or one for all")
        return self

    @model_validator(mode="after")
    def _begins_somewhere(self) -> "Recipe":
        if self.kind == "hybrid" and not self.start:
            raise ValueError("a hybrid needs a start; from random weights the kind is ep")
        return self

    def free_steps_at(self, epoch: int) -> int:
        """Time steps of a batch's free phase in an epoch, counted from 0."""
        more = (self.last_free_steps or self.free_steps) - self.free_steps
        return self.free_steps + round(more * epoch / max(1, self.epochs - 1))

    def fingerprint(self, seed: int) -> str:
        return _with_model(_with_model(super().fingerprint(seed), self.start), self.teacher)

    def network(self, images: ImageSpec) -> NetworkSpec:
        return NetworkSpec(**dict(images), channels=self.channels, paddings=self.paddings, pools=self.pools,
                           strides=self.strides, feedback_gain=self.feedback_gain, schedule=self.schedule,
                           steps=self.steps, tolerance=self.tolerance)


class FeedforwardRecipe(Chain, BaseRecipe):
    """AdamW through the layers of an EP-CNN whose feedback gains are 0: what its feedback is measured against.

    With a teacher the loss is the cross-entropy with the teacher's softmax on the same images: the network is then the
    teacher's feed-forward twin. Source: Hinton et al. 2015 (distillation); Mansingh et al. 2025 (of EP networks).

    Attributes:
        rate: the first learning rate.
        gain: multiplies the initial weights below the readout, one number for all or one a layer.
        teacher: name or file of the network whose answers are learnt; the labels if empty.
    """

    kind: Literal["ff"]
    rate: Rate
    gain: Positive | PerLayer[Positive] = 1.0
    teacher: str = Field("", max_length=1000)

    def fingerprint(self, seed: int) -> str:
        return _with_model(super().fingerprint(seed), self.teacher)

    def network(self, images: ImageSpec) -> NetworkSpec:
        return NetworkSpec(**dict(images), channels=self.channels, paddings=self.paddings, pools=self.pools,
                           strides=self.strides, feedback_gain=0.0)


class ConvolutionalRecipe(Chain, BaseRecipe):
    """SGD with Nesterov's momentum through a CNN with batch norm.

    Attributes:
        rate: the first learning rate.
        momentum: of the updates.
    """

    rate: Rate
    momentum: Share = 0.9

    def network(self, images: ImageSpec) -> CNNSpec:
        return CNNSpec(**dict(images), channels=self.channels, paddings=self.paddings, pools=self.pools,
                       strides=self.strides)


class BackpropRecipe(ConvolutionalRecipe):
    """Backpropagation on the images themselves."""

    kind: Literal["bp"]


class AdversarialRecipe(ConvolutionalRecipe):
    """Backpropagation on images that l2 PGD has perturbed.

    Attributes:
        eps: size of the perturbation, in units of [0, 1] pixels.
        attack_steps: of PGD.
    """

    kind: Literal["adv"]
    eps: Rate
    attack_steps: Count


class TransformerRecipe(Transformer, BaseRecipe):
    """Backpropagation by AdamW through a vision transformer.

    Attributes:
        rate: the first learning rate.
    """

    kind: Literal["vit"]
    rate: Rate

    def network(self, images: ImageSpec) -> ViTSpec:
        return ViTSpec(**dict(images), patch=self.patch, layers=self.layers, heads=self.heads, dim=self.dim,
                       hidden=self.hidden)


def _with_model(fingerprint: str, model: str) -> str:
    """A recipe's fingerprint where it goes on from another network, whose weights then decide as well."""
    return hashlib.sha256((fingerprint + provenance_of(model)[1]).encode()).hexdigest() if model else fingerprint


KINDS: dict[str, type[BaseRecipe]] = {"ep": Recipe, "hybrid": Recipe, "ff": FeedforwardRecipe,
                                      "bp": BackpropRecipe, "adv": AdversarialRecipe, "vit": TransformerRecipe}
AnyRecipe = Annotated[
    Annotated[Recipe, Tag("ep")] | Annotated[Recipe, Tag("hybrid")] | Annotated[FeedforwardRecipe, Tag("ff")]
    | Annotated[BackpropRecipe, Tag("bp")] | Annotated[AdversarialRecipe, Tag("adv")]
    | Annotated[TransformerRecipe, Tag("vit")],
    Discriminator(lambda content: str(content.get("kind", "ep")))]


def images_of(train: Split | HeldSplit) -> ImageSpec:
    """Shape, classes, mean and three standard deviations of training images.

    Raises:
        Refusal: a channel that is the same everywhere.
    """
    mean, std = _moments(train)
    if not (std > 1e-6).all():
        raise Refusal("a channel of the training images is the same everywhere", where=train.data,
                      got=f"channel {int(std.argmin())} of {len(std)}", allowed="channels that vary",
                      remedy="leave it out")
    return ImageSpec(image_shape=train.image_shape, classes=int(train.labels.max()) + 1,
                     mean=tuple(mean.tolist()), scale=tuple((3 * std).tolist()))


def _moments(train: Split | HeldSplit) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel; of a set larger than `AT_ONCE` put together from those of parts.

    Source: Chan, Golub, LeVeque 1979, equation (2.1).
    """
    dims, per_image = (0, 2, 3), math.prod(train.image_shape)
    if len(train) * per_image <= AT_ONCE:
        images = train.take(slice(None)).images.double()
        return images.mean(dims), images.std(dims)
    count, (mean, squares) = 0, torch.zeros(2, train.image_shape[0], dtype=torch.float64)
    for part in train.parts(max(1, READ // per_image)):
        images = part.images.double()
        new, gap = images.shape[0] * images[0, 0].numel(), images.mean(dims) - mean
        squares = squares + images.var(dims, unbiased=False) * new + gap.square() * (count * new / (count + new))
        mean, count = mean + gap * (new / (count + new)), count + new
    return mean, (squares / (count - 1)).sqrt()


def recipes() -> dict[str, Path]:
    """Name -> file of the recipes that the package ships."""
    folder = Path(str(resources.files(__package__) / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def parse_recipe(content: dict) -> AnyRecipe:
    """A recipe from TOML or a checkpoint's header, by its `kind`.

    Raises:
        ValidationError: a field that is missing, unknown or out of range.
    """
    return read_as(AnyRecipe, content)


def load_recipe(name: str | Path) -> AnyRecipe:
    """A packaged recipe by name, or a TOML file.

    Raises:
        Refusal: no such recipe, a field that is missing, unknown or out of range, or a network that does not fit its
            data.
    """
    path = recipes().get(str(name), Path(name))
    with refusing("no readable recipe", where=path, **suggesting(str(name), recipes(),
                                                                 remedy="name a packaged recipe or a TOML file")):
        content = parse_toml(read_bytes(path))
    kind = KINDS.get(str(content.get("kind", "ep")))
    with refusing("not a recipe", where=path, allowed=", ".join(kind.model_fields if kind else KINDS),
                  remedy="correct the recipe"):
        return parse_recipe(content)
