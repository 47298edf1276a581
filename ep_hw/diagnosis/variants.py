"""The fault with which an honest simulator does what a machine did: each known fault is planted in turn and run.

Where a program is right and the machine that runs it is wrong, only the machine's states show the fault. A variant is
the honest model of the program with one fault in one layer: weights in both directions or in one, biases, shifts; or
with the other schedule.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import singledispatch
from itertools import pairwise
from typing import Any, TypeGuard, TypeVar

import torch
from torch import Generator, Tensor

from ep_hw.diagnosis.divergence import States, traced
from ep_hw.diagnosis.transformations import BIAS_FAULTS, WEIGHT_FAULTS
from mapping.graph import SCHEDULES, Coupling, period_of
from mapping.loihi.program import IntegerLayer, LoihiProgram
from mapping.program import FloatProgram, Program
from simulators.loihi.twin import open_twin
from simulators.machine import Equilibrium, InProcessMachine, Machine
from simulators.reference import ReferenceMachine
from simulators.relaxation import Projection

EXACT = 1e-5   # of the states' largest difference between a machine and the variant that explains it
_SHIFTS = (-3, -2, -1, 1, 2, 3)
PROBES = 4   # images that tell one fault from another
L = TypeVar("L", IntegerLayer, Coupling)


@dataclass(frozen=True, eq=False)
class Variant:
    """A model with one fault.

    Attributes:
        layer: that has it; "network" for the schedule.
        fault: in words.
        machine: the model.
        schedule: that it runs.
    """

    layer: str
    fault: str
    machine: InProcessMachine
    schedule: str


class SplitProjection(Projection):
    """Reads forward as one projection and backward as another."""

    def __init__(self, one: Projection, other: Projection):
        self.one, self.other = one, other
        self.window, self.feedback_gain = one.window, one.feedback_gain

    def forward(self, s_pre: Tensor, generator: Generator | None = None) -> tuple[Tensor, Tensor | None]:
        return self.one.forward(s_pre, generator)

    def backward(self, s_post: Tensor, winners: Tensor | None, generator: Generator | None = None) -> Tensor:
        return self.other.backward(s_post, winners, generator)


@singledispatch
def model_of(program: Program) -> InProcessMachine:
    """The honest model of a program, in this process."""
    raise TypeError(f"no model of a {type(program).__name__}")


@model_of.register
def _(program: LoihiProgram) -> InProcessMachine:
    return open_twin(program)


@model_of.register
def _(program: FloatProgram) -> InProcessMachine:
    return ReferenceMachine(program.graph)


def reproduce(program: Program, machine: Machine, images: Tensor, starts: Sequence[States | None], schedule: str, *,
              built_in: bool = False) -> Variant | None:
    """The variant that ends a sweep where the machine ends it, from every start; None without one.

    Args:
        program: that the machine runs.
        machine: at fault.
        images: (B, C, H, W) in [0, 1].
        starts: states to start from; None for zeros.
        schedule: that the machine should run.
        built_in: the machine has its schedule built in, and is not asked for it.
    """
    images, starts = images[:PROBES], [states and tuple(s[:PROBES] for s in states) for states in starts]
    steps, asked = period_of(schedule, len(program.graph.populations)), None if built_in else schedule
    seen = [machine.relax(images, steps, states=states, schedule=asked) for states in starts]
    for variant in variants(program, schedule):
        if all(same(variant.machine.relax(images, steps, states=states, schedule=variant.schedule), end)
               for states, end in zip(starts, seen)):
            return variant
    return None


def same(a: Equilibrium, b: Equilibrium) -> bool:
    """Whether two equilibria are equal in all states and, to float32's resolution, in their logits."""
    resolution = 1e-5 * float(b.logits.abs().max().clamp(min=1))
    return all(float((x - y).abs().max()) <= EXACT for x, y in zip(a.states, b.states)) and (
        float((a.logits - b.logits).abs().max()) <= resolution)


