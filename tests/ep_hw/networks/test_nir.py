"""NIR graphs of networks: the same network back, at rest where the reference is, and refusals by name."""

from dataclasses import fields, replace

import nir
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import random_images, small_network
from nir_machine import rest

import ep_hw
from ep_hw.networks.exchange import as_nir
from ep_hw.networks.exchange.as_nir import from_nir, nir_file, to_nir
from mapping.errors import Refusal
from mapping.graph import EPGraph
from simulators.reference import ReferenceMachine

FREE = {"pools": (1, 1)}
KINDS = {"strides": {**FREE, "strides": (2, 1)}, "strides that feed back": {**FREE, "strides": (2, 2)},
         "strides that leave a rest": {**FREE, "strides": (1, 3), "paddings": (1, 0)},
         "a gain and ceilings": {**FREE, "strides": (1, 2), "feedback_gain": 0.3, "ceilings": (0.8, None)},
         "dense layers": {**FREE, "kernel": (8, 1), "paddings": (0, 0)},
         "kernels of two sizes": {**FREE, "kernel": (5, 2), "paddings": (0, 1), "image_shape": (3, 8, 8),
                                  "mean": (0.1, 0.2, 0.3), "scale": (1.0, 2.0, 0.5)}}


def same(a, b):
    """Whether two networks are the same but for their activity."""
    def parts(graph):
        return [graph.image_shape, graph.mean.tolist(), graph.scale.tolist(), graph.populations, graph.schedule,
                graph.steps, graph.tolerance, *([getattr(c, f.name) if f.name not in ("weight", "bias") else
                getattr(c, f.name).tolist() for f in fields(c)] for c in (*graph.couplings, graph.readout))]
    return parts(a) == parts(b)


def feed_forward(seed=0, **changes) -> EPGraph:
    """A feed-forward network of rectified linear units."""
    graph = small_network(seed, **{"ceilings": (None, 2.0), "feedback_gain": 0.0, **changes}).lower()
    return replace(graph, schedule="sequential")


def from_file(graph, folder):
    (folder / "net.nir").write_bytes(nir_file(graph))
    return nir.read(folder / "net.nir")


def agree(graph, found, images, steps):
    """Logits and states of the reference, and those of the NIR graph."""
    exact = ReferenceMachine(graph, dtype=torch.float64).relax(images, steps=steps, schedule=graph.schedule if
                                                               not graph.has_feedback else "synchronous")
    values = rest(found, images, steps if graph.has_feedback else 12 * len(graph.couplings))
    for population, states in zip(graph.populations, exact.states):
        assert torch.allclose(values[population.name], states, atol=1e-6)
    assert torch.allclose(values["output"], exact.logits, atol=1e-5)
    return exact


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_comes_back_as_it_was_and_rests_where_the_reference_does(tmp_path, kind):
    graph = small_network(3, gain=1.5, **KINDS[kind]).lower()
    found = from_file(graph, tmp_path)
    assert same(from_nir(found), graph)
    assert same(from_nir(to_nir(graph)), graph)
    images = random_images(3, graph.image_shape, dtype=torch.float64)
    exact = agree(graph, found, images, 30)
    assert all(s.std() > 0.02 for s in exact.states)


@pytest.mark.parametrize("changes", [{}, {"image_shape": (1, 11, 11), "pools": (2, 1)},
                                     {"pools": (1, 2), "slope": 2.0}])
def test_a_feed_forward_network_takes_its_max_pools_along(tmp_path, changes):
    """As rectified differences; maps whose last row no window covers too."""
    graph = feed_forward(1, **changes)
    found = from_file(graph, tmp_path)
    assert same(from_nir(found), graph)
    agree(graph, found, random_images(3, graph.image_shape, dtype=torch.float64), 2)


def test_the_packaged_feed_forward_network_is_held(tmp_path):
    graph = replace(ep_hw.load("digits-bp-s11").lower(), activity=None)
    agree(graph, from_file(graph, tmp_path), random_images(2, graph.image_shape, dtype=torch.float64), 2)


@settings(max_examples=8)
@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(0, 2),
       st.integers(4, 7))
def test_feedback_of_any_stride_is_the_transpose(seed, stride, kernel, channels, padding, side):
    """As a convolution of what NIR has, against torch's transposed one, where the stride leaves a rest too."""
    padding = min(padding, kernel - 1)
    net = small_network(seed, image_shape=(1, side, side), channels=(2, channels), kernel=(1, kernel),
                        paddings=(0, padding), strides=(1, stride), pools=(1, 1))
    graph = net.lower()
    back, coupling = to_nir(graph).nodes["conv2.feedback"], graph.couplings[1]
    y = torch.rand(1, *coupling.post)
    fed = torch.nn.functional.conv2d(y, torch.tensor(back.weight), None, tuple(back.stride), tuple(back.padding))
    exact = torch.nn.functional.conv_transpose2d(y, torch.tensor(coupling.weight), None, stride, padding,
                                                 coupling.window.uncovered)
    assert torch.allclose(fed, exact, atol=1e-5)


@pytest.mark.parametrize(("changes", "words"), [
    ({"pools": (1, 2)}, "layer conv2: NIR cannot hold this layer; got a max-pool"),
    ({**FREE, "kernel": (3, (1, 3))}, "layer conv2.*a kernel of 1x3"),
    ({**FREE, "kernel": (3, 1), "paddings": (1, 1)}, "layer conv2.*padding 1 of a kernel of 1"),
    ({**FREE, "image_shape": (1, 8, 9), "strides": (1, 2)}, "layer conv2.*not square")])
def test_what_nir_cannot_hold_is_refused_by_name(changes, words):
    with pytest.raises(Refusal, match=words):
        to_nir(small_network(0, **changes).lower())


def test_a_node_that_no_one_could_keep_is_refused(monkeypatch):
    monkeypatch.setattr(as_nir, "LARGEST", 4 * 6 * (8 * 4)**2 - 1)
    with pytest.raises(Refusal, match=r"layer conv2.*a node of 24576 weights"):
        to_nir(small_network(0, **FREE, strides=(1, 2)).lower())


def _other_weight(found):
    found.nodes["conv2.feedback"].weight = found.nodes["conv2.feedback"].weight * np.float32(1.01)


def _other_edge(found):
    found.edges.remove(("layer1", "conv2"))


def _other_clamp(found):
    found.nodes["layer2"].metadata["clamp"] = np.array([-1.0, 1.0])


def _no_names(found):
    del found.metadata["couplings"]


@pytest.mark.parametrize("change", [_other_weight, _other_edge, _other_clamp, _no_names])
def test_a_graph_that_is_none_of_ours_is_refused(change):
    found = to_nir(small_network(0, **FREE, strides=(1, 2)).lower())
    change(found)
    with pytest.raises(Refusal, match="not a network that was exported to NIR"):
        from_nir(found)
