"""Device presets: what devices.toml says of each technology, typed and checked; simulators hold the equations."""

from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Field, JsonValue, model_validator

from mapping.fields import Name, Positive, Stated, Text, read_as
from mapping.files import parse_toml, refusing

Cause = Literal["programmed", "aged", "read"]
CAUSES: tuple[Cause, ...] = get_args(Cause)
Age = Annotated[float, Field(ge=0, le=1e12)]
MEASURED = "measured"   # the equations of a device that names none
LARGEST = 1e9   # constant of any published device by far
ISAAC_SHARE = 16 / 24.08   # ADCs of the power of a multiply-accumulate unit: Shafiee et al., ISCA 2016, table I


def _check_constants(value: JsonValue) -> JsonValue:
    """Raises ValueError: a number beyond `LARGEST`, anywhere in it."""
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            _check_constants(inner)
    elif isinstance(value, int | float) and not abs(value) <= LARGEST:
        raise ValueError(f"a constant of {value:g}, beyond {LARGEST:g}")
    return value


Constants = Annotated[dict[str, JsonValue], AfterValidator(_check_constants)]
Share = Annotated[float, Field(ge=0, le=0.5)]


class Curve(Stated):
    """A standard deviation measured at some conductances, linear between them and constant beyond.

    Attributes:
        g_us: conductances, increasing, in microsiemens.
        sigma_us: standard deviation at each, in microsiemens.
    """

    g_us: Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=2)]
    sigma_us: tuple[Annotated[float, Field(ge=0)], ...]

    @model_validator(mode="after")
    def _points(self) -> "Curve":
        if list(self.g_us) != sorted(set(self.g_us)) or len(self.g_us) != len(self.sigma_us):
            raise ValueError("g_us increases, and sigma_us has a value for each of them")
        return self


class Drift(Stated):
    """Power-law drift, g(t) = g ((t + t0) / t0)^-nu with nu ~ N(exponent, spread), one draw a device.

    Attributes:
        exponent: mean of nu; negative where conductances rise.
        spread: standard deviation of nu between devices.
        t0_s: when a conductance counts as programmed; ages count from there.
    """

    exponent: Annotated[float, Field(ge=-1, le=1)]
    spread: Annotated[float, Field(ge=0, le=1)] = 0.0
    t0_s: Positive = 1.0


class Measured(Stated):
    """Constants of `model = "measured"`, see `simulators.crossbar.measured`; what is not given is no error.

    Attributes:
        programming: standard deviation of a programmed conductance g in microsiemens, as the coefficients of
            c_0 + c_1 g + ..., or as a `Curve`.
        drift: after programming.
        read_noise: standard deviation of a read, as a share of the conductance.
    """

    programming: Curve | tuple[float, ...] = ()
    drift: Drift | None = None
    read_noise: Annotated[float, Field(ge=0, le=1)] = 0.0

    @property
    def causes(self) -> tuple[Cause, ...]:
        """The errors that are given."""
        given: tuple[tuple[Cause, object], ...] = (
            ("programmed", self.programming), ("aged", self.drift), ("read", self.read_noise))
        return tuple(cause for cause, what in given if what)


class TileRead(Stated):
    """What a read of one tile takes, its 8-bit converters included.

    Attributes:
        energy_j: joules, all columns converted.
        time_s: seconds.
        cells: a side of the tile.
        conversion_share: of the energy that converters take.
        area_mm2: silicon of the tile with its converters.
        source: where the figures come from.
    """

    energy_j: Annotated[float, Field(gt=0, le=1)]
    time_s: Annotated[float, Field(gt=0, le=1)]
    cells: Annotated[int, Field(ge=1, le=65536)] = 256
    conversion_share: Annotated[float, Field(ge=0, le=1)] = ISAAC_SHARE
    area_mm2: Annotated[float, Field(gt=0, le=1e6)] | None = None
    source: Text = "as its device file states"


