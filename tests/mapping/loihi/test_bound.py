"""The overflow proof at its edge: bounds just below and at 2^23, and states that do reach them."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import mapping
from mapping.errors import Refusal
from mapping.graph import Coupling, EPGraph, Population
from mapping.loihi.bound import ACCUMULATOR_LIMIT, backward_reach
from simulators.loihi.arithmetic import arithmetic_of
from simulators.loihi.twin import open_twin


def chain_of(couplings, shape) -> EPGraph:
    """A graph of given couplings with slope 1/2; a readout of one weight a class and channel."""
    populations = tuple(Population(f"layer{n + 1}", c.post, 0.5) for n, c in enumerate(couplings))
    pre = populations[-1].shape
    readout = Coupling("readout", np.ones((2, *pre), np.float32), np.zeros(2, np.float32), 0, 1, pre)
    return EPGraph(shape, np.zeros(shape[0], np.float32), np.ones(shape[0], np.float32), populations,
                   tuple(couplings), readout, "synchronous", 20, 1e-3)


def pointwise(name, weight, bias, pool, pre) -> Coupling:
    """A 1x1 convolution."""
    weight = np.float32(weight)
    return Coupling(name, weight[:, :, None, None], np.full(len(weight), bias, np.float32), 0, pool, pre)


def binary_edge(sign: int, bias: int) -> EPGraph:
    """128 weights of one sign on 16-bit states: 128 (2^16 - 1) = 2^23 - 128, to which `bias` adds in 2^-16."""
    first = pointwise("conv1", np.full((128, 1), 0.125), 0, 1, (1, 1, 1))
    second = pointwise("conv2", np.full((1, 128), sign), bias * 2.0**-16, 1, (128, 1, 1))
    return chain_of([first, second], (1, 1, 1))


@pytest.mark.parametrize(("sign", "bias", "reached"), [(1, 126, 2**23 - 1), (-1, -127, -(2**23 - 1))])
def test_a_sum_of_all_but_one_of_two_to_the_23_is_proven_and_reached(sign, bias, reached):
    program = mapping.compile(binary_edge(sign, bias), "loihi[weight_bits=1,state_bits=16]")
    layer = program.layers[1]
    assert (layer.bound, layer.half) == (2**23 - 1, 1)
    full = np.full((1, 128, 1, 1), program.tops[0], np.int32)
    drive, _ = arithmetic_of(program).synapses[1].forward(full)
    half = layer.half if sign > 0 else 0   # downwards the sum is farthest before the half is added
    assert drive.item() + layer.bias.item() + half == reached
    substrate = open_twin(program).substrate
    twin = substrate.projections[1].forward(torch.tensor(full, dtype=torch.float32))[0]
    assert (twin + substrate.biases[1]).item() == reached + layer.half - half
    assert substrate.activate(1, twin).item() == (program.tops[0] if sign > 0 else 0)


@pytest.mark.parametrize(("sign", "bias"), [(1, 127), (-1, -128)])
def test_one_more_is_refused_with_the_layer_and_the_bound(sign, bias):
    with pytest.raises(Refusal, match=r"layer conv2: accumulator is not proven safe with 16 .*bound 8388608.*allowed: "
                                      r"below 8388608.*remedy: leave state_bits out"):
        mapping.compile(binary_edge(sign, bias), "loihi[weight_bits=1,state_bits=16]")


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.integers(1, 4), st.sampled_from([1, 2]), st.integers(1, 3))
def test_feedback_takes_the_largest_weight_of_each_window(seed, kernel, pool, stride):
    weight = np.random.default_rng(seed).integers(-128, 128, (3, 2, kernel, kernel)).astype(np.int8)
    expected = np.zeros((2, 2), int)
    for sign, c_in, r, v in np.ndindex(2, 2, pool * stride, pool * stride):
        windows = Counter()   # of a unit at (r, v): tap (i, j) comes from the output at (r - i, v - j) / stride
        for c_out, i, j in np.ndindex(3, kernel, kernel):
            if (r - i) % stride or (v - j) % stride:
                continue
            place, w = (c_out, (r - i) // stride // pool, (v - j) // stride // pool), int(weight[c_out, c_in, i, j])
            windows[place] = max(windows[place], -w if sign else w)
        expected[sign, c_in] = max(expected[sign, c_in], sum(windows.values()))
    assert backward_reach(weight, pool, stride).tolist() == expected.tolist()


def two_sided(below: int, above: int) -> EPGraph:
    """A middle layer whose units have `below` inputs and feed `above` channels, pooled by 2; weights 127/128."""
    weight = 127 / 128
    return chain_of([pointwise("conv1", np.full((below, 1), weight), 0, 1, (1, 2, 2)),
                     pointwise("conv2", np.full((1, below), weight), 0, 1, (below, 2, 2)),
                     pointwise("conv3", np.full((above, 1), weight), 0, 2, (1, 2, 2))], (1, 2, 2))


def test_forward_and_feedback_of_one_winner_a_window_reach_their_bound():
    program = mapping.compile(two_sided(9, 7), "loihi[state_bits=12]")
    layer = program.layers[1]
    assert 0.99 * ACCUMULATOR_LIMIT < layer.bound == 16 * 127 * program.tops[0] + layer.half < ACCUMULATOR_LIMIT
    below = np.full((1, 9, 2, 2), program.tops[0], np.int32)
    above = np.full((1, 7, 1, 1), program.tops[0], np.int32)
    arithmetic = arithmetic_of(program)
    u, _ = arithmetic.synapses[1].forward(below)
    tied = np.full((1, 1, 2, 2), program.tops[0], np.int32)   # the first wins
    _, winners = arithmetic.synapses[2].forward(tied)
    total = u + arithmetic.synapses[2].backward(above, winners) + layer.bias.item() + layer.half
    assert total.ravel().tolist() == [layer.bound] + 3 * [9 * 127 * program.tops[0] + layer.half]


def test_a_bound_just_above_costs_weight_bits_and_is_never_let_through():
    program = mapping.compile(two_sided(9, 8), "loihi[state_bits=12]")
    assert 17 * 127 * program.tops[0] > ACCUMULATOR_LIMIT
    assert program.is_proven
    exact = mapping.compile(two_sided(9, 7), "loihi[state_bits=12]")
    assert sum(layer.exponent for layer in program.layers) < sum(layer.exponent for layer in exact.layers)
    assert mapping.compile(two_sided(9, 8), "loihi").state_bits == 11   # unless state bits may give way
