"""What is compiled for: a target is a machine's name with its options, and the reference is the first of them.

    reference            loihi[state_bits=10]            crossbar:pcm/aged[age=1d,adc_bits=6]
"""

from dataclasses import dataclass, field
from typing import ClassVar

from mapping.errors import Refusal
from mapping.options import Named, option, whole

REFERENCE = "reference"   # the name of the machine that every other is compared with


@dataclass(frozen=True)
class Target(Named):
    """What to compile for; `mapping.register_machine` gives it its meaning. `parse(str(target)) == target`.

    Attributes:
        label: what a user calls it, see `mapping.labels`; decides nothing. "" for none.
        relaxing: options that mean something where states relax.
    """

    label: str = field(default="", compare=False, repr=False, kw_only=True)
    relaxing: ClassVar[tuple[str, ...]] = ("steps",)

    @property
    def shown(self) -> str:
        """What it is called: its label, or its full name."""
        return self.label or str(self)

    @property
    def steps(self) -> int | None:
        """Time steps of a free phase that a user set; None for the machine's own number."""
        return None

    @property
    def is_noisy(self) -> bool:
        """Whether every read draws fresh noise."""
        return False

    @property
    def has_chips(self) -> bool:
        """Whether a chip seed decides anything."""
        return False


def check_one_pass(target: Target):
    """Refuse options of a relaxation for a network that reads each of its layers once.

    Raises:
        Refusal: one that is set.
    """
    asked = [f"{name}={target.spelled()[name]}" for name in target.relaxing
             if name in target.options and target.values[name] != target.usual(name)]
    if asked:
        raise Refusal("a feed-forward network reads each layer once and takes no time steps", where=target.name,
                      got=", ".join(asked), allowed="an EP network with this option", remedy="leave it out")


@dataclass(frozen=True)
class ReferenceTarget(Target):
    """Floats."""

    steps: int | None = option(None, whole, "time steps of a free phase; auto: the checkpoint's most", "1 to 100000", 1,
                               100_000)
