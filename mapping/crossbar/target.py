"""What an analog crossbar may be: a device preset, a rung of its ladder of errors, and the options of its circuit.

    crossbar:pcm/aged[age=1d]        crossbar:hermes_2[tile=256x128,wire_ohm=0.35,arrays=separate]
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, NamedTuple, TypedDict

from mapping.crossbar.presets import CAUSES, PRESETS, Preset
from mapping.errors import Refusal
from mapping.options import (
    Options,
    bad_option,
    choice,
    decided_by_name,
    duration,
    number,
    option,
    spell_duration,
    switch,
    whole,
)
from mapping.targets import Target

CROSSBAR_RUNGS = ("levels", "stuck", "programmed", "aged", "read", "converters", "curves", "wires")
ENCODINGS = ("pair", "offset", "slices")
DEFAULT_AGE_S = 3600.0
DEFAULT_WIRE_OHM = 0.35
_NO_CONVERTERS = "choose a number of bits, or leave converters out, as in crossbar:pcm[without=converters]"


class Tile(NamedTuple):
    """Size of a tile in unit cells; written 256 when square, else 256x128."""

    rows: int
    columns: int

    def __str__(self) -> str:
        return f"{self.rows}" if self.rows == self.columns else f"{self.rows}x{self.columns}"


DEFAULT_TILE = Tile(256, 256)


class Causes(tuple):
    """Rungs of a ladder, in its order; written programmed+aged, or nothing."""

    def __str__(self) -> str:
        return "+".join(self) or "nothing"


def causes(text: str) -> Causes:
    """The rungs that a user wrote with plus signs between them.

    Raises:
        ValueError: one that does not exist.
    """
    named = set() if text == "nothing" else set(text.split("+"))
    if not named <= set(CROSSBAR_RUNGS):
        raise ValueError(text)
    return Causes(rung for rung in CROSSBAR_RUNGS if rung in named)


def compensated(text: str) -> bool | str:
    """Whether drift is compensated, or "column" where each column is by itself."""
    return text if text == "column" else switch(text)


def tile(text: str) -> Tile:
    """The size that a user wrote as rows, or as rows x columns."""
    rows, by, columns = text.partition("x")
    return Tile(whole(rows), whole(columns if by else rows))


@dataclass(frozen=True)
class DeviceOptions(Options):
    """Of the devices; ages in seconds."""

    age: float = decided_by_name(duration, "since programming; auto: 1 h, or what of the device's data is next",
                                 "a time of 0 s or more, as 25s, 1h, 1d, 1y", 0.0, math.inf)
    levels: int | None = option(None, whole, "conductances a device can be given; auto: any", "2 to 65536", 2, 65536)
    on_off: float | None = option(None, number, "largest over smallest conductance used; auto: the device's own",
                                  "1.5 to 1e9", 1.5, 1e9)
    stuck_on: float = option(0.0, number, "devices stuck at the largest conductance", "0 to 0.5 of all", 0.0, 0.5)
    stuck_off: float = option(0.0, number, "devices stuck at the smallest conductance", "0 to 0.5 of all", 0.0, 0.5)
    temperature: float | None = option(None, number, "of the devices, whose thermal noise joins every read; auto: the "
                                       "noise that their source measured, alone", "1 to 500 K", 1.0, 500.0)
    sinh_v: float | None = option(None, number, "volts over which their current grows as a sinh; auto: in proportion "
                                  "to the voltage, or as their source says", "0.02 to 100 V", 0.02, 100.0)

    def largest_us(self, preset: Preset) -> float:
        """Largest conductance that a weight may be stored as."""
        return preset.g_max_us

    @property
    def asked(self) -> dict[str, bool]:
        """Causes of error that are there if options ask for them -> whether they do."""
        return {"levels": self.levels is not None, "stuck": bool(self.stuck_on or self.stuck_off),
                "curves": self.sinh_v is not None}


@dataclass(frozen=True)
class ArrayOptions(Options):
    """Of the tiles, and of how they hold weights."""

    encoding: str = choice("pair", "a weight as a differential pair, one device less its tile's offset column, or bit "
                           "slices", ENCODINGS)
    slices: int = option(2, whole, "cells that hold one weight with encoding=slices", "2 to 8 cells", 2, 8)
    scaling: str = choice("layer", "what fills the device's range: a layer, or each of its columns",
                          ("layer", "column"))
    tile: Tile = option(DEFAULT_TILE, tile, "rows and columns of a tile",  # noqa: RUF009 - a field
                        "16 to 1024 unit cells, or rows x columns as 256x128")
    arrays: str = choice("shared", "whether feedback reads the forward devices or others of its own",
                         ("shared", "separate"))
    drift_compensation: bool | str = option(True, compensated, "a digital factor a layer, or a column of it, that "
                                            "restores its mean weight", "on, off, column")
    wire_ohm: float | None = option(None, number, "resistance of a line from one cell to the next; auto: none, 0.35 on "
                                    "/wires", "0.001 to 100 ohm a cell", 1e-3, 100.0)
    terminals: str = choice("same", "at which ends of resistive lines the feedback drives and senses",
                            ("same", "opposite"))
    bit_ohm: float | None = option(None, number, "resistance of a bit line from one cell to the next, where wire_ohm "
                                   "is of word lines alone; auto: as wire_ohm", "0.001 to 100 ohm a cell", 1e-3, 100.0)

    @property
    def wires(self) -> tuple[float, float] | None:
        """Ohm a cell of word lines and of bit lines, None where they are perfect."""
        return None if self.wire_ohm is None else (self.wire_ohm, self.bit_ohm or self.wire_ohm)

    @property
    def separate(self) -> bool:
        """Whether each direction has an array of its own."""
        return self.arrays == "separate"


class OutputErrors(NamedTuple):
    """Standard deviations of what is added to an output before its ADC, see `simulators.crossbar.periphery` (2).

    Attributes:
        noise: new at every read, of the ADC's full scale.
        offset: of a chip, of the ADC's full scale.
        gain_noise: new at every read, of the output.
        gain_error: of a chip, of the output.
    """

    noise: float = 0.0
    offset: float = 0.0
    gain_noise: float = 0.0
    gain_error: float = 0.0

    @property
    def are_fresh(self) -> bool:
        """Whether some are new at every read."""
        return bool(self.noise or self.gain_noise)

    @property
    def are_frozen(self) -> bool:
        """Whether some distinguish one chip from another."""
        return bool(self.offset or self.gain_error)


@dataclass(frozen=True)
class ConverterOptions(Options):
    """Of what drives and senses the lines of a tile."""

    adc_bits: int = option(8, whole, "of what senses a line", "2 to 16 bits", 2, 16, _NO_CONVERTERS)
    dac_bits: int = option(8, whole, "of what drives a line", "2 to 16 bits", 2, 16, _NO_CONVERTERS)
    adc_margin: float = option(1.5, number, "how far ADCs reach",
                               "0.1 to 100 times what calibration images cause", 0.1, 100.0)
    signed_drive: str = choice("bipolar", "how lines are driven by what has a sign, the image and a nudge's error: at "
                               "once, or its positive and negative parts one after the other",
                               ("bipolar", "two_phase"))
    adc_rounding: str = choice("nearest", "which code an ADC gives: the nearest, or the one below, as where a ramp or "
                               "counter is cut off", ("nearest", "floor"))

    inputs: str = choice("levels", "how lines are driven by a code: one read at its voltage, or bit by bit at the full "
                         "one, each bit converted, shifted and added, or for as long as the code says",
                         ("levels", "bits", "pulses"))

    def planes(self, signed: bool) -> int:
        """Reads of a drive, of one sign where it takes two phases: one, or one a bit of its code's magnitude."""
        return self.dac_bits - (signed and not self.two_phase) if self.inputs == "bits" else 1

    def reads(self, signed: bool) -> int:
        """Reads of a drive, which may have a sign."""
        return self.planes(signed) * (1 + (signed and self.two_phase))

    @property
    def two_phase(self) -> bool:
        """Whether the parts of a signed drive are read one after the other."""
        return self.signed_drive == "two_phase"

    @property
    def output_errors(self) -> OutputErrors:
        """Errors of what lines put out, beside those of devices and of rounding."""
        return OutputErrors()


