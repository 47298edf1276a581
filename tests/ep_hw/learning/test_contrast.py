"""The EP gradient at other precisions and with early stopping: near the plain one, and float32 where it must be."""

from types import SimpleNamespace

import pytest
import torch
from networks import random_images, small_network
from recipe import SMALL

from ep_hw.learning.rule import ep_gradient, phi_gradient
from ep_hw.learning.training.contrast import Contrast, channels_last, rounded
from simulators.reference import FloatSubstrate
from simulators.relaxation import Nudge

PLAIN = SMALL.model_copy(update={"free_steps": 60, "nudged_steps": 8, "batch": 16})
LABELS = torch.arange(12) % 10


def gradient(**changes):
    """All gradients of one batch in one vector."""
    recipe = PLAIN.model_copy(update=changes)
    pairs = Contrast(recipe, small_network(gain=1.5).substrate())(random_images(12), LABELS)
    return torch.cat([t.flatten() for pair in pairs for t in pair])


def test_the_plain_gradient_is_that_of_the_rule_bit_for_bit():
    pairs, _ = ep_gradient(small_network(gain=1.5).substrate(), channels_last(random_images(12)), LABELS,
                           schedule=PLAIN.schedule, free_steps=60, nudged_steps=8, beta=0.5)
    assert torch.equal(gradient(), torch.cat([t.flatten() for pair in pairs for t in pair]))
    assert torch.equal(gradient(precision="tf32"), gradient())   # means nothing to a CPU


@pytest.mark.parametrize("channels", [1, 3])
def test_the_order_of_images_in_memory_changes_the_gradient_by_rounding_alone(channels):
    """In float64; states follow the images, which torch takes for channels last also where there is one."""
    net = small_network(gain=1.5, image_shape=(channels, 8, 8), mean=channels * (0.3,), scale=channels * (1.1,))
    substrate = FloatSubstrate.of(net.lower(), dtype=torch.float64)
    images, found = random_images(12, (channels, 8, 8)).double(), []
    for ordered in (images, channels_last(images)):
        pairs, free = ep_gradient(substrate, ordered, LABELS, schedule=PLAIN.schedule, free_steps=60, nudged_steps=8,
                                  beta=0.5)
        found.append(torch.cat([t.flatten() for pair in pairs for t in pair]))
    assert torch.equal(channels_last(images), images)
    assert all(s.stride(1) == 1 for s in (ordered, *free.states))
    assert (found[0] - found[1]).norm() < 1e-10 * found[0].norm()


def test_stopping_at_a_residual_changes_the_gradient_by_no_more_than_it_left():
    exact = gradient(free_steps=400)
    gaps = [(gradient(free_steps=400, free_tolerance=tolerance) - exact).norm() / exact.norm()
            for tolerance in (1e-2, 1e-4, 1e-6)]
    assert gaps[2] < 1e-3
    assert gaps[2] < gaps[0]


def test_bfloat16_phases_give_float32_gradients_near_the_exact_ones():
    half, exact = gradient(precision="bfloat16"), gradient()
    assert half.dtype == torch.float32
    assert not torch.equal(half, exact)
    assert torch.cosine_similarity(half, exact, 0) > 0.97


def test_states_stay_float32_while_products_are_rounded_and_the_contrast_is_not():
    substrate, images = small_network(gain=1.5).substrate(), random_images(12)
    seen = []

    def phases():
        seen.append("bfloat16")
        return rounded("bfloat16", "cpu")

    pairs, free = ep_gradient(substrate, images, LABELS, schedule="alternating", free_steps=20, nudged_steps=8,
                              beta=0.5, phases=phases)
    assert len(seen) == 2   # the free phase, and both nudged ones as one batch
    assert all(s.dtype == torch.float32 for s in free.states)
    grid = free.states[0].to(torch.bfloat16).float()
    assert not torch.equal(free.states[0], grid)   # sums of rounded products are not rounded themselves
    nudge = Nudge(torch.eye(10)[LABELS], 0.5)
    plain = phi_gradient(substrate, substrate.encode(images), free.states, nudge)
    assert all(weight.dtype == torch.float32 for weight, _ in (*pairs, *plain))


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_switches_of_precision_are_put_back_even_after_an_error(precision):
    backends = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [b.allow_tf32 for b in backends]
    within = []

    def fail():
        within.extend([*(b.allow_tf32 for b in backends), torch.is_autocast_enabled("cpu")])
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), rounded(precision, "cpu"):
        fail()
    assert within == [precision == "tf32", precision == "tf32", precision == "bfloat16"]
    assert [b.allow_tf32 for b in backends] == before
    assert not torch.is_autocast_enabled("cpu")


def test_a_graph_is_captured_once_a_shape_and_let_go_once_phases_have_other_steps(monkeypatch):
    """Without CUDA: a graph that does nothing takes each one's place."""
    contrast, made = Contrast(PLAIN, small_network().substrate()), []
    monkeypatch.setattr(contrast, "_capture", lambda images, labels, steps: (
        made.append((len(images), steps)), (SimpleNamespace(replay=lambda: None), (images, labels), []))[1])
    for size, steps in ((12, 8), (4, 8), (12, 8), (12, 9), (12, 9)):
        contrast._replay(random_images(size), LABELS[:size], steps)
    assert made == [(12, 8), (4, 8), (12, 9)]
    assert [steps for _, steps in contrast._captured] == [9]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_captured_graph_gives_the_gradients_that_its_kernels_give_one_by_one():
    net = small_network(gain=1.5).to("cuda")
    contrast = Contrast(PLAIN, net.substrate())
    for seed in (7, 8):
        images = random_images(12, seed=seed)
        replayed = [t.clone() for pair in contrast(images, LABELS) for t in pair]
        plain = [t for pair in contrast._gradient(images.cuda(), LABELS.cuda(), 60) for t in pair]
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(replayed, plain))
        net.weights[0].mul_(1.1)
