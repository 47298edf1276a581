"""Expectations of the crossbar rungs that change how cells are read: read noise and converters.

    read         frozen cells are those of the rung below; fresh noise has the power of other chips          (1)
    converters   ranges are those that calibration asks for; hardly any code is clipped; a drive is off
                 by at most half a step of the DAC on every row and of the ADC of every line                 (2)
    curves       frozen cells are those of the rung below; a drive of half the read voltage senses what a sinh
                 leaves of half of what the whole one does                                                   (3)
"""

import math
from dataclasses import replace
from functools import reduce

import numpy as np
import torch
from torch import Tensor

from ep_hw.diagnosis.cells import OTHER_SEEDS, SLACK, against_others, layers_of, other_chips, same_cells
from ep_hw.diagnosis.divergence import read_noise
from ep_hw.diagnosis.finding import Finding, Scene, judged
from mapping.crossbar.program import CrossbarLayer, CrossbarProgram, compile_crossbar
from mapping.crossbar.ranges import Span
from mapping.graph import Window
from simulators.crossbar.array import Array
from simulators.crossbar.chip import CrossbarMachine
from simulators.crossbar.periphery import Converter
from simulators.crossbar.programming import READ_V
from simulators.crossbar.projection import CrossbarProjection, Periphery

_CLIPPED = 0.01    # of all codes: calibration leaves 0.1 % beyond the range before its margin
_SINH = 1e-4       # of float32's sums
_CLOSE = 1.1       # factor by which a range may be off and still serve


def read(program: CrossbarProgram, machine: CrossbarMachine, below: CrossbarMachine, scene: Scene) -> list[Finding]:
    """Read noise has the power of other chips, `ep_hw.diagnosis.reads` (1)."""
    findings = same_cells(program, machine, below)
    layers = zip(layers_of(program, machine), _inputs(machine, scene), scene.layers)
    for (layer, array), drive, coupling in layers:
        window = coupling.window
        chips = [_noise_power(chip, drive, window, k) for k, chip in zip(OTHER_SEEDS, other_chips(program, layer))]
        ratio, allowed = against_others(_noise_power(array, drive, window, scene.seed), chips)
        findings.append(judged(program.target.shown, layer.name, "read noise power against other chips, ratio less 1",
                               abs(ratio - 1), allowed,
                               f"its read noise is {ratio**0.5:.2f} times that of other chips"))
    return findings


def _noise_power(array: Array, drive: Tensor, window: Window, seed: int) -> float:
    """Sum of squares of the noise of one forward read of all lines."""
    generator, quiet = read_noise(seed), replace(array, fresh_us=None)
    pairs = ((array.read_forward(line, drive, window, generator), quiet.read_forward(line, drive, window))
             for line in range(len(array.forward_lines)))
    return float(sum((noisy - clean).square().sum() for noisy, clean in pairs))


def converters(program: CrossbarProgram, machine: CrossbarMachine, below: CrossbarMachine,
               scene: Scene) -> list[Finding]:
    """Converters fit their drives and round by half a step, `ep_hw.diagnosis.reads` (2)."""
    findings = same_cells(program, machine, below)
    if scene.graph.activity is not None:
        wanted = compile_crossbar(scene.graph, program.target).layers
        findings += [_range(program.target.shown, layer, way, span, held)
                     for layer, honest in zip(program.layers, wanted)
                     for way, span, held in zip(("forward", "backward"), honest.spans or (), layer.spans or ())]
    return findings + _clipped(program, machine, scene) + _half_steps(program, machine, scene)


