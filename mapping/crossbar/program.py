"""Compiles an EPGraph to analog tiles: conductances of unit cells, where they are cut, what their converters span.

A layer unrolls to C_in k_h k_w rows and C_out columns (mapping.crossbar.encoding says how many cells a weight takes);
both directions use the same cells. A tile holds rows x columns unit cells, and a cell the two devices of a differential
pair on common row and column lines, so that a pair takes no second column. Tiles are cut at input channels (rows) and
anywhere between output channels (columns).

Source: unit cell and tile size of HERMES, Le Gallo et al., Nat. Electron. 6, 680 (2023).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Protocol

import numpy as np
from pydantic import Field

from mapping.crossbar.chips import Devices, arrays_of
from mapping.crossbar.encoding import Cuts, StoredWeights, difference, outputs_per_tile, slices_of, store
from mapping.crossbar.ranges import PERCENTILE, Placed, Span, calibrate, feeds_back
from mapping.crossbar.target import CrossbarTarget
from mapping.errors import Refusal
from mapping.fields import Count, Name, PerLayer, Positive, Stated
from mapping.graph import Coupling, EPGraph
from mapping.program import Arrays, Program, Shape, Table, Weights
from mapping.sealed import Layout, Ranges
from mapping.targets import Target

NOISY_STEPS = 60
ROUNDING, TINY = 1e-6, 1e-45   # of float32
Cut = tuple[int, int]
DIRECTIONS = ("up", "down")   # forward and backward, as files spell them


@dataclass(frozen=True, eq=False)
class CrossbarLayer:
    """One coupling on tiles.

    Attributes:
        stored: its weights as target conductances.
        row_cuts: (first, past the last) input of each row tile, see `unrolled`.
        column_cuts: the same for the output channels of each column tile.
        spans: what the converters reach, forward and, where the layer is read so, backward; None on machines without
            converters.
    """

    name: str
    stored: StoredWeights
    row_cuts: Cuts
    column_cuts: Cuts
    spans: tuple[Span, ...] | None

    @property
    def rows(self) -> int:
        return int(np.prod(self.stored.g_us.shape[3:]))

    @property
    def tiles(self) -> int:
        return len(self.row_cuts) * len(self.column_cuts)


class OnTiles(Protocol):
    """Layers on tiles, whatever reads them: what programming a chip needs."""

    @property
    def target(self) -> CrossbarTarget: ...

    @property
    def layers(self) -> tuple[CrossbarLayer, ...]: ...

    @property
    def feeds_back(self) -> tuple[bool, ...]:
        """Of each layer, whether it is read backward too."""
        ...

    def digest(self) -> str: ...


def devices(program: OnTiles) -> list[Devices]:
    """Of each layer, what devices hold it."""
    return [Devices(layer.stored.g_us.shape, len(layer.stored.column_scale), arrays_of(program.target, back))
            for layer, back in zip(program.layers, program.feeds_back)]


class SpanRow(Stated):
    """What a file says of a `Span` beside its ADCs."""

    dac: Positive
    signed: bool


class TilesRow(Stated):
    """What a file says of a `CrossbarLayer` beside its arrays; `up` (forward) and, where it is read so, `down`
    (backward) where there are converters."""

    name: Name
    us_per_weight: Annotated[float, Field(gt=0, le=1e30)]
    base: Count
    row_cuts: tuple[Cut, ...]
    column_cuts: tuple[Cut, ...]
    up: SpanRow | None = None
    down: SpanRow | None = None


class CrossbarSettings(Stated):
    """What a file says of a `CrossbarProgram`."""

    layers: PerLayer[TilesRow]


@dataclass(frozen=True, eq=False)
class CrossbarProgram(Program[CrossbarTarget]):
    """A network on tiles: `layers` are the graph's couplings from the image on, then the readout."""

    layers: tuple[CrossbarLayer, ...]
    kind: ClassVar[str] = "crossbar"
    settings: ClassVar[type[Stated]] = CrossbarSettings

    @property
    def steps(self) -> int:
        """Time steps of a free phase: the checkpoint's most, or NOISY_STEPS where read noise lets no state rest.

        A feed-forward network takes one a layer.
        """
        return _steps(self.graph, self.target)

    @property
    def size(self) -> str:
        return f"{sum(layer.tiles for layer in self.layers)} tiles, {self.steps} steps"

    @property
    def feeds_back(self) -> tuple[bool, ...]:
        """See `OnTiles`."""
        return feeds_back(self.graph)

    def pack(self) -> tuple[Arrays, dict[str, Any]]:
        arrays: Arrays = {}
        settings = []
        for layer in self.layers:
            arrays[f"tiles.{layer.name}.g_us"] = layer.stored.g_us
            arrays[f"tiles.{layer.name}.column_scale"] = layer.stored.column_scale
            entry: dict[str, Any] = {
                "name": layer.name, "us_per_weight": layer.stored.us_per_weight, "base": layer.stored.base,
                "row_cuts": layer.row_cuts, "column_cuts": layer.column_cuts}
            for direction, span in zip(DIRECTIONS, layer.spans or ()):
                arrays[f"tiles.{layer.name}.{direction}.adc"] = span.adc
                entry[direction] = {"dac": span.dac, "signed": span.signed}
            settings.append(entry)
        return arrays, {"layers": settings}

    @classmethod
    def unpack(cls, target: CrossbarTarget, graph: EPGraph, arrays: Arrays,
               settings: dict[str, Any]) -> "CrossbarProgram":
        return cls(target, graph, tuple(_unpack_layer(entry, arrays) for entry in settings["layers"]))

    @classmethod
    def takes(cls, target: Target) -> bool:
        return isinstance(target, CrossbarTarget) and not target.tuned

    @classmethod
    def layout(cls, target: CrossbarTarget, weights: Weights, settings: Any,
               present: Collection[str]) -> Layout:
        if [row.name for row in settings.layers] != list(weights):
            raise ValueError("other layers than those of the network")
        return {f"tiles.{row.name}.{key}": part for row in settings.layers
                for key, part in _layer_layout(row, weights[row.name], target).items()}

    @classmethod
    def ranges(cls, target: CrossbarTarget, layout: Layout) -> Ranges:
        room = target.g_max_us * ROUNDING
        own = {"g_us": (target.g_min_us - room, target.g_max_us + room), "column_scale": (TINY, 1 + ROUNDING),
               "adc": (TINY, 1e30)}
        return {name: own[name.rpartition(".")[2]] for name in layout}

    def verify(self):
        """See `Program.verify`: converters of the directions in which each layer is read, and of no other; steps."""
        _check_steps(self.graph, self.target)
        for layer, back in zip(self.layers, self.feeds_back):
            if layer.spans is not None and len(layer.spans) != 1 + back:
                raise ValueError(f"layer {layer.name}: converters of directions in which it is not read")

    def on_rung(self, target: Target, graph: EPGraph) -> Program:
        """See `Program.on_rung`; weights are encoded anew where the rung's devices have no levels, and ranges found
        anew where its lines are driven otherwise.
        """
        if not isinstance(target, CrossbarTarget):
            return super().on_rung(target, graph)
        if self.target.device.levels and self.target.includes("levels") and not target.includes("levels"):
            return compile_crossbar(graph, target)
        spans = [layer.spans if target.includes("converters") else None for layer in self.layers]
        if target.includes("converters") and target.converters.inputs != self.target.converters.inputs:
            spans = [layer.spans for layer in compile_crossbar(graph, target).layers]
        layers = (replace(layer, spans=own) for layer, own in zip(self.layers, spans))
        return CrossbarProgram(target, self.graph, tuple(layers))

    def report(self) -> Table:
        relaxes = self.graph.has_feedback
        steps = f"{self.graph.schedule} schedule, at most {self.steps} time steps"
        return tile_table((*self.graph.couplings, self.graph.readout), self.layers, self.target, relaxes=relaxes,
                          notes=[steps] if relaxes else [])


