"""Tiles of a network that is no chain: some of its layers, each read forward once, by what drives them on images.

`simulators.crossbar.tiled` records a torch module's convolutions and dense layers and runs them so.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mapping.crossbar.program import CrossbarLayer, check_untuned, place, placed
from mapping.crossbar.ranges import input_span
from mapping.crossbar.target import CrossbarTarget
from mapping.graph import Coupling
from mapping.targets import check_one_pass


@dataclass(frozen=True, eq=False)
class Recorded:
    """A layer, and what it met on calibration images.

    Attributes:
        coupling: its weights; of a dense layer a kernel of one pixel on a map of one pixel.
        inputs: (N, C, H, W) that drove it.
        positions: places of the kernel that an image takes, of all calls together.
    """

    coupling: Coupling
    inputs: np.ndarray
    positions: int


def compile_tiles(recorded: Sequence[Recorded], target: CrossbarTarget) -> tuple[CrossbarLayer, ...]:
    """Put layers on tiles, with converters that fit what drove them.

    Args:
        recorded: the layers.
        target: device, rung and options.

    Raises:
        Refusal: a tuned chip, or an option of a relaxation.
    """
    check_untuned(target)
    check_one_pass(target)
    return tuple(_converted(one, place(one.coupling, target), target) for one in recorded)


def _converted(one: Recorded, layer: CrossbarLayer, target: CrossbarTarget) -> CrossbarLayer:
    if not target.includes("converters"):
        return layer
    return replace(layer, spans=(input_span(placed(layer), one.inputs, one.coupling.window, target.converters),))
