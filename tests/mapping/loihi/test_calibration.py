"""Calibration: errors of rounded weights against torch, the exponent of least error, biases without mean error."""

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from chains import FEEDBACK, random_activity, random_chain
from hypothesis import given, settings
from hypothesis import strategies as st

import ep_hw
import mapping
import simulators
from ep_hw.data import load_data
from mapping.loihi.calibration import COARSER, FINER, best_exponent, record
from mapping.loihi.integers import natural_exponent, quantise, round_half_up, round_to_power

SOME = settings(max_examples=10)
seeds = st.integers(0, 10**6)


def torch_errors(graph, n, weight):
    """e and f of equation (13) by autograd: feedback is the gradient of <state, drive> in the input."""
    coupling, states = graph.couplings[n], graph.activity.states
    image = (graph.activity.images - graph.mean[:, None, None]) / graph.scale[:, None, None]
    below = torch.tensor(states[n - 1] if n else image)
    made = F.conv2d(below, torch.tensor(coupling.weight), None, coupling.stride, coupling.padding)
    exact, winners = F.max_pool2d(made, coupling.pool, return_indices=True)
    other = F.conv2d(below, torch.tensor(weight), None, coupling.stride, coupling.padding)
    e = F.max_pool2d(other, coupling.pool) - exact
    z = F.max_unpool2d(torch.tensor(states[n]), winners, coupling.pool, output_size=made.shape[2:])
    f = coupling.feedback_gain * F.conv_transpose2d(z, torch.tensor(weight - coupling.weight), None, coupling.stride,
                                                    coupling.padding, coupling.window.uncovered)
    return e.numpy(), f.numpy()


@SOME
@given(seeds, st.integers(1, 8), st.sampled_from(FEEDBACK))
def test_the_exponent_kept_has_the_least_squared_error_in_both_directions(seed, bits, feedback):
    graph = random_chain(seed, feedback=feedback, unusual=True)
    graph = replace(graph, activity=random_activity(graph, seed))
    for n, (coupling, found) in enumerate(zip(graph.couplings, record(graph, graph.activity))):
        natural, costs = natural_exponent(coupling.weight, bits), {}
        for q in range(natural - COARSER * (bits == 1), natural + FINER + 1):
            weight = np.float32(quantise(coupling.weight, bits, q) * 2.0**-q)
            e, f = torch_errors(graph, n, weight)
            np.testing.assert_allclose(found.forward_error(weight), e, atol=1e-4)
            if graph.gains[n]:
                np.testing.assert_allclose(found.backward_error(weight), f, atol=1e-4)
            costs[q] = np.square(e, dtype=np.float64).sum() + (np.square(f, dtype=np.float64).sum() if n else 0)
        assert costs[best_exponent(found, bits)] <= min(costs.values()) * (1 + 1e-4) + 1e-9


@SOME
@given(seeds, st.integers(1, 8))
def test_corrected_biases_leave_no_mean_error_in_any_channel(seed, bits):
    graph = random_chain(seed)
    graph = replace(graph, activity=random_activity(graph, seed))
    program = mapping.compile(graph, f"loihi[weight_bits={bits}]")
    mapped = program.dequantised()
    couplings = ((*graph.couplings, graph.readout), (*mapped.couplings, mapped.readout))
    layers = (*program.layers, program.readout)
    for found, exact, rounded, layer in zip(record(graph, graph.activity), *couplings, layers):
        drift = found.forward_error(rounded.weight).mean((0, 2, 3)) + rounded.bias - exact.bias
        assert np.abs(drift).max() <= 2.0**-layer.scale / 2 + 1e-5


def test_without_activity_no_weight_is_clipped_and_biases_are_only_rounded():
    graph = random_chain(1)
    program = mapping.compile(graph, "loihi[weight_bits=5]")
    for layer, coupling in zip(program.layers, graph.couplings):
        assert layer.exponent == natural_exponent(coupling.weight, 5)
        assert np.array_equal(layer.bias, round_half_up(coupling.bias * 2.0**layer.scale))


@given(st.floats(1e-6, 1e6))
def test_the_nearest_power_of_two(x):
    n = round_to_power(x)
    assert all(abs(x - 2.0**n) <= abs(x - 2.0**other) for other in (n - 1, n + 1))


def test_calibration_wins_back_what_few_weight_bits_lose():
    test = load_data("digits", "test").take(slice(0, 120))
    graph = ep_hw.load("digits").lower()
    reference = simulators.open(mapping.compile(graph, "reference")).relax(test.images).prediction
    agreement = {}
    for bits in (1, 2, 8):
        for name, known in (("with", graph), ("without", replace(graph, activity=None))):
            program = mapping.compile(known, f"loihi[weight_bits={bits}]")
            prediction = simulators.open(program).relax(test.images).prediction
            agreement[bits, name] = (prediction == reference).float().mean().item()
    assert agreement[8, "with"] == 1
    for bits in (1, 2):
        assert agreement[bits, "without"] < 0.3
        assert agreement[bits, "with"] > 0.75
