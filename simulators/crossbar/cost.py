"""Energy, latency and area of a relaxation on tiles, from the reads that the device's own source publishes.

    E = sum over reads of [ e_tile(area) tiles + e_conversion(bits) outputs ]                               (1)
    t = t_read(bits) [ sum over steps of max over read layers of (P_n forward + P_n backward) + 1 ]                  (2)
    A = a_tile(area) tiles, twice where feedback has arrays of its own                                      (3)

P_n are the positions of layer n's convolution, each one read of every tile of the layer, two of the image's where it is
driven in two phases, and one a bit where drives are read bit by bit; its outputs are the columns
in use of each row tile (forward) or the rows in use of each column tile (backward), for every slice. The tiles of all
layers work at once, the positions of a layer one after the other, and so do its two directions unless each has its own
array. e_tile is what a read takes besides its conversions. Converters count to their code, 300 ps each (Khaddam-Aljameh
et al., JSSC 2022), so that, of a tile of n cells a side that the source gives e_read and t_read for,

    e_conversion = conversion_share e_read / n * 2^(bits - 8),    t_read = t_read + t_code (2^bits - 2^8)  (4)

t_code once a phase. A device whose source states no read has no energy, latency or area, and never another chip's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from mapping.crossbar.presets import ISAAC_SHARE, Preset, TileRead
from mapping.crossbar.program import CrossbarLayer, CrossbarProgram
from mapping.crossbar.target import CrossbarTarget
from simulators.machine import Cost
from simulators.reference import sweep_operations
from simulators.relaxation import active_layers

BITS = 8
T_CODE_S = 0.3e-9     # a code
ONE_PHASE_S = 133e-9  # of HERMES, whose other reads take as many phases as they take longer
UNKNOWN = "{title} ({source}) states no energy or time of a read: energy, latency and area are unknown."
STATED = ("{title}: reads of {reads}. Converters take {share} of a read's energy{isaac} and count to their code, "
          "300 ps each. Assumed: a backward read costs a forward one; free phase; no digital neurons, sums and "
          "transfers.")


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
    reads = target.preset.reads
    if not reads:
        return Cost(operations, None, None, UNKNOWN.format(title=target.preset.title, source=target.preset.source))
    energy = [_energy_j(work, target, read) for read in reads]
    latency = [_latency_s(work, target, read) for read in reads]
    area = [read.area_mm2 * tiles * _share_of(target, read) for read in reads if read.area_mm2]
    return Cost(operations, energy[0], latency[0], _source(target.preset), _range(energy), _range(latency),
                area[0] if area else None, _range(area))


def _range(values: Sequence[float]) -> tuple[float, float] | None:
    """Low and high, None of less than two."""
    return (values[0], values[-1]) if len(values) > 1 else None


def _source(own: Preset) -> str:
    """Where the figures of a device with reads come from."""
    reads = "; ".join(f"{1e9 * read.energy_j:.3g} nJ and {1e9 * read.time_s:.3g} ns on {read.cells} x {read.cells} "
                      f"cells, {read.source}" for read in own.reads)
    share = own.reads[0].conversion_share
    isaac = ", as in ISAAC (Shafiee et al. 2016, table I)," if share == ISAAC_SHARE else ""
    return STATED.format(title=own.title, reads=reads, share=f"{share:.0%}", isaac=isaac)


@dataclass(frozen=True)
class _TileWork:
    """Tile reads and conversions of a relaxation, and how many reads follow one after the other."""

    tile_reads: int
    conversions: int
    serial_reads: int


def _work(program: CrossbarProgram) -> _TileWork:
    readout, separate = program.layers[-1], program.target.array.separate
    once = program.target.converters.reads(signed=False)
    tile_reads, conversions, serial = once * readout.tiles, once * _outputs(readout)[0], once
    for t in range(program.steps):
        reads = _reads(program, t)
        for n, directions in reads.items():
            tile_reads += program.layers[n].tiles * sum(directions)
            conversions += sum(p * outputs for p, outputs in zip(directions, _outputs(program.layers[n])))
        serial += max(((max if separate else sum)(directions) for directions in reads.values()), default=0)
    return _TileWork(tile_reads, conversions, serial)


def _energy_j(work: _TileWork, target: CrossbarTarget, read: TileRead) -> float:
    rest = (1 - read.conversion_share) * read.energy_j * _share_of(target, read)
    conversion = read.conversion_share * read.energy_j / read.cells * 2.0 ** (_bits(target) - BITS)
    return work.tile_reads * rest + work.conversions * conversion


def _latency_s(work: _TileWork, target: CrossbarTarget, read: TileRead) -> float:
    codes = T_CODE_S * (2 ** _bits(target) - 2**BITS) * max(1, round(read.time_s / ONE_PHASE_S))
    return work.serial_reads * (read.time_s + codes)


def _share_of(target: CrossbarTarget, read: TileRead) -> float:
    """Cells of a tile over those of the tile that a read is stated for."""
    return target.array.tile.rows * target.array.tile.columns / read.cells**2


def _bits(target: CrossbarTarget) -> int:
    """Resolution of the ADCs; where a rung has none, those of the stated reads."""
    return target.converters.adc_bits if target.includes("converters") else BITS


def _outputs(layer: CrossbarLayer) -> tuple[int, int]:
    """Conversions of one position (forward, backward), over all tiles and slices."""
    columns, slices = layer.stored.g_us.shape[2], len(layer.stored.g_us)
    return slices * columns * len(layer.row_cuts), slices * layer.rows * len(layer.column_cuts)


def _reads(program: CrossbarProgram, t: int) -> dict[int, tuple[int, int]]:
    """Positions (forward, backward) that step t reads in each layer: both above an active layer, one at the image.

    Of a feed-forward network it reads the layer that it updates, forward alone.
    """
    graph, target, converters = program.graph, program.target, program.target.converters
    positions = [c.unpooled[1] * c.unpooled[2] * converters.reads(signed=not n) for n, c in enumerate(graph.couplings)]
    active = active_layers(graph.schedule, t, len(positions))
    if not graph.has_feedback:
        return {n: (positions[n], 0) for n in active}
    again = target.is_noisy and target.dynamics.input_read == "every"
    reads = {n + 1: (positions[n + 1], positions[n + 1] * program.feeds_back[n + 1])
             for n in active if n + 1 < len(positions)}
    return reads | ({0: (positions[0], 0)} if 0 in active and (again or t == 0) else {})
