"""Key maps: where a state dict keeps its layers, and what it does not say of its network."""

import logging
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from ep_hw.data.registry import DataName, data_set
from mapping.errors import Refusal
from mapping.fields import (
    DEEPEST,
    LONGEST_NAME,
    Count,
    Finite,
    ImageShape,
    Padding,
    PerChannel,
    Positive,
    Scale,
    Stated,
    Steps,
    T,
    read_as,
)
from mapping.files import parse_toml, read_bytes, refusing
from mapping.names import suggesting

PACKAGED = {"laborieux": "laborieux.toml", "advep": "laborieux.toml",   # the fork kept names and settings on CIFAR-10
            "advep-cifar100": "advep-cifar100.toml", "scellier": "scellier.toml"}
ASKED = {"loss": "--loss cross-entropy or mse", "readout": "--readout outside or inside (the energy)",
         "pool": "--pool max or average", "strides": "--stride N (1: every pixel)",
         "slope": "--slope A (the activation is clamp(A x, 0, 1))"}
_SPELLED = ("state what it was trained with: in the code of Laborieux et al. --loss cel is cross-entropy, --softmax a "
            "readout outside, --act my_hard_sig slope 0.5, hard_sigmoid slope 1")


def _pattern(text: str) -> str:
    if text.count("{n}") != 1 or set(text.replace("{n}", "")) & set("{}") or not text.isprintable():
        raise ValueError(f"{text!r} must hold {{n}} once, where the layer's number stands, and no other braces")
    return text


Pattern = Annotated[str, Field(max_length=LONGEST_NAME), AfterValidator(_pattern)]


Pool = Literal["max", "average"]
PerConvolution = Annotated[tuple[T, ...], Field(max_length=DEEPEST)]   # none in a network of dense layers alone


class KeyMap(Stated):
    """Names of the tensors of layer n = 0, 1, ..., the readout last, and the settings of the network.

    Channels, kernels, hidden dense layers above the convolutions, and classes follow from the tensors.

    Attributes:
        data: the data set that it was trained on.
        image_shape: (C, H, W) of its images.
        state_dict: the entry that holds the state dict, where the file holds more than that.
        weight: name of layer n's weight, with {n} where the number stands.
        bias: name of its bias.
        dense: shape of dense weights: (outputs, features), or, outputs last, (features, outputs), (C, H, W, outputs).
        loss: that it was trained on.
        readout: "inside" the energy it feeds back, "outside" it only reads the top layer.
        output: activation of a readout inside the energy: "clamped" like all others, or "linear"; if None, clamped
            where the loss is the mean squared error, as in the code of Laborieux et al.
        paddings: of the convolutions.
        strides: of the convolutions.
        pool: kind of all pools, or of each convolution's.
        pools: their sides, which are also their strides.
        slope: of the activation, see `NetworkSpec`.
        mean: see `ImageSpec`.
        scale: see `ImageSpec`.
        schedule: see `NetworkSpec`.
        steps: see `NetworkSpec`.
        tolerance: see `NetworkSpec`.
    """

    data: DataName
    image_shape: ImageShape
    state_dict: str | None = Field(None, max_length=LONGEST_NAME)
    weight: Pattern = "synapses.{n}.weight"
    bias: Pattern = "synapses.{n}.bias"
    dense: Literal["outputs first", "outputs last"] = "outputs first"
    loss: Literal["cross-entropy", "mse"]
    readout: Literal["outside", "inside"]
    output: Literal["clamped", "linear"] | None = None
    paddings: PerConvolution[Padding]
    strides: PerConvolution[Count]
    pool: Pool | PerConvolution[Pool]
    pools: PerConvolution[Count]
    slope: Positive
    mean: PerChannel[Finite]
    scale: PerChannel[Scale]
    schedule: Literal["synchronous", "alternating"]
    steps: Steps
    tolerance: Positive = 1e-3

    @model_validator(mode="after")
    def _fits(self) -> "KeyMap":
        if self.image_shape != (shape := data_set(self.data).image_shape):
            raise ValueError(f"images of {self.data} have shape {shape}")
        if not len(self.paddings) == len(self.strides) == len(self.pools) == len(self.kinds):
            raise ValueError("paddings, strides and pools must have one entry a convolution each")
        if not len(self.mean) == len(self.scale) == self.image_shape[0]:
            raise ValueError("mean and scale must have one entry per image channel each")
        if self.weight == self.bias:
            raise ValueError("weights and biases have one name")
        return self

    def key(self, kind: Literal["weight", "bias"], n: int) -> str:
        """The name of layer n's weight or bias."""
        return getattr(self, kind).replace("{n}", str(n))

    def has_outputs_last(self, n: int) -> bool:
        """Whether layer n is dense and its weight is kept so."""
        return self.dense == "outputs last" and n >= len(self.paddings)

    @property
    def kinds(self) -> tuple[Pool, ...]:
        """The kind of each convolution's pool."""
        return (self.pool,) * len(self.paddings) if isinstance(self.pool, str) else self.pool

    @property
    def is_linear(self) -> bool:
        """Whether a readout inside the energy has no activation."""
        return self.output == "linear" or (self.output is None and self.loss == "cross-entropy")

    def sentence(self) -> str:
        """What is assumed of the network's dynamics."""
        kinds = " and ".join(dict.fromkeys(self.kinds))
        output = "" if self.readout == "outside" else ", linear" if self.is_linear else ", clamped"
        return (f"{self.loss} on a readout {self.readout} the energy{output}, {kinds} pools, strides "
                f"{', '.join(map(str, self.strides))}, activation clamp({self.slope:g} x, 0, 1), no dilation, zeros as "
                "padding")


