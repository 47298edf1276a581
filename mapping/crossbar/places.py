"""Where each device of a layer lies, and what it holds: tile, row and column, input and output.

A tile's used cells begin at its first row and column, inputs in their order, each with the places of its kernel side by
side; an offset column comes last. The columns of each slice are counted for themselves.
"""

from itertools import chain

import numpy as np

from mapping.crossbar.encoding import Cuts, owners
from mapping.crossbar.program import CrossbarLayer

FIELDS = ("slice", "plane", "tile_row", "tile_column", "row", "column", "output", "channel", "kernel_row",
          "kernel_column")
VALUES = ("weight", "target_us", "conductance_us")
DEVICE = np.dtype([*((name, np.int32) for name in FIELDS), *((name, np.float32) for name in VALUES)])
REFERENCE = -1   # output of a device in an offset column, which serves all outputs of its tile, and holds no weight


def devices_of(layer: CrossbarLayer, conductance_us: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """A record a device of type `DEVICE`, in the shape and order of the layer's conductances.

    Args:
        layer: on tiles.
        conductance_us: of a chip, like its targets.
        weight: (C_out, C_in, k_h, k_w) of the network, whose places may be inputs of their own on tiles.
    """
    shape = layer.stored.g_us.shape
    records = np.empty((*shape[:3], layer.rows), DEVICE)
    records["slice"], records["plane"] = np.indices(shape[:2])[..., None, None]
    for name, values in _columns(layer.column_cuts, shape[2]).items():
        records[name] = values[:, None]
    for name, values in _rows(layer, weight.shape[1:]).items():
        records[name] = values
    outputs = weight.reshape(len(weight), layer.rows)
    records["weight"] = np.pad(outputs, ((0, shape[2] - len(weight)), (0, 0)), constant_values=np.nan)
    records["target_us"] = layer.stored.g_us.reshape(records.shape)
    records["conductance_us"] = conductance_us.reshape(records.shape)
    return records.reshape(shape)


def _columns(cuts: Cuts, columns: int) -> dict[str, np.ndarray]:
    """Of each column of a slice: those of the outputs, then an offset column a tile where there are more."""
    references = range(columns - cuts[-1][1])
    places = [c - first for first, last in cuts for c in range(first, last)]
    return {"tile_column": np.array([*owners(cuts), *references]),
            "column": np.array([*places, *(cuts[t][1] - cuts[t][0] for t in references)]),
            "output": np.array([*range(cuts[-1][1]), *(REFERENCE for _ in references)])}


def _rows(layer: CrossbarLayer, kernel: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Of each row of a layer."""
    taken = layer.rows // layer.row_cuts[-1][1]   # by an input
    sizes = [(last - first) * taken for first, last in layer.row_cuts]
    channel, kernel_row, kernel_column = np.unravel_index(np.arange(layer.rows), kernel)
    return {"tile_row": np.repeat(np.arange(len(sizes)), sizes),
            "row": np.array([*chain.from_iterable(map(range, sizes))]),
            "channel": channel, "kernel_row": kernel_row, "kernel_column": kernel_column}
