"""A digital accelerator with few bits: weights on a grid a channel, activations on a grid a layer.

    W = round(w / step),    step = max|w| / (2^(b_w - 1) - 1) of an output channel                        (1)
    S = round(s / step),    step = range / (2^b_a - 1) of a layer, range its ceiling                       (2)

A layer without a ceiling has the range of its states on the calibration images. Sums are exact, biases floats: both are
wider than what they are rounded to on any such machine. It is the baseline of analog papers, and needs no training;
recipes train for it with `weight_bits`.

Source: uniform quantisation, Jacob et al., CVPR 2018; 4-bit weights and 8-bit activations in Lammie et al., Nat.
Commun. 16, 1756 (2025).
"""

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from mapping.errors import Refusal
from mapping.fields import PerLayer, Positive, Stated
from mapping.graph import Coupling, EPGraph
from mapping.options import option, whole
from mapping.program import Arrays, Program, Table, Weights
from mapping.registry import Rungs, from_reference
from mapping.sealed import Layout, Ranges
from mapping.targets import Target


@dataclass(frozen=True)
class DigitalTarget(Target):
    """Few bits; the rung `digital/weights` has floats for activations."""

    weight_bits: int = option(4, whole, "of each weight, its sign included", "2 to 8 bits", 2, 8)
    activation_bits: int = option(8, whole, "of each state", "1 to 16 bits", 1, 16)
    steps: int | None = option(None, whole, "time steps of a free phase; auto: the checkpoint's most", "1 to 100000", 1,
                               100_000)

    def idle(self) -> dict[str, str]:
        return {} if self.rounds_states else {"activation_bits": "on digital"}

    @property
    def rounds_states(self) -> bool:
        return self.name == "digital"


class DigitalSettings(Stated):
    """What a file says of a `DigitalProgram` beside its arrays."""

    ranges: PerLayer[Positive]


@dataclass(frozen=True, eq=False)
class DigitalProgram(Program[DigitalTarget]):
    """Equation (1) of every layer, the readout last.

    Attributes:
        weights: (C_out, C_in, k_h, k_w) int8 each.
        steps: (C_out,) float32 each, of the weights' grids.
        state_ranges: of each population, of equation (2).
    """

    kind: ClassVar[str] = "digital"
    settings: ClassVar[type[Stated]] = DigitalSettings
    weights: tuple[np.ndarray, ...]
    steps: tuple[np.ndarray, ...]
    state_ranges: tuple[float, ...]

    def dequantised(self) -> EPGraph:
        """The graph with the weights that the integers stand for."""
        def exact(coupling: Coupling, integers: np.ndarray, steps: np.ndarray) -> Coupling:
            return replace(coupling, weight=integers * steps[:, None, None, None])

        *couplings, readout = map(exact, (*self.graph.couplings, self.graph.readout), self.weights, self.steps)
        return replace(self.graph, couplings=tuple(couplings), readout=readout)

    def pack(self) -> tuple[Arrays, dict[str, Any]]:
        arrays: Arrays = {}
        for c, integers, steps in zip((*self.graph.couplings, self.graph.readout), self.weights, self.steps):
            arrays |= {f"digital.{c.name}.weight": integers, f"digital.{c.name}.step": steps}
        return arrays, {"ranges": list(self.state_ranges)}

    @classmethod
    def unpack(cls, target: DigitalTarget, graph: EPGraph, arrays: Arrays,
               settings: dict[str, Any]) -> "DigitalProgram":
        names = [c.name for c in (*graph.couplings, graph.readout)]
        return cls(target, graph, tuple(arrays[f"digital.{name}.weight"] for name in names),
                   tuple(arrays[f"digital.{name}.step"] for name in names), tuple(settings["ranges"]))

    @classmethod
    def takes(cls, target: Target) -> bool:
        return isinstance(target, DigitalTarget)

    @classmethod
    def layout(cls, target: DigitalTarget, weights: Weights, settings: Any, present: Collection[str]) -> Layout:
        if len(settings.ranges) != len(weights) - 1:
            raise ValueError("each population needs a range")
        return {f"digital.{name}.weight": ("int8", shape) for name, shape in weights.items()} | {
            f"digital.{name}.step": ("float32", shape[:1]) for name, shape in weights.items()}

    @classmethod
    def ranges(cls, target: DigitalTarget, layout: Layout) -> Ranges:
        top = 2 ** (target.weight_bits - 1) - 1
        return {name: (-top, top) if name.endswith(".weight") else (0, 1e16) for name in layout}

    def report(self) -> Table:
        top = 2 ** (self.target.weight_bits - 1) - 1
        rows = tuple((c.name, c.weight.size, f"{np.count_nonzero(w) / w.size:.1%}",
                      f"{np.count_nonzero(np.abs(w) == top) / w.size:.1%}", f"{_error(c, w, s):.2%}")
                     for c, w, s in zip((*self.graph.couplings, self.graph.readout), self.weights, self.steps))
        states = f"{self.target.activation_bits} bits" if self.target.rounds_states else "floats"
        return Table(f"{self.target.shown}: digital", ("layer", "weights", "not zero", "at the ends", "error"), rows,
                     (f"Weights have {self.target.weight_bits} bits; their error is its root mean square over theirs."
                      f" States are {states}, within {', '.join(f'{r:.3g}' for r in self.state_ranges)}.",))


