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

from ep_hw.why.transformations import BIAS_FAULTS, WEIGHT_FAULTS
from mapping.graph import SCHEDULES
from mapping.loihi import LoihiProgram
from mapping.program import FloatProgram, Program
from simulators.loihi.twin import twin_of
from simulators.machine import InProcessMachine, Machine
from simulators.reference import ReferenceMachine
from simulators.relaxation import Arm

EXACT = 1e-5   # of the states' largest difference between a machine and the variant that explains it
_SHIFTS = (-3, -2, -1, 1, 2, 3)
_PROBES = 4    # images that tell one fault from another


@dataclass(frozen=True, eq=False)
class Variant:
    """A model with one fault: where it is, what it is."""

    layer: str
    fault: str
    machine: InProcessMachine
    schedule: str | None = None


class SplitArm(Arm):
    """Reads upwards as one arm and downwards as another."""

    def __init__(self, up: Arm, down: Arm):
        self.forward, self.backward = up.forward, down.backward


@singledispatch
def model_of(program: Program) -> InProcessMachine:
    """What a program on Lava computes, without Lava."""
    raise TypeError(f"no model of a {type(program).__name__}")


@model_of.register
def _(program: LoihiProgram):
    return twin_of(program)


@model_of.register
def _(program: FloatProgram):
    return ReferenceMachine(program.graph)


def reproduce(program: Program, machine: Machine, images, states, steps: int, schedule: str) -> tuple[str, str] | None:
    """(layer, fault) of the variant whose states and logits are the machine's after some steps; None if there is none.

    Args:
        schedule: that the machine was told to run. states: where all start.
    """
    images, states = images[:_PROBES], [s[:_PROBES] for s in states]
    seen = machine.relax(images, steps, states=states, schedule=schedule)
    for variant in variants(program, schedule):
        end = variant.machine.relax(images, steps, states=states, schedule=variant.schedule or schedule)
        if same(end, seen):
            return variant.layer, variant.fault
    return None


def same(a, b) -> bool:
    """Whether two equilibria are equal in all states and, to float32's resolution, in their logits."""
    resolution = 1e-5 * float(b.logits.abs().max().clamp(min=1))
    return all(float((x - y).abs().max()) <= EXACT for x, y in zip(a.states, b.states)) and (
        float((a.logits - b.logits).abs().max()) <= resolution)


def variants(program: Program, schedule: str) -> Iterator[Variant]:
    """Every known fault in every layer."""
    other = SCHEDULES[schedule == SCHEDULES[0]]
    yield Variant("network", f"its schedule is {other}, not {schedule}", model_of(program), other)
    for n, name in enumerate(_names(program)):
        for fault, transform in WEIGHT_FAULTS.items():
            yield from _weight_variants(program, n, name, fault, lambda x, f=transform: {
                "weight": np.ascontiguousarray(f(x.weight))})
        for fault, transform in BIAS_FAULTS.items():
            changed = _changed(program, n, lambda x, f=transform: {"bias": f(x.bias)})
            yield Variant(name, f"its bias is the program's, {fault}", model_of(changed))
        if isinstance(program, LoihiProgram):
            yield from _shift_variants(program, n, name)


def _weight_variants(program, n: int, name: str, fault: str, change) -> Iterator[Variant]:
    wrong = model_of(_changed(program, n, change))
    yield Variant(name, f"its weights are the program's, {fault}", wrong)
    if 0 < n < len(program.graph.couplings):
        arm = wrong.substrate.arms[n]
        for way in ("forward", "feedback"):
            model = model_of(program)
            arms, right = list(model.substrate.arms), model.substrate.arms[n]
            arms[n] = SplitArm(arm, right) if way == "forward" else SplitArm(right, arm)
            model.substrate.arms = tuple(arms)
            yield Variant(name, f"its {way} weights are the program's, {fault}", model)


def _shift_variants(program: LoihiProgram, n: int, name: str) -> Iterator[Variant]:
    if n == len(program.layers):
        return
    for field, words in (("shift", "shift"), ("up", "forward alignment"), ("down", "feedback alignment")):
        for k in _SHIFTS:
            if getattr(program.layers[n], field) + k >= 0:
                changed = _changed(program, n, lambda x, f=field, k=k: {f: getattr(x, f) + k})
                yield Variant(name, f"its {words} is off by {k:+d}", model_of(changed))


def _names(program: Program) -> list[str]:
    return [c.name for c in (*program.graph.couplings, program.graph.readout)]


def _changed(program: Program, n: int, change) -> Program:
    """The program with fields of layer n (the readout last) replaced by change(layer)."""
    holder = program if isinstance(program, LoihiProgram) else program.graph
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
