"""Ladder of the crossbar machine: ideal equals the reference, then one cause after the other on the same chip."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from chips import machine, reads
from networks import random_images, small_network

import ep_hw
import mapping
import simulators
from ep_hw.data import load_data
from mapping.crossbar.target import CROSSBAR_RUNGS
from simulators.crossbar.chip import CrossbarMachine
from simulators.crossbar.models import model_of
from simulators.crossbar.phase_change import PhaseChange
from simulators.crossbar.programmed import ProgrammedChip
from simulators.crossbar.programming import drift_compensation, program_array
from simulators.reference import ReferenceMachine, unpool
from simulators.relaxation import Nudge, relax

PCM = model_of(mapping.parse("crossbar:pcm"))


def like_pcm(changes):
    """A device model with some methods of phase-change memory replaced."""
    return type("Changed", (PhaseChange,), changes)(**vars(PCM))


@pytest.fixture(scope="module")
def images():
    return random_images(8)


def distance(a, b):
    return max((s - t).abs().max().item() for s, t in zip((*a.states, a.logits), (*b.states, b.logits)))


@pytest.mark.parametrize("schedule", ["alternating", "synchronous"])
@pytest.mark.parametrize("options", ["tile=256", "tile=32", "tile=18", "tile=32,scaling=column", "encoding=offset"])
def test_ideal_tiles_of_any_size_scaling_and_encoding_equal_the_reference(graph, images, schedule, options):
    graph = replace(graph, schedule=schedule)
    reference, ideal = ReferenceMachine(graph), machine(graph, f"crossbar:ideal[{options}]")
    nudge = Nudge(torch.eye(10)[:8], 0.5)
    for settings in ({}, {"steps": 21}, {"steps": 21, "nudge": nudge}):
        expected, seen = reference.relax(images, **settings), ideal.relax(images, **settings)
        assert distance(seen, expected) < 1e-5
        assert torch.equal(seen.steps, expected.steps)


def test_ideal_gradients_equal_the_references(graph, images):
    gradients = []
    for m in (ReferenceMachine(graph), machine(graph, "crossbar:ideal[tile=18]")):
        x = images.clone().requires_grad_()
        m.relax(x, steps=12).logits.square().sum().backward()
        gradients.append(x.grad)
    assert torch.allclose(*gradients, atol=1e-5 * gradients[0].abs().max().item())


def test_both_projections_of_a_layer_share_one_conductance_tensor(graph):
    """Zeroing the tensor's copy in a new array silences both directions: neither has another source."""
    m = machine(graph, "crossbar:pcm/aged")
    for projection, array in zip((*m.substrate.projections, m.substrate.readout), m.arrays):
        assert projection.forward_array is projection.backward_array is array
        dark = replace(array, cells=replace(array.cells, conductance_us=torch.zeros_like(array.conductance_us)))
        c_out, c_in, k, _ = dark.conductance_us.shape[2:]
        assert not dark.read_forward(0, torch.ones(1, c_in, k, k), projection.window).any()
        assert not dark.read_backward(0, torch.ones(1, c_out, 1, 1)).any()


def test_frozen_errors_are_the_chips_own_and_shared_by_its_rungs(graph):
    layer = mapping.compile(graph, "crossbar:pcm/read").layers[1]

    def g_us(target, chip_seed):
        return program_array(layer, mapping.parse(target), PCM, chip_seed).conductance_us

    assert torch.equal(g_us("crossbar:pcm/levels", 0), torch.tensor(layer.stored.g_us))
    assert torch.equal(g_us("crossbar:pcm/programmed", 0), g_us("crossbar:pcm/programmed[age=1d]", 0))
    assert torch.equal(g_us("crossbar:pcm/aged", 0), g_us("crossbar:pcm", 0))
    for target in ("crossbar:pcm/programmed", "crossbar:pcm/aged"):
        assert torch.equal(g_us(target, 3), g_us(target, 3))
        assert not torch.equal(g_us(target, 3), g_us(target, 4))


def test_each_age_is_the_same_chip_later(graph):
    """Drift exponents are drawn once: without the slow noise, log g is a straight line in log time for every device."""
    layer = mapping.compile(graph, "crossbar:pcm/read").layers[1]
    quiet = like_pcm({"slow_sigma_us": lambda self, drifted, *_: torch.zeros_like(drifted)})
    programmed, *aged = (
        program_array(layer, mapping.parse(target), quiet, 0).conductance_us.double()
        for target in ("crossbar:pcm/programmed", "crossbar:pcm/aged[age=180s]", "crossbar:pcm/aged[age=1980s]"))
    kept = programmed > 1.0
    slopes = [(a[kept] / programmed[kept]).log() for a in aged]
    assert torch.allclose(slopes[1], 2 * slopes[0], rtol=1e-3)


