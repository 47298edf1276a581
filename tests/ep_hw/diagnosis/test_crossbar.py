"""Why crossbars diverge: honest chips are never accused, a fault of each rung is named with its layer."""

import re
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from chains import random_chain
from networks import calibrated, random_images, small_network

import mapping
import simulators
from ep_hw.diagnosis import explain
from ep_hw.evaluation.rungs import ladder
from mapping.crossbar.program import compile_crossbar
from simulators.crossbar.chip import CrossbarMachine
from simulators.crossbar.devices import Device
from simulators.crossbar.models import model_of
from simulators.crossbar.programmed import program_chip


@pytest.fixture(scope="module")
def graph():
    return small_network(3, channels=(8, 20)).lower()


@pytest.fixture(scope="module")
def images():
    return random_images(6)


def explained(graph, images, program, opener=None, chip=0):
    return explain(graph, mapping.compile(graph, "reference"), program, images, steps=4, opener=opener, chip=chip)


@pytest.mark.parametrize("target", [
    "crossbar:ideal[tile=18]", "crossbar:pcm", "crossbar:pcm[tile=16,age=1y,levels=16]",
    "crossbar:pcm[drift_compensation=off]", "crossbar:pcm[drift_compensation=column]",
    "crossbar:pcm[encoding=slices,levels=4]", "crossbar:pcm[encoding=offset,levels=9,stuck_on=0.02]",
    "crossbar:pcm[wire_ohm=1,scaling=column]", "crossbar:pcm[sinh_v=0.1]", "crossbar:hermes_2",
    "crossbar:pcm[temperature=400,adc_rounding=floor,inputs=bits]",
    "crossbar:reram_cmo[age=1s,stuck_on=0.05,stuck_off=0.1]"])
def test_an_honest_chip_is_not_accused(graph, images, target):
    explanation = explained(graph, images, mapping.compile(graph, target), chip=1)
    assert not explanation.faults, explanation.sentence()
    assert {f.rung for f in explanation.findings} == {c.after for c in explanation.contributions}


CHAINS = {feedback: random_chain(3, feedback=feedback, unusual=True) for feedback in ("mixed", "none")}


@pytest.mark.parametrize("name", CHAINS)
def test_an_honest_chip_of_another_chain_is_not_accused_and_its_fault_is_named(name):
    chain = calibrated(CHAINS[name])
    images = random_images(6, chain.image_shape)
    program = mapping.compile(chain, "crossbar:pcm[levels=16,stuck_on=0.01,wire_ohm=1]")
    explanation = explained(chain, images, program, chip=1)
    assert not explanation.faults, explanation.sentence()
    faulty = with_cells(program, 1, lambda g_us: g_us[:, ::-1])
    assert re.search(r"conv2 of crossbar:\S+: its weights are the checkpoint's, with the sign inverted",
                     explained(chain, images, faulty, chip=1).sentence())


def with_layer(program, n, change):
    """The program with one layer changed."""
    layers = list(program.layers)
    layers[n] = change(layers[n])
    return replace(program, layers=tuple(layers))


def with_cells(program, n, change):
    """The program with the target conductances of one layer changed."""
    return with_layer(program, n, lambda layer: replace(layer, stored=replace(
        layer.stored, g_us=np.ascontiguousarray(change(layer.stored.g_us)))))


def columns(*order):
    """Output channels in another order."""
    return lambda g_us: g_us[:, :, list(order)]


CELLS = {
    "columns": ("crossbar:pcm", columns(0, 7, 2, 3, 4, 5, 6, 1, *range(8, 20)),
                "crossbar:ideal: output channels 1 and 7 of its weights are swapped"),
    "column tiles": ("crossbar:pcm/aged[tile=72x16]", columns(*range(10, 20), *range(10)),
                     "output channels of its weights are in another order: 0-9 hold 10-19, 10-19 hold 0-9"),
    "rows": ("crossbar:pcm", lambda g_us: g_us[:, :, :, [3, 1, 2, 0, 4, 5, 6, 7]],
             "input channels 0 and 3 of its weights are swapped"),
    "pairs": ("crossbar:pcm", lambda g_us: g_us[:, ::-1], "its weights are the checkpoint's, with the sign inverted"),
    "kernels": ("crossbar:pcm/levels[levels=16]", lambda g_us: g_us[..., ::-1],
                "crossbar:pcm/levels[levels=16]: its weights are the checkpoint's, flipped left to right"),
}


@pytest.mark.parametrize("name", CELLS)
def test_wrong_cells_are_named(graph, images, name):
    target, change, sentence = CELLS[name]
    explanation = explained(graph, images, with_cells(mapping.compile(graph, target), 1, change))
    assert explanation.faults[0].sentence().startswith("conv2 of crossbar:")
    assert sentence in explanation.faults[0].sentence()