def compile_crossbar(graph: EPGraph, target: CrossbarTarget) -> CrossbarProgram:
    """Put every coupling and the readout on tiles.

    Args:
        graph: the network; its activity sizes the converters.
        target: device, rung and options.

    Raises:
        Refusal: converters without recorded activity, or a tuned chip, which no compiler makes.
    """
    check_untuned(target)
    converted, activity = target.includes("converters"), graph.activity
    if converted and activity is None:
        raise Refusal("no activity to size the converters with", where=f"{target.name}, converters",
                      got="a network without calibration images", allowed="states recorded on calibration images",
                      remedy="name a folder with its training data by --data-root or EP_HW_DATA, or choose a rung "
                             "without converters, as crossbar:pcm/read")
    _check_steps(graph, target)
    layers = [place(c, target) for c in (*graph.couplings, graph.readout)]
    if converted and activity is not None:
        spans = calibrate(graph, activity, [placed(layer) for layer in layers], target.converters)
        layers = [replace(layer, spans=pair) for layer, pair in zip(layers, spans)]
    return CrossbarProgram(target, graph, tuple(layers))


def stored_slices(layer: CrossbarLayer) -> np.ndarray:
    """(slices, C_out, C_in, k_h, k_w) weights that the target conductances stand for, before column scaling."""
    significance = np.float32(layer.stored.us_per_weight) * np.float32(layer.stored.base) ** np.arange(
        len(layer.stored.g_us), dtype=np.float32)
    return difference(layer.stored.g_us, layer.column_cuts) / significance[:, None, None, None, None]


