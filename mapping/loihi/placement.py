"""Where every unit and synapse of a Loihi program goes: blocks of sites on cores, cores on chips.

Each part (mapping.loihi.parts) is cut into a grid of equal blocks, of the shape that takes the fewest cores, then the
fewest axons, among those that fit a core. Blocks are then dealt out in order, each to the last opened core if it fits
beside what is there, else to a new one; a chip is full when it has no core left or too many synapses. No choice
depends on anything but the shapes, so the same network gets the same placement.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mapping.errors import Refusal
from mapping.graph import EPGraph
from mapping.loihi.limits import limit
from mapping.loihi.parts import SHARED, Need, Part, SiteAxis, parts_of
from mapping.loihi.target import LoihiTarget


@dataclass(frozen=True)
class PlacedBlock:
    """Sites of one part on one core: (start, stop) of channels, rows and columns; cores are numbered over all chips."""

    layer: str
    part: str
    channels: tuple[int, int]
    rows: tuple[int, int]
    columns: tuple[int, int]
    core: int
    chip: int
    need: Need


@dataclass(frozen=True, eq=False)
class Placement:
    """All blocks of a program, in order of layer and core."""

    blocks: tuple[PlacedBlock, ...]

    @property
    def cores(self) -> int:
        return self.blocks[-1].core + 1

    @property
    def chips(self) -> int:
        return self.blocks[-1].chip + 1

    def of(self, layer: str, part: str) -> tuple[PlacedBlock, ...]:
        """The blocks of one part."""
        return tuple(b for b in self.blocks if (b.layer, b.part) == (layer, part))


def place(graph: EPGraph, target: LoihiTarget) -> Placement:
    """Place a graph on as many chips as it takes.

    Raises:
        Refusal: one site needs more than a core has, or the program more chips than `target.chips`.
    """
    blocks, core, chip = [], _Core(0), _Chip(0)
    for part in parts_of(graph, target.weight_bits, target.weights):
        for channels, rows, columns in _grid(part, block_shape(part)):
            need = part.need(channels[1] - channels[0], rows, columns)
            core, chip = _seat(core, chip, need)
            if target.chips is not None and chip.number >= target.chips:
                raise _too_many_chips(part, target)
            blocks.append(PlacedBlock(part.layer, part.kind, channels, rows, columns, core.number, chip.number, need))
    return Placement(tuple(blocks))


def blocks_of_core(graph: EPGraph, target: LoihiTarget, core: int) -> tuple[PlacedBlock, ...]:
    """What is on a core.

    Raises:
        Refusal: there is no such core.
    """
    placement = place(graph, target)
    if core >= placement.cores:
        raise Refusal("no such core", where=f"{target.name}, lost_core", got=core,
                      allowed=f"0 to {placement.cores - 1}", remedy="see 'ep-hw compile' for what is on each")
    return tuple(block for block in placement.blocks if block.core == core)


@dataclass(frozen=True)
class _Core:
    """A core and what is on it."""

    number: int
    neurons: int = 0
    memory_bits: int = 0

    def add(self, need: Need) -> "_Core":
        return _Core(self.number, self.neurons + need.neurons, self.memory_bits + need.memory_bits)

    @property
    def fits(self) -> bool:
        return self.neurons <= limit("neurons a core") and self.memory_bits <= 8 * limit("memory a core")


@dataclass(frozen=True)
class _Chip:
    """A chip: how many cores are open on it, the weights it stores."""

    number: int
    cores: int = 1
    weights: int = 0

    @property
    def fits(self) -> bool:
        return self.cores <= limit("cores a chip") and self.weights <= limit("synapses a chip")


def _seat(core: _Core, chip: _Chip, need: Need) -> tuple[_Core, _Chip]:
    """The core and chip, with their new contents, that take a block which fits an empty core."""
    same = core.add(need)
    grown = _Chip(chip.number, chip.cores + (not same.fits), chip.weights + need.weights)
    if not grown.fits:
        grown = _Chip(chip.number + 1, 1, need.weights)
    stays = same.fits and grown.number == chip.number
    return (same if stays else _Core(core.number + 1).add(need)), grown


def block_shape(part: Part) -> tuple[int, int, int]:
    """(channels, rows, columns) of the blocks a part is cut into: fewest cores, then fewest axons, then widest.

    Raises:
        Refusal: one site does not fit a core.
    """
    h, w = (np.arange(1, len(axis) + 1) for axis in (part.rows, part.columns))
    (taps_h, reads_h), (taps_w, reads_w) = _largest(part.rows), _largest(part.columns)
    sites, taps = np.outer(h, w), np.outer(taps_h, taps_w)
    axons = part.sources * np.outer(reads_h, reads_w)
    free = 8 * (limit("memory a core") - axons * limit("memory an input axon"))
    weights = part.sources * (part.kernel if part.weights == SHARED else taps)
    site_bytes = part.neurons * limit("memory a neuron") + part.hears * limit("memory an input axon")
    room = np.minimum(free // (weights * part.weight_bits + 8 * site_bytes * sites),
                      limit("neurons a core") // (part.neurons * sites))
    channels = np.minimum(room, part.channels)
    fits = channels > 0
    if not fits.any():
        raise _too_large(part)
    grid = -(-len(part.rows) // h)[:, None] * -(-len(part.columns) // w)
    cores = grid * -(-part.channels // np.maximum(channels, 1))
    worst = np.iinfo(np.int64).max
    order = np.lexsort((-sites.ravel(), np.where(fits, cores * axons, worst).ravel(),
                        np.where(fits, cores, worst).ravel()))
    row, column = np.unravel_index(order[0], sites.shape)
    return int(channels[row, column]), int(h[row]), int(w[column])


def _largest(axis: SiteAxis) -> tuple[np.ndarray, np.ndarray]:
    """(most taps, most distinct sources) of any run of 1, 2, ... sites of an axis."""
    n, total = len(axis), np.concatenate([[0], np.cumsum(axis.taps)])
    most = []
    for length in range(1, n + 1):
        start = np.arange(n - length + 1)
        most.append((np.max(total[start + length] - total[start]), np.max(axis.reads(start, start + length))))
    return tuple(np.array(most, np.int64).T)


def _grid(part: Part, shape: tuple[int, int, int]) -> Iterator[tuple]:
    """(channels, rows, columns) ranges of a part's blocks; the last of each axis may be smaller."""
    extents = (part.channels, len(part.rows), len(part.columns))
    channels, rows, columns = ([(a, min(a + step, n)) for a in range(0, n, step)] for n, step in zip(extents, shape))
    return ((c, r, v) for c in channels for r in rows for v in columns)


def _too_large(part: Part) -> Refusal:
    needs = [part.need(1, (r, r + 1), (v, v + 1)) for r in range(len(part.rows)) for v in range(len(part.columns))]
    most = max(needs, key=lambda need: need.memory_bits)
    return Refusal("one unit does not fit a core", where=f"layer {part.layer}, {part.kind}",
                   got=f"{-(-most.memory_bits // 8)} bytes, {most.neurons} neurons",
                   allowed=f"{limit('memory a core')} bytes, {limit('neurons a core')} neurons a core",
                   remedy="use fewer weight_bits, or give the layer fewer channels or a smaller kernel")


def _too_many_chips(part: Part, target: LoihiTarget) -> Refusal:
    remedy = "allow more chips, or use fewer weight_bits"
    return Refusal("the program takes more chips", where=f"layer {part.layer}, {part.kind}",
                   got=f"more than {target.chips} chip(s) up to this layer",
                   allowed=f"chips={target.chips}, {limit('cores a chip')} cores each",
                   remedy=remedy if target.weights == SHARED else f"{remedy}, or weights=shared")
