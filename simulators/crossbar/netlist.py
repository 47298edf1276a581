"""A programmed tile as a SPICE netlist: its cells, wires and terminals, read forward and backward.

Every plane of a slice is a subcircuit of its own between the terminals r0, r1 ... of its word lines and c0, c1 ... of
its bit lines: a cell is a resistor of 1/g, and one wire segment of `wire_ohm` lies between neighbouring cells and
between a line and its terminal, as in `simulators.crossbar.wires`. A read holds the terminals that it drives at their
voltages, the others at 0 V, and senses the currents into these. With V on the driven lines,

    I = V T g0,    g0 = 1 uS                                                                                  (1)

where T (rows x columns) is that of `simulators.crossbar.wires`, and of a backward read its transpose. Both reads are
instances of the subcircuits, so that one operating point answers both. The lines are linear resistors and ideal
sources alone: any SPICE takes them. A device with a curve (simulators.crossbar.curves) is a behavioural source,

    i = g V_r sinh(v / v_0) / sinh(V_r / v_0)                                                                (2)
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import product

import numpy as np

from mapping.crossbar.program import CrossbarProgram
from mapping.errors import Refusal
from simulators.crossbar.array import Array
from simulators.crossbar.programmed import ProgrammedChip
from simulators.crossbar.programming import READ_V
from simulators.crossbar.wires import tile_of

_WORDS = 12   # on a line
_OHM_US = 1e6


def tile_netlist(program: CrossbarProgram, chip: ProgrammedChip, layer: str, tile: tuple[int, int],
                 rows_v: Sequence[float] | None = None, columns_v: Sequence[float] | None = None) -> str:
    """The netlist of one tile, whose analysis is an operating point.

    Args:
        program: on tiles.
        chip: programmed with it.
        layer: a layer's name.
        tile: (row, column) of the tile in its layer.
        rows_v: voltage on each word line in the forward read; READ_V on all of them if None.
        columns_v: voltage on each bit line in the backward read, of an offset column last; alike.

    Returns:
        A netlist that saves i(vf_s0p0_c0) ... in amperes, what slice 0, plane 0 puts into the ground of its column 0 in
        the forward read, and i(vb_s0p0_r0) ... what it puts into the ground of its row 0 in the backward read, where
        the layer is read so.

    Raises:
        Refusal: no such layer or tile, or other lines than it has.
    """
    pair = chip.arrays[_number(program, layer)]
    _check_tile(pair[0], layer, tile)
    forward, backward = _planes(pair[0], tile), _planes(pair[-1], tile)
    height, width = next(iter(forward.values())).shape
    rows_v, columns_v = _volts(rows_v, height, "rows_v"), _volts(columns_v, width, "columns_v")
    lines = [*_header(program, chip, layer, tile), *_reads("f", forward, pair[0], rows_v)]
    if len(pair) > 1:
        known = pair[1] is pair[0] and pair[0].is_symmetric
        lines += _reads("b", backward, pair[1], columns_v, "f" if known else "b")
    saved = [f"i(vf_{p}_c{j})" for p in forward for j in range(width)]
    saved += [f"i(vb_{p}_r{k})" for p in backward for k in range(height) if len(pair) > 1]
    return "\n".join([*lines, *folded([".save", *saved]), ".op", ".end"]) + "\n"


def subcircuit(name: str, g_us: np.ndarray, wire_ohm: tuple[float, float] | None,
               opposite: bool = False, sinh_v: float | None = None) -> Iterator[str]:
    """One plane's cells and wires between its terminals.

    Args:
        name: of the subcircuit.
        g_us: (rows, columns) microsiemens.
        wire_ohm: of a segment of word lines and of bit lines, None for perfect wires.
        opposite: terminals at the other ends of the lines.
        sinh_v: v_0 of equation (2), None for resistors.
    """
    height, width = g_us.shape
    yield from folded([f".subckt {name}", *terminals(height, width)])
    if wire_ohm is None:
        yield from _cells(g_us, "r{0}", "c{1}", sinh_v)
    else:
        word, bit = wire_ohm
        row_end, column_end = (width - 1, 0) if opposite else (0, height - 1)
        yield from _cells(g_us, "w{0}_{1}", "b{0}_{1}", sinh_v)
        yield from (f"rr{k} r{k} w{k}_{row_end} {word!r}" for k in range(height))
        yield from (f"rc{j} c{j} b{column_end}_{j} {bit!r}" for j in range(width))
        yield from (f"rw{k}_{j} w{k}_{j} w{k}_{j + 1} {word!r}" for k, j in np.ndindex(height, width - 1))
        yield from (f"rb{k}_{j} b{k}_{j} b{k + 1}_{j} {bit!r}" for k, j in np.ndindex(height - 1, width))
    yield ".ends"


def terminals(height: int, width: int) -> list[str]:
    """Of a subcircuit, in their order: word lines, then bit lines."""
    return [*(f"r{k}" for k in range(height)), *(f"c{j}" for j in range(width))]


def folded(words: Sequence[str]) -> Iterator[str]:
    """Words as one statement over several lines."""
    for start in range(0, len(words), _WORDS):
        yield " ".join(["+"] * bool(start) + [*words[start:start + _WORDS]])


def _cells(g_us: np.ndarray, row: str, column: str, sinh_v: float | None) -> Iterator[str]:
    """A resistor, or the source of equation (2), a cell that conducts."""
    for k, j in np.argwhere(g_us > 0).tolist():
        ends, g = (row.format(k, j), column.format(k, j)), g_us[k, j].item()
        if sinh_v is None:
            yield f"rg{k}_{j} {ends[0]} {ends[1]} {_OHM_US / g!r}"
        else:
            factor = g / _OHM_US * READ_V / math.sinh(READ_V / sinh_v)
            yield f"bg{k}_{j} {ends[0]} {ends[1]} i={factor!r}*sinh(v({ends[0]},{ends[1]})*{1 / sinh_v!r})"


def _planes(array: Array, tile: tuple[int, int]) -> dict[str, np.ndarray]:
    """Name -> (rows, columns) float64 conductances in microsiemens of each plane of each slice."""
    cells = array.cells
    g_us = tile_of(cells.conductance_us, cells.row_cuts, cells.column_cuts, *tile).double().cpu().numpy()
    return {f"s{s}p{p}": g_us[s, p] for s, p in product(*map(range, g_us.shape[:2]))}


def _reads(read: str, planes: dict[str, np.ndarray], array: Array, drive_v: Sequence[float],
           subcircuits: str | None = None) -> Iterator[str]:
    """Driven and sensed terminals of all planes, read "f" (forward) or "b" (backward), and their subcircuits.

    Args:
        drive_v: on each driven line.
        subcircuits: read whose subcircuits these are; its own if None.
    """
    driven, sensed = ("r", "c") if read == "f" else ("c", "r")
    yield from (f"v{read}_{driven}{n} {read}_{driven}{n} 0 {volt!r}" for n, volt in enumerate(drive_v))
    for plane, g_us in planes.items():
        if subcircuits in (None, read):
            opposite = read == "b" and array.cells.opposite
            sinh_v = READ_V / array.curves[0].steepness if array.curves else None
            yield from subcircuit(f"{read}_{plane}", g_us, array.cells.wire_ohm, opposite, sinh_v)
        nodes = [f"{read}_{t}" if t[0] == driven else f"{read}_{plane}_{t}" for t in terminals(*g_us.shape)]
        yield from folded([f"x{read}_{plane}", *nodes, f"{subcircuits or read}_{plane}"])
        senses = range(g_us.shape[1] if sensed == "c" else g_us.shape[0])
        yield from (f"v{read}_{plane}_{sensed}{n} {read}_{plane}_{sensed}{n} 0 0" for n in senses)


def _header(program: CrossbarProgram, chip: ProgrammedChip, layer: str, tile: tuple[int, int]) -> Iterable[str]:
    array = chip.arrays[_number(program, layer)][0]
    unit = array.us_per_weight
    yield f"* layer {layer}, tile {tile[0]},{tile[1]} of {program.target}, chip {chip.seed}"
    yield (f"* a partial sum is (i of plane 0 - i of plane 1, or - i of the offset column) / "
           f"({unit:.9g}e-6 S x {array.base}^slice x volts a unit of state) x {array.compensation:.9g}")
    yield "* of 64 x 64 cells with wires and more: ngspice 42 or newer with .options klu"


def _number(program: CrossbarProgram, layer: str) -> int:
    names = [own.name for own in program.layers]
    if layer not in names:
        raise Refusal("no such layer", where="layer", got=repr(layer), allowed=", ".join(names),
                      remedy="name one of these layers")
    return names.index(layer)


def _check_tile(array: Array, layer: str, tile: tuple[int, int]):
    rows, columns = len(array.row_cuts), len(array.column_cuts)
    if not (0 <= tile[0] < rows and 0 <= tile[1] < columns):
        raise Refusal("no such tile", where=f"layer {layer}, tile", got=f"{tile[0]},{tile[1]}",
                      allowed=f"0,0 to {rows - 1},{columns - 1}", remedy="name one of the layer's tiles")


def _volts(given: Sequence[float] | None, lines: int, where: str) -> Sequence[float]:
    volts = [READ_V] * lines if given is None else [float(v) for v in given]
    if len(volts) != lines or not np.isfinite(volts).all():
        raise Refusal("not a voltage a line", where=where, got=f"{len(volts)} values", allowed=f"{lines}, finite",
                      remedy="give each line of the tile a voltage")
    return volts
