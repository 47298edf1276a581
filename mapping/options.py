"""Options: dataclass fields that a user may set as name=text, how they are read, checked and spelled again."""

import math
import re
from dataclasses import dataclass, field, fields, replace

from mapping.errors import Refusal

_LONGEST = 40   # characters of a number
_UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "y": 31557600.0}


_WHOLE = re.compile(r"-?[0-9]{1,18}")
_NUMBER = re.compile(r"-?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]{1,3})?", re.IGNORECASE)


def whole(text: str) -> int:
    """A whole number in plain digits: no other script, underscore or space.

    Raises:
        ValueError: anything else.
    """
    if not _WHOLE.fullmatch(text):
        raise ValueError(f"{text!r} is no whole number")
    return int(text)


def number(text: str) -> float:
    """A number in plain digits, with a point or an exponent, that a float can tell from 0 and from infinity.

    Raises:
        ValueError: anything else, nan and inf included.
    """
    found = _NUMBER.fullmatch(text) if len(text) < _LONGEST else None
    value = float(text) if found else math.nan
    if not math.isfinite(value) or (value == 0 and found[1].strip("0.")):
        raise ValueError(f"{text!r} is no number")
    return value + 0.0   # -0 is 0


def spell_number(value: float) -> str:
    """The shortest text that `number` reads back as the same number."""
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


def duration(text: str) -> float:
    """Seconds from `90`, `25s`, `1h`, `1d`, `1y`, `250ns`.

    Raises:
        ValueError, KeyError: anything else.
    """
    bare = text.rstrip("abcdefghijklmnopqrstuvwxyz")
    value = number(bare)
    seconds = value * _UNITS[text[len(bare):] or "s"]
    if not math.isfinite(seconds) or (seconds == 0 and value != 0):
        raise ValueError(text)
    return seconds


def spell_duration(seconds: float) -> str:
    """The largest unit in which `duration` reads the same number of seconds back from a whole number."""
    for unit, size in reversed(_UNITS.items()):
        text = f"{seconds / size:.0f}{unit}"
        if seconds and duration(text) == seconds:
            return text
    return spell_number(seconds)


def switch(text: str) -> bool:
    return {"on": True, "off": False}[text]


def option(default, parse, meaning: str, allowed: str, low=None, high=None):
    """A dataclass field that users may set as `name=text`.

    Args:
        meaning: what it sets, and what None stands for, as `ep-hw machines` says it. allowed: its range, with its unit.
    """
    return field(default=default, metadata={"parse": parse, "meaning": meaning, "allowed": allowed, "low": low,
                                            "high": high})


def choice(default: str, meaning: str, names: tuple[str, ...]):
    """A dataclass field that users may set to one of some names."""
    return field(default=default, metadata={"parse": str, "meaning": meaning, "allowed": ", ".join(names),
                                            "names": names})


@dataclass(frozen=True)
class Named:
    """A name with options, written name[option=value,...]; `name` is a registry's, the other fields are options."""

    name: str

    def plain(self) -> "Named":
        """What the name alone stands for."""
        return type(self)(self.name)

    def spelled(self) -> dict[str, str]:
        """Every option as a user writes it; "auto" for one left to the compiler."""
        return {f.name: _spell(getattr(self, f.name), f.metadata["parse"]) for f in fields(self) if f.metadata}

    def idle(self) -> dict[str, str]:
        """Options that could change nothing here, and where they could."""
        return {}

    def usual(self, option: str):
        """Value of an option where none is set."""
        return type(self).__dataclass_fields__[option].default

    def __post_init__(self):
        for f in fields(self):
            value = getattr(self, f.name)
            low, high = f.metadata.get("low"), f.metadata.get("high")
            names = f.metadata.get("names", (value,))
            if value not in names or (value is not None and low is not None and not low <= value <= high):
                raise bad_option(self.name, f, _spell(value, f.metadata["parse"]))
        for option, elsewhere in self.idle().items():
            if getattr(self, option) != self.usual(option):
                raise Refusal("option has no meaning here", where=self.name, got=f"{option}={self.spelled()[option]}",
                              allowed=elsewhere, remedy="leave it out")

    def __str__(self):
        default = self.plain()
        changed = [f"{k}={text}" for k, text in self.spelled().items() if getattr(self, k) != getattr(default, k)]
        return self.name + (f"[{','.join(changed)}]" if changed else "")


@dataclass(frozen=True)
class Target(Named):
    """What to compile for."""

    @property
    def is_noisy(self) -> bool:
        """Whether every read draws fresh noise."""
        return False

    @property
    def has_chips(self) -> bool:
        """Whether a chip seed decides anything."""
        return False


def parse_options(plain: Named, text: str) -> Named:
    """`plain` with the options of "name=value,name=value".

    Raises:
        Refusal: an unknown option, one out of range, or one given twice.
    """
    chosen = {}
    for item in filter(None, text.split(",")):
        key, _, value = (part.strip() for part in item.partition("="))
        if key in chosen:
            raise Refusal("an option is given twice", where=f"{plain.name}, {key}", got=value, allowed="each once",
                          remedy="leave one of them out")
        chosen[key] = _parse_option(plain, key, value)
    return replace(plain, **chosen)


def _parse_option(plain: Named, key: str, text: str):
    by_name = {f.name: f for f in fields(plain) if f.metadata}
    if key not in by_name:
        raise Refusal("unknown option", where=plain.name, got=repr(key), allowed=", ".join(by_name),
                      remedy="write options as name=value, separated by commas")
    try:
        return by_name[key].metadata["parse"](text)
    except (ValueError, KeyError):
        raise bad_option(plain.name, by_name[key], text or "nothing") from None


def bad_option(name: str, f, got) -> Refusal:
    return Refusal("option out of range", where=f"{name}, {f.name}", got=got, allowed=f.metadata["allowed"],
                   remedy="choose a value in the allowed range")


def _spell(value, parse) -> str:
    if value is None:
        return "auto"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return spell_duration(value) if parse is duration else spell_number(value)
    return str(value)
