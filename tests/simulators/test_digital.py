"""The digital machine of few bits: its grids, its limits, and what many bits come to."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from chains import random_activity, random_chain
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import random_images, small_network

import mapping
import simulators
from mapping import Refusal
from mapping.digital import on_grid
from mapping.graph import SEQUENTIAL, Population


def opened(graph, name):
    return simulators.open(mapping.compile(graph, name))


@given(seed=st.integers(0, 10**6), bits=st.integers(2, 8))
@settings(max_examples=30)
def test_weights_are_the_nearest_whole_steps_a_channel(seed, bits):
    weight = np.float32(np.random.default_rng(seed).standard_normal((4, 3, 2, 2)))
    integers, steps = on_grid(weight, bits)
    top = 2 ** (bits - 1) - 1
    assert np.abs(integers).max((1, 2, 3)).tolist() == [top] * 4, "the largest weight of a channel lies on the grid"
    assert (np.abs(weight - integers * steps[:, None, None, None]) <= steps[:, None, None, None] * 0.501).all()


@given(seed=st.integers(0, 10**6), bits=st.integers(1, 6))
@settings(max_examples=20)
def test_states_lie_on_the_grid_and_ladders_name_their_causes(seed, bits):
    graph = random_chain(seed)
    name = f"digital[activation_bits={bits}]"
    end = opened(graph, name).relax(random_images(2, graph.image_shape, seed=seed), steps=6)
    for states in end.states:
        steps = states * (2**bits - 1)
        assert (steps - steps.round()).abs().max() < 1e-4
    rungs = [str(target) for target, _ in mapping.registry.REGISTRY["digital"].rungs(mapping.registry.parse(name))]
    assert rungs == ["reference", "digital/weights", name]


def test_many_bits_come_to_the_reference_and_gradients_pass_straight_through():
    graph, images = small_network(gain=2.0).lower(), random_images(6)
    reference, fine = opened(graph, "reference"), opened(graph, "digital[weight_bits=8,activation_bits=16]")
    exact = simulators.open(mapping.compile(fine.substrate.program.dequantised(), "reference"))
    ends = [m.relax(images, steps=60) for m in (exact, fine)]
    assert (ends[0].logits - ends[1].logits).abs().max() < 1e-3
    assert (reference.relax(images).prediction == ends[1].prediction).all()
    gradients = []
    for m in (exact, fine):
        x = images.clone().requires_grad_()
        m.relax(x, steps=12).logits.square().sum().backward()
        gradients.append(x.grad)
    assert torch.allclose(*gradients, atol=2e-3 * float(gradients[0].abs().max()))


def test_layers_without_a_ceiling_take_their_range_from_calibration_images():
    graph = replace(small_network(feedback_gain=0.0, ceilings=(None, 0.7)).lower(), activity=None)
    with pytest.raises(Refusal, match=r"layer1.*calibration"):
        mapping.compile(graph, "digital")
    recorded = replace(graph, activity=random_activity(graph, 0))
    program = mapping.compile(recorded, "digital")
    assert program.state_ranges == pytest.approx((recorded.activity.states[0].max(), 0.7))
    assert isinstance(graph.populations[0], Population)
    assert graph.schedule == SEQUENTIAL
    end = simulators.open(program).relax(random_images(3))
    assert end.converged.all()
    assert end.states[0].max() <= program.state_ranges[0] + 1e-6


def test_a_program_is_saved_and_read_back_to_the_same_bits(tmp_path):
    program = mapping.compile(small_network().lower(), "digital[weight_bits=3]")
    program.save(tmp_path / "p")
    again = mapping.load_program(tmp_path / "p")
    assert again.digest() == program.digest()
    ends = [simulators.open(p).relax(random_images(2)).logits for p in (program, again)]
    assert torch.equal(*ends)
