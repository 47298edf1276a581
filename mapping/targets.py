"""The registry of machines: their names, what they mean, and the options a user may set.

    reference            loihi[state_bits=10]            crossbar:pcm/aged[age=1d,adc_bits=6]

A target is a frozen dataclass; `parse(str(target)) == target`.
"""

from dataclasses import dataclass, field, fields, replace

from mapping.errors import Refusal

CROSSBAR_RUNGS = ("levels", "programmed", "aged", "read", "converters")
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


def option(default, parse, allowed: str, low=None, high=None):
    """A dataclass field that users may set as `name=text`."""
    return field(default=default, metadata={"parse": parse, "allowed": allowed, "low": low, "high": high})


def choice(default: str, names: tuple[str, ...]):
    """A dataclass field that users may set to one of some names."""
    return field(default=default, metadata={"parse": str, "allowed": ", ".join(names), "names": names})


@dataclass(frozen=True)
class Target:
    """What to compile for. `name` is the registry's; the other fields are options."""

    name: str

    @property
    def is_noisy(self) -> bool:
        """Whether every read draws fresh noise."""
        return False

    @property
    def has_chips(self) -> bool:
        """Whether a chip seed decides anything."""
        return False

    def spelled(self) -> dict[str, str]:
        """Every option as a user writes it; "auto" for one left to the compiler."""
        return {f.name: _spell(getattr(self, f.name), f.metadata["parse"]) for f in fields(self) if f.metadata}

    def __post_init__(self):
        for f in fields(self):
            value = getattr(self, f.name)
            low, high = f.metadata.get("low"), f.metadata.get("high")
            names = f.metadata.get("names", (value,))
            if value not in names or (value is not None and low is not None and not low <= value <= high):
                raise _bad_option(self.name, f, value)

    def __str__(self):
        default = type(self)(self.name)
        changed = [f"{k}={text}" for k, text in self.spelled().items() if getattr(self, k) != getattr(default, k)]
        return self.name + (f"[{','.join(changed)}]" if changed else "")


@dataclass(frozen=True)
class ReferenceTarget(Target):
    """Floats. `steps` replaces the checkpoint's longest free phase."""

    steps: int | None = option(None, whole, "1 to 100000", 1, 100_000)


@dataclass(frozen=True)
class LoihiTarget(Target):
    """Integers as Loihi 2 holds them.

    `state_bits` None means the largest proven safe. With a `threshold`, in units of the state, populations send changes
    larger than it (sigma-delta); with None they send their whole state at every step. `weights` says whether a core
    holds each convolution weight once or once a synapse; `chips` is how many chips the program may take. On Lava,
    `model` says whether a connection is one process (behavioural) or sub-processes as they would lie on cores.
    """

    weight_bits: int = option(8, whole, "1 to 8", 1, 8)
    state_bits: int | None = option(None, whole, "4 to 16", 4, 16)
    threshold: float | None = option(None, float, "0 to 0.5 (none: whole states at every step)", 0.0, 0.5)
    weights: str = choice("shared", ("shared", "unrolled"))
    chips: int | None = option(None, whole, "1 to 1000", 1, 1000)
    model: str = choice("behavioural", ("behavioural", "structural"))
    steps: int | None = option(None, whole, "1 to 100000", 1, 100_000)

    def __post_init__(self):
        super().__post_init__()
        if self.model != "behavioural" and not self.on_lava:
            raise _meaningless(self.name, f"model={self.model}", "on lava, lava:float")
        if self.threshold is not None and not self.is_whole:
            raise _meaningless(self.name, f"threshold={self.threshold}", "on loihi, lava")

    @property
    def quantises_weights(self) -> bool:
        return self.name in ("loihi", "loihi:weights", "lava")

    @property
    def quantises_states(self) -> bool:
        return self.name in ("loihi", "loihi:states", "lava")

    @property
    def is_whole(self) -> bool:
        """Whether this is the program that Loihi 2 would run, not one of the rungs that lead to it."""
        return self.quantises_weights and self.quantises_states

    @property
    def on_lava(self) -> bool:
        return self.name.startswith("lava")


