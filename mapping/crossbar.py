"""Compiles an EPGraph to analog tiles: conductance pairs, where they are cut, and what their converters span.

A weight is the difference of two conductances of one unit cell,

    g+ = g_max max(w, 0) / w_max,    g- = g_max max(-w, 0) / w_max,    w_max = max |w| of the layer       (1)

A layer unrolls to C_in k_h k_w rows and C_out columns; both directions use the same cells. A tile holds `tile` x `tile`
unit cells, i.e. two device arrays on common row and column lines, so a pair takes one column of each and no second
column of the tile. Tiles are cut at input channels (rows) and anywhere between output channels (columns).

Source: unit cell and tile size of HERMES, Le Gallo et al., Nat. Electron. 6, 680 (2023).
"""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar

import numpy as np

from mapping.errors import Refusal
from mapping.graph import Coupling, EPGraph
from mapping.program import Program, Table
from mapping.ranges import MARGIN, PERCENTILE, Span, calibrate
from mapping.targets import CrossbarTarget

G_MAX_US = {"ideal": 25.0, "pcm": 25.0}
NOISY_STEPS = 60
DIRECTIONS = ("up", "down")
Cuts = tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class CrossbarLayer:
    """One coupling on tiles.

    Attributes:
        g_us: (2, C_out, C_in, k_h, k_w) float32, target conductances g+ and g- in microsiemens.
        us_per_weight: g_max / w_max of equation (1).
        row_cuts: (first, past the last) input channel of each row tile.
        column_cuts: the same for the output channels of each column tile.
        spans: what the converters reach (upwards, downwards), None on machines without converters.
    """

    name: str
    g_us: np.ndarray
    us_per_weight: float
    row_cuts: Cuts
    column_cuts: Cuts
    spans: tuple[Span, Span] | None

    @property
    def rows(self) -> int:
        return int(np.prod(self.g_us.shape[2:]))

    @property
    def tiles(self) -> int:
        return len(self.row_cuts) * len(self.column_cuts)


@dataclass(frozen=True, eq=False)
class CrossbarProgram(Program):
    """A network on tiles: `layers` are the graph's couplings from the image upwards, then the readout."""

    layers: tuple[CrossbarLayer, ...]
    kind: ClassVar[str] = "crossbar"

    @property
    def steps(self) -> int:
        """Time steps of a free phase: the checkpoint's most, or NOISY_STEPS where read noise lets no state rest."""
        return self.target.steps or (NOISY_STEPS if self.target.includes("read") else self.graph.steps)

    def pack(self):
        arrays, settings = {}, []
        for layer in self.layers:
            arrays[f"tiles.{layer.name}.g_us"] = layer.g_us
            entry = {"name": layer.name, "us_per_weight": layer.us_per_weight, "row_cuts": layer.row_cuts,
                     "column_cuts": layer.column_cuts}
            for direction, span in zip(DIRECTIONS, layer.spans or ()):
                arrays[f"tiles.{layer.name}.{direction}.adc"] = span.adc
                entry[direction] = {"dac": span.dac, "signed": span.signed}
            settings.append(entry)
        return arrays, {"layers": settings}

    @classmethod
    def unpack(cls, target, graph, arrays, settings):
        return cls(target, graph, tuple(_unpack_layer(entry, arrays) for entry in settings["layers"]))

    def report(self):
        columns = ("layer", "rows", "columns", "tiles", "largest tile", "allowed", "utilisation", "weights", "devices",
                   "uS per weight", "ADC up", "ADC down", "DAC up")
        return Table(f"{self.target}: analog tiles", columns, tuple(_row(c, layer, self.target) for c, layer in zip(
            (*self.graph.couplings, self.graph.readout), self.layers)), _notes(self))


def compile_crossbar(graph: EPGraph, target: CrossbarTarget) -> CrossbarProgram:
    """Put every coupling and the readout on tiles.

    Args:
        graph: the network; its activity sizes the converters.
        target: device, rung and options.

    Raises:
        Refusal: a channel that does not fit a tile, or converters without recorded activity.
    """
    converted = target.includes("converters")
    if converted and graph.activity is None:
        raise Refusal("no activity to size the converters with", where=f"{target.name}, converters", got="none",
                      allowed="states recorded on calibration images",
                      remedy="give the network calibration images before net.lower(), or compile crossbar:pcm/read")
    layers = [_place(c, target) for c in (*graph.couplings, graph.readout)]
    spans = calibrate(graph, [(layer.row_cuts, layer.column_cuts) for layer in layers],
                      [stored_weight(layer) for layer in layers]) if converted else [None] * len(layers)
    return CrossbarProgram(target, graph, tuple(replace(layer, spans=pair) for layer, pair in zip(layers, spans)))