@dataclass(frozen=True)
class DynamicsOptions(Options):
    """Of the relaxation; times in seconds. `steps` counts time steps (an alternating sweep is two)."""

    input_read: str = choice("every", "whether noisy machines read the image once or at every step",
                             ("once", "every"))
    relaxation_time: float = option(1e-3, duration, "of a free phase: slower noise is frozen, faster is fresh",
                                    "1us to 1s", 1e-6, 1.0)
    dt: float = option(1.0, number, "leaky steps: how far a state moves to its new value in a step",
                       "0.01 to 1 of the way", 0.01, 1.0)
    readout_steps: int = option(1, whole, "last steps over which the logits are averaged", "1 to 1000 steps", 1, 1000)
    winners_held: int | None = option(None, whole, "steps after which pools keep their winners; auto: never",
                                      "1 to 100000 steps", 1, 100_000)
    steps: int | None = option(None, whole, "time steps of a free phase; auto: 60 under read noise, else the "
                               "checkpoint's most", "1 to 100000 steps", 1, 100_000)


@dataclass(frozen=True)
class CrossbarTarget(Target):
    """Analog tiles of a device; `CrossbarTarget.named` has every option as it is where a user sets none.

    Attributes:
        device: age, levels, range and defects of the devices.
        array: how tiles hold weights, their size and their wires.
        converters: what drives and senses the tiles.
        dynamics: steps, times and averages of the relaxation.
    """

    device: DeviceOptions
    array: ArrayOptions
    converters: ConverterOptions
    dynamics: DynamicsOptions
    without: Causes = option(Causes(), causes, "causes of error left out, whatever the rung",  # noqa: RUF009
                             f"nothing, or {'+'.join(CROSSBAR_RUNGS)} or some of these")
    tuned: bool = option(False, switch, "chips that 'ep-hw tune' tuned: a folder of it, never compiled", "on, off")
    order: ClassVar[tuple[str, ...]] = (   # names of machines are parts of keys: it stays
        "age", "levels", "encoding", "slices", "scaling", "on_off", "stuck_on", "stuck_off", "tile", "arrays",
        "drift_compensation", "adc_bits", "dac_bits", "adc_margin", "wire_ohm", "terminals", "signed_drive",
        "input_read", "relaxation_time", "dt", "readout_steps", "winners_held", "without", "steps", "tuned", "bit_ohm",
        "adc_rounding", "temperature", "sinh_v", "inputs")
    relaxing: ClassVar[tuple[str, ...]] = ("dt", "readout_steps", "winners_held", "steps")
    devices: ClassVar[type[DeviceOptions]] = DeviceOptions
    peripheries: ClassVar[type[ConverterOptions]] = ConverterOptions

    @classmethod
    def named(cls, name: str) -> "CrossbarTarget":
        usual = _by_name(name)
        device = cls.devices(age=usual["age"], levels=usual["levels"], stuck_on=usual["stuck_on"],
                             stuck_off=usual["stuck_off"], sinh_v=usual["sinh_v"])
        return cls(name, device, ArrayOptions(wire_ohm=usual["wire_ohm"]), cls.peripheries(),
                   DynamicsOptions())

    def __post_init__(self):
        super().__post_init__()
        if not all(16 <= size <= 1024 for size in self.array.tile):
            raise bad_option(self.name, self.options["tile"], self.array.tile)
        _check_domain(self)
        _check_encoding(self)
        _check_curves(self)

    def usual(self, option: str) -> object:
        by_name = _by_name(self.name)
        return dict(by_name)[option] if option in by_name else super().usual(option)

    def idle(self) -> dict[str, str]:
        """Of a rung, what does nothing on the machine that it leads to either: rungs keep that one's options."""
        return {name: elsewhere for names, matter, elsewhere in _NEEDS if not matter(self) for name in names}

    @property
    def steps(self) -> int | None:
        return self.dynamics.steps

    @property
    def preset(self) -> Preset:
        """The technology: "ideal", "pcm", ..."""
        return _preset_of(self.name)

    @property
    def g_max_us(self) -> float:
        """Largest conductance that a weight may be stored as."""
        return self.device.largest_us(self.preset)

    @property
    def g_min_us(self) -> float:
        """Smallest conductance that a weight may be stored as."""
        return self.preset.g_min_us if self.device.on_off is None else self.g_max_us / self.device.on_off

    @property
    def rung(self) -> str:
        """The last cause of error that is switched on; "mapped" for the ideal crossbar."""
        if self.preset.name == "ideal":
            return "mapped"
        last = "wires" if self.has("wires") else "curves" if self.has("curves") else "converters"
        return self.name.split("/")[1] if "/" in self.name else last

    @cached_property
    def rungs(self) -> tuple[str, ...]:
        """The rungs up to this machine that change anything."""
        return tuple(r for r in rungs_of_preset(self.preset) if self.includes(r) and self.has(r))

    @property
    def is_noisy(self) -> bool:
        return "read" in self.rungs or self.output_errors.are_fresh

    @property
    def has_chips(self) -> bool:
        return not {"stuck", "programmed", "aged"}.isdisjoint(self.rungs) or self.output_errors.are_frozen

    @property
    def output_errors(self) -> OutputErrors:
        """Those of the converters, where there are any."""
        return self.converters.output_errors if self.includes("converters") else OutputErrors()

    def has(self, cause: str) -> bool:
        """Whether this device and its options give a cause anything to do."""
        asked = {**self.device.asked, "wires": self.array.wire_ohm is not None}
        asked["curves"] &= self.converters.inputs != "pulses" or self.array.wire_ohm is not None   # which leave less
        return cause in rungs_of_preset(self.preset) and asked.get(cause, True)

    @property
    def settles(self) -> bool:
        """Whether each read is solved at an operating point of its own: of devices with curves behind wires."""
        return all(self.has(cause) and self.includes(cause) for cause in ("curves", "wires"))

    def includes(self, rung: str) -> bool:
        """Whether the error `rung` is part of this machine: each rung adds one cause to those before it."""
        order = ("mapped", *CROSSBAR_RUNGS)
        return rung not in self.without and order.index(rung) <= order.index(self.rung)


