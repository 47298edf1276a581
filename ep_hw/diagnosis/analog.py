"""What the crossbar rungs may do, from the arrays themselves and from other chips of the same device.

    mapped, levels   the cells hold the network's weights, to float32 or to half a conductance level        (1)
    stuck            cells are those of the rung below, or at an end of the range, as many as the rates say (7)
    programmed       cells differ from those of the rung below as on other chips of the device              (2)
    aged             compensated weights keep their summed magnitude; cells move as on other chips          (3)
    read             frozen cells are those of the rung below; fresh noise has the power of other chips     (4)
    converters       ranges are those that calibration asks for; hardly any code is clipped; a drive is off
                     by at most half a step of the DAC on every row and of the ADC of every line            (5)
    wires            frozen cells are those of the rung below, and the wires take from every weight         (6)
"""

from dataclasses import replace
from functools import reduce

import numpy as np
import torch

from ep_hw.diagnosis.finding import Finding, Scene, different_network, judged, largest, step_findings
from ep_hw.diagnosis.parting import reads
from ep_hw.diagnosis.transformations import explain_weights
from ep_hw.diagnosis.variants import reproduce
from ep_hw.evaluation.rungs import Rung
from mapping.crossbar.encoding import outputs_per_tile, store
from mapping.crossbar.program import CrossbarLayer, compile_crossbar, cut, stored_weight
from mapping.crossbar.target import CrossbarTarget
from mapping.graph import Coupling
from mapping.program import FloatProgram
from mapping.targets import ReferenceTarget
from simulators.crossbar.array import Array
from simulators.crossbar.chip import CrossbarMachine
from simulators.crossbar.models import model_of
from simulators.crossbar.programming import program_array

_OTHERS = range(1000, 1012)   # seeds of the chips to compare with
_DEVIATIONS = 8    # standard deviations among those chips that a chip may be off
_SLACK = 0.02      # of a ratio, beside them
_FLOAT32 = 1e-5
_CLIPPED = 0.01    # of all codes: calibration leaves 0.1 % beyond the range before its margin
_CLOSE = 1.1       # factor by which a range may be off and still serve


def mapped(rung: Rung, machine: CrossbarMachine, below, scene: Scene) -> list[Finding]:
    """Equation (1), and the digital side that reads the cells."""
    findings = different_network(rung.name, rung.program.graph, scene) + levels(rung, machine, below, scene)
    if any(f.fault for f in findings):
        return findings
    graph = _with_weights(scene, [effective_weight(*pair) for pair in _pairs(rung, machine)])
    return findings + step_findings(rung.name, machine, graph, scene.images, scene.starts,
                                    [_FLOAT32] * len(graph.populations),
                                    name=lambda: _digital_fault(graph, machine, scene))


def levels(rung: Rung, machine: CrossbarMachine, below, scene: Scene) -> list[Finding]:
    """Equation (1)."""
    findings = []
    for n, (coupling, (layer, array)) in enumerate(zip(scene.layers, _pairs(rung, machine))):
        others = [(c.name, c.weight) for i, c in enumerate(scene.layers) if i != n]
        findings.append(_cells(rung, coupling, effective_weight(layer, array), others))
    return findings


def effective_weight(layer: CrossbarLayer, array: Array) -> np.ndarray:
    """(C_out, C_in, k_h, k_w) weight that a layer multiplies with upwards, digital factors included."""
    weight = (array.forward_weight.sum(0) * array.compensation).cpu().numpy()
    return weight * layer.stored.column_scale[:, None, None, None]


def _pairs(rung: Rung, machine: CrossbarMachine) -> list[tuple[CrossbarLayer, Array]]:
    return list(zip(rung.program.layers, machine.arrays))


def _cells(rung: Rung, coupling: Coupling, held: np.ndarray, others) -> Finding:
    target = rung.program.target
    allowed = np.abs(coupling.weight).max() * (_FLOAT32 + _half_level(target))
    error = np.abs(held - coupling.weight)

    def name():
        wrong = (error > allowed).any((2, 3))
        return explain_weights(coupling.weight, held, lambda w: _stored(w, target), wrong, others=others)

    return judged(rung.name, coupling.name, "weight error", error.max(), allowed, name)


