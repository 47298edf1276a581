"""What a programmed chip is kept as: the names, types, shapes and ranges of its arrays.

    0.forward.conductance_us    as a relaxation finds them         0.forward.fresh_us     of a read, where there is any
    0.forward.compensation      digital factor                     0.bias                 digital, where it was learnt
    0.forward.column_factors    digital, of each column on top, where each column's drift is compensated

and 0.feedback.* where the feedback reads devices of its own; 1 and so on for the layers above, the readout last.
`simulators.crossbar.programmed.ProgrammedChip` makes and reads them.
"""

from collections.abc import Container, Sequence
from typing import NamedTuple

from mapping.crossbar.target import CrossbarTarget
from mapping.sealed import Layout, Ranges

ARRAYS = ("forward", "feedback")
HIGHEST = 100   # conductances over the device's largest: no error of programming comes near it


class Devices(NamedTuple):
    """What devices hold a layer.

    Attributes:
        shape: of the conductances of an array.
        outputs: number of output channels.
        arrays: names of its arrays.
    """

    shape: tuple[int, ...]
    outputs: int
    arrays: tuple[str, ...]


def arrays_of(target: CrossbarTarget, backward: bool) -> tuple[str, ...]:
    """Names of a layer's arrays of devices: of both directions, or one that they share or that is read forward alone.

    Args:
        backward: whether it is read backward too.
    """
    return ARRAYS if target.array.separate and backward else ARRAYS[:1]


def chip_layout(layers: Sequence[Devices], target: CrossbarTarget, present: Container[str]) -> Layout:
    """Type and shape of each array of a chip.

    Args:
        layers: what devices hold each of them.
        target: that the chip was programmed for.
        present: names of the arrays that are there: says which of the optional ones must be.
    """
    layout: Layout = {}
    for n, layer in enumerate(layers):
        for name in layer.arrays:
            layout[f"{n}.{name}.conductance_us"] = ("float32", layer.shape)
            layout[f"{n}.{name}.compensation"] = ("float64", (1,))
            if target.includes("aged") and target.array.drift_compensation == "column":
                layout[f"{n}.{name}.column_factors"] = ("float32", (layer.outputs,))
            if f"{n}.{name}.fresh_us" in present and target.includes("read"):
                layout[f"{n}.{name}.fresh_us"] = ("float32", layer.shape)
        if "0.bias" in present:
            layout[f"{n}.bias"] = ("float32", (layer.outputs,))
    return layout


def chip_ranges(layout: Layout, target: CrossbarTarget) -> Ranges:
    """Lowest and highest value of each array."""
    highest_us = HIGHEST * target.g_max_us
    ranges = {"conductance_us": (0, highest_us), "fresh_us": (0, highest_us), "compensation": (0, 1e9),
              "column_factors": (0, 1),
              "bias": (-1e30, 1e30), "owed_us": (-highest_us, highest_us), "pulses": (0, 2**31 - 1)}
    return {name: ranges[name.rpartition(".")[2]] for name in layout}
