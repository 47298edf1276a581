"""Options: dataclass fields that a user may set as name=text, how they are read, checked and spelled again."""

import math
import re
from collections.abc import Callable
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any, ClassVar, TypedDict, TypeVar

from mapping.errors import Refusal
from mapping.names import suggesting

T = TypeVar("T")
N = TypeVar("N", bound="Named")

_INSIDE = "choose a value in the allowed range"
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
    match = _NUMBER.fullmatch(text) if len(text) < _LONGEST else None
    if not match or not math.isfinite(value := float(text)) or (value == 0 and match[1].strip("0.")):
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


class Rule(TypedDict, total=False):
    """What the field of an option says of it: how it is read, what it means, its range or its names."""

    parse: Callable[[str], Any]
    meaning: str
    allowed: str
    low: float | None
    high: float | None
    remedy: str
    names: tuple[str, ...]


def option(default: T, parse: Callable[[str], Any], meaning: str, allowed: str, low: float | None = None,
           high: float | None = None, remedy: str = _INSIDE) -> T:
    """A dataclass field that users may set as `name=text`.

    Args:
        default: its value where nothing is set.
        parse: its value from what a user wrote; ValueError and KeyError refuse the text.
        meaning: what it sets, and what None stands for, as `ep-hw machines` says it.
        allowed: its range, with its unit.
        low: least value, None for any.
        high: largest value.
        remedy: what to do where a value is out of range.
    """
    rule = Rule(parse=parse, meaning=meaning, allowed=allowed, low=low, high=high, remedy=remedy)
    return field(default=default, metadata=rule)


def decided_by_name(parse: Callable[[str], Any], meaning: str, allowed: str, low: float | None = None,
                    high: float | None = None) -> Any:
    """An `option` whose value, where nothing is set, depends on the machine's name: see `Named.usual`."""
    return field(metadata=Rule(parse=parse, meaning=meaning, allowed=allowed, low=low, high=high))


def choice(default: str, meaning: str, names: tuple[str, ...]) -> str:
    """A dataclass field that users may set to one of some names."""
    return field(default=default, metadata=Rule(parse=str, meaning=meaning, allowed=", ".join(names), names=names))


@dataclass(frozen=True)
class Options:
    """Options that belong together, held by a `Named`, which checks them."""


@dataclass(frozen=True)
class Named:
    """A name with options, written name[option=value,...]; `name` is a registry's, the other fields are options.

    A field may also be `Options`: users then set each of its fields as if it were the target's own.
    """

    name: str
    order: ClassVar[tuple[str, ...]] = ()   # in which options are written; that of the fields if empty

    @classmethod
    def named(cls: type[N], name: str) -> N:
        """What a name alone stands for."""
        return cls(name)

    @property
    def options(self) -> dict[str, Field]:
        """Option -> its field, in the order in which they are written."""
        options = {f.name: f for holder in self._holders for f in fields(holder) if f.metadata}
        return {name: options[name] for name in self.order or options}

    @property
    def values(self) -> dict[str, Any]:
        """Option -> its value."""
        values = {f.name: getattr(holder, f.name) for holder in self._holders for f in fields(holder)}
        return {name: values[name] for name in self.options}

    @property
    def _holders(self) -> tuple["Named | Options", ...]:
        return (self, *(part for f in fields(self) if isinstance(part := getattr(self, f.name), Options)))

    def having(self: N, **chosen: object) -> N:
        """The same with other options, or another name."""
        def chosen_of(holder: Named | Options) -> dict[str, Any]:
            return {f.name: chosen[f.name] for f in fields(holder) if f.name in chosen}

        changes = chosen_of(self)
        for f in fields(self):
            if isinstance(part := getattr(self, f.name), Options):
                changes[f.name] = replace(part, **chosen_of(part))
        return replace(self, **changes)

    def spelled(self) -> dict[str, str]:
        """Every option as a user writes it; "auto" for one left to the compiler."""
        values = self.values
        return {name: _spell(values[name], f.metadata["parse"]) for name, f in self.options.items()}

    def idle(self) -> dict[str, str]:
        """Options that could change nothing here, and where they could."""
        return {}

    def usual(self, option: str) -> object:
        """Value of an option where none is set."""
        return self.options[option].default

    def __post_init__(self):
        values = self.values
        for name, f in self.options.items():
            value, low, high = values[name], f.metadata.get("low"), f.metadata.get("high")
            if value not in f.metadata.get("names", (value,)) or (
                    value is not None and low is not None and not low <= value <= high):
                raise bad_option(self.name, f, _spell(value, f.metadata["parse"]))
        for name, elsewhere in self.idle().items():
            if values[name] != self.usual(name):
                raise Refusal("option has no meaning here", where=self.name, got=f"{name}={self.spelled()[name]}",
                              allowed=elsewhere, remedy="leave it out")

    @property
    def chosen(self) -> dict[str, str]:
        """The options that are not as usual, as a user writes them."""
        values = self.values
        return {name: text for name, text in self.spelled().items() if values[name] != self.usual(name)}

    def __str__(self) -> str:
        changed = [f"{name}={text}" for name, text in self.chosen.items()]
        return self.name + (f"[{','.join(changed)}]" if changed else "")


def parse_options(plain: N, text: str) -> N:
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
    return plain.having(**chosen)


def _parse_option(plain: Named, key: str, text: str) -> object:
    by_name = plain.options
    if key not in by_name:
        raise Refusal("unknown option", where=plain.name, got=repr(key), **suggesting(
            key, by_name, remedy="write options as name=value, separated by commas"))
    try:
        return by_name[key].metadata["parse"](text)
    except (ValueError, KeyError):
        raise bad_option(plain.name, by_name[key], text or "nothing") from None


def bad_option(name: str, f: Field, got: object) -> Refusal:
    """The refusal of an option's value."""
    return Refusal("option out of range", where=f"{name}, {f.name}", got=got, allowed=f.metadata["allowed"],
                   remedy=f.metadata.get("remedy", _INSIDE))


def _spell(value: object, parse: Callable[[str], object]) -> str:
    if value is None:
        return "auto"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return spell_duration(value) if parse is duration else spell_number(value)
    return str(value)
