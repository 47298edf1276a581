"""Recipes: how a network is trained, as typed TOML. `kind` says by which rule; a file without one means "ep".

| kind  | network                        | rule                                                      |
| ----- | ------------------------------ | --------------------------------------------------------- |
| `ep`  | EP-CNN                         | equilibrium propagation, symmetric nudges                 |
| `bp`  | CNN with batch norm            | backpropagation                                           |
| `adv` | the same                       | backpropagation on images that l2 PGD has just found      |
| `vit` | vision transformer             | backpropagation                                           |
"""

import hashlib
import json
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

import tomli
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
    ValidationError,
    model_serializer,
    model_validator,
)

from ep_hw.baselines import CNNSpec, ViTSpec
from ep_hw.checkpoint import provenance_of
from ep_hw.data import Split
from ep_hw.fields import Count, Padding, Positive
from ep_hw.network import NetworkSpec
from mapping.errors import Refusal

_NEWER = ("restart", "weight_noise", "start", "feedback_norm")   # fields that older recipes did not have


class BaseRecipe(BaseModel):
    """What every recipe says: data, batches, rates over time, augmentation.

    Training images are drawn anew each epoch: `shift` translates by up to so many whole pixels, `flip` mirrors half of
    them, `affine` gives the largest rotation (degrees), zoom (fraction) and translation (pixels), all bilinear; edges
    are repeated. Rates fall along half a cosine to `last_rate` over `decay_epochs` (all epochs if None) and stay there;
    with `restart` they begin again at that fraction of the first ones, with new momenta, and fall over the epochs left
    (warm restart: Loshchilov and Hutter, ICLR 2017).
    `threads` is torch's, on which the last bits depend. Without `keep_validation` the validation images are trained on
    as well: for final runs of a recipe that was chosen on them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: str
    batch: int = Field(ge=1)
    epochs: int = Field(ge=1)
    decay_epochs: int | None = Field(None, ge=1)
    last_rate: float = Field(0.0, ge=0)
    restart: float = Field(0.0, ge=0, le=1)
    weight_decay: float = Field(3e-4, ge=0)
    shift: int = Field(0, ge=0)
    flip: bool = False
    affine: tuple[float, float, float] = (0.0, 0.0, 0.0)
    keep_validation: bool = True
    threads: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _restart(self):
        if self.restart and not (self.decay_epochs and self.decay_epochs < self.epochs):
            raise ValueError("a restart needs decay_epochs, fewer than epochs")
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, handler):
        """A recipe that leaves the newer fields at zero is written as before there were any: older runs stay valid."""
        return {key: value for key, value in handler(self).items() if value or key not in _NEWER}

    def fingerprint(self, seed: int) -> str:
        """sha256 of everything that decides the outcome of a run."""
        content = json.dumps([self.model_dump(mode="json"), seed], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()


class _Convolutional(BaseRecipe):
    """Channels, paddings and pools, one entry a layer each."""

    channels: tuple[Count, ...]
    paddings: tuple[Padding, ...]
    pools: tuple[Count, ...]

    @model_validator(mode="after")
    def _layers(self):
        if not len(self.channels) == len(self.paddings) == len(self.pools):
            raise ValueError("one entry a layer is needed in channels, paddings and pools")
        return self


class Recipe(_Convolutional):
    """Equilibrium propagation. Steps count time steps (an alternating sweep is two); one rate a layer, readout last.

    `gain` multiplies the initial weights below the readout, one number for all or one a layer. With `free_tolerance` a
    batch's free phase stops at that residual instead of after `free_steps` steps. `precision` is that of the phases'
    convolutions; weights, states and contrasts are floats.
    With `start`, a network's name or file, training begins at its weights (times `gain`) instead of drawn ones. With
    `feedback_norm` every layer that feeds back is drawn towards an operator norm of at most that after each batch
    (ep_hw.training.feedback).
    With `weight_noise` every batch sees weights with normal errors of that standard deviation, in units of each layer's
    largest weight: training for chips whose weights are not quite what was asked for.
    """

    kind: Literal["ep"] = "ep"
    schedule: Literal["synchronous", "alternating"] = "alternating"
    steps: int = Field(200, ge=1)
    tolerance: float = Field(1e-3, gt=0)
    free_steps: int = Field(ge=1)
    nudged_steps: int = Field(ge=1)
    free_tolerance: float | None = Field(None, gt=0)
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"
    beta: float = Field(gt=0)
    rates: tuple[float, ...]
    momentum: float = Field(0.9, ge=0, lt=1)
    gain: Positive | tuple[Positive, ...] = 1.0
    weight_noise: float = Field(0.0, ge=0, le=1)
    start: str = ""
    feedback_norm: float = Field(0.0, ge=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _rates(self):
        if len(self.rates) != len(self.channels) + 1:
            raise ValueError("one rate a layer is needed, and one for the readout")
        if isinstance(self.gain, tuple) and len(self.gain) != len(self.channels):
            raise ValueError("one gain a layer is needed, or one for all")
        return self

    def fingerprint(self, seed):
        if not self.start:
            return super().fingerprint(seed)
        _, begun_at = provenance_of(self.start)
        return hashlib.sha256((super().fingerprint(seed) + begun_at).encode()).hexdigest()

    def spec(self, train: Split) -> NetworkSpec:
        """The network for these training images."""
        return NetworkSpec(**images_of(train), channels=self.channels, paddings=self.paddings, pools=self.pools,
                           schedule=self.schedule, steps=self.steps, tolerance=self.tolerance)


class BackpropRecipe(_Convolutional):
    """Backpropagation by SGD with Nesterov's momentum through a CNN with batch norm."""

    kind: Literal["bp"]
    rate: float = Field(gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)

    def spec(self, train: Split) -> CNNSpec:
        """The network for these training images."""
        return CNNSpec(**images_of(train), channels=self.channels, paddings=self.paddings, pools=self.pools)


