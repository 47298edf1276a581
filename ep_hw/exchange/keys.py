"""Key maps: where a state dict keeps its layers, and what it does not say of its network."""

from importlib import resources
from pathlib import Path
from typing import Literal

import tomli
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ep_hw.data import LOADERS
from ep_hw.fields import Count, Finite, ImageShape, Padding, Positive
from mapping.errors import Refusal

PACKAGED = {"laborieux": "laborieux.toml", "advep": "laborieux.toml",   # the fork kept names and settings on CIFAR-10
            "advep-cifar100": "advep-cifar100.toml"}


class KeyMap(BaseModel):
    """Names of the tensors of layer n = 0, 1, ..., the readout last, and the settings of the network.

    `state_dict` is the entry that holds the state dict, where the file holds more than that; see `NetworkSpec` for the
    rest. Channels, kernel and classes follow from the tensors.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: str
    image_shape: ImageShape
    state_dict: str | None = None
    weight: str = "synapses.{n}.weight"
    bias: str = "synapses.{n}.bias"
    paddings: tuple[Padding, ...] = Field(min_length=1)
    pools: tuple[Count, ...]
    slope: Positive
    mean: tuple[Finite, ...]
    scale: tuple[Positive, ...]
    schedule: Literal["synchronous", "alternating"]
    steps: Count
    tolerance: Positive = 1e-3

    @field_validator("data")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in LOADERS:
            raise ValueError(f"no such data set: known data sets are {', '.join(LOADERS)}")
        return name

    def key(self, kind: Literal["weight", "bias"], n: int) -> str:
        """The name of layer n's weight or bias."""
        return getattr(self, kind).replace("{n}", str(n))


def load_map(name: str) -> KeyMap:
    """A packaged map by name, or a TOML file.

    Raises:
        Refusal: no such file, or a field that is missing, unknown or out of range.
    """
    path = Path(str(resources.files("ep_hw") / "exchange" / PACKAGED[name])) if name in PACKAGED else Path(name)
    try:
        return KeyMap.model_validate(tomli.loads(path.read_text()))
    except ValidationError as error:
        first = error.errors()[0]
        where, got = f"{path}, {'.'.join(map(str, first['loc']))}", first["msg"]
        allowed = ", ".join(KeyMap.model_fields)
    except (OSError, ValueError) as error:
        where, got, allowed = str(path), error, f"{', '.join(PACKAGED)} or a TOML file"
    raise Refusal("no readable key map", where=where, got=got, allowed=allowed, remedy="correct --map")
