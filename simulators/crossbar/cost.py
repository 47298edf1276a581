"""Energy and latency of a relaxation on tiles, from one published chip.

    E = E_read [ sum over steps, read layers of tiles_n (P_n up + P_n down) + tiles of the readout ]        (1)
    t = t_read [ sum over steps of max over read layers of (P_n up + P_n down) + 1 ]                        (2)

P_n are the positions of layer n's convolution, each one read of every tile of the layer. The tiles of all layers work
at once, the positions of a layer and its two directions one after the other.
"""

from mapping.crossbar import CrossbarProgram
from simulators.machine import Cost
from simulators.reference import sweep_operations
from simulators.relaxation import active_layers, period_of

_TILE = 256
_READ_J = 13.4e-9
_READ_S = 133e-9
_SOURCE = ("HERMES (Le Gallo et al., Nat. Electron. 2023), one-phase read of 256 x 256 cells with 8-bit converters: "
           "13.4 nJ, 133 ns; its four-phase read takes 4 times both. Assumed: a read downwards costs a read upwards, "
           "energy goes with a tile's area, free phase, no digital neurons and no transfers. Good to a factor of 4.")


def relaxation_cost(program: CrossbarProgram) -> Cost:
    """Equations (1) and (2) for the free phase of one image, and its multiply-accumulates."""
    graph, target = program.graph, program.target
    period, depth = period_of(graph.schedule), len(graph.couplings)
    tile_reads = program.layers[-1].tiles
    serial_reads = 1
    for t in range(program.steps):
        reads = _reads(program, active_layers(graph.schedule, t, depth), t)
        tile_reads += sum(program.layers[n].tiles * count for n, count in reads.items())
        serial_reads += max(reads.values(), default=0)
    energy = tile_reads * _READ_J * target.tile.rows * target.tile.columns / _TILE**2
    operations = sweep_operations(graph) * program.steps / period + graph.readout.weight.size
    return Cost(operations, energy, serial_reads * _READ_S, _SOURCE)


def _reads(program: CrossbarProgram, active, t: int) -> dict[int, int]:
    """Positions that step t reads in each layer: upwards and downwards above an active layer, upwards at the image."""
    positions = [c.unpooled[1] * c.unpooled[2] for c in program.graph.couplings]
    again = program.target.is_noisy and program.target.input_read == "every"
    reads = {n + 1: 2 * positions[n + 1] for n in active if n + 1 < len(positions)}
    return reads | ({0: positions[0]} if 0 in active and (again or t == 0) else {})
