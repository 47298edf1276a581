"""Which fault makes an honest simulator do what a machine did: each known fault planted in turn, run, compared.

Where a program is right and the machine that runs it is wrong, only the machine's states tell. A variant is the
honest model of the program with one fault in one layer: weights in both directions or in one, bias, shift, schedule.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import singledispatch
from itertools import pairwise

import numpy as np
import torch

from ep_hw.diagnosis.transformations import BIAS_FAULTS, WEIGHT_FAULTS
from mapping.graph import SCHEDULES
from mapping.loihi.program import LoihiProgram
from mapping.program import FloatProgram, Program
from simulators.loihi.twin import open_twin
from simulators.machine import InProcessMachine, Machine
from simulators.reference import ReferenceMachine
from simulators.relaxation import Projection, period_of

EXACT = 1e-5   # of the states' largest difference between a machine and the variant that explains it
_SHIFTS = (-3, -2, -1, 1, 2, 3)
PROBES = 4   # images that tell one fault from another


@dataclass(frozen=True, eq=False)
class Variant:
    """A model with one fault: where it is, what it is."""

    layer: str
    fault: str
    machine: InProcessMachine
    schedule: str


class SplitProjection(Projection):
    """Reads forward as one projection and backward as another."""

    def __init__(self, one: Projection, other: Projection):
        self.one, self.other = one, other

    def forward(self, s_pre, generator=None):
        return self.one.forward(s_pre, generator)

    def backward(self, s_post, winners, generator=None):
        return self.other.backward(s_post, winners, generator)


@singledispatch
def model_of(program: Program) -> InProcessMachine:
    """What a program computes, in this process: on Lava, or on the rung that its target names."""
    raise TypeError(f"no model of a {type(program).__name__}")


@model_of.register
def _(program: LoihiProgram):
    return open_twin(program)


@model_of.register
def _(program: FloatProgram):
    return ReferenceMachine(program.graph)


def reproduce(program: Program, machine: Machine, images, starts, told: str, schedule=None) -> tuple[str, str] | None:
    """(layer, fault) of the variant that ends a sweep where the machine ends it, from every start; None without one.

    Args:
        starts: states to start from. told: the schedule that the machine should run.
        schedule: handed to the machine; None for one that has it built in.
    """
    images, starts = images[:PROBES], [[s[:PROBES] for s in states] for states in starts]
    steps = period_of(told)
    seen = [machine.relax(images, steps, states=states, schedule=schedule) for states in starts]
    for variant in variants(program, told):
        if all(same(variant.machine.relax(images, steps, states=states, schedule=variant.schedule), end)
               for states, end in zip(starts, seen)):
            return variant.layer, variant.fault
    return None


def same(a, b) -> bool:
    """Whether two equilibria are equal in all states and, to float32's resolution, in their logits."""
    resolution = 1e-5 * float(b.logits.abs().max().clamp(min=1))
    return all(float((x - y).abs().max()) <= EXACT for x, y in zip(a.states, b.states)) and (
        float((a.logits - b.logits).abs().max()) <= resolution)


def variants(program: Program, schedule: str) -> Iterator[Variant]:
    """Every known fault in every layer; `schedule` is what the machine was told to run."""
    other = SCHEDULES[schedule == SCHEDULES[0]]
    yield Variant("network", f"its schedule is {other}, not {schedule}", model_of(program), other)
    for n, name in enumerate(_names(program)):
        weights = list(_weight_faults(program, n))
        for fault, changed in (*weights, *_bias_faults(program, n), *_shift_faults(program, n)):
            yield Variant(name, fault.format("weights"), model_of(changed), schedule)
        if 0 < n < len(program.graph.couplings):
            for fault, changed in weights:
                yield Variant(name, fault.format("forward weights"), _one_way(program, changed, n, 0), schedule)
                yield Variant(name, fault.format("feedback weights"), _one_way(program, changed, n, 1), schedule)


def _weight_faults(program: Program, n: int) -> Iterator[tuple[str, Program]]:
    for fault, transform in WEIGHT_FAULTS.items():
        yield f"its {{}} are the program's, {fault}", _changed(
            program, n, lambda layer, f=transform: {"weight": np.ascontiguousarray(f(layer.weight))})


def _bias_faults(program: Program, n: int) -> Iterator[tuple[str, Program]]:
    for fault, transform in BIAS_FAULTS.items():
        yield f"its biases are the program's, {fault}", _changed(
            program, n, lambda layer, f=transform: {"bias": f(layer.bias)})


def _shift_faults(program: Program, n: int) -> Iterator[tuple[str, Program]]:
    whole = isinstance(program, LoihiProgram) and program.target.name in ("loihi", "lava")
    if not whole or n == len(program.layers):
        return
    for field, words in (("shift", "shift"), ("forward_shift", "forward alignment"),
                         ("backward_shift", "feedback alignment")):
        for k in _SHIFTS:
            if getattr(program.layers[n], field) + k >= 0:
                yield f"its {words} is off by {k:+d}", _changed(
                    program, n, lambda layer, f=field, k=k: {f: getattr(layer, f) + k})


def _one_way(program: Program, changed: Program, n: int, way: int) -> InProcessMachine:
    """The program's model, whose projection n is that of another program in one of its ways (0 forward, 1 feedback)."""
    model = model_of(program)
    projections, wrong = list(model.substrate.projections), model_of(changed).substrate.projections[n]
    projections[n] = SplitProjection(projections[n], wrong) if way else SplitProjection(wrong, projections[n])
    return model.with_substrate(model.substrate.with_projections(projections))


def _names(program: Program) -> list[str]:
    return [c.name for c in (*program.graph.couplings, program.graph.readout)]


def _changed(program: Program, n: int, change) -> Program:
    """The program with fields of layer n (the readout last) replaced by change(layer)."""
    integers = isinstance(program, LoihiProgram) and program.target.quantises_weights
    holder = program if integers else program.graph
    field = "layers" if holder is program else "couplings"
    layers = [*getattr(holder, field), holder.readout]
    layers[n] = replace(layers[n], **change(layers[n]))
    holder = replace(holder, **{field: tuple(layers[:-1])}, readout=layers[-1])
    return holder if isinstance(holder, Program) else replace(program, graph=holder)


def moves(machine: Machine, images, states, steps: int) -> list[set[int]]:
    """For each step the layers whose states it changes."""
    trace = [states]
    machine.relax(images, steps, states=states, trace=lambda t, now: trace.append(now))
    return [{n for n, (a, b) in enumerate(zip(before, after)) if not torch.equal(a.float(), b.float())}
            for before, after in pairwise(trace)]
