"""The registry of machines: their names, what they mean, and the options a user may set.

    reference            loihi[state_bits=10]            crossbar:pcm/aged[age=1d,adc_bits=6]

A target is a frozen dataclass; `parse(str(target)) == target`.
"""

from dataclasses import dataclass, fields, replace

from mapping.crossbar_target import CROSSBAR_RUNGS, CrossbarTarget, GenericTarget, crossbar_targets
from mapping.errors import Refusal
from mapping.options import Target, bad_option, choice, meaningless, option, whole

__all__ = ["CROSSBAR_RUNGS", "REGISTRY", "CrossbarTarget", "GenericTarget", "LoihiTarget", "ReferenceTarget", "Target",
           "parse"]


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
            raise meaningless(self.name, f"model={self.model}", "on lava, lava:float")
        if self.threshold is not None and not self.is_whole:
            raise meaningless(self.name, f"threshold={self.threshold}", "on loihi, lava")

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
    (ReferenceTarget("reference"), "the network in floating point, on CPU or CUDA"),
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
        raise Refusal("unknown machine", where="machine", got=repr(text), allowed=_main_names(),
                      remedy="run 'ep-hw machines' for their meaning; options go in brackets, as loihi[weight_bits=6]")
    default = REGISTRY[name][0]
    chosen = {}
    for item in filter(None, rest[:-1].split(",")):
        key, _, value = item.partition("=")
        chosen[key.strip()] = _parse_option(default, key.strip(), value.strip())
    return replace(default, **chosen)


def _main_names() -> str:
    return ", ".join(name for name in REGISTRY if "/" not in name) + ", rungs as crossbar:pcm/aged"


def _parse_option(target: Target, key: str, text: str):
    by_name = {f.name: f for f in fields(target) if f.metadata}
    if key not in by_name:
        raise Refusal("unknown option", where=target.name, got=repr(key), allowed=", ".join(by_name),
                      remedy="write options as name=value, separated by commas")
    try:
        return by_name[key].metadata["parse"](text)
    except (ValueError, KeyError):
        raise bad_option(target.name, by_name[key], text) from None