def stored_weight(layer: CrossbarLayer) -> np.ndarray:
    """(C_out, C_in, k_h, k_w) weight that the target conductances stand for, see `unrolled`."""
    return stored_slices(layer).sum(0) * layer.stored.column_scale[:, None, None, None]


def cut(size: int, most: int) -> Cuts:
    """Cut `size` into the fewest parts of at most `most`, as equal as they can be."""
    edges = np.linspace(0, size, -(-size // most) + 1).round().astype(int).tolist()
    return tuple(pairwise(edges))


def _steps(graph: EPGraph, target: CrossbarTarget) -> int:
    if not graph.has_feedback:
        return len(graph.couplings)
    return target.steps or (NOISY_STEPS if target.is_noisy else graph.steps)


def _check_steps(graph: EPGraph, target: CrossbarTarget):
    steps, held = _steps(graph, target), target.dynamics.winners_held
    if target.dynamics.readout_steps > steps:
        raise Refusal("the read-out averages over more steps than are taken", where=f"{target.name}, readout_steps",
                      got=target.dynamics.readout_steps, allowed=f"1 to {steps} steps",
                      remedy="average over fewer, or set steps")
    if held is not None and held >= steps and "/" not in target.name:   # rungs keep the options of the whole machine
        raise Refusal("pools would keep their winners from the last step on", where=f"{target.name}, winners_held",
                      got=held, allowed=f"below {steps} steps", remedy="keep them earlier, or set steps")


def check_untuned(target: CrossbarTarget):
    """Refuse a tuned chip, which no compiler makes."""
    if target.tuned:
        raise Refusal("a chip is tuned while it runs, not compiled", where=target.name, got="tuned=on",
                      allowed="tuned=off, or a folder of 'ep-hw tune'", remedy="tune it, then name that folder")


def place(coupling: Coupling, target: CrossbarTarget) -> CrossbarLayer:
    """A coupling on tiles, without converters."""
    c_out, c_in, k_h, k_w = coupling.weight.shape
    shape = unrolled((c_out, c_in, k_h, k_w), target)
    row_cuts, column_cuts = _cuts(shape, target)
    stored = store(coupling.weight.reshape(shape), target, column_cuts)
    return CrossbarLayer(coupling.name, stored, row_cuts, column_cuts, None)


def unrolled(shape: Shape, target: CrossbarTarget) -> Shape:
    """Shape of a layer's weights on tiles, which are cut between inputs.

    An input is a channel with its k_h k_w rows; where a tile has fewer rows than that, every row is an input of its
    own, (C_out, C_in k_h k_w, 1, 1).
    """
    c_out, c_in, k_h, k_w = shape
    return (c_out, c_in * k_h * k_w, 1, 1) if k_h * k_w > target.array.tile.rows else (c_out, c_in, k_h, k_w)


def _cuts(shape: Shape, target: CrossbarTarget) -> tuple[Cuts, Cuts]:
    """Where weights of a shape on tiles are cut into tiles: (rows, columns)."""
    c_out, inputs, k_h, k_w = shape
    return cut(inputs, target.array.tile.rows // (k_h * k_w)), cut(c_out, outputs_per_tile(target))


def _layer_layout(row: TilesRow, shape: Shape, target: CrossbarTarget) -> Layout:
    """Type and shape of a layer's arrays.

    Raises:
        ValueError: cuts, base or converters that do not follow from shape and target.
    """
    shape = unrolled(shape, target)
    converters, cuts = target.includes("converters"), _cuts(shape, target)
    slices, base = slices_of(target)
    if (row.row_cuts, row.column_cuts, row.base, row.up is not None) != (*cuts, base, converters) or (
            row.down is not None and not converters):
        raise ValueError(f"layer {row.name}: cuts, base or converters that are not those of its shape and target")
    planes, extra = (1, len(row.column_cuts)) if target.array.encoding == "offset" else (2, 0)
    devices = slices, planes, shape[0] + extra, *shape[1:]
    layout = {"g_us": ("float32", devices), "column_scale": ("float32", shape[:1])}
    adc = ("float32", (slices, len(row.row_cuts), len(row.column_cuts)))
    return layout | {f"{direction}.adc": adc for direction in DIRECTIONS if getattr(row, direction) is not None}


def placed(layer: CrossbarLayer) -> Placed:
    """A layer as calibration sees it."""
    return Placed(layer.row_cuts, layer.column_cuts, stored_slices(layer), layer.stored.column_scale)


def _unpack_layer(entry: dict[str, Any], arrays: Arrays) -> CrossbarLayer:
    prefix = f"tiles.{entry['name']}"
    spans = tuple(Span(**entry[d], adc=arrays[f"{prefix}.{d}.adc"]) for d in DIRECTIONS if d in entry)
    stored = StoredWeights(arrays[f"{prefix}.g_us"], entry["us_per_weight"], entry["base"],
                           arrays[f"{prefix}.column_scale"])
    return CrossbarLayer(entry["name"], stored, tuple(map(tuple, entry["row_cuts"])),
                         tuple(map(tuple, entry["column_cuts"])), spans or None)


def tile_table(couplings: Sequence[Coupling], layers: Sequence[CrossbarLayer], target: CrossbarTarget, *,
               relaxes: bool, notes: Sequence[str]) -> Table:
    """A row for every layer on tiles.

    Args:
        couplings: what the layers hold.
        layers: on tiles.
        target: that they are on.
        relaxes: whether they are read again and again, and backward.
        notes: sentences before those on tiles, devices and reads.
    """
    columns = ("layer", "rows", "columns", "tiles", "largest tile", "allowed", "utilisation", "weights", "devices",
               "uS per weight", "ADC forward", "ADC backward", "DAC forward")
    rows = tuple(_row(coupling, layer, target) for coupling, layer in zip(couplings, layers))
    once = [] if relaxes else ["each layer is read once"]
    return Table(f"{target.shown}: analog tiles", columns, rows, (*notes, *once, *_notes(target, relaxes)))


def _row(coupling: Coupling, layer: CrossbarLayer, target: CrossbarTarget) -> tuple:
    g_us, cells = layer.stored.g_us, int(layer.stored.g_us.shape[0] * layer.stored.g_us.shape[2]) * layer.rows
    tile = target.array.tile
    tallest = int(np.prod(g_us.shape[4:])) * max(hi - lo for lo, hi in layer.row_cuts)
    widest = max(hi - lo for lo, hi in layer.column_cuts) * len(g_us) + (target.array.encoding == "offset")
    adcs = [_extent(span.adc) for span in layer.spans or ()]
    spans = (*adcs, *["none"] * (2 - len(adcs)), f"{layer.spans[0].dac:.3g}" if layer.spans else "none")
    return (layer.name, layer.rows, coupling.weight.shape[0], f"{len(layer.row_cuts)} x {len(layer.column_cuts)}",
            f"{tallest} x {widest}", f"{tile.rows} x {tile.columns}",
            f"{cells / (layer.tiles * tile.rows * tile.columns):.1%}", coupling.weight.size, g_us.size,
            f"{layer.stored.us_per_weight:.4g}", *spans)


def _extent(values: np.ndarray) -> str:
    low, high = f"{values.min():.3g}", f"{values.max():.3g}"
    return low if low == high else f"{low} to {high}"


_CELLS = {"pair": "a cell holds a differential pair (two devices)",
          "offset": "one device a cell and one reference column a tile",
          "slices": "a cell holds a differential pair (two devices), a weight one cell a slice"}
_ARRAYS = {"shared": "both directions read the same cells", "separate": "feedback reads a second array"}
_FORWARD = "nothing is read backward"


def _notes(target: CrossbarTarget, relaxes: bool) -> list[str]:
    """Tiles, devices and noise in sentences."""
    device, array, dynamics = target.device, target.array, target.dynamics
    levels = f"{device.levels} levels" if target.includes("levels") and device.levels else "any conductance"
    notes = [f"tiles of {array.tile.rows} x {array.tile.columns} unit cells, {_CELLS[array.encoding]}; "
             f"{_ARRAYS[array.arrays] if relaxes else _FORWARD}",
             f"device {target.preset.name}, {target.g_min_us:.3g} to {target.g_max_us:g} uS, {levels}; each "
             f"{array.scaling} fills this range"]
    if target.includes("aged") and "aged" in target.preset.causes:
        notes.append(f"age {device.age:g} s, drift compensation {target.spelled()['drift_compensation']}")
    if target.includes("read") and device.temperature is not None:
        notes.append(f"thermal noise of {device.temperature:g} K")
    if target.is_noisy:
        again = relaxes and dynamics.input_read == "every"
        notes.append(f"fresh read noise over a relaxation of {dynamics.relaxation_time:g} s; the image is read "
                     f"{'at every step' if again else 'once'}")
    return [*notes, *_drive_notes(target, relaxes)]


def _drive_notes(target: CrossbarTarget, relaxes: bool) -> list[str]:
    """Converters, and how lines are driven, in sentences."""
    converters, notes = target.converters, []
    if target.includes("converters"):
        notes.append(f"DAC {converters.dac_bits} bit, ADC {converters.adc_bits} bit, one ADC range a tile and "
                     f"direction in units of weight x state: {converters.adc_margin:g} times the {PERCENTILE:g} "
                     "percentile on calibration images")
    if target.includes("converters") and converters.adc_rounding == "floor":
        notes.append("ADCs give the code below")
    if target.includes("converters") and converters.inputs != "levels":
        how = "bit by bit, each converted" if converters.inputs == "bits" else "for as long as their code says"
        notes.append(f"lines are driven at the full voltage, {how}")
    if converters.two_phase:
        signed = "the image, and a nudge's errors, are" if relaxes else "the image is"
        notes.append(f"{signed} driven in two phases")
    if target.includes("curves") and target.has("curves"):
        notes.append(f"currents of devices grow as sinh(V / {target.device.sinh_v:g} V)")
    return notes
