"""What a study asks: technologies, options swept over them by grid or list, threats; written as TOML.

    title = "Converters"
    machines = ["crossbar:pcm", "crossbar:reram_wan"]      # technologies, with options in brackets if you like
    threats = ["jpeg_compression@3"]                       # besides clean images
    images = 100
    chips = 5

    [grid]                                                 # every combination of these
    adc_bits = [4, 6, 8]
    tile = [128, 256]

    [[list]]                                               # and these points, each with options of its own
    wire_ohm = 1.0
    terminals = "opposite"
"""

import math
from dataclasses import dataclass, replace
from importlib import resources
from itertools import product
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from ep_hw.threats.attacks import AttackSettings
from ep_hw.threats.threat import Threat, parse_threat
from mapping.crossbar.target import CrossbarTarget
from mapping.fields import Seed, Stated, Text, read_as
from mapping.files import parse_toml, read_bytes, refusing
from mapping.names import suggesting
from mapping.options import duration, parse_options, spell_duration
from mapping.registry import parse
from mapping.targets import REFERENCE, Target

MOST_POINTS = 10_000   # machines of a study
Value = bool | int | float | Text
Many = Field(max_length=MOST_POINTS)


class Study(Stated):
    """A study as a user writes it; see the module.

    `waterfalls` adds, for each technology as `machines` names it, the rungs that lead to it, and the same causes in
    reverse order. `chips` counts chip seeds from 0. `seed` draws images, corruptions, attacks and read noise.
    """

    title: Text
    machines: Annotated[tuple[Text, ...], Many] = Field(min_length=1)
    model: Text = "digits"
    threats: Annotated[tuple[Text, ...], Many] = ()
    images: int = Field(100, ge=1, le=10**6)
    chips: int = Field(5, ge=1, le=1000)
    seed: Seed = 0
    waterfalls: bool = True
    grid: dict[Text, Annotated[tuple[Value, ...], Many]] = Field(default_factory=dict)
    points: Annotated[tuple[dict[Text, Value], ...], Many] = Field((), alias="list")
    attack: AttackSettings = AttackSettings()

    @model_validator(mode="after")
    def _size(self) -> "Study":
        each = math.prod(map(len, self.grid.values())) * bool(self.grid) + len(self.points)
        if (machines := len(self.machines) * max(each, 1)) > MOST_POINTS:
            raise ValueError(f"{machines} machines, more than {MOST_POINTS}")
        return self

    def threats_named(self) -> tuple[Threat, ...]:
        """The threats besides clean images."""
        return tuple(map(parse_threat, self.threats))

    def combinations(self) -> list[dict[str, str]]:
        """Options as users write them: those of the grid, the first one slowest, then those of the list."""
        grid = [dict(zip(self.grid, values)) for values in product(*self.grid.values())] if self.grid else []
        asked = [{name: _text(value) for name, value in options.items()} for options in (*grid, *self.points)]
        return asked or [{}]

    def options(self) -> list[str]:
        """Every option that is swept, those of the grid first."""
        return list(dict.fromkeys(name for options in self.combinations() for name in options))


Group = Annotated[tuple[Text, ...], Field(min_length=1, max_length=100)]


class NetworkStudy(Stated):
    """A study over networks in place of options: groups of them on the same machines, the first one against the others.

        title = "Is robustness due to feedback?"
        machines = ["reference", "loihi"]
        threats = ["pgd_l2@0.5"]

        [networks]
        "gain 1" = ["digits-ep-s11", "digits-ep-s13"]
        "gain 0" = ["digits-gain0-s11", "digits-gain0-s13"]

    Attributes:
        title: the question.
        machines: names; the reference is always among them.
        threats: besides clean images.
        images: test images, drawn by `seed`.
        chips: of machines that have chips.
        seed: of images, corruptions, attacks and read noise.
        networks: group -> names or files of its networks, of seeds that were trained alike; "seeds:NAME" is every
            packaged network of NAME's recipe.
        attack: settings of the attacks.
    """

    title: Text
    machines: Annotated[tuple[Text, ...], Many] = (REFERENCE,)
    threats: Annotated[tuple[Text, ...], Many] = ()
    images: int = Field(100, ge=1, le=10**6)
    chips: int = Field(5, ge=1, le=1000)
    seed: Seed = 0
    networks: Annotated[dict[Text, Group], Field(min_length=2, max_length=100)]
    attack: AttackSettings = AttackSettings()