class Preset(Stated):
    """One technology.

    Attributes:
        name: as in crossbar:NAME.
        title: what it is.
        source: where its numbers come from.
        g_max_us: largest conductance that the source covers, in microsiemens.
        age_domain_s: (first, last) age that the source covers, in seconds.
        g_min_us: smallest conductance that the source covers, in microsiemens.
        model: which equations, see `simulators.register_device_model`; `Measured`'s unless named.
        constants: parameters of the equations.
        causes: the errors that the source measured, of CAUSES; of `Measured` constants those that are given.
        levels: conductances that a device can be given, None for any.
        stuck_on, stuck_off: shares of devices at the largest and at the smallest conductance, for good.
        sinh_v: volts over which currents grow as a sinh, see `simulators.crossbar.curves`; None where in proportion.
        read: what reads take, or the (low, high) of it; None where nobody knows.
    """

    name: Annotated[str, Field(pattern="^[a-z][a-z0-9_]{0,39}$")]
    title: Text
    source: Text
    g_max_us: Annotated[float, Field(gt=0, le=1e6)]
    age_domain_s: tuple[Age, Age]
    g_min_us: Annotated[float, Field(ge=0)] = 0.0
    model: Name = MEASURED
    constants: Constants = Field(default_factory=dict)
    causes: tuple[Cause, ...] = ()
    levels: Annotated[int, Field(ge=2, le=65536)] | None = None
    stuck_on: Share = 0.0
    stuck_off: Share = 0.0
    sinh_v: Annotated[float, Field(ge=0.02, le=100)] | None = None
    read: TileRead | tuple[TileRead, TileRead] | None = None

    @model_validator(mode="after")
    def _ranges(self) -> "Preset":
        if not self.g_min_us < self.g_max_us:
            raise ValueError(f"g_min_us {self.g_min_us:g}, not below g_max_us {self.g_max_us:g}")
        if not self.age_domain_s[0] <= self.age_domain_s[1]:
            raise ValueError(f"age_domain_s {self.age_domain_s}, the last before the first")
        return self

    @property
    def reads(self) -> tuple[TileRead, ...]:
        """None, the only one, or low and high."""
        return self.read if isinstance(self.read, tuple) else (self.read,) if self.read else ()


_ALLOWED = ("title, source and model as texts, g_max_us above 0 uS, g_min_us from 0 uS to below it, age_domain_s as "
            f"the first and last age from 0 s on, causes of {', '.join(CAUSES)}, constants as a table of numbers up "
            f"to {LARGEST:g}, levels from 2, stuck_on and stuck_off up to 0.5, sinh_v from 0.02 to 100 V, read with "
            "energy_j and time_s, or low and high of it; a name in small letters, digits and _")
_CONSTANTS = ("programming, as coefficients [c_0, c_1] or {g_us, sigma_us} of two points or more in uS; drift, "
              "{exponent, spread, t0_s}; read_noise, a share from 0 to 1")


def load_presets(text: str, file: str = "") -> dict[str, Preset]:
    """Presets by name from the text of a TOML file.

    Args:
        text: the file's.
        file: how refusals name it, where it has a name.

    Raises:
        Refusal: no TOML, or a field that is unknown, missing or out of range.
    """
    with refusing("no readable devices", where=file or "device file", allowed="TOML, a table a device",
                  remedy="correct it"):
        tables = parse_toml(text.encode())
    presets, place = {}, f"{file}, preset" if file else "preset"
    for name, table in tables.items():
        with refusing("not a device", where=f"{place} {name}", allowed=_ALLOWED, remedy="correct the device file"):
            if not isinstance(table, dict):
                raise ValueError(f"{name} = {table!r}, no table")
            presets[name] = read_as(Preset, {"name": name, **_measured(table, f"{place} {name}"), **table})
    return presets


def _measured(table: dict[str, Any], where: str) -> dict[str, Any]:
    """What `Measured` constants say for themselves."""
    if table.get("model", MEASURED) != MEASURED:
        return {}
    with refusing("not a device", where=where, allowed=f"as constants {_CONSTANTS}",
                  remedy="correct the device file"):
        return {"causes": read_as(Measured, table.get("constants", {})).causes}


PRESETS: dict[str, Preset] = {}   # those registered, see mapping.crossbar.devices
