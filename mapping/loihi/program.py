"""A Loihi 2 program: integers for every weight, state and shift.

In the units of mapping.loihi.scaling (18), in which states are at most 1, states are S = 0 .. top_n for s = S 2^-p,
weights W = w 2^q, the image X = x 2^{p_in} after normalisation. With the accumulator of layer n counted in 2^-E_n, E_n
the finer of its two drives' scales, a step of mapping.graph (1) to (3) is

    A_n = 2^{f_n} maxpool(W_n * S_{n-1}) + 2^{b_n} conv_transpose(unpool(S_{n+1}), W_{n+1}) + B_n         (11)
    S_n <- clamp((A_n + 2^{shift_n - 1}) >> shift_n, 0, top_n),      2^-shift_n = slope_n 2^{p - E_n}      (12)

2^{b_n} aligns the feedback and applies its gain, a power of two; where that is 0 the second term is absent. top_n is
the ceiling rounded down, at most 2^p - 1. mapping.loihi.compile chooses q, p and p_in so that no accumulator can
overflow (mapping.loihi.bound).
"""

from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from mapping.errors import Refusal
from mapping.fields import Name, PerLayer, Stated
from mapping.graph import Coupling, EPGraph
from mapping.loihi.alive import Alive, alive_of
from mapping.loihi.bound import ACCUMULATOR_LIMIT, accumulator_bound, backward_reach, input_reach, signed_sums
from mapping.loihi.integers import BETA_BITS, ERROR_BITS
from mapping.loihi.report import integer_table, placement_table
from mapping.loihi.scaling import drive_scales, largest_states, nudge_scale, rescaled
from mapping.loihi.target import LoihiTarget
from mapping.program import Arrays, Program, Table, Weights
from mapping.sealed import Layout, Ranges
from mapping.targets import Target

Exponent = Annotated[int, Field(ge=-400, le=400)]
Shift = Annotated[int, Field(ge=0, le=62)]
StateScale = Annotated[float, Field(ge=1e-12, le=1e12)]
STRONGEST_NUDGE = 1024


@dataclass(frozen=True, eq=False)
class IntegerLayer:
    """Integers of one coupling and of the population it drives (for the readout: of the logits).

    Attributes:
        weight: (C_out, C_in, k, k) int8, w = weight 2^-exponent in units of mapping.loihi.scaling (18).
        bias: (C_out,) int64 at the accumulator's scale, b = bias 2^-scale in these units.
        exponent: q.
        scale: E, what the accumulator counts in.
        forward_shift: left shift f of the forward drive.
        backward_shift: left shift b of the backward drive from the layer above, its gain included.
        shift: right shift from the accumulator to the state.
        bound: proven largest magnitude of the accumulator, rounding half and all partial sums included.
    """

    name: str
    weight: np.ndarray
    bias: np.ndarray
    exponent: int
    scale: int
    forward_shift: int
    backward_shift: int
    shift: int
    bound: int

    @property
    def half(self) -> int:
        """What is added before the shift, so that it rounds half up."""
        return 1 << self.shift >> 1


_IN_FILE = {"forward_shift": "up", "backward_shift": "down"}   # names of fields that a file spells otherwise


class IntegersRow(Stated):
    """What a file says of an `IntegerLayer` beside its arrays; the proof bounds what they come to together."""

    name: Name
    exponent: Exponent
    scale: Exponent
    up: Shift
    down: Shift
    shift: Shift
    bound: Annotated[int, Field(ge=0, lt=ACCUMULATOR_LIMIT)]


class LoihiSettings(Stated):
    """What a file says of a `LoihiProgram`."""

    layers: PerLayer[IntegersRow]
    state_bits: Annotated[int, Field(ge=4, le=16)]
    input_bits: Annotated[int, Field(ge=8, le=16)]
    largest_beta: Annotated[float, Field(ge=0, le=STRONGEST_NUDGE)]
    scales: PerLayer[StateScale] | None = None


