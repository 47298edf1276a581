"""Device presets: what devices.toml says of each technology, typed and checked; simulators hold the equations."""

from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field, JsonValue, model_validator

from mapping.fields import Name, Stated, Text, read_as
from mapping.files import parse_toml, refusing

Cause = Literal["programmed", "aged", "read"]
CAUSES: tuple[Cause, ...] = get_args(Cause)
Age = Annotated[float, Field(ge=0, le=1e12)]
LARGEST = 1e9   # constant of any published device by far


def _check_constants(value: JsonValue) -> JsonValue:
    """Raises ValueError: a number beyond `LARGEST`, anywhere in it."""
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            _check_constants(inner)
    elif isinstance(value, int | float) and not abs(value) <= LARGEST:
        raise ValueError(f"a constant of {value:g}, beyond {LARGEST:g}")
    return value


Constants = Annotated[dict[str, JsonValue], AfterValidator(_check_constants)]


class Preset(Stated):
    """One technology.

    Attributes:
        name: as in crossbar:NAME.
        title: what it is.
        source: where its numbers come from.
        model: which equations, see `simulators.register_device_model`.
        g_max_us: largest conductance that the source covers, in microsiemens.
        age_domain_s: (first, last) age that the source covers, in seconds.
        causes: the errors that the source measured, of CAUSES.
        g_min_us: smallest conductance that the source covers, in microsiemens.
        constants: parameters of the equations.
    """

    name: Annotated[str, Field(pattern="^[a-z][a-z0-9_]{0,39}$")]
    title: Text
    source: Text
    model: Name
    g_max_us: Annotated[float, Field(gt=0, le=1e6)]
    age_domain_s: tuple[Age, Age]
    causes: tuple[Cause, ...]
    g_min_us: Annotated[float, Field(ge=0)] = 0.0
    constants: Constants = Field(default_factory=dict)

    @model_validator(mode="after")
    def _ranges(self) -> "Preset":
        if not self.g_min_us < self.g_max_us:
            raise ValueError(f"g_min_us {self.g_min_us:g}, not below g_max_us {self.g_max_us:g}")
        if not self.age_domain_s[0] <= self.age_domain_s[1]:
            raise ValueError(f"age_domain_s {self.age_domain_s}, the last before the first")
        return self


_ALLOWED = ("title, source and model as texts, g_max_us above 0 uS, g_min_us from 0 uS to below it, age_domain_s as "
            f"the first and last age from 0 s on, causes of {', '.join(CAUSES)}, constants as a table of numbers up "
            f"to {LARGEST:g}; a name in small letters, digits and _")


def load_presets(text: str) -> dict[str, Preset]:
    """Presets by name from the text of a TOML file.

    Raises:
        Refusal: no TOML, or a field that is unknown, missing or out of range.
    """
    with refusing("no readable devices", where="device file", allowed="TOML, a table a device", remedy="correct it"):
        tables = parse_toml(text.encode())
    presets = {}
    for name, table in tables.items():
        with refusing("not a device", where=f"preset {name}", allowed=_ALLOWED, remedy="correct the device file"):
            if not isinstance(table, dict):
                raise ValueError(f"{name} = {table!r}, no table")
            presets[name] = read_as(Preset, {"name": name, **table})
    return presets


PRESETS: dict[str, Preset] = {}   # those registered, see mapping.crossbar.devices
