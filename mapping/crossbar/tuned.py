"""A program with the chips that were tuned while it ran on them: it is opened on these chips and on no others."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import Field

from mapping.crossbar.chips import ARRAYS, Devices, arrays_of, chip_layout, chip_ranges
from mapping.crossbar.program import CrossbarProgram, CrossbarSettings, devices
from mapping.crossbar.target import CrossbarTarget
from mapping.fields import Seed, Stated
from mapping.graph import EPGraph
from mapping.program import Arrays, Program, Weights
from mapping.sealed import Layout, Ranges
from mapping.targets import Target


class TunedSettings(CrossbarSettings):
    """What a file says of a `TunedProgram`."""

    chips: Annotated[tuple[Seed, ...], Field(min_length=1, max_length=10_000)]


@dataclass(frozen=True, eq=False)
class TunedProgram(CrossbarProgram):
    """Its target says `tuned=on`.

    Attributes:
        chips: seed -> arrays of that chip by name, as `simulators.crossbar.programmed.ProgrammedChip.tensors` has them.
    """

    chips: dict[int, Arrays]
    kind: ClassVar[str] = "tuned crossbar"
    settings: ClassVar[type[Stated]] = TunedSettings

    def pack(self) -> tuple[Arrays, dict[str, Any]]:
        arrays, settings = super().pack()
        kept = {f"chip.{seed}.{name}": array for seed, chip in self.chips.items() for name, array in chip.items()}
        return {**arrays, **kept}, {**settings, "chips": list(self.chips)}

    @classmethod
    def unpack(cls, target: CrossbarTarget, graph: EPGraph, arrays: Arrays, settings: dict[str, Any]) -> "TunedProgram":
        plain = CrossbarProgram.unpack(target, graph, arrays, settings)
        return cls(target, graph, plain.layers, {seed: _chip(seed, arrays) for seed in settings["chips"]})

    @classmethod
    def takes(cls, target: Target) -> bool:
        return isinstance(target, CrossbarTarget) and target.tuned

    @classmethod
    def layout(cls, target: CrossbarTarget, weights: Weights, settings: Any,
               present: Collection[str]) -> Layout:
        layout = CrossbarProgram.layout(target, weights, settings, present)
        for seed in settings.chips:
            own = {name.removeprefix(f"chip.{seed}.") for name in present if name.startswith(f"chip.{seed}.")}
            layers = [Devices(layout[f"tiles.{name}.g_us"][1], shape[0],
                              arrays_of(target, f"{n}.{ARRAYS[1]}.conductance_us" in own))
                      for n, (name, shape) in enumerate(weights.items())]
            layout |= {f"chip.{seed}.{key}": part for key, part in chip_layout(layers, target, own).items()}
        return layout

    def verify(self):
        """See `CrossbarProgram.verify`: and each chip has the arrays that its layers are read from."""
        super().verify()
        for n, layer in enumerate(devices(self)):
            for chip in self.chips.values():
                if {name for name in ARRAYS if f"{n}.{name}.conductance_us" in chip} != set(layer.arrays):
                    raise ValueError(f"a chip without arrays of its own for layer {n}, or with more than it reads")

    @classmethod
    def ranges(cls, target: CrossbarTarget, layout: Layout) -> Ranges:
        kept = {name: part for name, part in layout.items() if name.startswith("chip.")}
        plain = {name: part for name, part in layout.items() if name not in kept}
        return CrossbarProgram.ranges(target, plain) | chip_ranges(kept, target)

    def on_rung(self, target: Target, graph: EPGraph) -> Program:
        """See `Program.on_rung`: only the last rung has these chips."""
        return self if isinstance(target, CrossbarTarget) and target.tuned else super().on_rung(target, graph)

    def chip_seeds(self, count: int) -> list[int | None]:
        """The first `count` chips that were tuned."""
        return [*list(self.chips)[:count]]


def _chip(seed: int, arrays: Arrays) -> Arrays:
    prefix = f"chip.{seed}."
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