def load_map(name: str, stated: Mapping[str, object] | None = None,
             recorded: Mapping[str, object] | None = None) -> KeyMap:
    """A packaged map by name, or a TOML file, completed by what else is known of the network.

    A packaged map assumes what the files of its code do not say; a warning tells the user.

    Args:
        name: of the packaged map, or its file.
        stated: fields on the command line; a `stride` is that of every convolution, `data` replaces the map's.
        recorded: fields that the imported file itself records.

    Raises:
        Refusal: no such file, a field that is unknown or out of range, one that nothing says, or one that is said
            twice and differently.
    """
    path = Path(str(resources.files(__package__) / PACKAGED[name])) if name in PACKAGED else Path(name)
    with refusing("no readable key map", where=f"--map {name}", **suggesting(
            name, PACKAGED, remedy="correct it, or the options beside it",
            allowed=f"{', '.join(PACKAGED)} or a TOML file as 'ep-hw export' writes it")):
        fields = parse_toml(read_bytes(path))
        assumed = fields.pop("assumed", {}) if name in PACKAGED else {}
        fields |= {field: value for field, value in (stated or {}).items() if field == "data"}
        merged = _agreed({f"--map {name}": fields, "the command line": _spread(stated or {}, fields),
                          "the arguments in the file": recorded or {}})
        missing = [field for field in ASKED if field not in merged]
        if missing and not assumed:
            raise Refusal("it is not stated how the network was trained", where=f"--map {name}",
                          got=f"nothing on {', '.join(missing)}", allowed=", ".join(ASKED[field] for field in missing),
                          remedy=_SPELLED)
        read = read_as(KeyMap, merged | {field: assumed[field] for field in missing})
    if missing:
        logging.getLogger(__name__).warning(
            "--map %s: how the network was trained is not stated; assumed is %s. If that is wrong%s, what comes out is "
            "another network: state %s", name, read.sentence(), " (mse is this code's default)" * ("loss" in missing),
            ", ".join(ASKED[field] for field in missing))
    return read


def _spread(stated: Mapping[str, object], fields: dict) -> dict:
    """What is stated, with a stride for each convolution that the map has a padding for."""
    spread = {name: value for name, value in stated.items() if value is not None}
    if "stride" in spread and isinstance(fields.get("paddings"), list):
        spread["strides"] = [spread.pop("stride")] * len(fields["paddings"])
    return spread


def _agreed(sources: dict[str, Mapping[str, object]]) -> dict:
    """The fields of all sources together.

    Raises:
        Refusal: two of them disagree.
    """
    agreed: dict[str, tuple[str, object]] = {}
    for source, fields in sources.items():
        for name, value in fields.items():
            if name in agreed and agreed[name][1] != value:
                first, other = agreed[name]
                raise Refusal("two things are said of the network", where=name, got=f"{other} ({first}) and {value} "
                              f"({source})", allowed="one", remedy="correct the one that is wrong")
            agreed[name] = source, value
    return {name: value for name, (_, value) in agreed.items()}
