"""A program with the chips that were tuned while it ran on them: it is opened on these chips and on no others."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mapping.crossbar import CrossbarProgram


@dataclass(frozen=True, eq=False)
class TunedProgram(CrossbarProgram):
    """Its target says `tuned=on`.

    Attributes:
        chips: seed -> arrays of that chip by name, as `simulators.crossbar.programmed.ProgrammedChip.tensors` has them.
    """

    chips: dict[int, dict[str, np.ndarray]]
    kind: ClassVar[str] = "tuned crossbar"

    def pack(self):
        arrays, settings = super().pack()
        kept = {f"chip.{seed}.{name}": array for seed, chip in self.chips.items() for name, array in chip.items()}
        return {**arrays, **kept}, {**settings, "chips": list(self.chips)}

    @classmethod
    def unpack(cls, target, graph, arrays, settings):
        plain = CrossbarProgram.unpack(target, graph, arrays, settings)
        return cls(target, graph, plain.layers, {seed: _chip(seed, arrays) for seed in settings["chips"]})

    def chip_seeds(self, count: int):
        """The first `count` chips that were tuned."""
        return list(self.chips)[:count]


def _chip(seed: int, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    prefix = f"chip.{seed}."
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
