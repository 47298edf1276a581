"""A program with the chips that were tuned while it ran on them: it is opened on these chips and on no others."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from mapping.crossbar.chips import chip_layout, chip_ranges
from mapping.crossbar.program import CrossbarProgram, CrossbarSettings
from mapping.crossbar.target import CrossbarTarget
from mapping.fields import Seed, Stated


class TunedSettings(CrossbarSettings):
    """What a file says of a `TunedProgram`."""

    chips: Annotated[tuple[Seed, ...], Field(min_length=1, max_length=10_000)]


@dataclass(frozen=True, eq=False)
class TunedProgram(CrossbarProgram):
    """Its target says `tuned=on`.

    Attributes:
        chips: seed -> arrays of that chip by name, as `simulators.crossbar.programmed.ProgrammedChip.tensors` has them.
    """

    chips: dict[int, dict[str, np.ndarray]]
    kind: ClassVar[str] = "tuned crossbar"
    settings: ClassVar[type[Stated]] = TunedSettings

    def pack(self):
        arrays, settings = super().pack()
        kept = {f"chip.{seed}.{name}": array for seed, chip in self.chips.items() for name, array in chip.items()}
        return {**arrays, **kept}, {**settings, "chips": list(self.chips)}

    @classmethod
    def unpack(cls, target, graph, arrays, settings):
        plain = CrossbarProgram.unpack(target, graph, arrays, settings)
        return cls(target, graph, plain.layers, {seed: _chip(seed, arrays) for seed in settings["chips"]})

    @classmethod
    def takes(cls, target):
        return isinstance(target, CrossbarTarget) and target.tuned

    @classmethod
    def layout(cls, target, weights, settings, present):
        found = CrossbarProgram.layout(target, weights, settings, present)
        shapes = [(found[f"tiles.{name}.g_us"][1], shape[0]) for name, shape in weights.items()]
        for seed in settings.chips:
            own = {name.removeprefix(f"chip.{seed}.") for name in present if name.startswith(f"chip.{seed}.")}
            found |= {f"chip.{seed}.{key}": part for key, part in chip_layout(shapes, target, own).items()}
        return found

    @classmethod
    def ranges(cls, target, layout):
        kept = {name: part for name, part in layout.items() if name.startswith("chip.")}
        plain = {name: part for name, part in layout.items() if name not in kept}
        return CrossbarProgram.ranges(target, plain) | chip_ranges(kept, target)

    def chip_seeds(self, count: int):
        """The first `count` chips that were tuned."""
        return list(self.chips)[:count]


def _chip(seed: int, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    prefix = f"chip.{seed}."
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
