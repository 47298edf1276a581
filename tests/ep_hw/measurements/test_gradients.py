"""Image gradients: the adjoint against backpropagation through time and a matrix inverse, the nudged one against it."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import random_images, small_network

import ep_hw
import mapping
import simulators
from ep_hw.data import load_data
from ep_hw.measurements.gradients import gradient_programs
from ep_hw.threats.attacks.gradients import Adjoint, Nudged, Unrolled, loss_of, parse_gradient
from mapping.errors import Refusal
from mapping.graph import EPGraph
from mapping.loihi.integers import LOSSES
from simulators.reference import ReferenceMachine
from simulators.relaxation import Nudge

LABELS = torch.arange(6)


def converging_graph(seed=0) -> EPGraph:
    """A network with weak feedback: one fixed point, that every schedule finds."""
    return replace(small_network(seed, gain=1.5).lower(), tolerance=1e-13, steps=4000, schedule="synchronous")


def exact(graph) -> ReferenceMachine:
    return ReferenceMachine(graph, dtype=torch.float64)


def cosine(a, b):
    return F.cosine_similarity(a.flatten(1), b.flatten(1))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("seed", range(2))
def test_the_adjoint_is_backpropagation_through_a_converged_relaxation(seed, loss):
    machine, images = exact(converging_graph(seed)), random_images(6, dtype=torch.float64)
    truth = Unrolled(300, loss)(machine, images, LABELS, None)
    assert truth.flatten(1).abs().amax(1).min() > 0
    assert cosine(Adjoint(100, loss)(machine, images, LABELS, None), truth).min() >= 0.999
    assert cosine(Adjoint(1, loss)(machine, images, LABELS, None), truth).min() < 0.999, "K must matter"


@pytest.mark.parametrize("loss", LOSSES)
def test_the_last_steps_of_a_settled_relaxation_are_as_many_products_of_the_adjoint(loss):
    machine, images = exact(converging_graph()), random_images(6, dtype=torch.float64)
    for last in (1, 4):
        found = Unrolled(300, loss, last)(machine, images, LABELS, None)
        assert torch.allclose(found, Adjoint(last - 1, loss)(machine, images, LABELS, None), rtol=1e-6, atol=1e-12)
    whole = Unrolled(20, loss)(machine, images, LABELS, None)
    assert torch.equal(Unrolled(20, loss, 20)(machine, images, LABELS, None), whole)
    assert not torch.allclose(Unrolled(20, loss, 4)(machine, images, LABELS, None), whole)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("schedule", ["alternating", "synchronous"])
def test_the_gradient_of_the_own_relaxation_is_that_of_what_the_machine_answers(schedule, loss):
    """Central differences of the machine's own loss, long before it is at rest."""
    machine = exact(replace(small_network(3, gain=3.0).lower(), tolerance=1e-13, steps=6, schedule=schedule))
    images, labels = 0.2 + 0.6 * random_images(6, dtype=torch.float64), LABELS
    away = torch.randn(images.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert not machine.relax(images).converged.any()
    up, down = (loss_of(machine.relax(images + sign * 1e-6 * away).logits, labels, loss) for sign in (1, -1))
    own, other = ((g(machine, images, labels, None) * away).flatten(1).sum(1)
                  for g in (Unrolled(None, loss), Unrolled(4, loss)))
    assert torch.allclose(own, (up - down) / 2e-6, rtol=1e-5, atol=1e-8)
    assert not torch.allclose(other, own, rtol=1e-2)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_adjoint_solves_the_linear_system(loss):
    """(I - J^T) lambda = dL/ds at the fixed point, solved by a dense inverse, one image at a time."""
    machine, images = exact(converging_graph(1)), random_images(2, dtype=torch.float64)
    states = machine.relax(images).states
    found = Adjoint(200, loss)(machine, images, LABELS[:2], None)
    for b in range(2):
        shapes = [s[b:b + 1].shape for s in states]
        flat = torch.cat([s[b].flatten() for s in states])

        def step(x, s, shapes=shapes):
            parts = [p.view(shape) for p, shape in zip(s.split([shape.numel() for shape in shapes]), shapes)]
            end = machine.relax(x, 1, states=tuple(parts), schedule="synchronous")
            return torch.cat([p.flatten() for p in end.states])

        def loss_at(s, b=b, top=shapes[-1]):
            return loss_of(machine.substrate.logits(s[-top.numel():].view(top)), LABELS[b:b + 1], loss).sum()

        to_image, to_states = torch.autograd.functional.jacobian(step, (images[b:b + 1], flat))
        slope = torch.autograd.functional.jacobian(loss_at, flat)
        back = torch.linalg.solve(torch.eye(len(flat), dtype=flat.dtype) - to_states.T, slope)
        assert torch.allclose(found[b], (back @ to_image.flatten(1)).view_as(found[b]), rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_nudged_gradient_tends_to_the_adjoint(loss):
    machine, images = exact(converging_graph(2)), random_images(6, dtype=torch.float64)
    truth = Adjoint(200, loss)(machine, images, LABELS, None)
    measured = (Nudged(beta, loss, steps=400, free=None)(machine, images, LABELS, None) for beta in (0.4, 0.04, 0.004))
    errors = [((one - truth).norm() / truth.norm()).item() for one in measured]
    assert errors[2] < 1e-3
    assert errors[0] > errors[1] > errors[2]


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6))
def test_both_losses_have_the_error_of_their_nudge_as_slope(seed):
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()
    labels = torch.arange(5)
    for loss in LOSSES:
        slope, = torch.autograd.grad(loss_of(logits, labels, loss).sum(), logits)
        error = Nudge(F.one_hot(labels, 7).double(), 1.0, loss).error(logits)
        assert torch.allclose(-slope, error.detach())