@dataclass(frozen=True)
class GenericOptions(DeviceOptions):
    """A device with normal errors: of programming, `additive` g_max + `proportional` g; of a read, `read_noise` g."""

    g_max_us: float = option(25.0, number, "largest conductance", "0.001 to 1000 uS", 1e-3, 1e3)
    additive: float = option(0.0, number, "programming error, the same for all devices", "0 to 1 of g_max_us", 0.0, 1.0)
    proportional: float = option(0.0, number, "programming error in proportion to it", "0 to 1 of the conductance",
                                 0.0, 1.0)
    read_noise: float = option(0.0, number, "new at every read", "0 to 1 of the conductance", 0.0, 1.0)

    def largest_us(self, preset: Preset) -> float:
        return self.g_max_us

    @property
    def asked(self) -> dict[str, bool]:
        return {**super().asked, "programmed": bool(self.additive or self.proportional), "read": bool(self.read_noise)}


@dataclass(frozen=True)
class GenericConverterOptions(ConverterOptions):
    """Converters of lines whose outputs have normal errors, see `OutputErrors`."""

    output_noise: float = option(0.0, number, "noise on every output, new at every read", "0 to 1 of its ADC's range",
                                 0.0, 1.0)
    output_offset: float = option(0.0, number, "offset of every output, the same at every read",
                                  "0 to 1 of its ADC's range", 0.0, 1.0)
    gain_noise: float = option(0.0, number, "noise in proportion to every output, new at every read",
                               "0 to 1 of the output", 0.0, 1.0)
    gain_error: float = option(0.0, number, "error in proportion to every output, the same at every read",
                               "0 to 1 of the output", 0.0, 1.0)

    @property
    def output_errors(self) -> OutputErrors:
        return OutputErrors(self.output_noise, self.output_offset, self.gain_noise, self.gain_error)


