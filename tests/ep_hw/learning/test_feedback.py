"""Feedback limits hold the norm they promise and bring networks to rest; training starts where a recipe says."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import random_images, saved, small_network
from recipe import SMALL

import ep_hw
from ep_hw.learning.training import load_recipe, parse_recipe, train
from ep_hw.learning.training.feedback import FeedbackLimit
from ep_hw.learning.training.learners import learner_of
from ep_hw.networks.family import EP, kind_of
from mapping import Refusal
from simulators.relaxation import relax

TINY = SMALL.model_copy(update={"epochs": 2, "gain": 4.0, "feedback_norm": 2.0})


def operator_norm(weight, padding: int, pre) -> float:
    """Largest singular value of the whole matrix of a convolution over maps of shape `pre`."""
    unit = torch.eye(int(np.prod(pre))).reshape(-1, *pre)
    return torch.linalg.matrix_norm(F.conv2d(unit, weight, padding=padding).flatten(1), 2).item()


def norms(net) -> list[float]:
    return [operator_norm(w, p, pre) for w, p, (pre, *_) in zip(net.weights, net.spec.paddings, net.spec.geometry())]


@given(st.integers(0, 10**6), st.floats(0.5, 4.0), st.sampled_from([(1, 1, 1), (1, 0, 1)]))
@settings(max_examples=15)
def test_layers_that_feed_back_are_held_at_their_limit_and_the_others_left_alone(seed, limit, paddings):
    net = small_network(seed, gain=4.0, image_shape=(1, 16, 16), channels=(4, 6, 5), paddings=paddings, pools=(2, 2, 1))
    before, first = [w.clone() for w in net.weights], norms(net)
    FeedbackLimit(net, limit)
    for n, (old, norm) in enumerate(zip(first[1:], norms(net)[1:]), 1):
        assert norm <= 1.03 * limit
        if old < 0.99 * limit:
            assert torch.equal(net.weights[n], before[n])
        else:
            assert norm > 0.97 * limit
    assert torch.equal(net.weights[0], before[0])
    assert torch.equal(net.weights[-1], before[-1])


def test_only_what_is_too_large_is_lowered():
    net = ep_hw.load("digits-gain0-s11")   # trained without a limit
    before, (_, norm, *_) = net.weights[1].clone(), norms(net)
    FeedbackLimit(net, norm / 2)
    assert norms(net)[1] < 0.52 * norm
    assert (net.weights[1] - before).norm() < 0.8 * (before / 2 - before).norm()


def test_a_network_of_limited_feedback_comes_to_rest_under_both_schedules():
    free, limited = (small_network(5, gain=8.0, channels=(16, 16), image_shape=(1, 16, 16)) for _ in range(2))
    FeedbackLimit(limited, 1.5)
    images = random_images(20, (1, 16, 16))
    for schedule in ("synchronous", "alternating"):
        left = [relax(net.substrate(), images, schedule=schedule, steps=60).change.max() for net in (limited, free)]
        assert left[0] < 1e-5
        assert left[1] > 1e-2


def test_training_stays_near_the_limit(tmp_path):
    net = train(TINY, 1, tmp_path / "tiny.safetensors", name="tiny")
    assert norms(net)[1] < 1.2 * TINY.feedback_norm


def kept(tmp_path, name: str, **changes):
    return saved(small_network(4, **changes), tmp_path, name)


def test_training_starts_at_the_network_that_is_named(tmp_path):
    start = kept(tmp_path, "start")
    recipe = TINY.model_copy(update={"start": str(start), "gain": (1.0, 0.5), "feedback_norm": 0.0})
    net = learner_of(recipe, small_network().spec, 1, "cpu").net
    theirs = ep_hw.load(start)
    assert [torch.equal(a, b * gain) for a, b, gain in zip(net.weights, theirs.weights, (1.0, 0.5, 1.0))] == 3 * [True]
    assert [torch.equal(a, b) for a, b in zip(net.biases, theirs.biases)] == 3 * [True]
    before = recipe.fingerprint(1)
    start.unlink()
    kept(tmp_path, "start", gain=2.0)
    assert recipe.fingerprint(1) != before


@pytest.mark.parametrize(("start", "words"), [("digits-bp-s11", "training cannot start.*Baseline"),
                                              ("digits", "training cannot start.*32"), ("nowhere", "no such model")])
def test_a_start_of_another_shape_is_refused(start, words):
    recipe = TINY.model_copy(update={"start": start})
    with pytest.raises(Refusal, match=words):
        learner_of(recipe, small_network().spec, 1, "cpu")


@pytest.mark.parametrize("start", ["digits-gain0-s11", "digits-twin-s11"])
def test_only_a_hybrid_begins_at_backpropagated_weights(start):
    recipe, theirs = load_recipe("digits").model_copy(update={"start": start, "feedback_norm": 0.0}), ep_hw.load(start)
    spec = theirs.spec.model_copy(update={"feedback_gain": 1.0})
    with pytest.raises(Refusal, match=r'not learnt by equilibrium propagation.*of kind ff.*kind = "hybrid"'):
        learner_of(recipe, spec, 1, "cpu")
    net = learner_of(recipe.model_copy(update={"kind": "hybrid"}), spec, 1, "cpu").net
    assert all(torch.equal(a, b) for a, b in zip(net.weights, theirs.weights))


def test_what_a_hybrid_recipe_trained_is_named_so_and_is_no_start_of_an_ep_network(tmp_path):
    start = saved(small_network(4), tmp_path, "start", recipe={"kind": "ff"})
    made = {**TINY.model_dump(mode="json"), "kind": "hybrid", "start": str(start), "epochs": 1}
    out = tmp_path / "mixed.safetensors"
    net = train(parse_recipe(made), 1, out, name="mixed")
    assert net.provenance["recipe"]["kind"] == kind_of(net.provenance) == "hybrid" != EP
    with pytest.raises(Refusal, match="of kind hybrid"):
        learner_of(TINY.model_copy(update={"start": str(out)}), net.spec, 1, "cpu")


def test_of_an_imported_start_nobody_knows_the_rule(tmp_path):
    start = saved(small_network(4), tmp_path, "start", recipe={"imported": "net.pt"})
    with pytest.raises(Refusal, match="imported"):
        learner_of(TINY.model_copy(update={"start": str(start)}), small_network().spec, 1, "cpu")


def test_a_hybrid_of_random_weights_would_be_an_ep_network():
    with pytest.raises(ValueError, match="a hybrid needs a start"):
        parse_recipe({**TINY.model_dump(mode="json"), "kind": "hybrid"})