@dataclass(frozen=True)
class CrossbarTarget(Target):
    """Analog tiles. Times in seconds; `steps` counts time steps (an alternating sweep is two), see CrossbarProgram."""

    age: float = option(3600.0, duration, "0 to 3.2e7 s, as 25s, 1h, 1d, 1y", 0.0, 3.2e7)
    adc_bits: int = option(8, whole, "2 to 16", 2, 16)
    dac_bits: int = option(8, whole, "2 to 16", 2, 16)
    tile: int = option(256, whole, "16 to 1024", 16, 1024)
    levels: int | None = option(None, whole, "2 to 65536", 2, 65536)
    drift_compensation: bool = option(True, switch, "on, off")
    input_read: str = choice("every", ("once", "every"))
    relaxation_time: float = option(1e-3, duration, "1us to 1s", 1e-6, 1.0)
    steps: int | None = option(None, whole, "1 to 100000", 1, 100_000)

    @property
    def device(self) -> str:
        """Name of the device model: "ideal", "pcm"."""
        return self.name.split(":")[1].split("/")[0]

    @property
    def rung(self) -> str:
        """The last cause of error that is switched on; "mapped" for the ideal crossbar."""
        if self.device == "ideal":
            return "mapped"
        return self.name.split("/")[1] if "/" in self.name else CROSSBAR_RUNGS[-1]

    @property
    def is_noisy(self):
        return self.includes("read")

    @property
    def has_chips(self):
        return self.includes("programmed")

    def includes(self, rung: str) -> bool:
        """Whether the error `rung` is part of this machine: each rung adds one cause to those before it."""
        order = ("mapped", *CROSSBAR_RUNGS)
        return order.index(rung) <= order.index(self.rung)


_RUNG_MEANINGS = {
    "levels": "mapped weights rounded to the device's conductance levels",
    "programmed": "... and programming noise, drawn once per chip",
    "aged": "... and drift with the slow part of 1/f noise, frozen at the chip's age",
    "read": "... and fresh read noise at every read",
    "converters": "... and DAC and ADC: the whole machine",
}

REGISTRY: dict[str, tuple[Target, str]] = {t.name: (t, meaning) for t, meaning in [
    (ReferenceTarget("reference"), "the network in floating point, on CPU or CUDA"),
    (LoihiTarget("loihi:weights"), "integer weights, float states"),
    (LoihiTarget("loihi:states"), "float weights, integer states"),
    (LoihiTarget("loihi"), "integer weights and states: bit-exact twin of the Lava program, proven free of overflow"),
    (LoihiTarget("lava"), "the same program on lava-nc processes, fixed point"),
    (LoihiTarget("lava:float"), "the network on lava-nc processes, floating point"),
    (CrossbarTarget("crossbar:ideal"), "weights mapped to conductance pairs on tiles, nothing else"),
    (CrossbarTarget("crossbar:pcm"), "phase-change memory (Nandakumar 2019), 1 h old, read and converted at 8 bits"),
    *[(CrossbarTarget(f"crossbar:pcm/{rung}"), meaning) for rung, meaning in _RUNG_MEANINGS.items()],
]}


def parse(text: str) -> Target:
    """The target named by `text`, e.g. "crossbar:pcm[age=1d,adc_bits=6]".

    Raises:
        Refusal: unknown machine or option, or an option out of range.
    """
    name, bracket, rest = text.strip().partition("[")
    if name not in REGISTRY or (bracket and not rest.endswith("]")):
        raise Refusal("unknown machine", where="machine", got=repr(text), allowed=", ".join(REGISTRY),
                      remedy="run 'ep-hw machines' for their meaning; options go in brackets, as loihi[weight_bits=6]")
    default = REGISTRY[name][0]
    chosen = {}
    for item in filter(None, rest[:-1].split(",")):
        key, _, value = item.partition("=")
        chosen[key.strip()] = _parse_option(default, key.strip(), value.strip())
    return replace(default, **chosen)


def _parse_option(target: Target, key: str, text: str):
    by_name = {f.name: f for f in fields(target) if f.metadata}
    if key not in by_name:
        raise Refusal("unknown option", where=target.name, got=repr(key), allowed=", ".join(by_name),
                      remedy="write options as name=value, separated by commas")
    try:
        return by_name[key].metadata["parse"](text)
    except (ValueError, KeyError):
        raise _bad_option(target.name, by_name[key], text) from None


def _bad_option(name: str, f, got) -> Refusal:
    return Refusal("option out of range", where=f"{name}, {f.name}", got=got, allowed=f.metadata["allowed"],
                   remedy="choose a value in the allowed range")


def _meaningless(name: str, got: str, allowed: str) -> Refusal:
    return Refusal("option has no meaning here", where=name, got=got, allowed=allowed, remedy="leave it out")


def _spell(value, parse) -> str:
    if value is None:
        return "auto"
    if isinstance(value, bool):
        return "on" if value else "off"
    return spell_duration(value) if parse is duration else str(value)
