"""What Loihi 2 may be asked for: bits, cores and time steps, on the twin or on Lava."""

from dataclasses import dataclass

from mapping.options import choice, number, option, whole
from mapping.targets import Target

_OF_INTEGERS = ("weight_bits", "state_bits", "weights", "chips")   # what a program in floats has not


@dataclass(frozen=True)
class LoihiTarget(Target):
    """Integers as Loihi 2 holds them; `lava:float` is the network in floats on the same processes."""

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
    dead: float | None = option(None, number, "share of the neurons that are dead, whose states stay 0; auto: none",
                                "0 to 0.9", 0.0, 0.9)
    dead_seed: int = option(0, whole, "which neurons are dead", "0 to 1000000", 0, 1_000_000)
    lost_core: int | None = option(None, whole, "a core that is lost with all that lies on it, as placement numbers "
                                   "them; auto: none", "0 to 100000", 0, 100_000)

    def idle(self) -> dict[str, str]:
        integers = self.quantises_weights or self.quantises_states
        return {**({} if self.on_lava else {"model": "on lava, lava:float"}),
                **({} if self.is_whole else dict.fromkeys(("threshold", "dead", "lost_core"), "on loihi, lava")),
                **({} if self.dead else {"dead_seed": "beside dead"}),
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
