"""Crossbars of every graph: strides, ceilings, feedback gains; a feed-forward one is read once, and forward alone."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from chains import random_activity, random_chain
from chips import machine, reads
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import calibrated, random_images

import mapping
import simulators
from mapping.crossbar.ranges import image_peak
from mapping.crossbar.target import Tile
from mapping.errors import Refusal
from mapping.graph import Coupling, EPGraph, Population
from mapping.registry import parse
from simulators.crossbar.continuous import settle
from simulators.crossbar.cost import relaxation_cost
from simulators.crossbar.programmed import ProgrammedChip
from simulators.crossbar.stability import measure_stability
from simulators.reference import FloatSubstrate, ReferenceMachine
from simulators.relaxation import Nudge

SOME = settings(max_examples=15)
seeds = st.integers(0, 10**6)
BUSY = 41
FINE = "crossbar:pcm[without=programmed+aged+read,adc_bits=16,dac_bits=16,adc_margin=100]"
FEW = ["", ",scaling=column", ",encoding=offset"]


def tiled(graph, options=""):
    """Ideal tiles of the fewest rows and columns: most layers have more rows a channel than a tile."""
    return machine(graph, f"crossbar:ideal[tile=16x16{options}]")


def images_of(graph, count=4):
    return random_images(count, graph.image_shape)


def with_gains(graph, *gains):
    """The graph whose couplings but the first have these feedback gains."""
    others = (replace(c, feedback_gain=gain) for c, gain in zip(graph.couplings[1:], gains))
    return replace(graph, couplings=(graph.couplings[0], *others))


def with_ceilings(graph, ceiling):
    return replace(graph, populations=tuple(replace(p, ceiling=ceiling) for p in graph.populations))


def one_pass(seed):
    return random_chain(seed, feedback="none", unusual=True)


def weak(gain):
    """A chain whose feedback has this gain."""
    return with_ceilings(with_gains(random_chain(3), gain, gain), 2.5)


def busy():
    """Rectified linear units of three layers, strides 2, 1 and 2, that are neither silent nor all at work."""
    return calibrated(with_ceilings(one_pass(BUSY), np.inf))


def relative(a, b):
    """Largest difference, relative to the largest value."""
    return float((a - b).abs().max() / b.abs().max().clamp(min=1e-30))


def gaps(a, b):
    """`relative`, of all states and logits."""
    return [relative(x, y) for x, y in zip((*a.states, a.logits), (*b.states, b.logits))]


def roundings(graph, a, b):
    """Differences of one pass by what rounding may cause: a layer's own, and those below as its weights spread them."""
    below, allowed, found = image_peak(graph), 0.0, []
    slopes = [*(p.slope for p in graph.populations), 1.0]
    for c, slope, x, y in zip((*graph.couplings, graph.readout), slopes, (*a.states, a.logits), (*b.states, b.logits)):
        spread, bias = float(np.abs(c.weight).sum((1, 2, 3)).max()), float(np.abs(c.bias).max())
        allowed = slope * (spread * allowed + 1e-6 * (spread * below + bias))
        found.append(float((x - y).abs().max()) / allowed)
        below = float(y.abs().max())
    return found


@SOME
@given(seeds, st.sampled_from(FEW))
def test_ideal_tiles_of_any_feed_forward_chain_equal_the_reference(seed, options):
    graph = one_pass(seed)
    images = images_of(graph)
    seen, expected = tiled(graph, options).relax(images), ReferenceMachine(graph).relax(images)
    assert max(roundings(graph, seen, expected)) < 1
    assert torch.equal(seen.steps, torch.full((4,), len(graph.couplings)))
    assert seen.converged.all()


@SOME
@given(seeds, st.sampled_from(FEW))
def test_both_directions_of_any_coupling_on_ideal_tiles_are_the_references(seed, options):
    """Read by read, at the reference's pool winners: whole relaxations would part where rounding decides a winner."""
    graph = random_chain(seed, feedback="mixed", unusual=True)
    rng, exact = torch.Generator().manual_seed(seed), FloatSubstrate.of(graph)
    for one, other, coupling in zip(tiled(graph, options).projections, exact.projections, graph.couplings):
        below, above = (torch.rand(3, *shape, generator=rng) for shape in (coupling.pre, coupling.post))
        drive, winners = other.forward(below)
        assert relative(one.forward_at(below, winners)[0], drive) < 1e-5
        assert one.feedback_gain == other.feedback_gain
        if one.is_read_backward:
            assert relative(one.backward(above, winners), other.backward(above, winners)) < 1e-5