def curves(program: CrossbarProgram, machine: CrossbarMachine, below: CrossbarMachine, scene: Scene) -> list[Finding]:
    """Currents follow the device's sinh, `ep_hw.diagnosis.reads` (3)."""
    findings, device = same_cells(program, machine, below), program.target.device
    assert device.sinh_v is not None, "the rung is there"
    pulses = program.target.converters.inputs == "pulses"   # a line that is driven half as long
    share = 0.5 if pulses else math.sinh(READ_V / 2 / device.sinh_v) / math.sinh(READ_V / device.sinh_v)
    for (layer, array), coupling in zip(layers_of(program, machine), scene.layers):
        assert layer.spans is not None, "curves come with converters"
        quiet, shape = replace(array, fresh_us=None), (1, *coupling.window.pre)
        whole, half = (quiet.read_forward(0, part * torch.full(shape, layer.spans[0].dac).to(array.conductance_us),
                                          coupling.window) for part in (1.0, 0.5))
        ratio = float(half.norm() / (share * whole.norm()))
        findings.append(judged(program.target.shown, layer.name, "current at half the read voltage, ratio less 1",
                               abs(ratio - 1), _SINH,
                               f"its currents at half the read voltage are {ratio:.3g} times those of its sinh"))
    return findings


def _range(rung: str, layer: CrossbarLayer, way: str, wanted: Span, held: Span) -> Finding:
    ratios = np.append((held.adc / wanted.adc).ravel(), held.dac / wanted.dac)
    worst = ratios[np.abs(np.log(ratios)).argmax()]
    return judged(rung, layer.name, f"converter range {way}, off by a factor of", max(worst, 1 / worst), _CLOSE,
                  f"its converters' range ({way}) is {worst:.2g} times what calibration images need")


def _clipped(program: CrossbarProgram, machine: CrossbarMachine, scene: Scene) -> list[Finding]:
    before = machine.saturation()
    machine.relax(scene.images, 1, states=scene.states, schedule="synchronous", generator=read_noise(scene.seed))
    rung, findings = program.target.shown, []
    for old, new in zip(before, machine.saturation()):
        share = (new.clipped - old.clipped) / max(new.conversions - old.conversions, 1)
        kind = new.converter.upper()
        findings.append(judged(rung, new.layer, f"clipped codes, {kind} {new.direction}", share, _CLIPPED,
                               f"its {kind}s ({new.direction}) clip {share:.0%} of all codes"))
    return findings


def _half_steps(program: CrossbarProgram, machine: CrossbarMachine, scene: Scene) -> list[Finding]:
    """A quiet forward read with converters and without, in half steps of everything it passes; where nothing clips."""
    findings = []
    for coupling, projection, state in zip(scene.layers, machine.projections, _inputs(machine, scene)):
        used = _converters(projection.forward_periphery)
        clipped = sum(int(converter.clipped) for converter in used)
        ratio = _in_half_steps(projection, state, coupling.window)
        if sum(int(converter.clipped) for converter in used) == clipped:
            findings.append(judged(program.target.shown, coupling.name, "converted drive, off by half steps", ratio,
                                   1 + SLACK))
    return findings


def _converters(periphery: Periphery) -> list[Converter]:
    """The DAC, then the ADCs."""
    return [c for c in (periphery.dac, *periphery.adcs) if isinstance(c, Converter)]


def _in_half_steps(projection: CrossbarProjection, state: Tensor, window: Window) -> float:
    quiet, periphery = replace(projection.forward_array, fresh_us=None), projection.forward_periphery
    drives, (dac, *adcs), allowed = periphery.drives(state), _converters(periphery), []
    phases = 1 + periphery.two_phase
    exact = reduce(torch.add, (quiet.read_forward(line, state, window) for line in range(len(adcs))))
    for line, adc in enumerate(adcs):
        s, r = quiet.forward_lines[line]
        reach = quiet.forward_weight[s][:, slice(*quiet.row_cuts[r])].abs().sum((1, 2, 3))
        allowed.append(_roundings(adc) * sum(abs(share) for share, _ in drives) + phases * (
            reach * dac.step / 2).view(-1, 1, 1))
    error = periphery.sums(drives, lambda line, drive: quiet.sense_forward(line, drive, window)) - exact
    return float((error.abs() / reduce(torch.add, allowed)).max())


def _roundings(adc: Converter) -> Tensor:
    """What an ADC may be off by."""
    return adc.step if adc.floor else adc.step / 2


def _inputs(machine: CrossbarMachine, scene: Scene) -> list[Tensor]:
    """What drives each layer's array in the forward direction: the image, then the states."""
    image = machine.substrate.encode(scene.images.to(machine.substrate.mean))
    return [image, *(s.to(image) for s in scene.states)]