@dataclass(frozen=True)
class Scaled(Device):
    """A preset's device with one of its causes stronger."""

    right: Device = None
    programming: float = 1.0
    reading: float = 1.0
    exponent: float = 1.0

    def programming_sigma_us(self, target_us):
        return self.programming * self.right.programming_sigma_us(target_us)

    def drift(self, programmed_us, target_us, age_s, frozen):
        return programmed_us * (self.right.drift(programmed_us, target_us, age_s, frozen)
                                / programmed_us.clamp(min=1e-9)) ** self.exponent

    def slow_sigma_us(self, *args):
        return self.right.slow_sigma_us(*args)

    def fresh_sigma_us(self, *args):
        return self.reading * self.right.fresh_sigma_us(*args)


def on(target, **factors):
    """Opens chips whose device is not the preset's."""
    right = model_of(mapping.parse(target))

    def opener(program):
        if not program.target.name.startswith("crossbar:pcm"):
            return simulators.open(program)
        device = Scaled(right.g_max_us, right.g_min_us, right, **factors)
        return CrossbarMachine(program, chip=program_chip(program, 0, model=device))

    return opener


@pytest.mark.parametrize(("factors", "sentence"), [
    ({"programming": 2.0}, r"conv1 of crossbar:pcm/programmed: its programming errors are (1\.[89]|2\.[012])\d times"),
    ({"programming": 0.0}, "conv1 of crossbar:pcm/programmed: its programming errors are 0.00 times those of pcm"),
    ({"exponent": 3.0}, "conv1 of crossbar:pcm/aged: its cells have moved"),
    ({"reading": 2.0}, r"conv1 of crossbar:pcm/read: its read noise is (1\.[89]|2\.[012])\d times"),
], ids=["noisy programming", "no programming noise", "strong drift", "noisy reads"])
def test_a_device_that_is_not_the_presets_is_named(graph, images, factors, sentence):
    explanation = explained(graph, images, mapping.compile(graph, "crossbar:pcm"), on("crossbar:pcm", **factors))
    assert re.match(sentence, explanation.faults[0].sentence())


def with_conductance(array, g_us):
    return replace(array, cells=replace(array.cells, conductance_us=g_us))


def altered(kind, change):
    """Opens machines, those of one rung and later with all their arrays changed."""
    def opener(program):
        machine = simulators.open(program)
        if kind not in str(program.target):
            return machine
        arrays = [change(forward) for forward, _ in machine.chip.arrays]
        return CrossbarMachine(program, chip=replace(machine.chip, arrays=tuple(zip(arrays, arrays))))

    return opener


def test_drift_that_nothing_compensates_is_named(graph, images):
    opener = altered("aged", lambda array: replace(array, compensation=1.0))
    explanation = explained(graph, images, mapping.compile(graph, "crossbar:pcm/aged"), opener)
    named = "conv1 of crossbar:pcm/aged: its drift is not compensated: its weights have 0.7"
    assert explanation.faults[0].sentence().startswith(named)
    twice = altered("aged", lambda array: replace(array, compensation=array.compensation**2))
    explanation = explained(graph, images, mapping.compile(graph, "crossbar:pcm/aged"), twice)
    assert "its drift is compensated twice" in explanation.faults[0].sentence()


def test_cells_that_change_between_rungs_are_named(graph, images):
    opener = altered("/read", lambda array: with_conductance(array, array.conductance_us * 1.01))
    explanation = explained(graph, images, mapping.compile(graph, "crossbar:pcm/read"), opener)
    named = "conv1 of crossbar:pcm/read: its frozen cells are not those of the rung below"
    assert explanation.faults[0].sentence() == named


def test_currents_that_are_not_the_devices_are_named(graph, images):
    opener = altered("/curves", lambda array: replace(array, curves=tuple(
        curve._replace(steepness=1.5 * curve.steepness) for curve in array.curves)))
    explanation = explained(graph, images, mapping.compile(graph, "crossbar:pcm/curves[sinh_v=0.1]"), opener)
    named = "conv1 of crossbar:pcm/curves[sinh_v=0.1]: its currents at half the read voltage are 0.656 times those"
    assert explanation.faults[0].sentence().startswith(named)


def test_an_option_that_adds_to_a_rung_is_a_cause_of_its_own(graph):
    target = mapping.parse("crossbar:pcm[age=1y,drift_compensation=column,temperature=400,adc_rounding=floor,"
                           "inputs=bits,sinh_v=0.1,wire_ohm=1,bit_ohm=3]")
    program = mapping.compile(graph, target)
    rungs = ladder(program, graph)
    assert [rung.cause for rung in rungs[2:]] == [
        "programming noise", "drift and slow noise", "drift compensation of each column", "read noise, fixed steps",
        "thermal noise of devices", "DAC and ADC", "ADCs that give the code below", "drives read bit by bit",
        "currents not in proportion", "resistance of the wires", "bit lines of another resistance"]
    for below, above in pairwise(rungs[3:]):
        (one, old), (two, new) = ((rung.program.target.name, rung.program.target.values) for rung in (below, above))
        changed = [option for option in new if new[option] != old[option]]
        assert one != two or len(changed) == 1
        assert above.program.digest() != below.program.digest()
    assert rungs[-1].program.digest() == program.digest()
    plain = rungs[7].program
    assert plain.target.converters.inputs == "levels"
    assert all((a.adc == b.adc).all() for one, two in zip(plain.layers, mapping.compile(graph, plain.target).layers)
               for a, b in zip(one.spans, two.spans))