@dataclass(frozen=True)
class SweptMachine:
    """One machine of a study.

    Attributes:
        technology: what its technology is called.
        target: with the swept options, as it will be evaluated.
        options: name -> text of each swept option, as it was run.
        clipped: (asked, run) where the asked age lies outside the data of the device.
    """

    technology: str
    target: Target
    options: dict[str, str]
    clipped: tuple[str, str] | None = None


def swept_machines(study: Study) -> list[SweptMachine]:
    """Every machine of a study once, technology by technology.

    Raises:
        Refusal: an unknown machine or option, or an option out of range. An age outside a device's data is moved to
            their end instead, since a study compares devices of different data.
    """
    swept = [_swept(technology, options) for technology in study.machines for options in study.combinations()]
    first: dict[Target, SweptMachine] = {}
    for one in swept:
        known = first.setdefault(one.target, one)
        if one.clipped and not known.clipped:
            first[one.target] = replace(known, clipped=one.clipped)
    return list(first.values())


def studies() -> dict[str, Path]:
    """The packaged studies by name."""
    folder = Path(str(resources.files(__package__)))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def load_study(name: str | Path) -> Study | NetworkStudy:
    """A packaged study by name, or a TOML file.

    Raises:
        Refusal: no such study, or a field that is missing, unknown or out of range.
    """
    path = studies().get(str(name), Path(name))
    with refusing("no readable study", where=path, **suggesting(str(name), studies(),
                                                                remedy="name a packaged study or a TOML file")):
        content = parse_toml(read_bytes(path))
    kind = NetworkStudy if "networks" in content else Study
    with refusing("not a study", where=path, remedy="correct the study",
                  allowed=", ".join(f.alias or name for name, f in kind.model_fields.items())):
        return read_as(NetworkStudy, content) if kind is NetworkStudy else read_as(Study, content)


def with_numbers(study: Study | NetworkStudy, **changes: int | None) -> Study | NetworkStudy:
    """The study with other numbers of images or chips, where they are not None."""
    return study.model_copy(update={name: value for name, value in changes.items() if value is not None})


def figure_count(study: Study) -> int:
    """How many figures a study leaves, about: of each technology and threat two waterfalls and the interactions."""
    return 2 + 3 * len(study.machines) * (1 + len(study.threats)) * study.waterfalls


def called(technology: str) -> str:
    """What figures and tables call a technology: its label, or as the study names it."""
    return parse(technology).label or technology


def _swept(technology: str, options: dict[str, str]) -> SweptMachine:
    target, clipped = replace(parse(technology), label=""), None
    if "age" in options and isinstance(target, CrossbarTarget):
        age = _clip(options["age"], target)
        clipped = (options["age"], age) if age != options["age"] else None
        options = {**options, "age": age}
    swept = parse_options(target, ",".join(f"{name}={text}" for name, text in options.items()))
    return SweptMachine(called(technology), swept, options, clipped)


def _clip(age: str, target: CrossbarTarget) -> str:
    """The age nearest to the one asked for that the device's data cover; as it was written where they cover it."""
    first, last = target.preset.age_domain_s
    try:
        seconds = duration(age)
    except (ValueError, KeyError):
        return age                      # the target refuses it by name
    return age if first <= seconds <= last else spell_duration(min(max(seconds, first), last))


def _text(value: Value) -> str:
    return ("on" if value else "off") if isinstance(value, bool) else str(value)