def stored_weight(layer: CrossbarLayer) -> np.ndarray:
    """(C_out, C_in, k_h, k_w) weight that the target conductances stand for, equation (1) inverted."""
    return (layer.g_us[0] - layer.g_us[1]) / np.float32(layer.us_per_weight)


def conductance_pairs(weight: np.ndarray, g_max_us: float, levels: int | None) -> tuple[np.ndarray, float]:
    """Equation (1): targets (2, *weight.shape) in microsiemens, and microsiemens per unit of weight.

    Args:
        levels: conductances a device can take, equally spaced from 0 to g_max; None for any.
    """
    w_max = float(np.abs(weight).max()) or 1.0
    x = np.stack([np.maximum(weight, 0), np.maximum(-weight, 0)]) / np.float32(w_max)
    if levels is not None:
        x = np.round(x * (levels - 1)) / np.float32(levels - 1)
    return np.float32(g_max_us) * x, g_max_us / w_max


def cut(size: int, most: int) -> Cuts:
    """Cut `size` into the fewest parts of at most `most`, as equal as they can be."""
    edges = np.linspace(0, size, -(-size // most) + 1).round().astype(int).tolist()
    return tuple(pairwise(edges))


def _place(coupling: Coupling, target: CrossbarTarget) -> CrossbarLayer:
    c_out, c_in, k_h, k_w = coupling.weight.shape
    if k_h * k_w > target.tile:
        raise Refusal("an input channel does not fit a tile", where=f"layer {coupling.name}",
                      got=f"{k_h * k_w} rows ({k_h} x {k_w} kernel)", allowed=f"at most {target.tile} rows",
                      remedy=f"compile with {target.name}[tile={k_h * k_w}] or more, or pool more before this layer")
    g_us, us_per_weight = conductance_pairs(coupling.weight, G_MAX_US[target.device],
                                            target.levels if target.includes("levels") else None)
    return CrossbarLayer(coupling.name, g_us, us_per_weight, cut(c_in, target.tile // (k_h * k_w)),
                         cut(c_out, target.tile), None)


def _unpack_layer(entry: dict, arrays: dict) -> CrossbarLayer:
    prefix = f"tiles.{entry['name']}"
    spans = tuple(Span(**entry[d], adc=arrays[f"{prefix}.{d}.adc"]) for d in DIRECTIONS if d in entry)
    return CrossbarLayer(entry["name"], arrays[f"{prefix}.g_us"], entry["us_per_weight"],
                         tuple(map(tuple, entry["row_cuts"])), tuple(map(tuple, entry["column_cuts"])), spans or None)


def _row(coupling: Coupling, layer: CrossbarLayer, target: CrossbarTarget) -> tuple:
    weights, per_channel = coupling.weight.size, int(np.prod(coupling.weight.shape[2:]))
    tallest = per_channel * max(hi - lo for lo, hi in layer.row_cuts)
    widest = max(hi - lo for lo, hi in layer.column_cuts)
    spans = ("none",) * 3 if layer.spans is None else (
        *(_extent(span.adc) for span in layer.spans), f"{layer.spans[0].dac:.3g}")
    return (layer.name, layer.rows, coupling.weight.shape[0], f"{len(layer.row_cuts)} x {len(layer.column_cuts)}",
            f"{tallest} x {widest}", f"{target.tile} x {target.tile}",
            f"{weights / (layer.tiles * target.tile ** 2):.1%}", weights, 2 * weights, f"{layer.us_per_weight:.4g}",
            *spans)


def _extent(values: np.ndarray) -> str:
    low, high = f"{values.min():.3g}", f"{values.max():.3g}"
    return low if low == high else f"{low} to {high}"


def _notes(program: CrossbarProgram) -> tuple[str, ...]:
    target = program.target
    levels = f"{target.levels} levels" if target.includes("levels") and target.levels else "any conductance"
    notes = [f"tiles of {target.tile} x {target.tile} unit cells; a cell holds the differential pair (two devices), "
             "and both directions read the same cells",
             f"device {target.device}, 0 to {G_MAX_US[target.device]:g} uS, {levels}",
             f"{program.graph.schedule} schedule, at most {program.steps} time steps"]
    if target.includes("aged"):
        notes.append(f"age {target.age:g} s, drift compensation {'on' if target.drift_compensation else 'off'}")
    if target.includes("read"):
        notes.append(f"fresh read noise over a relaxation of {target.relaxation_time:g} s; the image is read "
                     f"{'at every step' if target.input_read == 'every' else 'once'}")
    if target.includes("converters"):
        notes.append(f"DAC {target.dac_bits} bit, ADC {target.adc_bits} bit, one ADC range a tile and direction in "
                     f"units of weight x state: {MARGIN:g} times the {PERCENTILE:g} percentile on calibration images")
    return tuple(notes)
