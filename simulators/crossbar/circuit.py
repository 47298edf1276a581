"""A whole small network as one SPICE circuit: every position of a layer has tiles of its own, and neurons have none.

    C ds/dt = G (clamp(slope g(s), 0, ceiling) - s)                                                          (1)

for every neuron, as `simulators.crossbar.continuous` (1) has it: a capacitor C to ground, charged by a behavioural
current source. A state of 1 is V volts on its node; ideal amplifiers drive the lines of the tiles (of
`simulators.crossbar.netlist`) by it, and all lines that a neuron senses end in virtual grounds of its own, where the
partial sums of tiles, and of overlapping positions backward, come together. The operating point is a fixed point of the
relaxation; from states of 0, a transient analysis (`.tran ... uic`) is the relaxation itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from torch import Tensor

from mapping.errors import Refusal
from mapping.graph import Coupling, Population
from simulators.crossbar.array import Array
from simulators.crossbar.chip import CrossbarMachine
from simulators.crossbar.continuous import Circuit, conductances_us
from simulators.crossbar.netlist import folded, subcircuit
from simulators.crossbar.wires import tile_of

MOST_DEVICES = 100_000
_SIEMENS = 1e-6   # of a microsiemens


@dataclass(frozen=True, eq=False)
class _Layer:
    """A coupling in the circuit: number n reads states s_n and drives s_{n+1}.

    Attributes:
        n: 0 for the one that reads the image.
        coupling: its shapes and bias.
        arrays: of the directions in which it is read.
        scale: (C_out,) digital factor of each output.
        fed: whether anything below hears of it.
    """

    n: int
    coupling: Coupling
    arrays: tuple[Array, ...]
    scale: np.ndarray
    fed: bool


def network_netlist(machine: CrossbarMachine, image: Tensor, circuit: Circuit | None = None) -> str:
    """The netlist of a network without pools, whose analysis is an operating point.

    Args:
        machine: whose weights are pairs of devices, without converters and fresh noise.
        image: (C, H, W) in [0, 1], which stays where it is.
        circuit: C and V.

    Returns:
        A netlist that saves v(s1_0) ..., V times the states of the first population in the order (C, H, W), those of
        the others, and the logits v(logit_0) ... with one volt a unit.

    Raises:
        Refusal: a machine that is no such circuit, or one of more than `MOST_DEVICES` devices.
    """
    circuit, layers = circuit or Circuit(), _layers(machine)
    _check(machine, layers)
    pixels = machine.substrate.encode(image[None].to(machine.substrate.mean))[0].flatten().tolist()
    lines = [f"* {machine.name}, chip {machine.chip_seed}: a state of 1 is {circuit.read_v:g} V, a logit of 1 is 1 V"]
    lines += [f"vd0_{i} d0_{i} 0 {circuit.read_v * pixel!r}" for i, pixel in enumerate(pixels)]
    for layer in layers:
        lines += _tiles(layer)
    for n, (population, g_us) in enumerate(zip(machine.graph.populations, conductances_us(machine)[0]), 1):
        lines += _neurons(population, layers[n - 1:n + 1], g_us.flatten().tolist(), circuit)
    logits = [f"blogit_{k} logit_{k} 0 v = {_drive(layers[-1], k, circuit)}" for k in range(machine.graph.classes)]
    sizes = [int(np.prod(population.shape)) for population in machine.graph.populations]
    saved = [f"v(s{n}_{j})" for n, size in enumerate(sizes, 1) for j in range(size)]
    saved += [f"v(logit_{k})" for k in range(machine.graph.classes)]
    return "\n".join([*lines, *logits, *folded([".save", *saved]), ".op", ".end"]) + "\n"


def _layers(machine: CrossbarMachine) -> list[_Layer]:
    couplings = (*machine.graph.couplings, machine.graph.readout)
    fed = [gain > 0 for gain in machine.graph.gains]
    return [_Layer(n, coupling, pair, layer.stored.column_scale.astype(np.float64), back) for n, (
        coupling, pair, layer, back) in enumerate(zip(couplings, machine.chip.arrays, machine.program.layers, fed))]


def _check(machine: CrossbarMachine, layers: list[_Layer]):
    """Refuse what is no circuit of equation (1), and what is too large for one."""
    pools = [layer.coupling.name for layer in layers if layer.coupling.pool > 1]
    target = machine.program.target
    for wrong, got, remedy in (
            (bool(pools), f"max-pooling in {', '.join(pools)}", "export a network without pools, or a tile of one"),
            (target.array.encoding != "pair", f"encoding={target.array.encoding}", "use encoding=pair"),
            (target.includes("converters") and machine.program.layers[0].spans is not None, "DAC and ADC",
             "leave them out, as in crossbar:pcm[without=read+converters]"),
            (not machine.deterministic, "fresh noise at every read",
             "leave it out, as in crossbar:pcm[without=read+converters]")):
        if wrong:
            raise Refusal("not a circuit of arrays and clamping neurons", where=machine.name, got=got,
                          allowed="pairs of devices and neurons that clamp, all in continuous time", remedy=remedy)
    devices = sum(_devices(layer) for layer in layers)
    if devices > MOST_DEVICES:
        raise Refusal("too large a circuit", where=machine.name, got=f"{devices} devices at all positions",
                      allowed=f"{MOST_DEVICES} at most", remedy="export a tile of it by --layer and --tile")


def _devices(layer: _Layer) -> int:
    """Of all positions and directions."""
    _, height, width = layer.coupling.unpooled
    return 2 * layer.coupling.weight.size * height * width * (1 + layer.fed)


def _tiles(layer: _Layer) -> Iterator[str]:
    """All tiles of all positions of a layer, each direction driven and sensed."""
    yield from _direction(layer, layer.arrays[0], "f")
    if layer.fed:
        yield from _direction(layer, layer.arrays[-1], "b")
        scales = [_scale(layer, layer.arrays[-1], channel) for channel in _channels(layer)]
        yield from (f"ez{layer.n}_{j} z{layer.n}_{j} 0 d{layer.n + 1}_{j} 0 {s!r}" for j, s in enumerate(scales))


def _direction(layer: _Layer, array: Array, read: str) -> Iterator[str]:
    """Forward ("f"), states below drive rows and columns end in grounds f...; backward ("b"), scaled states above drive
    columns z... and rows end in grounds b...
    """
    cells, rows = array.cells, _rows(layer.coupling)
    opposite = read == "b" and cells.opposite
    outputs, places = layer.coupling.unpooled[0], rows.shape[0]
    inputs_of_rows = cells.conductance_us.shape[3]
    taken = rows.shape[1] // inputs_of_rows
    for r, c, plane in product(range(len(array.row_cuts)), range(len(array.column_cuts)), range(2)):
        name = f"{read}{layer.n}_{r}_{c}_p{plane}"
        g_us = tile_of(cells.conductance_us, array.row_cuts, array.column_cuts, r, c)[0, plane]
        yield from subcircuit(name, g_us.double().cpu().numpy(), cells.wire_ohm, opposite)
        (first, last), columns = array.row_cuts[r], range(*array.column_cuts[c])
        for place in range(places):
            below = rows[place, first * taken:last * taken].tolist()
            if read == "f":
                nodes = [f"d{layer.n}_{i}" if i >= 0 else "0" for i in below]
                nodes += [f"f{layer.n}_p{plane}_{o * places + place}" for o in columns]
            else:
                nodes = [f"b{layer.n}_p{plane}_{i}" if i >= 0 else "0" for i in below]
                nodes += [f"z{layer.n}_{o * places + place}" for o in columns]
            yield from folded([f"x{name}_{place}", *nodes, name])
    sensed = outputs * places if read == "f" else int(np.prod(layer.coupling.pre))
    yield from (f"v{read}{layer.n}_p{p}_{j} {read}{layer.n}_p{p}_{j} 0 0" for p, j in np.ndindex(2, sensed))


def _rows(coupling: Coupling) -> np.ndarray:
    """(positions, C_in k_h k_w) input that drives each row at each position, -1 for the padding's zeros."""
    window = coupling.window
    inputs = np.arange(int(np.prod(window.pre))).reshape(window.pre)
    edge = (window.padding, window.padding)
    padded = np.pad(inputs, ((0, 0), edge, edge), constant_values=-1)
    views = np.lib.stride_tricks.sliding_window_view(padded, window.kernel, axis=(1, 2))
    views = views[:, ::window.stride, ::window.stride]
    return views.transpose(1, 2, 0, 3, 4).reshape(views.shape[1] * views.shape[2], -1)


