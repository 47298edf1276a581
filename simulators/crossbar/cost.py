"""Energy, latency and area of a relaxation on tiles, as a range between published figures.

    E = sum over reads of [ e_tile(area) tiles + e_conversion(bits) outputs ]                               (1)
    t = t_read(bits) [ sum over steps of max over read layers of (P_n forward + P_n backward) + 1 ]                  (2)
    A = a_tile(area) tiles, twice where feedback has arrays of its own                                      (3)

P_n are the positions of layer n's convolution, each one read of every tile of the layer, or two of the image's where
it is driven in two phases; its outputs are the columns
in use of each row tile (forward) or the rows in use of each column tile (backward), for every slice. The tiles of all
layers work at once, the positions of a layer one after the other, and so do its two directions unless each has its own
array. e_tile is what a read takes besides its conversions. Converters count to their code, 300 ps each, so that

    e_conversion = CONVERSION_SHARE E_READ / 256 * 2^(bits - 8),    t_read = T_READ + t_code (2^bits - 2^8)  (4)

Reads of the published devices are taken for HERMES'. A user's device has reads of its own: where its file states none,
energy, latency and area are unknown, and never another chip's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from mapping.crossbar.presets import TileRead
from mapping.crossbar.program import CrossbarLayer, CrossbarProgram
from mapping.crossbar.target import CrossbarTarget
from mapping.registry import contents
from simulators.machine import Cost
from simulators.reference import sweep_operations
from simulators.relaxation import active_layers

TILE, BITS = 256, 8
CONVERSION_SHARE = 16 / 24.08     # ADCs of the power of ISAAC's multiply-accumulate unit, from memory: unconfirmed
T_CODE_S = 0.3e-9                 # of HERMES' converters, a code
MM2 = tuple(2 * TILE**2 / 133e-9 / density for density in (1.59e12, 0.4e12))   # operations a second and mm2
SOURCE = ("HERMES (Le Gallo et al., Nat. Electron. 2023; Khaddam-Aljameh et al., JSSC 2022), 256 x 256 cells, 8-bit "
          "converters. Low: one-phase reads of 13.4 nJ and 133 ns, the area of its core by 1.59 TOPS/mm2. High: "
          "four-phase reads of 52.9 nJ and 521 ns, the area of its chip by 0.4 TOPS/mm2. Conversions take two thirds "
          "of a read's energy, as in ISAAC (Shafiee et al. 2016; quoted from memory, unconfirmed). Assumed: a "
          "backward read costs a forward one; free phase; no digital neurons, sums and transfers.")


UNKNOWN = "{title} ({source}) states no energy or time of a read: energy, latency and area are unknown."
STATED = ("{title} ({source}): reads as its device file states them, of 256 x 256 cells and 8-bit converters. "
          "Conversions take two thirds of a read's energy, as in ISAAC (Shafiee et al. 2016; quoted from memory, "
          "unconfirmed), and count to their code, 300 ps each. No area; no digital neurons, sums and transfers.")
ONE_PHASE, FOUR_PHASE = TileRead(energy_j=13.4e-9, time_s=133e-9), TileRead(energy_j=52.9e-9, time_s=521e-9)


def relaxation_cost(program: CrossbarProgram) -> Cost:
    """Equations (1) to (3) for the free phase of one image, and its multiply-accumulates."""
    graph, separate = program.graph, program.target.array.separate
    tiles = sum(layer.tiles * (1 + (separate and back)) for layer, back in zip(program.layers, program.feeds_back))
    operations = sweep_operations(graph) * program.steps / graph.period + graph.readout.weight.size
    return _cost(_work(program), tiles, operations, program.target)


def pass_cost(layers: Sequence[CrossbarLayer], positions: Sequence[int], operations: float,
              target: CrossbarTarget) -> Cost:
    """The same where each layer is read forward alone, one layer after the other.

    Args:
        layers: on tiles.
        positions: reads of each that an image takes.
        operations: multiply-accumulates of an image.
        target: that the layers are on.
    """
    conversions = sum(n * _outputs(layer)[0] for n, layer in zip(positions, layers))
    work = _TileWork(sum(n * layer.tiles for n, layer in zip(positions, layers)), conversions, sum(positions))
    return _cost(work, sum(layer.tiles for layer in layers), operations, target)


def _cost(work: "_TileWork", tiles: int, operations: float, target: CrossbarTarget) -> Cost:
    if contents(target):
        return _stated_cost(work, operations, target)
    energy = _energy_j(work, target, ONE_PHASE), _energy_j(work, target, FOUR_PHASE)
    latency = _latency_s(work, target, ONE_PHASE), _latency_s(work, target, FOUR_PHASE)
    cells = target.array.tile.rows * target.array.tile.columns
    area = MM2[0] * tiles * cells / TILE**2, MM2[1] * tiles * cells / TILE**2
    return Cost(operations, energy[0], latency[0], SOURCE, energy, latency, area[0], area)


def _stated_cost(work: "_TileWork", operations: float, target: CrossbarTarget) -> Cost:
    """Of a user's device, by what its file states of a read."""
    own, read = target.preset, target.preset.read
    source = (UNKNOWN if read is None else STATED).format(title=own.title, source=own.source)
    if read is None:
        return Cost(operations, None, None, source)
    return Cost(operations, _energy_j(work, target, read), _latency_s(work, target, read), source)


