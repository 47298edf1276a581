"""The EP rule against backpropagation, and the image gradient against both."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from networks import random_images, seeded, small_network

from ep_hw.learning.rule import ep_gradient, phi_gradient
from ep_hw.threats.attacks import Nudged, Unrolled
from simulators.reference import FloatSubstrate, ReferenceMachine
from simulators.relaxation import Nudge, relax

LABELS = torch.tensor([3, 1, 4, 1, 5, 9])
UNEQUAL = {"channels": (4, 6, 5), "paddings": (1, 1, 1), "pools": (2, 2, 1), "feedback_gain": (1.0, 0.3, 0.6)}


def double_network(**changes):
    net = small_network(2, gain=2.0, **changes)
    return replace(net, weights=[w.double() for w in net.weights], biases=[b.double() for b in net.biases])


def relative(a, b):
    return float((a - b).norm() / b.norm())


def backpropagated(net, images, target=LABELS):
    """(weight, bias) gradients of the mean loss through a long relaxation, by autograd."""
    for p in (*net.weights, *net.biases):
        p.requires_grad_()
    substrate = net.substrate()
    end = relax(substrate, images, schedule="alternating", steps=400)
    F.cross_entropy(substrate.logits(end.states[-1]), target).backward()
    return [(w.grad, b.grad) for w, b in zip(net.weights, net.biases)]


def largest_error(gradient, exact):
    return max(relative(a, b) for pair, truth in zip(gradient, exact) for a, b in zip(pair, truth))


@pytest.mark.parametrize("changes", [{}, {"feedback_gain": 0.3}, {"feedback_gain": 0.1, "strides": (2, 1)},
                                     UNEQUAL, UNEQUAL | {"feedback_gain": (1.0, 2.0, 0.2)}], ids=str)
def test_ep_gradient_is_backpropagation_at_the_fixed_point_as_beta_vanishes(changes):
    """Symmetric rule, beta = 0.001, float64, converged: relative error 2e-5 as in the theory (O(beta^2))."""
    net, images = double_network(**changes), random_images(6, dtype=torch.float64)
    gradient, _ = ep_gradient(net.substrate(), images, LABELS, schedule="alternating", free_steps=400,
                              nudged_steps=400, beta=1e-3)
    assert largest_error(gradient, backpropagated(net, images)) < 2e-5


def test_towards_a_distribution_the_gradient_is_backpropagation_too():
    """As above, with soft targets of full support: every class pulls."""
    net, images = double_network(), random_images(6, dtype=torch.float64)
    target = torch.randn(6, 10, generator=seeded(3), dtype=torch.float64).softmax(1)
    gradient, _ = ep_gradient(net.substrate(), images, target, schedule="alternating", free_steps=400,
                              nudged_steps=400, beta=1e-3)
    assert largest_error(gradient, backpropagated(net, images, target)) < 2e-5
    assert largest_error(gradient, backpropagated(double_network(), images)) > 0.1


def test_labels_as_one_hot_rows_give_the_gradient_of_the_labels_bit_for_bit():
    substrate, images = small_network(2, gain=2.0).substrate(), random_images(6)
    (labels, _), (rows, _) = (ep_gradient(substrate, images, target, schedule="alternating", free_steps=8,
                                          nudged_steps=4, beta=0.5) for target in (LABELS, F.one_hot(LABELS, 10)))
    assert all(torch.equal(a, b) for one, other in zip(labels, rows) for a, b in zip(one, other))


@pytest.mark.parametrize("loose", [False, True], ids=["exact", "read again"])
@pytest.mark.parametrize("pairs", [1, 3])
def test_nudges_that_share_a_batch_lead_to_the_gradient_of_two_phases(pairs, loose):
    """Each relaxed by itself from the free states, winners read anew; sums over pairs round."""
    substrate, images = small_network(2, gain=2.0).substrate(), random_images(6)
    found, free = ep_gradient(substrate, images, LABELS, schedule="alternating", free_steps=8, nudged_steps=4, beta=0.5,
                              pairs=pairs, exact=not loose)
    target, image, contrasts = F.one_hot(LABELS, 10).float(), substrate.encode(images), []
    with torch.no_grad():
        for strength in (0.5, -0.5):
            nudge = Nudge(target, strength)
            end = relax(substrate, images, schedule="alternating", steps=4, states=free.states, nudge=nudge)
            contrasts.append(phi_gradient(substrate, image, end.states, nudge))
    wanted = [[(a - b) * (-1 / len(images)) for a, b in zip(*layer)] for layer in zip(*contrasts)]
    for pair, truth in zip(found, wanted):
        for a, b in zip(pair, truth):
            torch.testing.assert_close(a, b, rtol=0, atol=0 if pairs == 1 else 1e-6)


def test_one_nudge_alone_is_off_by_the_first_order_of_beta():
    """One-sided rule, equation (6) with the free phase for -beta: 4e-3 at beta = 0.001, a tenth of it at a tenth."""
    net, images = double_network(), random_images(6, dtype=torch.float64)
    substrate, target = net.substrate(), F.one_hot(LABELS, 10).double()
    image, errors = substrate.encode(images), []
    exact = backpropagated(double_network(), images)
    with torch.no_grad():
        free = relax(substrate, images, schedule="alternating", steps=400).states
        for beta in (1e-3, 1e-4):
            nudged = relax(substrate, images, schedule="alternating", steps=400, states=free, nudge=Nudge(target, beta))
            pairs = [phi_gradient(substrate, image, states, Nudge(target, strength))
                     for states, strength in ((nudged.states, beta), (free, 0.0))]
            gradient = [[(a - b) / (-beta * len(images)) for a, b in zip(*layer)] for layer in zip(*pairs)]
            errors.append(largest_error(gradient, exact))
    assert errors[0] < 4e-3
    assert errors[1] == pytest.approx(errors[0] / 10, rel=0.2)


@pytest.mark.parametrize("changes", [{}, {"feedback_gain": 0.3}, UNEQUAL], ids=str)
def test_nudged_image_gradient_is_backpropagation_as_beta_vanishes(changes):
    """Equation (9) at the fixed point that the machine's own schedule finds: they are not unique."""
    graph = small_network(2, gain=2.0, **changes).lower()
    machine = ReferenceMachine(replace(graph, tolerance=1e-300), dtype=torch.float64, steps=600)   # it never stops
    images = random_images(6, dtype=torch.float64).requires_grad_()
    loss = F.cross_entropy(machine.relax(images).logits, LABELS, reduction="sum")
    exact = torch.autograd.grad(loss, images)[0]
    images = images.detach()
    measured = Nudged(1e-3, steps=400, free=None)(machine, images, LABELS, None)
    assert relative(measured, exact) < 1e-3
    worse = Nudged(1.0, steps=400, free=None)(machine, images, LABELS, None)
    assert relative(worse, exact) > relative(measured, exact)


def test_unrolled_gradient_is_the_finite_difference_of_the_loss():
    machine = ReferenceMachine(small_network(2, gain=2.0).lower(), dtype=torch.float64)
    images = random_images(6, dtype=torch.float64) * 0.9 + 0.05
    gradient = Unrolled(10)(machine, images, LABELS, None)
    along = torch.randn(images.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    h = 1e-6

    def loss(x):
        return F.cross_entropy(machine.relax(x, steps=10, schedule="synchronous").logits, LABELS, reduction="sum")

    slope = (loss(images + h * along) - loss(images - h * along)) / (2 * h)
    assert abs(float(slope - (gradient * along).sum())) < 1e-6 * float(gradient.norm() * along.norm())


def test_learning_sees_the_network_itself():
    """The substrate for learning holds the network's own tensors, not copies."""
    net = small_network()
    substrate = net.substrate()
    net.weights[0].zero_()
    assert substrate.projections[0].weight.abs().max() == 0
    assert FloatSubstrate.of(net.lower()).projections[0].weight is not net.weights[0]
