"""How weights become conductances of unit cells, and how cells are read as weights again.

With x = w / w_max in [-1, 1] and L levels of a device (any number of them where L is not given):

    pair     g+ = g_min + D max(x, 0),  g- = g_min + D max(-x, 0),  D = g_max - g_min;  w ~ g+ - g-          (1)
    offset   g = g_min + D (m + m' x),  one column of g_min + D m a tile;  w ~ g - its tile's column         (2)
    slices   |x| (L^S - 1) = sum_s d_s L^(S-1-s),  each digit d_s in a pair;  w ~ sum_s L^-s (g+_s - g-_s)   (3)

m = m' = 1/2, or the middle level and what it leaves above where levels are even. w_max is the layer's largest |w|, or
with column scaling the column's: its w_max relative to the layer's then multiplies the column digitally, after a
forward read and before a backward one.

Source: unit cells of HERMES (Le Gallo et al. 2023) for (1), biased weights and bit slices of ISAAC (Shafiee et al.,
ISCA 2016) for (2) and (3), with the bias in a column of devices.
"""

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from mapping.crossbar.target import CrossbarTarget

A = TypeVar("A", bound=Any)   # a numpy array or a tensor: this package knows no torch
Cuts = tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class StoredWeights:
    """Weights as conductances.

    Attributes:
        g_us: (slices, planes, columns, C_in, k_h, k_w) float32, microsiemens. A pair has two planes of C_out columns,
            an offset one plane of C_out columns and then one a column tile.
        us_per_weight: microsiemens that a weight of 1 takes in the most significant slice.
        base: significance of a slice over the next.
        column_scale: (C_out,) float32, at most 1: digital factor of each column.
    """

    g_us: np.ndarray
    us_per_weight: float
    base: int
    column_scale: np.ndarray


def store(weight: np.ndarray, target: CrossbarTarget, column_cuts: Cuts) -> StoredWeights:
    """Encode a layer's weights (C_out, C_in, k_h, k_w) by the target's encoding, levels, range and scaling."""
    w_max = float(np.abs(weight).max()) or 1.0
    scale = np.ones(len(weight), np.float32)
    if target.array.scaling == "column":
        scale = np.abs(weight).reshape(len(weight), -1).max(1) / np.float32(w_max)
        scale[scale == 0] = 1
    x = np.clip(weight / (np.float32(w_max) * scale[:, None, None, None]), -1, 1)   # rounding may pass 1
    levels = target.device.levels if target.includes("levels") else None
    slices, base = slices_of(target)
    encode = _offset if target.array.encoding == "offset" else _pairs
    fractions, gain = encode(x, levels, slices, column_cuts)
    span_us = np.float32(target.g_max_us - target.g_min_us)
    g_us = np.float32(target.g_min_us) + span_us * fractions
    return StoredWeights(g_us, float(span_us) * gain / w_max, base, scale)


def slices_of(target: CrossbarTarget) -> tuple[int, int]:
    """How many cells one after the other hold a weight, and the significance of one over the next."""
    levels = target.device.levels if target.includes("levels") else None
    return (target.array.slices, levels) if target.array.encoding == "slices" and levels else (1, 1)


def difference(planes: A, column_cuts: Cuts) -> A:
    """(slices, C_out, C_in, k_h, k_w): what the cells of each weight sense together, of arrays or tensors."""
    if planes.shape[1] == 2:
        return planes[:, 0] - planes[:, 1]
    outputs = column_cuts[-1][1]
    return planes[:, 0, :outputs] - planes[:, 0, [outputs + c for c in owners(column_cuts)]]


def owners(column_cuts: Cuts) -> list[int]:
    """The column tile of each output channel."""
    return [c for c, (first, last) in enumerate(column_cuts) for _ in range(first, last)]


def outputs_per_tile(target: CrossbarTarget) -> int:
    """Output channels that the columns of a tile hold; a pair takes one column of unit cells."""
    if target.array.encoding == "offset":
        return target.array.tile.columns - 1
    return target.array.tile.columns // (target.array.slices if target.array.encoding == "slices" else 1)


def _pairs(x: np.ndarray, levels: int | None, slices: int, column_cuts: Cuts) -> tuple[np.ndarray, float]:
    """Equations (1) and (3): fractions of the range, (S, 2, C_out, C_in, k_h, k_w), and the range a weight takes."""
    pair = np.stack([np.maximum(x, 0), np.maximum(-x, 0)])
    if levels is None:
        return pair[None], 1.0
    codes = np.round(pair.astype(np.float64) * (levels**slices - 1))
    places = [levels ** (slices - 1 - s) for s in range(slices)]
    digits = np.stack([codes // place % levels for place in places])
    return (digits / (levels - 1)).astype(np.float32), (levels**slices - 1) / ((levels - 1) * places[0])


def _offset(x: np.ndarray, levels: int | None, slices: int, column_cuts: Cuts) -> tuple[np.ndarray, float]:
    """Equation (2): fractions of the range, (1, 1, C_out + column tiles, C_in, k_h, k_w), and what a weight takes."""
    middle = 0.5 if levels is None else (levels - 1) // 2 / (levels - 1)
    moved = x * middle if levels is None else np.round(x * ((levels - 1) // 2)) / (levels - 1)
    reference = np.full((len(column_cuts), *x.shape[1:]), middle)
    return np.concatenate([middle + moved, reference]).astype(np.float32)[None, None], middle
