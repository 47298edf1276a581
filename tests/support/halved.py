"""A machine of one's own, its half of `mapping`: an EP network whose weights are halved again and again."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

import mapping
from mapping.fields import Stated, Steps
from mapping.options import option, whole


@dataclass(frozen=True)
class HalvedTarget(mapping.Target):
    """Weights over 2^times."""

    times: int = option(1, whole, "how often weights are halved", "0 to 9", 0, 9)


class HalvedSettings(Stated):
    """What a file says of a `HalvedProgram`."""

    planned: Steps


@dataclass(frozen=True, eq=False)
class HalvedProgram(mapping.Program[HalvedTarget]):
    """Weights of every layer, and how many steps are planned."""

    halves: tuple[np.ndarray, ...]
    planned: int
    kind: ClassVar[str] = "halved"
    settings: ClassVar[type[Stated]] = HalvedSettings

    def pack(self):
        return {f"halved.{n}": half for n, half in enumerate(self.halves)}, {"planned": self.planned}

    @classmethod
    def unpack(cls, target, graph, arrays, settings):
        halves = tuple(arrays[f"halved.{n}"] for n in range(len(graph.couplings)))
        return cls(target, graph, halves, settings["planned"])

    @classmethod
    def takes(cls, target):
        return isinstance(target, HalvedTarget)

    @classmethod
    def layout(cls, target, weights, settings, present):
        return {f"halved.{n}": ("float32", shape) for n, shape in enumerate(list(weights.values())[:-1])}

    @classmethod
    def ranges(cls, target, layout):
        return dict.fromkeys(layout, (-1e9, 1e9))

    def report(self):
        return mapping.Table("halved", ("layer",), tuple((c.name,) for c in self.graph.couplings))

    def halved_graph(self):
        """The network as the machine runs it."""
        couplings = tuple(replace(c, weight=half) for c, half in zip(self.graph.couplings, self.halves))
        return replace(self.graph, couplings=couplings)


def compile_halved(graph, target):
    halves = tuple(np.float32(c.weight / 2**target.times) for c in graph.couplings)
    return HalvedProgram(target, graph, halves, graph.steps)


mapping.register_machine(HalvedTarget("halved"), "an EP network with smaller weights", compile=compile_halved)