@dataclass(frozen=True)
class _TileWork:
    """Tile reads and conversions of a relaxation, and how many reads follow one after the other."""

    tile_reads: int
    conversions: int
    serial_reads: int


def _work(program: CrossbarProgram) -> _TileWork:
    readout, separate = program.layers[-1], program.target.array.separate
    tile_reads, conversions, serial = readout.tiles, _outputs(readout)[0], 1
    for t in range(program.steps):
        reads = _reads(program, t)
        for n, directions in reads.items():
            tile_reads += program.layers[n].tiles * sum(directions)
            conversions += sum(p * outputs for p, outputs in zip(directions, _outputs(program.layers[n])))
        serial += max(((max if separate else sum)(directions) for directions in reads.values()), default=0)
    return _TileWork(tile_reads, conversions, serial)


def _energy_j(work: _TileWork, target: CrossbarTarget, read: TileRead) -> float:
    rest = (1 - CONVERSION_SHARE) * read.energy_j * target.array.tile.rows * target.array.tile.columns / TILE**2
    conversion = CONVERSION_SHARE * read.energy_j / TILE * 2.0 ** (_bits(target) - BITS)
    return work.tile_reads * rest + work.conversions * conversion


def _latency_s(work: _TileWork, target: CrossbarTarget, read: TileRead) -> float:
    codes = T_CODE_S * (2 ** _bits(target) - 2**BITS) * max(1, round(read.time_s / ONE_PHASE.time_s))
    return work.serial_reads * (read.time_s + codes)


def _bits(target: CrossbarTarget) -> int:
    """Resolution of the ADCs; where a rung has none, HERMES' own."""
    return target.converters.adc_bits if target.includes("converters") else BITS


def _outputs(layer: CrossbarLayer) -> tuple[int, int]:
    """Conversions of one position (forward, backward), over all tiles and slices."""
    columns, slices = layer.stored.g_us.shape[2], len(layer.stored.g_us)
    return slices * columns * len(layer.row_cuts), slices * layer.rows * len(layer.column_cuts)


def _reads(program: CrossbarProgram, t: int) -> dict[int, tuple[int, int]]:
    """Positions (forward, backward) that step t reads in each layer: both above an active layer, one at the image.

    Of a feed-forward network it reads the layer that it updates, forward alone.
    """
    graph, target, phases = program.graph, program.target, 1 + program.target.converters.two_phase
    positions = [c.unpooled[1] * c.unpooled[2] for c in graph.couplings]
    active = active_layers(graph.schedule, t, len(positions))
    if not graph.has_feedback:
        return {n: (positions[n] * (1 if n else phases), 0) for n in active}
    again = target.is_noisy and target.dynamics.input_read == "every"
    reads = {n + 1: (positions[n + 1], positions[n + 1] * program.feeds_back[n + 1])
             for n in active if n + 1 < len(positions)}
    return reads | ({0: (phases * positions[0], 0)} if 0 in active and (again or t == 0) else {})