def test_columns_that_nothing_compensates_are_named(graph, images):
    name = "crossbar:pcm/aged[drift_compensation=column]"
    opener = altered(name, lambda array: replace(array, column_factors=None))
    explanation = explained(graph, images, mapping.compile(graph, name), opener)
    assert re.match(r"conv1 of crossbar:pcm/aged\[drift_compensation=column\]: its weights have 1\.\d+ times",
                    explanation.faults[0].sentence())


def test_a_bit_that_is_not_read_is_named(graph, images):
    def opener(program):
        machine = simulators.open(program)
        if "inputs=bits" in str(program.target) and program.target.rung == "converters":
            first = machine.substrate.projections[0]
            first.forward_periphery = replace(first.forward_periphery, planes=first.forward_periphery.planes - 1)
        return machine

    explanation = explained(graph, images, mapping.compile(graph, "crossbar:pcm[inputs=bits,dac_bits=5]"), opener)
    assert explanation.faults[0].sentence().startswith("conv1 of crossbar:pcm[dac_bits=5,inputs=bits]: converted drive")


def test_a_range_that_saturates_is_named(graph, images):
    program = compile_crossbar(graph, mapping.parse("crossbar:pcm"))
    narrow = with_layer(program, 1, lambda layer: replace(layer, spans=(
        replace(layer.spans[0], adc=layer.spans[0].adc / 50), layer.spans[1])))
    explanation = explained(graph, images, narrow)
    assert explanation.faults[0].sentence() == ("conv2 of crossbar:pcm: its converters' range (forward) is 0.02 times "
                                                "what calibration images need")
    assert any("its ADCs (forward) clip" in f.fault for f in explanation.faults)


def test_a_lost_bias_of_the_digital_side_is_named(images):
    net = small_network(3, channels=(8, 20))
    net.biases[1].fill_(0.6)
    graph = net.lower()

    def opener(program):
        machine = simulators.open(program)
        if program.target.name == "crossbar:ideal":
            machine.substrate.projections[1].bias = machine.substrate.projections[1].bias * 0
        return machine

    explanation = explained(graph, images, mapping.compile(graph, "crossbar:ideal"), opener)
    assert "its biases are the program's, lost (all zero) (in conv2" in explanation.faults[0].sentence()


def test_stuck_cells_are_a_cause_of_their_own_and_not_programming_noise(graph, images):
    """1 % of the devices stuck off drive the machines farther apart than a programming error of 2 % does."""
    program = mapping.compile(graph, "crossbar:generic[proportional=0.02,stuck_off=0.01]")
    explanation = explained(graph, images, program)
    causes = {c.cause: c for c in explanation.contributions}
    assert list(causes) == ["mapping to tiles", "stuck cells", "programming noise", "DAC and ADC"]
    assert causes["stuck cells"].after == "crossbar:generic/stuck[stuck_off=0.01,proportional=0.02]"
    assert causes["stuck cells"].gaps[1] > causes["programming noise"].gaps[1]
    assert not explanation.faults


@pytest.mark.parametrize(("change", "sentence"), [
    (lambda g_us: torch.where(torch.rand(g_us.shape, generator=torch.Generator().manual_seed(0)) < 0.2, 25.0, g_us),
     r"conv1 of crossbar:pcm/stuck\[stuck_on=0\.05\]: 2\d\.\d% of its cells are stuck on"),
    (lambda g_us: g_us * 0.99, r"conv1 of crossbar:pcm/stuck\[stuck_on=0\.05\]: cells that are not stuck are not"),
], ids=["too many", "others moved"])
def test_cells_that_are_not_stuck_as_asked_are_named(graph, images, change, sentence):
    opener = altered("/stuck", lambda array: with_conductance(array, change(array.conductance_us)))
    explanation = explained(graph, images, mapping.compile(graph, "crossbar:pcm/programmed[stuck_on=0.05]"), opener)
    assert re.match(sentence, explanation.faults[0].sentence())


def test_programming_noise_is_judged_beside_stuck_cells(graph, images):
    """Stuck cells are far from their targets, and yet no excuse for twice the programming error."""
    program = mapping.compile(graph, "crossbar:pcm[stuck_on=0.05]")
    explanation = explained(graph, images, program, on("crossbar:pcm", programming=2.0))
    assert "/programmed" in explanation.faults[0].rung
    assert re.search(r"programming errors are (1\.[89]|2\.[012])", explanation.faults[0].fault)