def test_layers_and_causes_draw_from_their_own_generators(graph):
    """Two layers of equal shape do not carry the same errors, and no cause repeats another's."""
    layer = mapping.compile(graph, "crossbar:pcm/read").layers[1]
    twin = replace(layer, name="conv9")
    target = mapping.parse("crossbar:pcm/programmed")
    first, second = (program_array(x, target, PCM, 0).conductance_us for x in (layer, twin))
    assert not torch.equal(first, second)

    drawn = []

    def remember(self, programmed_us, target_us, age_s, frozen):
        drawn.extend(frozen)
        return programmed_us

    program_array(layer, mapping.parse("crossbar:pcm/aged"), like_pcm({"drift": remember}), 0)
    programming, ageing = (n.flatten() for n in drawn)
    assert abs(torch.corrcoef(torch.stack([programming, ageing]))[0, 1]) < 5 / len(ageing) ** 0.5


def test_drift_compensation_restores_the_mean_weight():
    layer = mapping.compile(small_network(5, channels=(16, 24)).lower(), "crossbar:pcm/read").layers[1]

    def magnitude(target):
        array = program_array(layer, mapping.parse(target), PCM, 0)
        return array.compensation * array.forward_weight.abs().sum().item()

    programmed = magnitude("crossbar:pcm/programmed")
    assert magnitude("crossbar:pcm/aged[age=1y,drift_compensation=off]") < 0.75 * programmed
    assert magnitude("crossbar:pcm/aged[age=1y]") == pytest.approx(programmed, rel=1e-5)
    ideal = program_array(layer, mapping.parse("crossbar:ideal"), PCM, 0)
    silent = replace(ideal, cells=replace(ideal.cells, conductance_us=torch.zeros(layer.stored.g_us.shape)))
    assert drift_compensation(silent, silent) == 1.0


def test_read_noise_comes_from_the_generator_given(graph, images):
    m = machine(graph, "crossbar:pcm")
    first, again, other = (m.relax(images, generator=reads(seed)) for seed in (1, 1, 2))
    assert distance(first, again) == 0
    assert distance(first, other) > 0
    assert distance(m.relax(images), m.relax(images)) == 0
    assert distance(m.relax(images), machine(graph, "crossbar:pcm", 1).relax(images)) > 0
    assert not m.deterministic


@pytest.mark.parametrize("rung", CROSSBAR_RUNGS[:4])
def test_rungs_without_fresh_noise_are_deterministic_and_stop_at_rest(graph, images, rung):
    m = machine(graph, f"crossbar:pcm/{rung}")
    first, other = m.relax(images, generator=reads(1)), m.relax(images, generator=reads(2))
    assert m.deterministic
    assert distance(first, other) == 0
    assert torch.all(first.residual[first.converged] <= graph.tolerance)
    assert first.steps.min() < m.steps


def test_a_noisy_machine_takes_every_step_and_reads_the_image_as_told(graph, images):
    every, once = (machine(graph, f"crossbar:pcm[steps=8,input_read={how}]") for how in ("every", "once"))
    assert torch.all(every.relax(images).steps == 8)
    assert every.substrate.fresh_input
    assert not once.substrate.fresh_input
    conversions = [m.saturation()[1].conversions for m in (every, once)]
    once.relax(images)
    assert (conversions[0], once.saturation()[1].conversions) == (4 * 8 * 4 * 64, 8 * 4 * 64)


def test_more_bits_bring_the_machine_closer_to_the_unconverted_one(graph, images):
    """Same chip without read noise. On average: where a rounding decides a max-pool winner, the maps differ at once."""
    silence = replace(graph.activity, states=tuple(np.zeros_like(s) for s in graph.activity.states))
    full_range = replace(graph, activity=silence)

    def quiet(target):
        m = machine(full_range, target)
        arrays = [replace(forward, fresh_us=None) for forward, _ in m.chip.arrays]
        silent = replace(m.chip, arrays=tuple(zip(arrays, arrays)))
        return CrossbarMachine(m.program, chip=silent).relax(images, steps=3).logits

    exact = quiet("crossbar:pcm/read")
    errors = [(quiet(f"crossbar:pcm[adc_bits={bits},dac_bits={bits}]") - exact).abs().mean() for bits in (5, 8, 11)]
    assert errors[0] > 4 * errors[1] > 16 * errors[2] > 0


