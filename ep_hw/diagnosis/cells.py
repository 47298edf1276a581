"""Expectations of the crossbar rungs that change cells, from the cells themselves and from other chips of the device.

    mapped, levels   the cells hold the network's weights, to float32 or to half a conductance level        (1)
    stuck            cells are those of the rung below, or at an end of the range, as many as the rates say (2)
    programmed       cells differ from those of the rung below as on other chips of the device              (3)
    aged             compensated weights keep their summed magnitude; cells move as on other chips          (4)
    wires            frozen cells are those of the rung below, and the wires take from every weight         (5)
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ep_hw.diagnosis.finding import Finding, Scene, different_network, judged, largest, step_findings
from ep_hw.diagnosis.transformations import explain_weights
from ep_hw.diagnosis.variants import reproduce
from mapping.crossbar.encoding import outputs_per_tile, store
from mapping.crossbar.program import CrossbarLayer, CrossbarProgram, cut, stored_weight
from mapping.crossbar.target import CrossbarTarget
from mapping.graph import Coupling, EPGraph
from mapping.program import FloatProgram
from mapping.targets import ReferenceTarget
from simulators.crossbar.array import Array
from simulators.crossbar.chip import CrossbarMachine
from simulators.crossbar.models import model_of
from simulators.crossbar.programming import program_array

OTHER_SEEDS = range(1000, 1012)   # seeds of the chips to compare with
_DEVIATIONS = 8    # standard deviations among those chips that a chip may be off
SLACK = 0.02       # of a ratio, added to them
_FLOAT32 = 1e-5


def mapped(program: CrossbarProgram, machine: CrossbarMachine, scene: Scene) -> list[Finding]:
    """The cells hold the network's weights, `ep_hw.diagnosis.cells` (1), and the digital side reads them rightly."""
    rung = program.target.shown
    findings = different_network(rung, program.graph, scene) + levels(program, machine, scene)
    if any(f.fault for f in findings):
        return findings
    graph = _with_weights(scene, [_effective_weight(*pair) for pair in layers_of(program, machine)])
    return findings + step_findings(rung, machine, graph, scene.images, scene.starts,
                                    [_FLOAT32 * scene.size] * len(graph.populations),
                                    fault=lambda: _digital_fault(graph, machine, scene))


def levels(program: CrossbarProgram, machine: CrossbarMachine, scene: Scene) -> list[Finding]:
    """The cells hold the network's weights, `ep_hw.diagnosis.cells` (1)."""
    findings = []
    for coupling, (layer, array) in zip(scene.layers, layers_of(program, machine)):
        others = [(other.name, other.weight) for other in scene.layers if other is not coupling]
        findings.append(_cells(program.target, coupling, _effective_weight(layer, array), others))
    return findings


def _effective_weight(layer: CrossbarLayer, array: Array) -> np.ndarray:
    """(C_out, C_in, k_h, k_w) weight of the forward direction, digital factors included."""
    return _sensed(array) * layer.stored.column_scale[:, None, None, None]


def layers_of(program: CrossbarProgram, machine: CrossbarMachine) -> list[tuple[CrossbarLayer, Array]]:
    """Each layer of the program with its cells on the machine."""
    return list(zip(program.layers, machine.arrays))


def _cells(target: CrossbarTarget, coupling: Coupling, held: np.ndarray,
           others: Sequence[tuple[str, np.ndarray]]) -> Finding:
    allowed = float(np.abs(coupling.weight).max()) * (_FLOAT32 + _half_level(target))
    held = held.reshape(coupling.weight.shape)
    error = np.abs(held - coupling.weight)

    def name() -> str | None:
        wrong = (error > allowed).any((2, 3))
        return explain_weights(coupling.weight, held, lambda w: _stored(w, target), wrong, others=others)

    return judged(target.shown, coupling.name, "weight error", error.max(), allowed, name)