@pytest.mark.parametrize("name", ["loihi", "loihi[threshold=0.02]", "loihi:states", "crossbar:pcm"])
def test_the_adjoint_on_a_machine_points_where_the_reference_does(name):
    graph = small_network(3, gain=1.5).lower()
    images = random_images(6)
    machine = simulators.open(mapping.compile(graph, name))
    draws = 1 if machine.deterministic else 8
    found = Adjoint(100)(machine, images, LABELS, torch.Generator().manual_seed(0), draws)
    truth = Adjoint(100)(ReferenceMachine(graph), images, LABELS, None)
    assert cosine(found, truth).median() > 0.8


def test_averaged_pairs_quieten_a_noisy_machine_and_leave_a_deterministic_one_alone():
    graph, images = small_network(3, gain=1.5).lower(), random_images(6)
    noisy = simulators.open(mapping.compile(graph, "crossbar:pcm"))
    truth = Adjoint(100)(ReferenceMachine(graph), images, LABELS, None)
    one, many = (cosine(Nudged(0.5, pairs=pairs)(noisy, images, LABELS, torch.Generator().manual_seed(1)), truth).mean()
                 for pairs in (1, 16))
    assert many > one
    twin = simulators.open(mapping.compile(graph, "loihi"))
    assert torch.equal(*(Nudged(0.5, pairs=pairs)(twin, images, LABELS, None) for pairs in (1, 3)))


@pytest.mark.parametrize("name", ["reference", "loihi", "crossbar:pcm"])
def test_a_short_free_phase_aims_a_measured_gradient_as_well_as_one_that_comes_to_rest(name):
    """The last images rest after 60 to 200 steps; what the nudge moves is there after 30, and not after two."""
    test = load_data("digits", "test").take(slice(20))
    machine = simulators.open(mapping.compile(ep_hw.load("digits").lower(), name))
    truth = Adjoint(60, "margin")(machine, test.images, test.labels, torch.Generator().manual_seed(0))
    short, rested, none = (cosine(Nudged(0.5, "margin", steps=steps, free=free)(
        machine, test.images, test.labels, torch.Generator().manual_seed(1)), truth).median()
                           for steps, free in ((20, 30), (20, None), (2, 2)))
    assert short > rested - 0.05
    assert none < short - 0.05


def test_a_margin_nudge_unmasks_few_state_bits():
    """A trained network is sure: the cross-entropy's pull is lost in rounding, the margin's, which never fades, not."""
    test = load_data("digits", "test").take(slice(20))
    machine = simulators.open(mapping.compile(ep_hw.load("digits").lower(), "loihi[state_bits=6]"))
    zeros, aims = [], []
    for loss in LOSSES:
        measured = Nudged(0.1, loss)(machine, test.images, test.labels, None)
        zeros.append((measured == 0).float().mean())
        aims.append(cosine(measured, Adjoint(100, loss)(machine, test.images, test.labels, None)).median())
    assert zeros[0] > 0.5 > 0.1 > zeros[1]
    assert aims[0] < 0.5 < 0.8 < aims[1]


def test_the_adjoint_of_the_trained_network_is_backpropagation():
    graph = replace(ep_hw.load("digits").lower(), tolerance=1e-10, steps=2000, schedule="synchronous")
    machine, test = exact(graph), load_data("digits", "test").take(slice(10))
    adjoint, unrolled = (g(machine, test.images.double(), test.labels, None) for g in (Adjoint(100), Unrolled(300)))
    assert cosine(adjoint, unrolled).min() >= 0.999


def test_an_adjoint_from_enough_steps_is_the_adjoint_at_the_equilibrium():
    machine, images = exact(converging_graph()), random_images(6, dtype=torch.float64)
    truth = Adjoint(50)(machine, images, LABELS, None)
    aims = [cosine(Adjoint(50, steps=steps)(machine, images, LABELS, None), truth).min() for steps in (2, 300)]
    assert aims[0] < 0.999
    assert aims[1] > 1 - 1e-9


@pytest.mark.parametrize("text", ["bptt@10", "adjoint@100", "adjoint@10x20", "adjoint@3:margin", "ep@0.5", "ep@2x4",
                                  "ep@0.01x3:margin"])
def test_a_gradient_is_rebuilt_from_its_name(text):
    assert str(parse_gradient(text)) == text


@pytest.mark.parametrize("model", ["digits-gain0-s11", "digits-bp-s11"])
def test_networks_without_feedback_have_no_gradients_to_measure(model):
    with pytest.raises(Refusal, match="without feedback has nothing to nudge"):
        gradient_programs(ep_hw.load(model).lower(), ["reference"], [])