def test_conversions_that_clip_are_counted(graph, images):
    program = mapping.compile(graph, "crossbar:pcm")
    narrow = replace(program, layers=tuple(
        replace(layer, spans=tuple(replace(span, adc=span.adc / 50) for span in layer.spans))
        for layer in program.layers))
    free, tight = simulators.open(program), simulators.open(narrow)
    for m in (free, tight):
        m.relax(images)
    adc_up = [next(s for s in m.saturation() if (s.layer, s.converter, s.direction) == ("conv1", "adc", "forward"))
              for m in (free, tight)]
    assert adc_up[0].fraction < 0.01
    assert adc_up[1].fraction > 0.2
    assert machine(graph, "crossbar:pcm/read").saturation() == ()


@pytest.mark.parametrize("direction", [0, 1])
def test_each_range_belongs_to_its_tile(direction):
    """With one tile of 4 x 2 all but closed, only the channels that this tile serves change."""
    graph = small_network(4, channels=(4, 20)).lower()
    program = mapping.compile(graph, "crossbar:pcm[tile=16]")
    conv2 = program.layers[1]
    assert (len(conv2.row_cuts), len(conv2.column_cuts)) == (4, 2)
    spans = list(conv2.spans)
    adc = spans[direction].adc.copy()
    adc[0, 1, 0] *= 1e-4
    spans[direction] = replace(spans[direction], adc=adc)
    closed = replace(program, layers=(program.layers[0], replace(conv2, spans=tuple(spans)), program.layers[2]))
    held_open, closed_one = (simulators.open(p).substrate.projections[1] for p in (program, closed))
    x, z = random_images(2, (4, 4, 4)), random_images(2, (20, 2, 2))
    (u, winners), (u_closed, _) = (projection.forward(x, reads(0)) for projection in (held_open, closed_one))
    if direction:
        u, u_closed = (projection.backward(z, winners, reads(0)) for projection in (held_open, closed_one))
    moved = (u != u_closed).any(3).any(2).any(0).nonzero().flatten().tolist()
    assert moved == ([1] if direction else list(range(10)))


def test_gradients_flow_through_noisy_converted_tiles(graph, images):
    x = images.clone().requires_grad_()
    m = machine(graph, "crossbar:pcm[tile=18]")
    m.relax(x, steps=12, generator=reads(0)).logits.square().sum().backward()
    assert torch.isfinite(x.grad).all()
    exact = images.clone().requires_grad_()
    ReferenceMachine(graph).relax(exact, steps=12).logits.square().sum().backward()
    assert torch.cosine_similarity(x.grad.flatten(), exact.grad.flatten(), 0) > 0.5


def test_a_program_runs_to_the_same_bits_after_a_round_trip(graph, images, tmp_path):
    program = mapping.compile(graph, "crossbar:pcm[age=1d,levels=64,tile=32]")
    program.save(tmp_path / "program")
    again = mapping.load_program(tmp_path / "program")
    results = [simulators.open(p, chip_seed=2).relax(images, generator=reads(5)) for p in (program, again)]
    assert distance(*results) == 0


@pytest.mark.parametrize("options", ["tile=18", "encoding=offset,levels=9", "encoding=slices,levels=8,scaling=column",
                                     "arrays=separate,dt=0.5,winners_held=2"])