class AdversarialRecipe(BackpropRecipe):
    """The same on images perturbed by l2 PGD of size `eps` (units of [0, 1] pixels) in `attack_steps` steps."""

    kind: Literal["adv"]
    eps: float = Field(gt=0)
    attack_steps: int = Field(ge=1)


class TransformerRecipe(BaseRecipe):
    """Backpropagation by AdamW through a vision transformer."""

    kind: Literal["vit"]
    rate: float = Field(gt=0)
    patch: Count
    layers: Count
    heads: Count
    dim: Count
    hidden: Count

    def spec(self, train: Split) -> ViTSpec:
        """The network for these training images."""
        return ViTSpec(**images_of(train), patch=self.patch, layers=self.layers, heads=self.heads, dim=self.dim,
                       hidden=self.hidden)


AnyRecipe = Annotated[
    Annotated[Recipe, Tag("ep")] | Annotated[BackpropRecipe, Tag("bp")] | Annotated[AdversarialRecipe, Tag("adv")]
    | Annotated[TransformerRecipe, Tag("vit")], Discriminator(lambda content: content.get("kind", "ep"))]
KINDS = {"ep": Recipe, "bp": BackpropRecipe, "adv": AdversarialRecipe, "vit": TransformerRecipe}
_ANY = TypeAdapter(AnyRecipe)


def images_of(train: Split) -> dict:
    """Image shape, classes, mean and three standard deviations of training images."""
    dims = (0, 2, 3)
    mean, std = train.images.double().mean(dims), train.images.double().std(dims)
    return {"image_shape": tuple(train.images.shape[1:]), "classes": int(train.labels.max()) + 1,
            "mean": tuple(mean.tolist()), "scale": tuple((3 * std).tolist())}


def recipes() -> dict[str, Path]:
    """Name -> file of the recipes that the package ships."""
    folder = Path(str(resources.files("ep_hw") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def parse_recipe(content: dict) -> AnyRecipe:
    """A recipe from TOML or a checkpoint's header, by its `kind`.

    Raises:
        ValidationError: a field that is missing, unknown or out of range.
    """
    return _ANY.validate_python(content)


def load_recipe(name: str | Path) -> AnyRecipe:
    """A packaged recipe by name, or a TOML file.

    Raises:
        Refusal: no such recipe, or a field that is missing, unknown or out of range.
    """
    path = recipes().get(str(name), Path(name))
    try:
        return parse_recipe(tomli.loads(path.read_text()))
    except ValidationError as error:
        first = error.errors()[0]
        kind, *field = first["loc"] or ("kind",)
        allowed = f"of kind {kind}: {', '.join(KINDS[kind].model_fields)}" if kind in KINDS else ", ".join(KINDS)
        raise Refusal(first["msg"], where=", ".join([str(path), *map(str, field)]), got=first["input"], allowed=allowed,
                      remedy="correct the recipe") from None
    except (OSError, ValueError) as error:
        raise Refusal("no readable recipe", where=str(path), got=error, allowed=", ".join(recipes()),
                      remedy="name a packaged recipe or a TOML file") from None