@dataclass(frozen=True)
class GenericTarget(CrossbarTarget):
    """Tiles of a device, and lines, whose errors are options."""

    device: GenericOptions
    converters: GenericConverterOptions
    order: ClassVar[tuple[str, ...]] = (*CrossbarTarget.order, "g_max_us", "additive", "proportional", "read_noise",
                                        "output_noise", "output_offset", "gain_noise", "gain_error")
    devices: ClassVar[type[DeviceOptions]] = GenericOptions
    peripheries: ClassVar[type[ConverterOptions]] = GenericConverterOptions


def _preset_of(name: str) -> Preset:
    return PRESETS[name.split(":")[1].split("/")[0]]


class _ByName(TypedDict):
    """Values of the options that differ from machine to machine where no user sets them."""

    age: float
    levels: int | None
    stuck_on: float
    stuck_off: float
    sinh_v: float | None
    wire_ohm: float | None


def _by_name(name: str) -> _ByName:
    preset = _preset_of(name)
    first, last = preset.age_domain_s
    return {"age": min(max(DEFAULT_AGE_S, first), last), "levels": preset.levels, "stuck_on": preset.stuck_on,
            "stuck_off": preset.stuck_off, "sinh_v": preset.sinh_v,
            "wire_ohm": DEFAULT_WIRE_OHM if name.endswith("/wires") else None}


def rungs_of_preset(preset: Preset) -> tuple[str, ...]:
    """Rungs of a device's ladder: those of the circuit, and of the device those that its source measured."""
    circuit = ("levels", "stuck", "converters", "curves", "wires")
    return tuple(r for r in CROSSBAR_RUNGS if preset.name != "ideal" and (r in circuit or r in preset.causes))