@dataclass(frozen=True, eq=False)
class LoihiProgram(Program[LoihiTarget]):
    """Integers of every layer, for Lava, for the bit-exact twin, and for the rungs between it and the reference.

    Attributes:
        layers: one a coupling.
        readout: the logits, in units of 2^-readout.scale.
        state_bits: p.
        input_bits: p_in.
        largest_beta: strongest nudge for which the top accumulator is proven safe.
        scales: c_n of mapping.loihi.scaling (18): a state S of layer n is S 2^-p c_n.
    """

    kind: ClassVar[str] = "loihi"
    settings: ClassVar[type[Stated]] = LoihiSettings
    layers: tuple[IntegerLayer, ...]
    readout: IntegerLayer
    state_bits: int
    input_bits: int
    largest_beta: float
    scales: tuple[float, ...]

    @cached_property
    def scaled(self) -> EPGraph:
        """The network in the units that the integers count in, mapping.loihi.scaling (18) and (19)."""
        return rescaled(self.graph, self.scales)

    @cached_property
    def tops(self) -> tuple[int, ...]:
        """Largest state of each layer."""
        return largest_states((p.ceiling / c for p, c in zip(self.graph.populations, self.scales)), self.state_bits)

    @cached_property
    def alive(self) -> Alive | None:
        """What is not dead; None where all is alive."""
        return alive_of(self.graph, self.target)

    @property
    def backward_factors(self) -> tuple[np.ndarray, ...]:
        """What each coupling's feedback is multiplied by, float32: 2^b of (11), 0 where a sum of it is dead."""
        factors = np.exp2(np.array([0, *(layer.backward_shift for layer in self.layers[:-1])], np.float32))
        return tuple(factors if self.alive is None else map(np.multiply, factors, self.alive.sums))

    @cached_property
    def units(self) -> tuple[float, ...]:
        """What a state of 1 of each layer stands for."""
        return tuple(c * 2.0**-self.state_bits for c in self.scales)

    @property
    def nudge_scale(self) -> float:
        """What a nudge's strength is multiplied by, mapping.loihi.scaling (19)."""
        return nudge_scale(self.graph, self.scales)

    def integer_beta(self, beta: float) -> int:
        """A nudge's strength in integers: the numerator over 2^16 of beta' in mapping.loihi.scaling (19).

        Raises:
            Refusal: it is zero in 2^-16, or the top accumulator is not proven safe for it.
        """
        unit = 2.0**-BETA_BITS / self.nudge_scale
        numerator = round(beta / unit)
        if not 0 < abs(numerator) <= round(self.largest_beta / unit):
            raise Refusal("nudge strength out of range", where=f"{self.target}, beta", got=beta,
                          allowed=f"{unit:g} to {self.largest_beta:g} in magnitude",
                          remedy="choose beta in this range, or compile with fewer state_bits")
        return numerator

    @property
    def safe_beta(self) -> float:
        """The strongest nudge that leaves the top accumulator safe, as `largest_beta` counts it."""
        # |error| sums to at most 2 and a rounding unit a class; the drive is rounded once more
        swing = (2 + self.graph.classes * 2.0**-ERROR_BITS) * np.abs(self.readout.weight.astype(np.int64)).max()
        room = max(ACCUMULATOR_LIMIT - 2 - self.layers[-1].bound, 0)
        room *= 2.0 ** (self.readout.exponent - self.layers[-1].scale)
        beta = np.floor(2.0**BETA_BITS * min(room / max(swing, 1), STRONGEST_NUDGE)) / 2.0**BETA_BITS
        return min(float(beta) / self.nudge_scale, STRONGEST_NUDGE)

    @property
    def worst(self) -> IntegerLayer:
        """The layer with the largest bound."""
        return max((*self.layers, self.readout), key=lambda layer: layer.bound)

    @property
    def is_proven(self) -> bool:
        """Whether every accumulator stays within 24 bits."""
        return self.worst.bound < ACCUMULATOR_LIMIT

    @property
    def delta_threshold(self) -> int | None:
        """Largest change of a state, in 2^-p, that a population keeps to itself; None where it sends whole states."""
        return None if self.target.threshold is None else int(self.target.threshold * 2**self.state_bits)

    @property
    def nudge_shift(self) -> int:
        """Right shift of beta W_out^T error to the top accumulator's scale."""
        return self.readout.exponent + ERROR_BITS + BETA_BITS - self.layers[-1].scale

    def dequantised(self) -> EPGraph:
        """The graph with its weights and biases as the integers have them, w' = W 2^-q, b' = B 2^-E in (18)."""
        drives = (*drive_scales(self.graph, self.scales), 1.0)

        def exact(coupling: Coupling, layer: IntegerLayer, below: float, drive: float) -> Coupling:
            return replace(coupling, weight=(layer.weight * (2.0**-layer.exponent * drive / below)).astype(np.float32),
                           bias=(layer.bias * (2.0**-layer.scale * drive)).astype(np.float32))

        *couplings, readout = map(exact, (*self.graph.couplings, self.graph.readout), (*self.layers, self.readout),
                                  (1.0, *self.scales), drives)
        return replace(self.graph, couplings=tuple(couplings), readout=readout)

    def pack(self) -> tuple[Arrays, dict[str, Any]]:
        arrays: Arrays = {}
        rows = []
        for layer in (*self.layers, self.readout):
            row = {_IN_FILE.get(key, key): value for key, value in asdict(layer).items()}
            arrays |= {f"loihi.{layer.name}.{key}": row.pop(key) for key in ("weight", "bias")}
            rows.append(row)
        scales = {} if set(self.scales) == {1.0} else {"scales": self.scales}
        return arrays, {"layers": rows, "state_bits": self.state_bits, "input_bits": self.input_bits,
                        "largest_beta": self.largest_beta, **scales}

    @classmethod
    def unpack(cls, target: LoihiTarget, graph: EPGraph, arrays: Arrays, settings: dict[str, Any]) -> "LoihiProgram":
        rest, own = dict(settings), {known: key for key, known in _IN_FILE.items()}
        layers = [IntegerLayer(weight=arrays[f"loihi.{row['name']}.weight"], bias=arrays[f"loihi.{row['name']}.bias"],
                               **{own.get(key, key): value for key, value in row.items()})
                  for row in rest.pop("layers")]
        scales = tuple(rest.pop("scales", [1.0] * len(graph.populations)))
        return cls(target, graph, tuple(layers[:-1]), layers[-1], scales=scales, **rest)

    @classmethod
    def takes(cls, target: Target) -> bool:
        return isinstance(target, LoihiTarget) and target.name != "lava:float"

    @classmethod
    def layout(cls, target: LoihiTarget, weights: Weights, settings: Any,
               present: Collection[str]) -> Layout:
        names = [row.name for row in settings.layers]
        if names != list(weights) or target.state_bits not in (None, settings.state_bits):
            raise ValueError("layers or state bits that are not those of network and target")
        if settings.scales is not None and len(settings.scales) != len(names) - 1:
            raise ValueError("scales of other layers than the network has")
        return {f"loihi.{name}.weight": ("int8", shape) for name, shape in weights.items()} | {
            f"loihi.{name}.bias": ("int64", shape[:1]) for name, shape in weights.items()}

    @classmethod
    def ranges(cls, target: LoihiTarget, layout: Layout) -> Ranges:
        most = {"weight": max(2 ** (target.weight_bits - 1) - 1, 1), "bias": ACCUMULATOR_LIMIT}
        return {name: (-most[name.rpartition(".")[2]], most[name.rpartition(".")[2]]) for name in layout}

    def verify(self):
        rescaled(self.graph, self.scales)   # refuses units in which the network is none
        if self.prove() != tuple(layer.bound for layer in (*self.layers, self.readout)) or not self.is_proven:
            raise ValueError("bounds that do not follow from the weights")
        alive_of(self.graph, self.target)   # refuses the loss of a core that there is not

    def prove(self) -> tuple[int, ...]:
        """Bounds of all accumulators, the readout's last, anew from the integers (equation 10)."""
        layers, bounds, tops = (*self.layers, self.readout), [], self.tops
        for n, (layer, gain) in enumerate(zip(layers, (*self.graph.gains[1:], 0.0))):
            backward = None
            if gain:
                above = self.graph.couplings[n + 1]
                backward = backward_reach(layers[n + 1].weight, above.pool, above.stride) * tops[n + 1]
            forward = input_reach(self.graph, n, signed_sums(layer.weight), tops, self.input_bits)
            bounds.append(accumulator_bound(forward, layer.forward_shift, backward, layer.backward_shift, layer.bias,
                                            layer.half))
        return tuple(bounds)

    def report(self) -> Table:
        return integer_table(self)

    def tables(self) -> tuple[Table, ...]:
        return self.report(), placement_table(self)
