"""Networks whose states are brought within 1: the same states in other units, and which units are chosen."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from chains import FEEDBACK, random_activity, random_chain
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import calibrated

import mapping
from mapping.errors import Refusal
from mapping.graph import Population
from mapping.loihi.scaling import MARGIN, choose_scales, largest_states, nudge_scale, rescaled
from simulators.reference import ReferenceMachine
from simulators.relaxation import Nudge

SOME = settings(max_examples=25)
seeds, feedback = st.integers(0, 10**6), st.sampled_from(FEEDBACK)


def in_float64(graph):
    def exact(coupling):
        return replace(coupling, weight=coupling.weight.astype(np.float64), bias=coupling.bias.astype(np.float64))

    return replace(graph, couplings=tuple(map(exact, graph.couplings)), readout=exact(graph.readout))


@SOME
@given(seeds, feedback, st.sampled_from([None, 0.3, -2.0]))
def test_a_step_of_the_rescaled_network_is_the_step_in_other_units(seed, feedback, beta):
    graph, rng = in_float64(random_chain(seed, feedback=feedback, unusual=True)), np.random.default_rng(seed)
    scales = 10 ** rng.uniform(-0.4, 0.4, len(graph.populations))
    other = rescaled(graph, scales)
    images = torch.tensor(rng.random((3, *graph.image_shape)))
    states = [torch.tensor(rng.random((3, *p.shape)) * min(p.ceiling, 3)) for p in graph.populations]
    ends = []
    for own, units, strength in ((graph, np.ones_like(scales), 1), (other, scales, nudge_scale(graph, scales))):
        nudge = beta and Nudge(F.one_hot(torch.arange(3), graph.classes).double(), beta * strength)
        end = ReferenceMachine(own, dtype=torch.float64).relax(
            images, 1, nudge, states=tuple(s / c for s, c in zip(states, units)), schedule="synchronous")
        ends.append([*(s * c for s, c in zip(end.states, units)), end.logits])
    for ours, theirs in zip(*ends):
        assert (ours - theirs).abs().max() <= 1e-12 * max(1, theirs.abs().max())


@SOME
@given(seeds, feedback)
def test_chosen_scales_leave_shifts_and_states_within_1(seed, feedback):
    graph = random_chain(seed, feedback=feedback, unusual=True)
    graph = replace(graph, activity=random_activity(graph, seed))
    scales = choose_scales(graph)
    scaled = rescaled(graph, scales)
    for n, (gain, population, recorded) in enumerate(zip(scaled.gains, scaled.populations, scaled.activity.states)):
        power = math.log2(gain) if gain else 0
        assert abs(power - round(power)) < 1e-12
        assert bool(gain) is bool(graph.gains[n])
        assert math.frexp(population.slope)[0] == 0.5
        kept = graph.has_feedback or graph.populations[n].ceiling == 1
        largest = population.ceiling
        if not (kept and math.isfinite(largest)):
            largest = min(MARGIN * recorded.max(), largest)
        assert largest <= 1 + 1e-6
        if not gain and not scaled.gains[n + 1]:
            assert largest == pytest.approx(1)


@SOME
@given(seeds)
def test_the_networks_of_the_paper_are_left_as_they_are(seed):
    graph = random_chain(seed)
    scales = choose_scales(graph)
    assert set(scales) == {1.0}
    for ours, theirs in zip((*rescaled(graph, scales).couplings,), graph.couplings):
        assert np.array_equal(ours.weight, theirs.weight)
        assert (ours.weight.dtype, ours.feedback_gain) == (np.float32, 1.0)


@pytest.mark.parametrize(("ceiling", "bits", "expected"),
                         [(1.0, 4, 15), (0.5, 4, 8), (0.99, 4, 15), (0.9, 4, 14), (math.inf, 8, 255), (0.3, 10, 307),
                          (0.3, 4, 4)])
def test_no_state_passes_its_ceiling(ceiling, bits, expected):
    assert largest_states([ceiling], bits) == (expected,)


@SOME
@given(seeds, feedback)
def test_without_calibration_images_the_units_are_the_ceilings(seed, feedback):
    graph = random_chain(seed, feedback=feedback, unusual=True)
    graph = replace(graph, populations=tuple(replace(p, ceiling=min(p.ceiling, 6.0)) for p in graph.populations))
    scaled = rescaled(graph, choose_scales(graph))
    for n, (gain, population) in enumerate(zip(scaled.gains, scaled.populations)):
        assert population.ceiling <= 1 + 1e-6
        if not gain and not scaled.gains[n + 1]:
            assert population.ceiling == pytest.approx(1)


def test_state_bits_go_to_what_states_reach():
    """Sixfold ceilings that no image comes near cost nothing: the program is that of rectified linear units."""
    graph = random_chain(3, feedback="none")
    graph = calibrated(replace(graph, populations=tuple(replace(p, ceiling=math.inf) for p in graph.populations)))
    largest = max(states.max() for states in graph.activity.states)
    capped = replace(graph, populations=tuple(replace(p, ceiling=6 * largest) for p in graph.populations))
    one, other = (mapping.compile(g, "loihi") for g in (graph, capped))
    assert (one.scales, one.tops, one.state_bits) == (other.scales, other.tops, other.state_bits)
    assert all(np.array_equal(a.weight, b.weight) for a, b in zip(one.layers, other.layers))


def test_a_rectified_network_without_calibration_images_is_refused_in_one_line():
    graph = random_chain(1, feedback="none")
    open_ended = tuple(Population(p.name, p.shape, p.slope, math.inf) for p in graph.populations)
    with pytest.raises(Refusal, match=r"^layer layer1: no calibration images.*remedy: store .*"):
        mapping.compile(replace(graph, populations=open_ended), "loihi")
