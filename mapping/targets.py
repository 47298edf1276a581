"""The registry of machines: their names, what they mean, and the options a user may set.

    reference            loihi[state_bits=10]            crossbar:pcm/aged[age=1d,adc_bits=6]

A target is a frozen dataclass; `parse(str(target)) == target`.
"""

from dataclasses import dataclass

from mapping.crossbar.target import CROSSBAR_RUNGS, CrossbarTarget, GenericTarget, crossbar_targets
from mapping.errors import Refusal
from mapping.options import Target, choice, number, option, parse_options, whole

__all__ = ["CROSSBAR_RUNGS", "REFERENCE", "REGISTRY", "CrossbarTarget", "GenericTarget", "LoihiTarget",
           "ReferenceTarget", "Target", "parse"]
REFERENCE = "reference"   # the name of the machine that every other is compared with


@dataclass(frozen=True)
class ReferenceTarget(Target):
    """Floats."""

    steps: int | None = option(None, whole, "time steps of a free phase; auto: the checkpoint's most", "1 to 100000", 1,
                               100_000)


_OF_INTEGERS = ("weight_bits", "state_bits", "weights", "chips")   # what a program in floats has not


@dataclass(frozen=True)
class LoihiTarget(Target):
    """Integers as Loihi 2 holds them."""

    weight_bits: int = option(8, whole, "of each weight, its sign included", "1 to 8 bits", 1, 8)
    state_bits: int | None = option(None, whole, "of each state; auto: the most that are proven safe", "4 to 16 bits",
                                    4, 16)
    threshold: float | None = option(None, number, "populations send only changes above it (sigma-delta); auto: their "
                                     "whole state at every step", "0 to 0.5 of the largest state", 0.0, 0.5)
    weights: str = choice("shared", "whether a core holds a convolution's weights once or once a synapse",
                          ("shared", "unrolled"))
    chips: int | None = option(None, whole, "that the program may take; auto: what it needs", "1 to 1000", 1, 1000)
    model: str = choice("behavioural", "on Lava, a connection as one process, or as sub-processes as they would lie on "
                        "cores", ("behavioural", "structural"))
    steps: int | None = option(None, whole, "time steps of a free phase; auto: the checkpoint's most", "1 to 100000", 1,
                               100_000)

    def idle(self):
        integers = self.quantises_weights or self.quantises_states
        return {**({} if self.on_lava else {"model": "on lava, lava:float"}),
                **({} if self.is_whole else {"threshold": "on loihi, lava"}),
                **({} if integers else dict.fromkeys(_OF_INTEGERS, "on lava, loihi and its rungs"))}

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


REGISTRY: dict[str, tuple[Target, str]] = {t.name: (t, meaning) for t, meaning in [
    (ReferenceTarget(REFERENCE), "the network in floating point, on CPU or CUDA"),
    (LoihiTarget("loihi:weights"), "integer weights, float states"),
    (LoihiTarget("loihi:states"), "float weights, integer states"),
    (LoihiTarget("loihi"), "integer weights and states: bit-exact twin of the Lava program, proven free of overflow"),
    (LoihiTarget("lava"), "the same program on lava-nc processes, fixed point"),
    (LoihiTarget("lava:float"), "the network on lava-nc processes, floating point"),
    *crossbar_targets(),
]}


def parse(text: str) -> Target:
    """The target named by `text`, e.g. "crossbar:pcm[age=1d,adc_bits=6]".

    Raises:
        Refusal: unknown machine or option, or an option out of range.
    """
    name, bracket, rest = text.strip().partition("[")
    if name not in REGISTRY or (bracket and not rest.endswith("]")):
        raise Refusal("unknown machine", where="machine", got=repr(text), allowed=_names_near(name),
                      remedy="run 'ep-hw machines' for their meaning; options go in brackets, as loihi[weight_bits=6]")
    return parse_options(REGISTRY[name][0], rest[:-1])


def _names_near(name: str) -> str:
    """The rungs of the device whose rung was named, else every machine without its rungs."""
    device = name.partition("/")[0]
    if device != name and (rungs := [known for known in REGISTRY if known.startswith(f"{device}/")]):
        return ", ".join((device, *rungs))
    return ", ".join(known for known in REGISTRY if "/" not in known) + ", rungs as crossbar:pcm/aged"
