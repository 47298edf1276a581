"""Options: dataclass fields that a user may set as name=text, how they are read, checked and spelled again."""

from dataclasses import dataclass, field, fields, replace

from mapping.errors import Refusal

_UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "y": 31557600.0}


def whole(text: str) -> int:
    return int(text)


def duration(text: str) -> float:
    """Seconds from `90`, `25s`, `1h`, `1d`, `1y`, `250ns`."""
    number = text.rstrip("abcdefghijklmnopqrstuvwxyz")
    return float(number) * _UNITS[text[len(number):] or "s"]


def spell_duration(seconds: float) -> str:
    """The largest unit in which `duration` reads the same number of seconds back from a whole number."""
    for unit, size in reversed(_UNITS.items()):
        text = f"{seconds / size:.0f}{unit}"
        if seconds and duration(text) == seconds:
            return text
    return f"{seconds:.12g}"


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

    def __post_init__(self):
        for f in fields(self):
            value = getattr(self, f.name)
            low, high = f.metadata.get("low"), f.metadata.get("high")
            names = f.metadata.get("names", (value,))
            if value not in names or (value is not None and low is not None and not low <= value <= high):
                raise bad_option(self.name, f, _spell(value, f.metadata["parse"]))

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
        Refusal: an unknown option, or one out of range.
    """
    chosen = {}
    for item in filter(None, text.split(",")):
        key, _, value = item.partition("=")
        chosen[key.strip()] = _parse_option(plain, key.strip(), value.strip())
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


def meaningless(name: str, got: str, allowed: str) -> Refusal:
    return Refusal("option has no meaning here", where=name, got=got, allowed=allowed, remedy="leave it out")


def _spell(value, parse) -> str:
    if value is None:
        return "auto"
    if isinstance(value, bool):
        return "on" if value else "off"
    return spell_duration(value) if parse is duration else str(value)
