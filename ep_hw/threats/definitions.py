"""What attacks and corruptions say of themselves: everything that those who do not make them ask."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ep_hw.threats.attacks.attempt import Attempt
from ep_hw.threats.attacks.settings import AttackSettings
from simulators.machine import Machine

Norm = Literal["l0", "l2", "linf"]
Access = Literal["white box", "black box"]
Images = NDArray[np.float64]   # (N, C, H, W), or (N, H, W) of maps
Levels = NDArray[np.uint8]     # grey levels of images
Constant = TypeVar("Constant")
Taken = TypeVar("Taken", contravariant=True)


@dataclass(frozen=True)
class Strength:
    """A kind of strength.

    Attributes:
        label: what it is, as the axis of a figure says it.
        least: the smallest value.
        most: the largest value.
        whole: only whole numbers are allowed.
        or_zero: 0 is allowed as well; it leaves the images as they are.
    """

    label: str
    least: float
    most: float
    whole: bool = False
    or_zero: bool = False

    def allows(self, value: float) -> bool:
        """Whether a threat may have this strength."""
        in_range = self.least <= value <= self.most and (not self.whole or value == int(value))
        return in_range or (self.or_zero and value == 0)

    def __str__(self):
        return f"{self.label} {'0 or ' if self.or_zero else ''}{self.least:g} to {self.most:g}"


BUDGET = Strength("budget eps", 1e-6, 100.0, or_zero=True)   # in units of [0, 1]; float32 pixels tell 6e-8 apart
PRICE = Strength("price c", 1e-6, 100.0, or_zero=True)       # of the Carlini-Wagner attack
PIXELS = Strength("pixels changed", 1, 1024, whole=True)
SEVERITY = Strength("severity", 1, 5, whole=True)            # of a corruption


@dataclass(frozen=True)
class Attack(ABC):
    """An attack that threats name; a subclass says how it is made.

    Attributes:
        name: as threats spell it.
        norm: that measures how far it moves an image.
        clips: its images stay within [0, 1].
        code: name of the code that makes it; with its version part of the key of every cell.
        version: of that code; raised whenever the images that it makes change.
        access: what it sees of a machine: a white box its model, its frozen errors and its noise, a black box the
            outputs only.
        strength: what the strength of its threats means.
        ascends: it climbs a gradient for the settings' `iterations` from each of their `restarts`, so that more of
            either never help the defender; the black box of the same norm is held against it.
    """

    name: str
    norm: Norm
    clips: bool = True

    code: ClassVar[str]
    version: ClassVar[int]
    access: ClassVar[Access] = "white box"
    strength: ClassVar[Strength] = BUDGET
    ascends: ClassVar[bool] = False

    @property
    def maker(self) -> Callable:
        """The function or class that decides what images it makes."""
        return type(self)

    @property
    def black_box(self) -> str | None:
        """The attack that it asks last, by name: where that is asked for itself as well, its images are taken."""
        return None

    @property
    def is_bounded(self) -> bool:
        """Its images stay within [0, 1] and within a budget, which it shares with others of its norm."""
        return self.clips and self.strength == BUDGET

    @abstractmethod
    def attempts(self, machine: Machine, strength: float, settings: AttackSettings) -> list[Attempt]:
        """What is tried in turn on a machine, each on the images that still stand.

        Args:
            machine: the machine under test.
            strength: in the unit of `strength`.
            settings: how hard to attack.

        Raises:
            Refusal: the machine does not allow the attack.
        """


class Corrupting(Protocol[Taken]):
    """The function of a corruption; its name is the corruption's."""

    __name__: str

    def __call__(self, x: Images, constants: Taken, rng: np.random.Generator, /) -> Images | Levels:
        """Corrupted images.

        Args:
            x: (N, C, H, W) multiples of 1/255 in [0, 1].
            constants: of the severity.
            rng: all random numbers.

        Returns:
            (N, C, H, W); floats are clipped to [0, 1] and truncated to 8 bits, uint8 are grey levels already.
        """


@dataclass(frozen=True)
class Corruption(Generic[Constant]):
    """A corruption.

    Attributes:
        name: as threats spell it.
        function: what it does to images, see `Corrupting`.
        constants: the function's constant at severities 1 to 5.
        random: it draws random numbers.
        code: name of the code that makes it; with its version part of the key of every cell.
        version: of that code; raised whenever the images that it makes change.
        strength: what the strength of its threats means.
    """

    name: str
    function: Corrupting[Constant]
    constants: tuple[Constant, ...]
    random: bool
    code: str
    version: int

    strength: ClassVar[Strength] = SEVERITY

    @property
    def maker(self) -> Callable:
        """The function that decides what images it makes."""
        return self.function

    def at(self, severity: int, x: Images, rng: np.random.Generator) -> Images | Levels:
        """Images at a severity from 1 to 5, see `Corrupting`."""
        return self.function(x, self.constants[severity - 1], rng)


AnyCorruption = Corruption[Any]   # its constants are of the type that its own function takes
