"""Device presets: what devices.toml says of each technology, typed and checked; simulators hold the equations."""

from dataclasses import dataclass, field
from importlib import resources

import tomli

from mapping.errors import Refusal

CAUSES = ("programmed", "aged", "read")


@dataclass(frozen=True, eq=False)
class Preset:
    """One technology.

    Attributes:
        name: as in crossbar:NAME. title: what it is. source: where its numbers come from.
        model: which equations, see `simulators.crossbar.devices.MODELS`. constants: their parameters.
        g_max_us, g_min_us: conductances that the source covers, in microsiemens.
        age_domain_s: (first, last) age that the source covers, in seconds.
        causes: the errors that the source measured, of CAUSES.

    Raises:
        Refusal: a conductance or an age that is not physical, or an unknown cause.
    """

    name: str
    title: str
    source: str
    model: str
    g_max_us: float
    age_domain_s: tuple[float, float]
    causes: tuple[str, ...]
    g_min_us: float = 0.0
    constants: dict = field(default_factory=dict)

    def __post_init__(self):
        first, last = self.age_domain_s
        _check(self.g_max_us > 0, self.name, "g_max_us", self.g_max_us, "above 0 uS")
        _check(0 <= self.g_min_us < self.g_max_us, self.name, "g_min_us", self.g_min_us,
               f"0 to below {self.g_max_us:g} uS")
        _check(0 <= first <= last, self.name, "age_domain_s", (first, last), "0 <= first <= last, in seconds")
        _check(set(self.causes) <= set(CAUSES), self.name, "causes", self.causes, ", ".join(CAUSES))


def load_presets(text: str) -> dict[str, Preset]:
    """Presets by name from the text of a TOML file.

    Raises:
        Refusal: a field that is unknown, missing or out of range.
    """
    presets = {}
    for name, fields in tomli.loads(text).items():
        try:
            presets[name] = Preset(name, **{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()})
        except TypeError as error:
            _check(False, name, "fields", str(error), ", ".join(Preset.__dataclass_fields__))
    return presets


def _check(holds: bool, name: str, field_name: str, got, allowed: str):
    if not holds:
        raise Refusal("not a device", where=f"preset {name}, {field_name}", got=got, allowed=allowed,
                      remedy="correct the device file")


PRESETS = load_presets(resources.files(__package__).joinpath("devices.toml").read_text("utf-8"))