@SOME
@given(seeds, st.sampled_from(["crossbar:ideal", "crossbar:ideal[encoding=offset]", "crossbar:pcm/programmed", FINE]))
def test_a_channel_of_more_rows_than_a_tile_is_the_same_layer_on_more_tiles(seed, name):
    """Kernels of 20 to 30 rows a channel, on tiles of 16: the same chip, errors and all, for what calibrated it."""
    graph = calibrated(large_kernels(seed))
    image = FloatSubstrate.of(graph).encode(torch.tensor(graph.activity.images))
    shown = [image, *map(torch.tensor, graph.activity.states), torch.eye(graph.classes)[:, :, None, None]]
    target = parse(name)
    low, tall = (machine(graph, replace(target, array=replace(target.array, tile=Tile(rows, 256))))
                 for rows in (16, 1024))
    for one, other, coupling, (below, above) in zip(low.projections, tall.projections,
                                                    (*graph.couplings, graph.readout), pairwise(shown)):
        if coupling is not graph.readout:
            assert one.forward_array.conductance_us.shape[3:] == (np.prod(coupling.weight.shape[1:]), 1, 1)
        assert torch.allclose(one.forward_weight, other.forward_weight, atol=1e-6)
        drive, winners = other.forward(below)
        near = 1e-2 if name == FINE else 1e-5
        assert relative(one.forward_at(below, winners)[0], drive) < near
        if one.is_read_backward:
            assert relative(one.backward(above, winners), other.backward(above, winners)) < near


def large_kernels(seed):
    """A network of two layers and a readout, fed back, of 5 x 4 to 5 x 6 kernels; strides and padding as they come."""
    rng = np.random.default_rng(seed)
    pre, couplings = (2, int(rng.integers(19, 23)), int(rng.integers(19, 23))), []
    for n in range(2):
        kernel = 5, int(rng.integers(4, 7))
        weight = rng.standard_normal((int(rng.integers(2, 6)), pre[0], *kernel)) / 8
        bias, pool = rng.standard_normal(len(weight)) / 8, int(rng.integers(1, 3))
        couplings.append(Coupling(f"conv{n + 1}", np.float32(weight), np.float32(bias), int(rng.integers(0, 3)),
                                  pool if n == 0 else 1, pre, 1 + n * int(rng.integers(0, 2))))
        pre = couplings[-1].post
    populations = tuple(Population(f"layer{n}", c.post, 0.5, 1.0) for n, c in enumerate(couplings, 1))
    readout = Coupling("readout", np.float32(rng.standard_normal((4, *pre)) / 8), np.zeros(4, np.float32), 0, 1, pre)
    mean, scale = np.float32([0.4, 0.5]), np.float32([1.0, 1.2])
    return EPGraph((2, *couplings[0].pre[1:]), mean, scale, populations, tuple(couplings), readout, "synchronous", 60,
                   1e-3)


@SOME
@given(seeds)
def test_a_device_without_errors_equals_the_ideal_one(seed):
    graph = one_pass(seed)
    plain, quiet = (machine(graph, target).relax(images_of(graph)) for target in (
        "crossbar:ideal[tile=512]", "crossbar:pcm[tile=512,without=programmed+aged+read+converters]"))
    assert max(roundings(graph, quiet, plain)) < 1


@pytest.mark.parametrize("seed", [4, 12, 41, 68])
def test_fine_converters_hardly_change_calibrated_states(seed):
    """On the calibration images themselves and far beyond the percentile, so that nothing clips."""
    graph = calibrated(one_pass(seed))
    m = machine(graph, FINE)
    images = torch.tensor(graph.activity.images)
    assert max(gaps(m.relax(images), ReferenceMachine(graph).relax(images))) < 0.02
    assert all(s.clipped == 0 for s in m.saturation())