def _half_level(target: CrossbarTarget) -> float:
    """Largest rounding of a weight to the device's levels, relative to the largest weight."""
    levels, array = target.device.levels, target.array
    if levels is None or not target.includes("levels"):
        return 0.0
    if array.encoding == "offset":   # half of the levels for each sign
        return 0.5 / ((levels - 1) // 2)
    return 0.5 / (levels ** (array.slices if array.encoding == "slices" else 1) - 1)


def _stored(weight: np.ndarray, target: CrossbarTarget) -> np.ndarray:
    """What an honest compiler stores of a weight."""
    cuts = cut(len(weight), outputs_per_tile(target))
    return stored_weight(CrossbarLayer("", store(np.ascontiguousarray(weight), target, cuts), (), cuts, None))


def _with_weights(scene: Scene, weights):
    graph = scene.graph
    couplings = tuple(replace(c, weight=w) for c, w in zip(graph.couplings, weights))
    return replace(graph, couplings=couplings, readout=replace(graph.readout, weight=weights[-1]))


def _digital_fault(graph, machine: CrossbarMachine, scene: Scene) -> str | None:
    program = FloatProgram(ReferenceTarget("reference"), graph)
    found = reproduce(program, machine, scene.images, scene.starts, "synchronous", schedule="synchronous")
    return found and f"{found[1]} (in {found[0]}, where it runs; the cells are right)"


def _other_chips(rung: Rung, layer: CrossbarLayer) -> list[Array]:
    """The same layer on chips of other seeds, with every cause up to the rung."""
    target = rung.program.target
    return [program_array(layer, target, model_of(target), seed) for seed in _OTHERS]


def stuck(rung: Rung, machine: CrossbarMachine, below: CrossbarMachine, scene: Scene) -> list[Finding]:
    """Equation (7)."""
    findings, target = [], rung.program.target
    ends = ((target.device.stuck_on, target.g_max_us, "on"), (target.device.stuck_off, target.g_min_us, "off"))
    for (layer, array), before in zip(_pairs(rung, machine), below.arrays):
        now = array.conductance_us
        loose = (now != before.conductance_us) & (now != target.g_max_us) & (now != target.g_min_us)
        findings.append(judged(rung.name, layer.name, "cells neither stuck nor those of the rung below", loose.sum(), 0,
                               lambda: "cells that are not stuck are not those of the rung below"))
        for rate, g_us, way in ends:
            shown = before.conductance_us != g_us   # of the others nothing tells whether they are stuck here
            share, count = float((now[shown] == g_us).double().mean()), int(shown.sum())
            findings.append(judged(rung.name, layer.name, f"share of cells stuck {way}, off by", abs(share - rate),
                                   _DEVIATIONS * (rate * (1 - rate) / count) ** 0.5,
                                   lambda s=share, w=way: f"{s:.1%} of its cells are stuck {w}"))
    return findings


def programmed(rung: Rung, machine: CrossbarMachine, below: CrossbarMachine, scene: Scene) -> list[Finding]:
    """Equation (2)."""
    findings, device = [], model_of(rung.program.target)
    unprogrammed = replace(rung, program=below.program)
    for (layer, array), before in zip(_pairs(rung, machine), below.arrays):
        sigma = device.programming_sigma_us(torch.tensor(layer.stored.g_us))
        unit = torch.where(sigma > 0, sigma, 1.0)   # cells count alike, whatever their conductance
        chips = zip(_other_chips(unprogrammed, layer), _other_chips(rung, layer))
        ratio, allowed = _against(_rms((array.conductance_us - before.conductance_us).cpu() / unit),
                                  [_rms((now.conductance_us - then.conductance_us) / unit) for then, now in chips])
        findings.append(judged(rung.name, layer.name, "programming error against other chips, ratio less 1",
                               abs(ratio - 1), allowed, lambda r=ratio, name=rung.program.target.preset.name: (
                                   f"its programming errors are {r:.2f} times those of {name}")))
    return findings


def aged(rung: Rung, machine: CrossbarMachine, below: CrossbarMachine, scene: Scene) -> list[Finding]:
    """Equation (3)."""
    findings = []
    programmed_rung = replace(rung, program=below.program)
    for (layer, array), before in zip(_pairs(rung, machine), below.arrays):
        then, now = _other_chips(programmed_rung, layer), _other_chips(rung, layer)
        findings.append(_magnitude(rung, layer, array, before, list(zip(then, now))))
        ratio, allowed = _against(_rms(array.conductance_us - before.conductance_us),
                                  [_rms(b.conductance_us - a.conductance_us) for a, b in zip(then, now)])
        findings.append(judged(rung.name, layer.name, "drift of the cells against other chips, ratio less 1",
                               abs(ratio - 1), allowed,
                               lambda r=ratio: f"its cells have moved {r:.2f} times as far as those of other chips"))
    return findings


def _magnitude(rung: Rung, layer: CrossbarLayer, array: Array, before: Array, chips) -> Finding:
    """Summed magnitude of the weights after drift, relative to before; equal where drift is compensated."""
    kept = [_ratio(layer, replace(now, compensation=1.0), then) for then, now in chips]
    mean, spread = float(np.mean(kept)), float(np.std(kept)) * _DEVIATIONS + _SLACK
    ratio, compensated = _ratio(layer, array, before), rung.program.target.array.drift_compensation
    wanted, allowed = (1.0, 10 * _FLOAT32) if compensated else (mean, spread)

    def name():
        effect = f"its weights have {ratio:.2f} times their magnitude"
        if compensated and abs(ratio - mean) <= spread:
            return f"its drift is not compensated: {effect}"
        if not compensated and abs(ratio - 1) <= spread:
            return f"its drift is compensated, which was not asked for: {effect}"
        return f"its drift is compensated twice: {effect}" if abs(ratio * mean - 1) <= spread else effect

    return judged(rung.name, layer.name, "magnitude of the weights, off by", abs(ratio - wanted), allowed, name)


def _ratio(layer: CrossbarLayer, now: Array, then: Array) -> float:
    magnitudes = [np.abs(_sensed(array)).sum(dtype=np.float64) for array in (now, then)]
    return float(magnitudes[0] / magnitudes[1])


def _sensed(array: Array) -> np.ndarray:
    return (array.forward_weight.sum(0) * array.compensation).cpu().numpy()


def read(rung: Rung, machine: CrossbarMachine, below: CrossbarMachine, scene: Scene) -> list[Finding]:
    """Equation (4)."""
    findings = _same_cells(rung, machine, below)
    for n, ((layer, array), drive) in enumerate(zip(_pairs(rung, machine), _inputs(machine, scene))):
        padding = scene.layers[n].padding
        chips = [_noise_power(chip, drive, padding, k) for k, chip in zip(_OTHERS, _other_chips(rung, layer))]
        ratio, allowed = _against(_noise_power(array, drive, padding, scene.seed), chips)
        findings.append(judged(rung.name, layer.name, "read noise power against other chips, ratio less 1",
                               abs(ratio - 1), allowed,
                               lambda r=ratio: f"its read noise is {r**0.5:.2f} times that of other chips"))
    return findings


def _noise_power(array: Array, drive, padding: int, seed: int) -> float:
    """Sum of squares of the noise of one forward read of all lines."""
    generator, quiet = reads(seed), replace(array, fresh_us=None)
    pairs = ((array.read_forward(line, drive, padding, generator), quiet.read_forward(line, drive, padding))
             for line in range(len(array.forward_lines)))
    return float(sum((noisy - clean).square().sum() for noisy, clean in pairs))


def _same_cells(rung: Rung, machine: CrossbarMachine, below: CrossbarMachine) -> list[Finding]:
    findings = []
    for (layer, array), before in zip(_pairs(rung, machine), below.arrays):
        findings.append(judged(rung.name, layer.name, "frozen cells against the rung below, uS",
                               largest((array.conductance_us - before.conductance_us).cpu()), 0,
                               lambda: "its frozen cells are not those of the rung below"))
    return findings


def converters(rung: Rung, machine: CrossbarMachine, below: CrossbarMachine, scene: Scene) -> list[Finding]:
    """Equation (5)."""
    findings = _same_cells(rung, machine, below)
    if scene.graph.activity is not None:
        wanted = compile_crossbar(scene.graph, rung.program.target).layers
        findings += [_range(rung.name, layer, way, span, held) for layer, honest in zip(rung.program.layers, wanted)
                     for way, span, held in zip(("forward", "backward"), honest.spans, layer.spans)]
    return findings + _clipped(rung, machine, scene) + _half_steps(rung, machine, scene)


def _range(rung: str, layer: CrossbarLayer, way: str, wanted, held) -> Finding:
    ratios = np.append((held.adc / wanted.adc).ravel(), held.dac / wanted.dac)
    worst = ratios[np.abs(np.log(ratios)).argmax()]
    return judged(rung, layer.name, f"converter range {way}, off by a factor of", max(worst, 1 / worst), _CLOSE,
                  lambda: f"its converters' range ({way}) is {worst:.2g} times what calibration images need")


def _clipped(rung: Rung, machine: CrossbarMachine, scene: Scene) -> list[Finding]:
    before = machine.saturation()
    machine.relax(scene.images, 1, states=scene.states, schedule="synchronous", generator=reads(scene.seed))
    findings = []
    for old, new in zip(before, machine.saturation()):
        share = (new.clipped - old.clipped) / max(new.conversions - old.conversions, 1)
        kind = new.converter.upper()
        findings.append(judged(rung.name, new.layer, f"clipped codes, {kind} {new.direction}", share, _CLIPPED,
                               lambda x=share, k=kind, d=new.direction: f"its {k}s ({d}) clip {x:.0%} of all codes"))
    return findings


def _half_steps(rung: Rung, machine: CrossbarMachine, scene: Scene) -> list[Finding]:
    """A quiet forward read with converters and without, in half steps of everything it passes; where nothing clips."""
    findings = []
    projections = (*machine.substrate.projections, machine.substrate.readout)
    for coupling, projection, state in zip(scene.layers, projections, _inputs(machine, scene)):
        used = (projection.forward_periphery.dac, *projection.forward_periphery.adcs)
        clipped = sum(int(c.clipped) for c in used)
        ratio = _in_half_steps(projection, state, coupling.padding)
        if sum(int(c.clipped) for c in used) == clipped:
            findings.append(judged(rung.name, coupling.name, "converted drive, off by half steps", ratio, 1 + _SLACK))
    return findings


def _in_half_steps(projection, state, padding: int) -> float:
    quiet, periphery = replace(projection.forward_array, fresh_us=None), projection.forward_periphery
    drives, allowed = periphery.drives(state), []
    exact = reduce(torch.add, (quiet.read_forward(line, state, padding) for line in range(len(periphery.adcs))))
    for line, adc in enumerate(periphery.adcs):
        s, r = quiet.forward_lines[line]
        reach = quiet.forward_weight[s][:, slice(*quiet.row_cuts[r])].abs().sum((1, 2, 3))
        allowed.append(len(drives) * (adc.step / 2 + (reach * periphery.dac.step / 2).view(-1, 1, 1)))
    error = periphery.sums(drives, lambda line, drive: quiet.read_forward(line, drive, padding)) - exact
    return float((error.abs() / reduce(torch.add, allowed)).max())


def wires(rung: Rung, machine: CrossbarMachine, below: CrossbarMachine, scene: Scene) -> list[Finding]:
    """Equation (6)."""
    findings = _same_cells(rung, machine, below)
    for (layer, array), before in zip(_pairs(rung, machine), below.arrays):
        kept = _ratio(layer, array, before)
        findings.append(judged(rung.name, layer.name, "magnitude of the weights behind wires", kept, 1,
                               lambda k=kept: f"its wires make weights {k:.2f} times as large"))
    return findings


def _inputs(machine: CrossbarMachine, scene: Scene) -> list[torch.Tensor]:
    """What each layer's array is driven with upwards: the image, then the states."""
    image = machine.substrate.encode(scene.images.to(machine.substrate.mean))
    return [image, *(s.to(image) for s in scene.states)]


def _rms(errors: torch.Tensor) -> float:
    return float(errors.square().mean().sqrt())


def _against(measured: float, chips: list[float]) -> tuple[float, float]:
    """A measure over its mean on other chips, and how far from 1 that may be."""
    mean = float(np.mean(chips))
    if mean == 0:
        return 1.0 + measured, _FLOAT32
    return measured / mean, _DEVIATIONS * float(np.std(chips)) / mean + _SLACK