def _channels(layer: _Layer) -> list[int]:
    """The channel of each neuron above a layer."""
    channels, height, width = layer.coupling.unpooled
    return np.repeat(np.arange(channels), height * width).tolist()


def _neurons(population: Population, around: list[_Layer], g_us: list[float], circuit: Circuit) -> Iterator[str]:
    """The neurons between two layers: amplifiers, capacitors and their current sources."""
    below, above = around
    n = above.n
    for j, conductance_us in enumerate(g_us):
        drive = _drive(below, j, circuit) + (f" + {_feedback(above, j, circuit)}" if above.fed else "")
        pull = f"max({population.slope!r} * ({drive}), 0)"
        if np.isfinite(population.ceiling):
            pull = f"min({pull}, {population.ceiling!r})"
        siemens = conductance_us * _SIEMENS
        yield f"ed{n}_{j} d{n}_{j} 0 s{n}_{j} 0 1"
        yield f"cs{n}_{j} s{n}_{j} 0 {circuit.capacitance_f!r}"
        yield f"bs{n}_{j} 0 s{n}_{j} i = {siemens!r} * ({circuit.read_v!r} * {pull} - v(s{n}_{j}))"


def _drive(layer: _Layer, j: int, circuit: Circuit) -> str:
    """w s + b of one neuron above a layer, in units of state: from the currents in its two grounds."""
    channel = _channels(layer)[j]
    factor = _scale(layer, layer.arrays[0], channel) * _per_ampere(layer.arrays[0], circuit)
    return f"{_difference('f', layer, j, factor)} + {layer.coupling.bias[channel].item()!r}"


def _scale(layer: _Layer, array: Array, channel: int) -> float:
    """Digital factor of a channel, beside that of the layer."""
    own = 1.0 if array.column_factors is None else array.column_factors[channel].item()
    return layer.scale[channel].item() * own


def _feedback(layer: _Layer, j: int, circuit: Circuit) -> str:
    """gamma w^T s of one neuron below a layer."""
    factor = layer.coupling.feedback_gain * _per_ampere(layer.arrays[-1], circuit)
    return _difference("b", layer, j, factor)


def _difference(read: str, layer: _Layer, j: int, factor: float) -> str:
    own, other = (f"i(v{read}{layer.n}_p{p}_{j})" for p in range(2))
    return f"{factor!r} * ({own} - {other})"


def _per_ampere(array: Array, circuit: Circuit) -> float:
    """Weight times state that an ampere stands for, compensated."""
    return array.compensation / (array.us_per_weight * _SIEMENS * circuit.read_v)