@pytest.mark.parametrize("options", ["", "arrays=separate", "wire_ohm=1,terminals=opposite", "signed_drive=two_phase"])
def test_what_is_never_read_backward_has_nothing_to_read_it_with(options, tmp_path):
    graph = busy()
    program = mapping.compile(graph, f"crossbar:pcm[{options}]")
    with simulators.open(program, chip_seed=2) as m:
        first = m.relax(images_of(graph))
        m.chip.save(tmp_path / "chip")
        assert {s.direction for s in m.saturation()} == {"forward"}
        assert m.asymmetry is None
    assert all(len(layer.spans) == 1 for layer in program.layers)
    assert all(len(arrays) == 1 for arrays in m.chip.arrays)
    assert not [name for name in (*program.pack()[0], *m.chip.tensors()) if "down" in name or "feedback" in name]
    program.save(tmp_path / "program")
    again = mapping.load_program(tmp_path / "program")
    chip = ProgrammedChip.load(tmp_path / "chip", again)
    assert again.digest() == program.digest()
    assert again.report() == program.report()
    assert torch.equal(type(m)(again, chip=chip).relax(images_of(graph)).logits, first.logits)


@pytest.mark.parametrize("options", ["", "arrays=separate"])
def test_a_pass_costs_a_forward_read_of_every_layer_and_no_more(options):
    graph = busy()
    program = mapping.compile(graph, f"crossbar:hermes_2[{options}]")
    cost, couplings = relaxation_cost(program), (*graph.couplings, graph.readout)
    positions = [c.unpooled[1] * c.unpooled[2] for c in couplings]
    assert all(layer.tiles == 1 for layer in program.layers)
    conversions = sum(p * len(c.bias) for p, c in zip(positions, couplings))
    expected = 13.4e-9 * (8.08 / 24.08 * sum(positions) + 16 / 24.08 / 256 * conversions)
    assert cost.energy_j == pytest.approx(expected)
    assert cost.latency_s == pytest.approx(133e-9 * sum(positions))
    assert cost.area_mm2 == pytest.approx(len(couplings) * 0.6198, rel=1e-3)
    assert cost.operations == sum(p * c.weight.size for p, c in zip(positions, couplings))


def test_feedback_is_paid_for_where_it_is():
    """Gain 0 in one of two places: that layer's second array, backward reads and backward ranges are left out."""
    graph = calibrated(random_chain(8))
    assert len(graph.couplings) == 3
    cut = with_gains(graph, 1.0, 0.0)
    whole, part = (mapping.compile(g, "crossbar:hermes_2[arrays=separate]") for g in (graph, cut))
    assert [len(layer.spans) for layer in part.layers] == [2, 2, 1, 2]
    assert [len(set(map(id, arrays))) for arrays in simulators.open(part).chip.arrays] == [2, 2, 1, 2]
    costs = [relaxation_cost(program) for program in (whole, part)]
    assert costs[0].area_mm2 - costs[1].area_mm2 == pytest.approx(whole.layers[2].tiles * 0.6198, rel=1e-3)
    assert costs[0].energy_j > costs[1].energy_j
    forward = [replace(layer, spans=layer.spans[:1]) for layer in whole.layers]
    with pytest.raises(ValueError, match="converters of directions"):
        replace(whole, layers=tuple(forward)).verify()


@pytest.mark.parametrize("target", ["crossbar:pcm", "crossbar:hermes_2[tile=64]",
                                    "crossbar:pcm[encoding=slices,levels=4]", "crossbar:pcm[input_read=once]"])
def test_a_noisy_machine_reads_each_layer_exactly_once(target):
    graph = busy()
    m = machine(graph, target)
    end = m.relax(images_of(graph), generator=reads(1))
    sensed = {(s.layer, s.converter): s.conversions for s in m.saturation()}
    for layer, coupling in zip(m.program.layers, (*graph.couplings, graph.readout)):
        lines = len(layer.stored.g_us) * len(layer.row_cuts)
        assert sensed[layer.name, "dac"] == 4 * np.prod(coupling.pre)
        assert sensed[layer.name, "adc"] == 4 * lines * np.prod(coupling.unpooled)
    assert (end.steps == m.steps).all()
    assert m.steps == m.program.steps == len(graph.couplings)
    other = m.relax(images_of(graph), generator=reads(2))
    assert not m.deterministic
    assert not torch.equal(end.logits, other.logits)


def test_dacs_span_a_layers_ceiling_or_what_calibration_images_cause():
    graph = busy()
    first, *others = mapping.compile(graph, "crossbar:pcm[adc_margin=2]").layers
    assert first.spans[0].signed
    for layer, states in zip(others, graph.activity.states):
        assert layer.spans[0].dac == pytest.approx(2 * np.percentile(states, 99.9))
        assert not layer.spans[0].signed
    bounded = replace(graph, populations=tuple(replace(p, ceiling=6.0) for p in graph.populations))
    assert {layer.spans[0].dac for layer in mapping.compile(bounded, "crossbar:pcm").layers[1:]} == {6.0}
    dead = replace(graph.activity, states=tuple(np.zeros_like(s) for s in graph.activity.states))
    silent = mapping.compile(replace(graph, activity=dead), "crossbar:pcm").layers
    assert all(layer.spans[0].dac == 1.0 for layer in silent[1:])


