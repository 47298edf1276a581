"""ONNX models of networks: onnxruntime, which knows nothing of relaxations, answers as the reference does."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import random_images, small_network

import ep_hw
from ep_hw.networks.exchange.as_onnx import onnx_file, to_onnx
from simulators.reference import FloatSubstrate
from simulators.relaxation import relax

ort = pytest.importorskip("onnxruntime", reason="onnxruntime has no wheel for this Python")
KINDS = {"pools": {}, "pools that leave a rest": {"image_shape": (2, 11, 7), "mean": (0.1, 0.3), "scale": (1.0, 0.5)},
         "synchronous": {"schedule": "synchronous", "pools": (2, 1)},
         "strides": {"pools": (1, 1), "strides": (2, 3), "paddings": (0, 1)},
         "a gain and ceilings": {"feedback_gain": 0.3, "ceilings": (0.8, None), "pools": (1, 2)}}


def run(blob, images):
    """Outputs by name, logits and states."""
    session = ort.InferenceSession(blob, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, map(torch.tensor, session.run(names, {"images": images.numpy()}))))


def gap(graph, images, steps):
    """Largest difference from the reference after so many steps, of states and logits, and the states' spread."""
    substrate, found = FloatSubstrate.of(graph), run(onnx_file(graph, steps), images)
    states = relax(substrate, images, schedule=graph.schedule, steps=steps).states
    exact = {"logits": substrate.logits(states[-1]), **{p.name: s for p, s in zip(graph.populations, states)}}
    assert found.keys() == exact.keys()
    return max((found[name] - exact[name]).abs().max().item() for name in exact), min(s.std() for s in states)


@pytest.mark.parametrize("steps", [1, 2, 25])
@pytest.mark.parametrize("kind", KINDS)
def test_onnxruntime_answers_as_the_reference_after_as_many_steps(kind, steps):
    graph = small_network(3, gain=1.5, **KINDS[kind]).lower()
    difference, spread = gap(graph, random_images(3, graph.image_shape), steps)
    assert difference < 1e-5
    assert spread > 0.01 or steps < 2


@settings(max_examples=8)
@given(st.integers(0, 10**6), st.integers(6, 9), st.sampled_from([1, 2]), st.sampled_from([1, 2]), st.integers(1, 12),
       st.integers(1, 3))
def test_any_small_network_answers_alike(random_graph, seed, side, first, second, steps, batch):
    graph = random_graph(seed, side, (first, second), gain=0.3)
    assert gap(graph, random_images(batch, graph.image_shape, seed), steps)[0] < 1e-5


def test_windows_of_equals_have_the_same_winners():
    """Where an image is flat every window is a tie, and feedback goes to the one that torch takes."""
    graph = small_network(5, gain=2.0).lower()
    images = torch.zeros(2, 1, 8, 8)
    images[1, :, 3:5, 3:5] = 1
    assert gap(graph, images, 12)[0] < 1e-5


def test_a_feed_forward_network_takes_one_pass():
    graph = replace(ep_hw.load("digits-bp-s11").lower(), activity=None)
    images = random_images(4, graph.image_shape)
    assert gap(graph, images, graph.steps)[0] < 1e-5
    assert len(to_onnx(graph).graph.node) < 30


def test_the_packaged_network_answers_as_its_machine_does():
    """At rest: the machine stops each image at its residual, the model takes all steps."""
    net = ep_hw.load("digits")
    images = random_images(4, net.spec.image_shape)
    assert torch.allclose(run(onnx_file(net.lower()), images)["logits"], net.machine().relax(images).logits, atol=0.05)


def test_the_model_is_one_that_onnx_itself_takes():
    model = to_onnx(small_network(0).lower(), 3)
    onnx.checker.check_model(model, full_check=True)
    assert [d.dim_param or d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim] == ["batch", 1, 8, 8]
    weights = {c.name: onnx.numpy_helper.to_array(c) for c in model.graph.initializer}
    assert np.array_equal(weights["c_conv1.weight"], small_network(0).lower().couplings[0].weight)
