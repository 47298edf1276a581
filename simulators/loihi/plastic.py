"""What each Lava process learns by itself, in numpy: its own accumulators, its own generator, its own integers."""

from dataclasses import dataclass

import numpy as np

from mapping.kernels import unpool
from mapping.loihi.integers import rescale
from mapping.loihi.plasticity import Accumulator, Learning, Plasticity, Rounding, weight_products
from mapping.loihi.program import LoihiProgram
from simulators.loihi.arithmetic import Synapses
from simulators.loihi.shared_arrays import SharedArrays


@dataclass(frozen=True, eq=False)
class Plastic:
    """Integers of a coupling and of the population above it that learn; of the readout its weights and biases.

    The connection holds the weights and adds to them, the population the biases; neither sees the other's.
    """

    rule: Plasticity
    weight: Accumulator
    bias: Accumulator

    def see_states(self, synapses: Synapses, below: np.ndarray, above: np.ndarray, winners: np.ndarray | None,
                   sign: int):
        """A connection's part of mapping.loihi.plasticity (21).

        Args:
            synapses: of the connection.
            below: (B, C_in, H, W) states, or the image.
            above: (B, C_out, H', W') states.
            winners: of this moment.
            sign: of the nudge.
        """
        coupling = synapses.coupling
        spread = unpool(trace(above, self.rule.after), winners, coupling.pool, coupling.unpooled)
        self.weight.add(weight_products(trace(below, self.rule.before), spread, coupling.weight.shape[2:],
                                        coupling.padding, coupling.stride), sign)

    def see_neurons(self, state: np.ndarray, sign: int):
        """A population's part of (21), from its states (B, C, H, W)."""
        self.bias.add(trace(state, self.rule.after).sum((0, 2, 3)), sign)

    def see_errors(self, state: np.ndarray, error: np.ndarray):
        """Equation (22), from the states (B, C, H, W) that the readout reads and its errors (B, K)."""
        self.weight.add(error.T @ trace(state, self.rule.before).reshape(len(state), -1))
        self.bias.add(error.sum(0))


def trace(state: np.ndarray, shift: int) -> np.ndarray:
    """x of (21), int64."""
    return rescale(state.astype(np.int64), shift)


def plastic_layout(program: LoihiProgram) -> dict[str, tuple[str, tuple[int, ...]]]:
    """The integers that learn, as `SharedArrays` takes them: processes write them, the host reads them."""
    layers = (*program.layers, program.readout)
    return {f"weight.{n}": ("int8", layer.weight.shape) for n, layer in enumerate(layers)} | {
        f"bias.{n}": ("int64", layer.bias.shape) for n, layer in enumerate(layers)}


def plastic_of(program: LoihiProgram, learning: Learning, shared: SharedArrays) -> tuple[Plastic, ...]:
    """One a coupling, the readout's last; the integers in `shared` become the program's."""
    made = []
    for n, (layer, rule) in enumerate(zip((*program.layers, program.readout), learning.layers)):
        shared[f"weight.{n}"][...], shared[f"bias.{n}"][...] = layer.weight, layer.bias
        most = 2 ** (program.target.weight_bits - 1) - 1
        weight, bias = (Accumulator(shared[f"{kind}.{n}"], step, limit, Rounding(learning.seed, f"{layer.name} {kind}"))
                        for kind, step, limit in (("weight", rule.weight, most), ("bias", rule.bias, None)))
        made.append(Plastic(rule, weight, bias))
    return tuple(made)