def _half_level(target: CrossbarTarget) -> float:
    """Largest rounding of a weight to the device's levels, relative to the largest weight."""
    levels, array = target.device.levels, target.array
    if levels is None or not target.includes("levels"):
        return 0.0
    if array.encoding == "offset":   # half of the levels for each sign
        return 0.5 / ((levels - 1) // 2)
    return 0.5 / (levels ** (array.slices if array.encoding == "slices" else 1) - 1)


def _stored(weight: np.ndarray, target: CrossbarTarget) -> np.ndarray:
    """A weight as an honest compiler stores it."""
    cuts = cut(len(weight), outputs_per_tile(target))
    return stored_weight(CrossbarLayer("", store(np.ascontiguousarray(weight), target, cuts), (), cuts, None))


def _with_weights(scene: Scene, weights: Sequence[np.ndarray]) -> EPGraph:
    graph = scene.graph
    *couplings, readout = (replace(c, weight=w.reshape(c.weight.shape)) for c, w in zip(scene.layers, weights))
    return replace(graph, couplings=tuple(couplings), readout=readout)


def _digital_fault(graph: EPGraph, machine: CrossbarMachine, scene: Scene) -> str | None:
    program = FloatProgram(ReferenceTarget("reference"), graph)
    variant = reproduce(program, machine, scene.images, scene.starts, "synchronous")
    return f"{variant.fault} (in {variant.layer}, where it runs; the cells are right)" if variant else None


def stuck(program: CrossbarProgram, machine: CrossbarMachine, below: CrossbarMachine) -> list[Finding]:
    """Cells are stuck as often as the device's rates say, `ep_hw.diagnosis.cells` (2)."""
    findings, target = [], program.target
    ends = ((target.device.stuck_on, target.g_max_us, "on"), (target.device.stuck_off, target.g_min_us, "off"))
    for (layer, array), before in zip(layers_of(program, machine), below.arrays):
        now = array.conductance_us
        loose = (now != before.conductance_us) & (now != target.g_max_us) & (now != target.g_min_us)
        findings.append(judged(program.target.shown, layer.name, "cells neither stuck nor those of the rung below",
                               int(loose.sum()), 0, "cells that are not stuck are not those of the rung below"))
        for rate, g_us, way in ends:
            shown = before.conductance_us != g_us   # cells that were there before do not show whether they are stuck
            share, count = float((now[shown] == g_us).double().mean()), int(shown.sum())
            findings.append(judged(program.target.shown, layer.name, f"share of cells stuck {way}, off by",
                                   abs(share - rate), _DEVIATIONS * (rate * (1 - rate) / count) ** 0.5,
                                   f"{share:.1%} of its cells are stuck {way}"))
    return findings


def programmed(program: CrossbarProgram, machine: CrossbarMachine, below: CrossbarMachine) -> list[Finding]:
    """Programming errors are as large as on other chips, `ep_hw.diagnosis.cells` (3)."""
    findings, device, name = [], model_of(program.target), program.target.preset.name
    for (layer, array), before in zip(layers_of(program, machine), below.arrays):
        sigma = device.programming_sigma_us(torch.tensor(layer.stored.g_us))
        unit = torch.where(sigma > 0, sigma, 1.0)   # cells count alike, whatever their conductance
        chips = zip(other_chips(below.program, layer), other_chips(program, layer))
        ratio, allowed = against_others(_rms((array.conductance_us - before.conductance_us).cpu() / unit),
                                  [_rms((now.conductance_us - then.conductance_us) / unit) for then, now in chips])
        findings.append(judged(program.target.shown, layer.name, "programming error against other chips, ratio less 1",
                               abs(ratio - 1), allowed,
                               f"its programming errors are {ratio:.2f} times those of {name}"))
    return findings


def aged(program: CrossbarProgram, machine: CrossbarMachine, below: CrossbarMachine) -> list[Finding]:
    """Cells drift as on other chips, and compensation keeps the weights' magnitude, `ep_hw.diagnosis.cells` (4)."""
    findings = []
    for (layer, array), before in zip(layers_of(program, machine), below.arrays):
        then, now = other_chips(below.program, layer), other_chips(program, layer)
        findings.append(_magnitude(program.target, layer, array, before, list(zip(then, now))))
        ratio, allowed = against_others(_rms(array.conductance_us - before.conductance_us),
                                  [_rms(b.conductance_us - a.conductance_us) for a, b in zip(then, now)])
        findings.append(judged(program.target.shown, layer.name, "drift of the cells against other chips, ratio less 1",
                               abs(ratio - 1), allowed,
                               f"its cells have moved {ratio:.2f} times as far as those of other chips"))
    return findings


def _magnitude(target: CrossbarTarget, layer: CrossbarLayer, array: Array, before: Array,
               chips: Sequence[tuple[Array, Array]]) -> Finding:
    """Summed magnitude of the weights after drift, relative to before; equal where drift is compensated.

    Args:
        target: of the rung.
        layer: of the program.
        array: its cells, aged.
        before: the same before they aged.
        chips: the same two on other chips, before and after.
    """
    kept = [_ratio(replace(now, compensation=1.0, column_factors=None), then) for then, now in chips]
    mean, spread = float(np.mean(kept)), float(np.std(kept)) * _DEVIATIONS + SLACK
    ratio, compensated = _ratio(array, before), target.array.drift_compensation
    wanted, allowed = (1.0, 10 * _FLOAT32) if compensated else (mean, spread)

    def name() -> str:
        effect = f"its weights have {ratio:.2f} times their magnitude"
        if compensated and abs(ratio - mean) <= spread:
            return f"its drift is not compensated: {effect}"
        if not compensated and abs(ratio - 1) <= spread:
            return f"its drift is compensated, which was not asked for: {effect}"
        return f"its drift is compensated twice: {effect}" if abs(ratio * mean - 1) <= spread else effect

    return judged(target.shown, layer.name, "magnitude of the weights, off by", abs(ratio - wanted), allowed, name)


def _ratio(now: Array, then: Array) -> float:
    """Summed magnitude of the weights of an array over that of another."""
    magnitudes = [np.abs(_sensed(array)).sum(dtype=np.float64) for array in (now, then)]
    return float(magnitudes[0] / magnitudes[1])


def _sensed(array: Array) -> np.ndarray:
    return (array.forward_weight.sum(0) * array.factors[:, None, None, None]).cpu().numpy()


def wires(program: CrossbarProgram, machine: CrossbarMachine, below: CrossbarMachine) -> list[Finding]:
    """Wires take from every weight, `ep_hw.diagnosis.cells` (5)."""
    findings = same_cells(program, machine, below)
    for (layer, array), before in zip(layers_of(program, machine), below.arrays):
        kept = _ratio(array, before)
        findings.append(judged(program.target.shown, layer.name, "magnitude of the weights behind wires", kept, 1,
                               f"its wires make weights {kept:.2f} times as large"))
    return findings


def other_chips(program: CrossbarProgram, layer: CrossbarLayer) -> list[Array]:
    """The same layer on chips of other seeds, with every cause up to the program's rung."""
    target = program.target
    return [program_array(layer, target, model_of(target), seed) for seed in OTHER_SEEDS]


def against_others(measured: float, chips: Sequence[float]) -> tuple[float, float]:
    """A measure over its mean on other chips, and how far from 1 that may be."""
    mean = float(np.mean(chips))
    if mean == 0:
        return 1.0 + measured, _FLOAT32
    return measured / mean, _DEVIATIONS * float(np.std(chips)) / mean + SLACK


def same_cells(program: CrossbarProgram, machine: CrossbarMachine, below: CrossbarMachine) -> list[Finding]:
    """Frozen cells are those of the rung below."""
    return [judged(program.target.shown, layer.name, "frozen cells against the rung below, uS",
                   largest((array.conductance_us - before.conductance_us).cpu()), 0,
                   "its frozen cells are not those of the rung below")
            for (layer, array), before in zip(layers_of(program, machine), below.arrays)]


def _rms(errors: Tensor) -> float:
    return float(errors.square().mean().sqrt())