def test_states_beyond_a_calibrated_range_are_clipped_and_counted():
    graph = busy()
    small = replace(graph.activity, states=tuple(s / 50 for s in graph.activity.states))
    clipped = [sum(s.clipped for s in m.saturation() if s.converter == "dac") for m in (
        opened(g) for g in (graph, replace(graph, activity=small)))]
    assert clipped[1] > 10 * clipped[0]


def opened(graph):
    m = machine(graph, "crossbar:pcm")
    m.relax(images_of(graph))
    return m


def test_backward_converters_are_in_units_of_the_states_above_whatever_their_gain():
    """The gain is digital, after the ADC: its range does not know it, and its DAC spans the ceiling above."""
    one, third = (replace(weak(gain), activity=random_activity(weak(gain), 1)) for gain in (1.0, 0.3))
    programs = [mapping.compile(graph, "crossbar:pcm") for graph in (one, third)]
    for a, b in zip(*(program.layers for program in programs)):
        assert all(np.array_equal(x.adc, y.adc) for x, y in zip(a.spans, b.spans))
    for layer, population in zip(programs[1].layers, third.populations):
        assert layer.spans[1].dac == population.ceiling
    dead = replace(third.activity, states=tuple(np.zeros_like(s) for s in third.activity.states))
    silent = mapping.compile(replace(third, activity=dead), "crossbar:pcm").layers
    for layer, coupling, population in zip(silent, third.couplings, third.populations):
        assert layer.spans[1].adc == pytest.approx(population.ceiling * np.abs(coupling.weight).sum(0).max(), rel=1e-5)
    graph = calibrated(weak(0.3))
    m, images = machine(graph, FINE), torch.tensor(graph.activity.images)
    assert max(gaps(m.relax(images, 4), ReferenceMachine(graph).relax(images, 4))) < 0.02


@SOME
@given(seeds)
def test_gradients_of_ideal_tiles_are_the_references(seed):
    graph = one_pass(seed)
    grads = []
    for m in (ReferenceMachine(graph), tiled(graph)):
        x = images_of(graph).requires_grad_()
        m.relax(x).logits.square().sum().backward()
        grads.append(x.grad)
    assert torch.allclose(*grads, atol=1e-4 * float(grads[0].abs().max()) + 1e-12)


def test_gradients_go_straight_through_noise_and_converters():
    graph = busy()
    x, exact = (images_of(graph).requires_grad_() for _ in range(2))
    machine(graph, "crossbar:pcm").relax(x, generator=reads(0)).logits.square().sum().backward()
    ReferenceMachine(graph).relax(exact).logits.square().sum().backward()
    assert torch.cosine_similarity(x.grad.flatten(), exact.grad.flatten(), 0) > 0.5


def test_what_needs_feedback_or_calibration_images_is_refused():
    graph = one_pass(5)
    with pytest.raises(Refusal, match="no activity to size the converters with"):
        mapping.compile(graph, "crossbar:pcm")
    m = machine(graph, "crossbar:pcm/aged")
    with pytest.raises(Refusal, match="neither nudged nor started"):
        m.relax(images_of(graph), nudge=Nudge(torch.eye(4), 0.5))
    with pytest.raises(Refusal, match="no energy to watch"):
        measure_stability(m, images_of(graph))
    for other in (m, machine(weak(0.3), "crossbar:ideal")):
        with pytest.raises(Refusal, match=r"digital gain.*feedback gains 0"):
            settle(other, images_of(other.graph))


@pytest.mark.parametrize("target", ["crossbar:pcm/levels[levels=8]", "crossbar:pcm/stuck[stuck_on=0.05]",
                                    "crossbar:pcm/programmed", "crossbar:pcm/aged", "crossbar:pcm/read",
                                    "crossbar:pcm", "crossbar:pcm/wires"])
def test_every_rung_runs_a_feed_forward_chip_to_the_same_bits(target):
    graph = busy()
    answers = [machine(graph, target, chip).relax(images_of(graph)).logits for chip in (3, 3, 4)]
    assert torch.equal(answers[0], answers[1])
    assert torch.equal(answers[0], answers[2]) == ("levels" in target)
