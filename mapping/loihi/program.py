"""A Loihi 2 program: integers for every weight, state and shift.

States are S = 0 .. 2^p - 1 for s = S 2^-p, weights W = w 2^q, the image X = x 2^{p_in} after normalisation. With
the accumulator of layer n counted in 2^-E_n, E_n the finer of its two drives' scales, a step of equations (1) to (3) is

    A_n = 2^{f_n} maxpool(W_n * S_{n-1}) + 2^{b_n} conv_transpose(unpool(S_{n+1}), W_{n+1}) + B_n         (11)
    S_n <- clamp((A_n + 2^{shift_n - 1}) >> shift_n, 0, 2^p - 1),    2^-shift_n = slope_n 2^{p - E_n}      (12)

mapping.loihi.compile chooses q, p and p_in so that no accumulator can overflow (mapping.loihi.bound).
"""

from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from mapping.fields import Name, PerLayer, Stated
from mapping.graph import Coupling, EPGraph
from mapping.loihi.bound import ACCUMULATOR_LIMIT, accumulator_bound, backward_reach, input_reach, signed_sums
from mapping.loihi.integers import BETA_BITS, ERROR_BITS
from mapping.loihi.report import integer_table, placement_table
from mapping.loihi.target import LoihiTarget
from mapping.program import Arrays, Program, Table, Weights
from mapping.sealed import Layout, Ranges
from mapping.targets import Target

Exponent = Annotated[int, Field(ge=-400, le=400)]
Shift = Annotated[int, Field(ge=0, le=62)]


@dataclass(frozen=True, eq=False)
class IntegerLayer:
    """Integers of one coupling and of the population it drives (for the readout: of the logits).

    Attributes:
        weight: (C_out, C_in, k, k) int8, w = weight 2^-exponent.
        bias: (C_out,) int64 at the accumulator's scale, b = bias 2^-scale.
        exponent: q.
        scale: E, what the accumulator counts in.
        forward_shift: left shift f of the forward drive.
        backward_shift: left shift b of the backward drive from the layer above.
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
    largest_beta: Annotated[float, Field(ge=0, le=1024)]


@dataclass(frozen=True, eq=False)
class LoihiProgram(Program[LoihiTarget]):
    """Integers of every layer, for Lava, for the bit-exact twin, and for the rungs between it and the reference.

    Attributes:
        layers: one a coupling; `readout`: the logits, in units of 2^-readout.scale.
        state_bits: p.
        input_bits: p_in.
        largest_beta: strongest nudge for which the top accumulator is proven safe.
    """

    kind: ClassVar[str] = "loihi"
    settings: ClassVar[type[Stated]] = LoihiSettings
    layers: tuple[IntegerLayer, ...]
    readout: IntegerLayer
    state_bits: int
    input_bits: int
    largest_beta: float

    @property
    def top(self) -> int:
        """Largest state."""
        return 2**self.state_bits - 1

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
        """The graph with its weights and biases as the integers have them, w = W 2^-q, b = B 2^-E."""
        def exact(coupling: Coupling, layer: IntegerLayer) -> Coupling:
            return replace(coupling, weight=(layer.weight * 2.0**-layer.exponent).astype(np.float32),
                           bias=(layer.bias * 2.0**-layer.scale).astype(np.float32))

        return replace(self.graph, couplings=tuple(map(exact, self.graph.couplings, self.layers)),
                       readout=exact(self.graph.readout, self.readout))

    def pack(self) -> tuple[Arrays, dict[str, Any]]:
        arrays: Arrays = {}
        rows = []
        for layer in (*self.layers, self.readout):
            row = {_IN_FILE.get(key, key): value for key, value in asdict(layer).items()}
            arrays |= {f"loihi.{layer.name}.{key}": row.pop(key) for key in ("weight", "bias")}
            rows.append(row)
        return arrays, {"layers": rows, "state_bits": self.state_bits, "input_bits": self.input_bits,
                        "largest_beta": self.largest_beta}

    @classmethod
    def unpack(cls, target: LoihiTarget, graph: EPGraph, arrays: Arrays, settings: dict[str, Any]) -> "LoihiProgram":
        rest, own = dict(settings), {known: key for key, known in _IN_FILE.items()}
        layers = [IntegerLayer(weight=arrays[f"loihi.{row['name']}.weight"], bias=arrays[f"loihi.{row['name']}.bias"],
                               **{own.get(key, key): value for key, value in row.items()})
                  for row in rest.pop("layers")]
        return cls(target, graph, tuple(layers[:-1]), layers[-1], **rest)

    @classmethod
    def takes(cls, target: Target) -> bool:
        return isinstance(target, LoihiTarget) and target.name != "lava:float"

    @classmethod
    def layout(cls, target: LoihiTarget, weights: Weights, settings: Any,
               present: Collection[str]) -> Layout:
        names = [row.name for row in settings.layers]
        if names != list(weights) or target.state_bits not in (None, settings.state_bits):
            raise ValueError("layers or state bits that are not those of network and target")
        return {f"loihi.{name}.weight": ("int8", shape) for name, shape in weights.items()} | {
            f"loihi.{name}.bias": ("int64", shape[:1]) for name, shape in weights.items()}

    @classmethod
    def ranges(cls, target: LoihiTarget, layout: Layout) -> Ranges:
        most = {"weight": max(2 ** (target.weight_bits - 1) - 1, 1), "bias": ACCUMULATOR_LIMIT}
        return {name: (-most[name.rpartition(".")[2]], most[name.rpartition(".")[2]]) for name in layout}

    def verify(self):
        if self.prove() != tuple(layer.bound for layer in (*self.layers, self.readout)) or not self.is_proven:
            raise ValueError("bounds that do not follow from the weights")

    def prove(self) -> tuple[int, ...]:
        """Bounds of all accumulators, the readout's last, anew from the integers (equation 10)."""
        layers, bounds, top = (*self.layers, self.readout), [], len(self.layers) - 1
        for n, layer in enumerate(layers):
            backward = None
            if n < top:
                backward = backward_reach(layers[n + 1].weight, self.graph.couplings[n + 1].pool) * self.top
            forward = input_reach(self.graph, n, signed_sums(layer.weight), self.state_bits, self.input_bits)
            bounds.append(accumulator_bound(forward, layer.forward_shift, backward, layer.backward_shift, layer.bias,
                                            layer.half))
        return tuple(bounds)

    def report(self) -> Table:
        return integer_table(self)

    def tables(self) -> tuple[Table, ...]:
        return self.report(), placement_table(self)