RUNG_MEANINGS = {
    "levels": "mapped weights rounded to the device's conductance levels",
    "stuck": "... and devices stuck at an end of their range, drawn once per chip",
    "programmed": "... and programming noise, drawn once per chip",
    "aged": "... and drift with the slow part of 1/f noise, frozen at the chip's age",
    "read": "... and fresh read noise at every read",
    "converters": "... and DAC and ADC: the whole machine, unless wires resist or devices have curves",
    "curves": "... and currents that are not in proportion to the voltage",
    "wires": "... and the voltage lost along the wires",
}


def _check_domain(target: CrossbarTarget):
    preset = target.preset
    first, last = preset.age_domain_s
    if not first <= target.device.age <= last:
        raise Refusal("age outside the data of this device", where=f"{target.name}, age",
                      got=spell_duration(target.device.age), allowed=f"{first:g} to {last:g} s" if last else "0 s",
                      remedy="choose an age that its source covers, see 'ep-hw devices'" if last else
                      "leave it out, or choose a device that ages, see 'ep-hw devices'")
    if target.g_min_us < preset.g_min_us:
        raise Refusal("conductance outside the data of this device", where=f"{target.name}, on_off",
                      got=f"{target.device.on_off:g} (down to {target.g_min_us:.3g} uS)",
                      allowed=f"at most {preset.g_max_us / preset.g_min_us:.3g} ({preset.g_min_us:g} to "
                      f"{preset.g_max_us:g} uS)", remedy="choose a smaller ratio, or leave it out")


# Options, when they can change anything, and where they could where they cannot.
_Need = tuple[tuple[str, ...], Callable[[CrossbarTarget], bool], str]
_NEEDS: tuple[_Need, ...] = (
    (("levels", "stuck_on", "stuck_off", "adc_bits", "dac_bits", "adc_margin", "adc_rounding", "wire_ohm",
      "on_off", "sinh_v", "inputs"),
     lambda t: t.preset.name != "ideal",
     "on crossbar:generic, whose devices are as ideal unless its options say otherwise"),
    (("drift_compensation",), lambda t: t.has("aged"), "on devices that age, see 'ep-hw devices'"),
    (("relaxation_time", "temperature"), lambda t: "t_read_s" in t.preset.constants,
     "on devices with slow and fast noise, as crossbar:pcm"),
    (("input_read",), lambda t: t.has("read") or t.converters.output_errors.are_fresh,
     "on devices with read noise, as crossbar:pcm"),
    (("terminals", "bit_ohm"), lambda t: t.has("wires"), "with wire_ohm"),
    (("inputs",), lambda t: t.converters.inputs != "pulses" or t.device.sinh_v is not None,
     "inputs=pulses beside sinh_v; else pulses sense what levels do"),
    (("slices",), lambda t: t.array.encoding == "slices", "with encoding=slices"),
    (("without",), lambda t: set(t.without) <= set(rungs_of_preset(t.preset)) and all(
        t.has(cause) for cause in t.without if cause in CAUSES),
     "causes that the device has"),
)


def _check_encoding(target: CrossbarTarget):
    array, levels = target.array, target.device.levels
    if array.encoding == "slices" and levels is None:
        raise Refusal("slices need a number of levels", where=f"{target.name}, encoding", got="slices, levels=auto",
                      allowed="slices with levels=2 or more", remedy="add levels, as in encoding=slices,levels=4")
    if array.encoding == "slices" and levels is not None and levels**array.slices > 2**24:
        raise Refusal("slices hold more than a float32 weight does", where=f"{target.name}, slices",
                      got=f"{levels}^{array.slices}", allowed="levels^slices up to 2^24",
                      remedy="choose fewer levels or slices")
    if array.encoding == "offset" and levels == 2:
        raise Refusal("two levels leave no middle for an offset column", where=f"{target.name}, levels", got=2,
                      allowed="3 or more with encoding=offset", remedy="choose more levels, or encoding=pair")


def _check_curves(target: CrossbarTarget):
    """Refuse curves of devices where nothing says what voltage they see."""
    if not (target.has("curves") and target.includes("curves")):
        return
    if not target.includes("converters"):
        raise Refusal("nothing says what voltage a drive is", where=f"{target.name}, without", got=str(target.without),
                      allowed="curves with converters, whose range is the read voltage",
                      remedy="leave curves out too, as in without=converters+curves")
    if target.array.encoding == "offset":
        raise Refusal("an offset column would be driven by more than the read voltage",
                      where=f"{target.name}, encoding", got="offset, on devices with curves",
                      allowed="pair, slices", remedy="use encoding=pair, or leave curves out by without=curves")