def variants(program: Program, schedule: str) -> Iterator[Variant]:
    """Every known fault in every layer; `schedule` is the one that the machine should run."""
    other = SCHEDULES[schedule == SCHEDULES[0]]
    yield Variant("network", f"its schedule is {other}, not {schedule}", model_of(program), other)
    for n, name in enumerate(_names(program)):
        weights = list(_weight_faults(program, n))
        for fault, changed in (*weights, *_bias_faults(program, n), *_shift_faults(program, n)):
            yield Variant(name, fault.format("weights"), model_of(changed), schedule)
        if program.graph.gains[n]:
            for fault, changed in weights:
                yield Variant(name, fault.format("forward weights"), _one_way(program, changed, n, 0), schedule)
                yield Variant(name, fault.format("backward weights"), _one_way(program, changed, n, 1), schedule)


def _weight_faults(program: Program, n: int) -> Iterator[tuple[str, Program]]:
    weight = _layers(program)[n].weight
    for fault, transform in WEIGHT_FAULTS.items():
        changed = transform(weight).copy()   # a flipped kernel of one pixel counts as contiguous, and is backward
        yield f"its {{}} are the program's, {fault}", _changed(program, n, weight=changed)


def _bias_faults(program: Program, n: int) -> Iterator[tuple[str, Program]]:
    bias = _layers(program)[n].bias
    for fault, transform in BIAS_FAULTS.items():
        yield f"its biases are the program's, {fault}", _changed(program, n, bias=transform(bias))


def _shift_faults(program: Program, n: int) -> Iterator[tuple[str, Program]]:
    if not isinstance(program, LoihiProgram) or not program.target.is_whole or n == len(program.layers):
        return
    words = {"shift": "shift", "forward_shift": "forward alignment"}
    if program.graph.gains[n + 1]:
        words["backward_shift"] = "backward alignment"
    for field, name in words.items():
        for k in _SHIFTS:
            if (shift := getattr(program.layers[n], field) + k) >= 0:
                yield f"its {name} is off by {k:+d}", _changed(program, n, **{field: shift})


def _one_way(program: Program, changed: Program, n: int, direction: int) -> InProcessMachine:
    """The program's model, whose projection n is that of another program in one direction (0 forward, 1 backward)."""
    model = model_of(program)
    projections, wrong = list(model.substrate.projections), model_of(changed).substrate.projections[n]
    projections[n] = SplitProjection(projections[n], wrong) if direction else SplitProjection(wrong, projections[n])
    return model.with_substrate(model.substrate.with_projections(projections))


def _names(program: Program) -> list[str]:
    return [c.name for c in (*program.graph.couplings, program.graph.readout)]


def _has_integer_weights(program: Program) -> TypeGuard[LoihiProgram]:
    return isinstance(program, LoihiProgram) and program.target.quantises_weights


def _layers(program: Program) -> tuple[IntegerLayer, ...] | tuple[Coupling, ...]:
    """The layers that hold the weights which the program runs, the readout last."""
    if _has_integer_weights(program):
        return (*program.layers, program.readout)
    return (*program.graph.couplings, program.graph.readout)


def _changed(program: Program, n: int, **fields) -> Program:
    """The program with other fields of layer n (the readout last)."""
    if _has_integer_weights(program):
        *layers, top = _replaced((*program.layers, program.readout), n, fields)
        return replace(program, layers=tuple(layers), readout=top)
    *couplings, readout = _replaced((*program.graph.couplings, program.graph.readout), n, fields)
    return replace(program, graph=replace(program.graph, couplings=tuple(couplings), readout=readout))


def _replaced(layers: Sequence[L], n: int, fields: dict[str, Any]) -> list[L]:
    return [replace(layer, **fields) if k == n else layer for k, layer in enumerate(layers)]


def moves(machine: Machine, images: Tensor, states: States | None, steps: int) -> list[set[int]]:
    """For each step the layers whose states it changes."""
    seen = traced(machine, images, steps, states=states)[1]
    trace = [states or tuple(map(torch.zeros_like, seen[0])), *seen]
    return [{n for n, (a, b) in enumerate(zip(before, after)) if not torch.equal(a.float(), b.float())}
            for before, after in pairwise(trace)]
