"""The mapping report of a Loihi program: used against allowed, layer by layer."""

import math

from mapping.graph import Coupling
from mapping.loihi_bound import ACCUMULATOR_LIMIT
from mapping.program import Table

CORES_A_CHIP = 128
NEURONS_A_CORE = 8192
MEMORY_A_CORE_KIB = 192
NEURON_BYTES = 6   # a 24-bit accumulator and a 24-bit state

COLUMNS = ("layer", "processes", "neurons", "weights", "weight bits", "state bits", "weight exponent",
           "accumulator exponent", "shift", "bound", "allowed", "memory KiB", "a core KiB", "cores")
NOTES = (
    f"Loihi 2: {CORES_A_CHIP} cores a chip, {NEURONS_A_CORE} neurons and about {MEMORY_A_CORE_KIB} KiB a core, shared "
    "by synapses, neurons and microcode (Intel's Loihi 2 technology brief; the memory is to be confirmed).",
    f"Memory: unrolled synapses at their weight bits, forward and feedback, and {NEURON_BYTES} bytes for each unit "
    "before pooling. Shared convolution weights would need less. Cores are an estimate, not a placement.",
    "Bound: largest magnitude of any partial sum in the layer's accumulator, proven from the weights.",
)


def loihi_report(program) -> Table:
    """The table of a `LoihiProgram`."""
    bits = program.target.weight_bits
    couplings = (*program.graph.couplings, program.graph.readout)
    rows = []
    for n, (coupling, layer) in enumerate(zip(couplings, (*program.layers, program.readout))):
        last = n == len(program.layers)
        processes = "readout" if last else f"{coupling.name}, {program.graph.populations[n].name}"
        memory, cores = footprint(coupling, bits, feeds_back=n > 0)
        rows.append((coupling.name, processes, math.prod(coupling.post), coupling.weight.size, bits, program.state_bits,
                     layer.exponent, layer.scale, layer.shift, layer.bound, ACCUMULATOR_LIMIT - 1, round(memory, 1),
                     MEMORY_A_CORE_KIB, cores))
    total = sum(row[-1] for row in rows)
    image = (f"Image: {program.input_bits} fraction bits, signed. "
             f"Strongest nudge proven safe: |beta| <= {program.largest_beta:g}.")
    chips = f"Cores: {total} used, {CORES_A_CHIP} allowed a chip: {math.ceil(total / CORES_A_CHIP)} chip(s)."
    return Table(f"{program.target}: integers", COLUMNS, tuple(rows), (image, chips, *NOTES))


def footprint(coupling: Coupling, weight_bits: int, *, feeds_back: bool) -> tuple[float, int]:
    """Memory in KiB of a coupling and the units it drives, and the cores they fill."""
    units = math.prod(coupling.unpooled)
    synapses = coupling.weight.size * math.prod(coupling.unpooled[1:]) * (2 if feeds_back else 1)
    memory = (synapses * weight_bits / 8 + units * NEURON_BYTES) / 1024
    return memory, max(math.ceil(units / NEURONS_A_CORE), math.ceil(memory / MEMORY_A_CORE_KIB))