def test_nothing_that_a_relaxation_needs_stays_on_the_cpu(graph, options):
    """On the meta device, where torch checks shapes, and devices but for those of weights of convolutions: most of what
    would fail on CUDA fails here.
    """
    target = f"crossbar:pcm[{options},without=read,drift_compensation=off]"
    substrate = CrossbarMachine(mapping.compile(graph, target), device="meta").substrate
    nudge = Nudge(torch.eye(10, device="meta")[:2], 0.5)
    end = relax(substrate, torch.empty(2, 1, 8, 8, device="meta"), schedule="alternating", steps=4, nudge=nudge)
    assert {t.device.type for t in (*end.states, substrate.logits(end.states[-1]))} == {"meta"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("target", ["crossbar:pcm[without=read,wire_ohm=1]", "crossbar:pcm"])
def test_cuda_runs_the_same_chip(graph, images, target):
    program = mapping.compile(graph, target)
    here, there = (simulators.open(program, device=device) for device in ("cpu", "cuda"))
    assert all(torch.equal(a.conductance_us, b.conductance_us.cpu()) for a, b in zip(here.arrays, there.arrays))
    a, b = (m.relax(images, steps=8, generator=torch.Generator().manual_seed(0)) for m in (here, there))
    assert (a.logits - b.logits).abs().max() < (1.0 if program.target.is_noisy else 0.05)


def test_a_nudge_is_read_from_the_readouts_array_backwards(graph, images):
    """The pull of a quiet machine is beta W^T error with the programmed weights, not the ideal ones."""
    m = machine(graph, "crossbar:pcm/programmed")
    nudge = Nudge(torch.eye(10)[:8], 0.5)
    top = m.relax(images).states[-1]
    error = nudge.target - torch.softmax(m.substrate.logits(top), 1)
    weight = m.arrays[-1].forward_weight[0]
    expected = 0.5 * torch.einsum("bk,kchw->bchw", error, weight)
    assert torch.allclose(m.substrate.pull(top, nudge), expected, atol=1e-6)
    assert not torch.allclose(weight, torch.tensor(graph.readout.weight), atol=1e-3)


@pytest.mark.slow
def test_trained_digits_keep_their_accuracy_on_five_chips():
    test = load_data("digits", "test").take(slice(200))
    graph = ep_hw.load("digits").lower()

    def accuracy(m, seed):
        return (m.relax(test.images, generator=reads(seed)).prediction == test.labels).double().mean().item()

    reference = ReferenceMachine(graph).relax(test.images)
    clean = (reference.prediction == test.labels).double().mean().item()
    ideal = machine(graph, "crossbar:ideal").relax(test.images)
    assert distance(ideal, reference) < 1e-5
    chips = [accuracy(machine(graph, "crossbar:pcm", chip), chip) for chip in range(5)]
    assert sum(chips) / 5 > clean - 0.05


def test_drift_compensation_of_columns_restores_each_columns_mean_weight(graph):
    """And a column without weights stays one."""
    net = small_network(3)
    net.weights[1][2] = 0
    target = "crossbar:pcm/{}[{}arrays=separate]"
    aged = machine(net.lower(), target.format("aged", "age=1y,drift_compensation=column,"))
    before = machine(net.lower(), target.format("programmed", "age=1y,"))
    for now, then in zip(aged.projections, before.projections):
        for direction in ("forward", "backward")[:1 + now.is_read_backward]:
            ours, wanted = (getattr(p, f"{direction}_weight").abs().flatten(1).sum(1) for p in (now, then))
            assert torch.allclose(ours, wanted, rtol=1e-5)
            factors = getattr(now, f"{direction}_array").column_factors
            assert factors.max() == 1
            assert factors.min() < 0.999
    assert not torch.equal(aged.projections[1].forward_weight, machine(net.lower(), target.format(
        "aged", "age=1y,")).projections[1].forward_weight)


def test_compensated_columns_are_read_backward_as_forward_and_keep_their_factors_in_files(graph, tmp_path):
    """Each direction multiplies by the same weights, which one transposes; converters in between cut nothing off."""
    m = machine(graph, "crossbar:pcm/aged[age=1y,drift_compensation=column,scaling=column]")
    for projection in m.projections[1:2]:
        above = torch.rand(2, *projection.window.post)
        _, winners = projection.forward(torch.rand(2, *projection.window.pre))
        exact = F.conv_transpose2d(unpool(above, winners, projection.window.unpooled), projection.forward_weight,
                                   padding=projection.window.padding)
        assert torch.allclose(projection.backward(above, winners), exact, atol=1e-5)
    m.chip.save(tmp_path / "chip")
    again = CrossbarMachine(m.program, chip=ProgrammedChip.load(tmp_path / "chip", m.program))
    images = random_images(4)
    assert torch.equal(again.relax(images).logits, m.relax(images).logits)


@pytest.mark.parametrize("device", ["pcm", "hermes_2", "reram_cmo"])
def test_thermal_noise_joins_the_devices_own_by_nyquists_formula(graph, device):
    """4 k T g / (2 t) in amperes squared, at 0.2 V, in plain SI units; and in proportion to T."""
    t_read_s = mapping.parse(f"crossbar:{device}").preset.constants["t_read_s"]
    own, warm, hot = (machine(graph, f"crossbar:{device}/read{more}").arrays[1]
                      for more in ("", "[temperature=100]", "[temperature=400]"))
    assert torch.equal(own.conductance_us, hot.conductance_us)
    inside = (own.fresh_us > 0) & (own.conductance_us > 2) & (own.conductance_us < 0.5 * own.conductance_us.max())
    added = [(a.fresh_us.double().square() - own.fresh_us.double().square())[inside] for a in (warm, hot)]
    siemens = own.conductance_us.double()[inside] * 1e-6
    expected = 4 * 1.380649e-23 * 400 * siemens / (2 * t_read_s) / 0.2**2 * 1e12
    assert inside.sum() > 20
    assert (added[1] / expected).median() == pytest.approx(1, rel=0.05)
    assert (added[1] / added[0]).median() == pytest.approx(4, rel=0.05)