def _error(coupling: Coupling, integers: np.ndarray, steps: np.ndarray) -> float:
    lost, whole = coupling.weight - integers * steps[:, None, None, None], coupling.weight
    return float(np.sqrt(np.square(lost).sum() / max(float(np.square(whole).sum()), 1e-30)))


def compile_digital(graph: EPGraph, target: DigitalTarget) -> DigitalProgram:
    """Equations (1) and (2).

    Raises:
        Refusal: a layer has no ceiling, and there are no calibration images to tell its range.
    """
    made = [on_grid(c.weight, target.weight_bits) for c in (*graph.couplings, graph.readout)]
    return DigitalProgram(target, graph, tuple(w for w, _ in made), tuple(s for _, s in made), state_ranges(graph))


def on_grid(weight: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """`mapping.digital` (1): integers (C_out, C_in, k_h, k_w) int8, and steps (C_out,) float32, 1 for zeros alone."""
    top = 2 ** (bits - 1) - 1
    largest = np.abs(weight).max((1, 2, 3))
    steps = np.where(largest > 0, largest / top, 1).astype(np.float32)
    return np.clip(np.rint(weight / steps[:, None, None, None]), -top, top).astype(np.int8), steps


def state_ranges(graph: EPGraph) -> tuple[float, ...]:
    """The ceiling of each population; without one its largest state on the calibration images.

    Raises:
        Refusal: see `compile_digital`.
    """
    recorded = graph.activity.states if graph.activity else (None,) * len(graph.populations)
    return tuple(_range(p.name, p.ceiling, states) for p, states in zip(graph.populations, recorded))


def _range(name: str, ceiling: float, states: np.ndarray | None) -> float:
    if math.isfinite(ceiling):
        return ceiling
    if states is None:
        raise Refusal("no calibration images to tell how large states become", where=f"layer {name}", got="no ceiling",
                      allowed="a network with a ceiling a layer, or calibration images",
                      remedy="lower it with example images, or load its checkpoint where its data are")
    return float(states.max()) or 1.0


def digital_rungs(target: DigitalTarget) -> Rungs:
    """The ladder: weights, then states."""
    rungs = [*from_reference(target), (replace(target, name="digital/weights", activation_bits=8),
                                       f"{target.weight_bits}-bit weights")]
    return [*rungs, (target, f"{target.activation_bits}-bit states")] if target.rounds_states else rungs
