"""Write models: what a programming pulse does to a device, and what it costs. Constants and sources: writing.toml.

    reram            linear[step=0.01,asymmetry=0.2]

`simulators.crossbar.writing` holds the equations.
"""

from dataclasses import dataclass
from importlib import resources

from mapping.errors import Refusal
from mapping.files import parse_toml
from mapping.names import suggesting
from mapping.options import Named, number, option, parse_options, switch


@dataclass(frozen=True)
class Writing(Named):
    """How devices are written, blindly. A step of 0 writes every update exactly, without pulses.

    `pulse_energy_j` and `endurance` are None where no source says so.
    """

    step: float = option(0.0, number, "what a pulse moves a device by; 0: no pulses, every update exactly",
                         "0 to 0.5 of the range", 0.0, 0.5)
    asymmetry: float = option(0.0, number, "a: pulses up are 1 + a steps, pulses down 1 - a", "-0.9 to 0.9", -0.9, 0.9)
    saturation: float = option(0.0, number, "share of a step that is lost at the end of the range", "0 to 1", 0.0, 1.0)
    noise: float = option(0.0, number, "standard deviation of a pulse", "0 to 10 steps", 0.0, 10.0)
    depresses: bool = option(True, switch, "whether pulses can lower a conductance too", "on, off")
    pulse_energy_j: float | None = option(None, number, "joules a pulse", "0 to 1e-6 J", 0.0, 1e-6)
    endurance: float | None = option(None, number, "pulses that a device lives for", "1 to 1e15", 1.0, 1e15)

    def usual(self, option: str) -> object:
        return WRITINGS.get(self.name, self).values[option]

    def idle(self) -> dict[str, str]:
        of_pulses = ("asymmetry", "saturation", "noise", "pulse_energy_j", "endurance")
        return {} if self.step else dict.fromkeys(of_pulses, "with a step above 0")

    @property
    def source(self) -> str:
        return _TABLES[self.name]["source"]


def parse_writing(text: str) -> Writing:
    """The write model named by `text`, e.g. "reram[noise=0]".

    Raises:
        Refusal: unknown model or option, or an option out of range.
    """
    name, bracket, rest = text.strip().partition("[")
    if name not in WRITINGS or (bracket and not rest.endswith("]")):
        raise Refusal("unknown write model", where="--write", got=repr(text), **suggesting(
            name, WRITINGS, remedy="name one of these, options in brackets, as in reram[noise=0]"))
    return parse_options(WRITINGS[name], rest[:-1])


def writing_of(device: str) -> Writing:
    """The write model of a preset.

    Raises:
        Refusal: nothing is published of how the device is written.
    """
    known = [name for name, table in _TABLES.items() if device in table["devices"]]
    if not known:
        raise Refusal("no write model of this device", where=f"crossbar:{device}", got="none published",
                      allowed=", ".join(WRITINGS), remedy="name one with --write, as in --write linear[step=0.01]")
    return WRITINGS[known[0]]


_TABLES = parse_toml(resources.files(__package__).joinpath("writing.toml").read_bytes())
_WORDS = ("title", "source", "devices")
WRITINGS: dict[str, Writing] = {}
for _name, _table in _TABLES.items():
    WRITINGS[_name] = Writing(_name, **{key: value for key, value in _table.items() if key not in _WORDS})
