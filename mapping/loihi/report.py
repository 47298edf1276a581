"""The mapping reports of a Loihi program: its integers, layer by layer, and where they go on cores and chips."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from mapping.errors import Refusal
from mapping.graph import EPGraph
from mapping.loihi.bound import ACCUMULATOR_LIMIT
from mapping.loihi.limits import LIMITS_VERSION, limit
from mapping.loihi.parts import SHARED, UNROLLED
from mapping.loihi.placement import PlacedBlock, Placement, place
from mapping.loihi.target import LoihiTarget
from mapping.program import Table

INTEGER_COLUMNS = ("layer", "processes", "weights", "weight bits", "used", "state bits", "weight exponent",
                   "accumulator exponent", "shift", "bound", "allowed")
PLACEMENT_COLUMNS = ("layer", "part", "block", "neurons", "synapses", "weights", "axons", "memory KiB", "a core KiB",
                     "allowed", "cores", "from core")
NOTES = (
    "Bound: largest magnitude of any partial sum in the layer's accumulator, proven from the weights.",
    "Used weight bits: what the largest weight needs; fewer where exponents gave way to the proof.",
)
LIMITS_NOTE = (
    f"Limits: version {LIMITS_VERSION} of mapping.loihi.limits; memory a core is to be confirmed, memory a neuron "
    f"({limit('memory a neuron')} bytes) and an axon ({limit('memory an input axon')} bytes) is assumed, microcode is "
    "not counted.")


class Layer(Protocol):
    """What the report says of a `mapping.loihi.program.IntegerLayer`."""

    @property
    def name(self) -> str: ...
    @property
    def weight(self) -> np.ndarray: ...
    @property
    def exponent(self) -> int: ...
    @property
    def scale(self) -> int: ...
    @property
    def shift(self) -> int: ...
    @property
    def bound(self) -> int: ...


class IntegerProgram(Protocol):
    """What the reports need of a `mapping.loihi.program.LoihiProgram`, which imports them."""

    @property
    def target(self) -> LoihiTarget: ...
    @property
    def graph(self) -> EPGraph: ...
    @property
    def layers(self) -> Sequence[Layer]: ...
    @property
    def readout(self) -> Layer: ...
    @property
    def state_bits(self) -> int: ...
    @property
    def input_bits(self) -> int: ...
    @property
    def largest_beta(self) -> float: ...
    @property
    def scales(self) -> tuple[float, ...]: ...


def integer_table(program: IntegerProgram) -> Table:
    """The integers of a `LoihiProgram`: bits, exponents, and bounds against what is allowed."""
    bits, rows = program.target.weight_bits, []
    names = [f"{c.name}, {p.name}" for c, p in zip(program.graph.couplings, program.graph.populations)]
    for processes, layer in zip((*names, "readout"), (*program.layers, program.readout)):
        rows.append((layer.name, processes, layer.weight.size, bits, used_bits(layer.weight, bits),
                     program.state_bits, layer.exponent, layer.scale, layer.shift, layer.bound, ACCUMULATOR_LIMIT - 1))
    return Table(f"{program.target.shown}: integers", INTEGER_COLUMNS, tuple(rows), (*_numbers(program), *NOTES))


def _numbers(program: IntegerProgram) -> tuple[str, ...]:
    """What image, nudges and states count in, in words."""
    image = f"Image: {program.input_bits} fraction bits, signed."
    if program.graph.has_feedback:
        image += f" Strongest nudge proven safe: |beta| <= {program.largest_beta:g}."
    if set(program.scales) == {1.0}:
        return (image,)
    scales = ", ".join(f"{p.name} {scale:.4g}" for p, scale in zip(program.graph.populations, program.scales))
    return image, f"A state of 2^{program.state_bits} stands for: {scales}."


def used_bits(weight: np.ndarray, bits: int) -> int:
    """Bits that the largest integer weight needs, sign included; one where weights are signs."""
    return 1 if bits == 1 else int(np.abs(weight.astype(np.int64)).max()).bit_length() + 1


def placement_table(program: IntegerProgram) -> Table:
    """Every part of a `LoihiProgram`: what it takes, on how many cores, and the verdict."""
    placement = place(program.graph, program.target)
    parts = dict.fromkeys((b.layer, b.part) for b in placement.blocks)
    rows = tuple(_row(*part, placement.of(*part)) for part in parts)
    return Table(f"{program.target.shown}: cores", PLACEMENT_COLUMNS, rows,
                 (verdict(placement), _other_way(program), _axons(placement), *_placement_notes(program.graph)))


def _placement_notes(graph: EPGraph) -> tuple[str, str]:
    """What the table's words mean, and what the limits leave out."""
    feedback = "; feedback: sums for the layer below" if any(graph.gains) else ""
    nudge = " The nudge's drive is computed on the host." if graph.has_feedback else ""
    return (f"Forward: units with their pool windows{feedback}. Block: channels x rows x columns of sites on one core; "
            "synapses in use, weights stored; axons: (source, core) pairs. A part has cores of successive numbers.",
            LIMITS_NOTE + nudge)


def verdict(placement: Placement) -> str:
    """How many cores and chips a placement takes, and what limits it."""
    memory = sum(b.need.memory_bits for b in placement.blocks) / (8 * limit("memory a core"))
    neurons = sum(b.need.neurons for b in placement.blocks) / limit("neurons a core")
    scarce, share = max(("memory", memory), ("neurons", neurons), key=lambda x: x[1])
    (layer, part), _ = Counter((b.layer, b.part) for b in placement.blocks).most_common(1)[0]
    return (f"Verdict: {placement.cores} cores on {placement.chips} chip(s) of {limit('cores a chip')} cores. "
            f"{scarce.capitalize()} limits it: it would fill {share:.1f} cores by itself; most blocks are of the "
            f"{part} part of {layer}.")


def _axons(placement: Placement) -> str:
    """The fullest core's input axons beside what Loihi 1 allowed; nothing is published for Loihi 2."""
    axons = [0] * placement.cores
    for b in placement.blocks:
        axons[b.core] += b.need.axons
    return (f"Most axons into a core: {max(axons)}. Loihi 1 allowed {limit('input axons a core, Loihi 1')}; for Loihi "
            "2 no limit is published and none is enforced.")


def _row(layer: str, part: str, blocks: tuple[PlacedBlock, ...]) -> tuple:
    needs, first = [b.need for b in blocks], blocks[0]
    block = "x".join(str(stop - start) for start, stop in (first.channels, first.rows, first.columns))
    totals = (sum(getattr(n, name) for n in needs) for name in ("neurons", "synapses", "weights", "axons"))
    memory = [n.memory_bits / 8192 for n in needs]
    return (layer, part, block, *totals, round(sum(memory), 1), round(max(memory), 1),
            limit("memory a core") // 1024, len({b.core for b in blocks}), first.core)


def _other_way(program: IntegerProgram) -> str:
    """What the other way to hold convolution weights would take."""
    other = UNROLLED if program.target.weights == SHARED else SHARED
    try:
        placement = place(program.graph, replace(program.target, weights=other, chips=None))
    except Refusal as refusal:
        return f"With {other} weights it cannot be placed: {refusal.what} ({refusal.where})."
    memory = sum(b.need.memory_bits for b in placement.blocks) / 8 / 2**20
    return (f"With {other} convolution weights: {placement.cores} cores on {placement.chips} chip(s), "
            f"{memory:.1f} MiB.")
