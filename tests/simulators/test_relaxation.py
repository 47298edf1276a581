"""Laws of the relaxation: what the equations say, whatever the loop does."""

import math
import weakref

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import random_images, small_network

import ep_hw
from ep_hw.data import load_data
from mapping import Refusal
from mapping.loihi.integers import LOSSES
from simulators.reference import FloatSubstrate, ReferenceMachine, energy
from simulators.relaxation import Decided, Nudge, Residual, relax

SCHEDULES = ("synchronous", "alternating")


def substrate64(seed=0, **changes) -> FloatSubstrate:
    return FloatSubstrate.of(small_network(seed, **changes).lower(), dtype=torch.float64)


def phi(substrate, images, states):
    inputs = (substrate.encode(images), *states[:-1])
    parts = zip(substrate.projections, inputs, states)
    return sum((projection.forward(pre)[0] * s).sum() for projection, pre, s in parts)


@pytest.mark.parametrize("changes", [{}, {"pools": (1, 2)}, {"paddings": (0, 1)}, {"image_shape": (2, 9, 7),
                                     "mean": (0.3, 0.2), "scale": (1.0, 2.0)}], ids=str)
@pytest.mark.parametrize("nudged", [False, True])
def test_one_synchronous_step_is_autograd_of_phi(changes, nudged):
    """s <- clamp(slope dPhi/ds, 0, 1), the definition of the dynamics: checked in float64 to 1e-12."""
    substrate = substrate64(**changes)
    shape = changes.get("image_shape", (1, 8, 8))
    images = random_images(3, shape, dtype=torch.float64)
    states = tuple(torch.rand(3, *s, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
                   for s in (p.shape for p in substrate.populations))
    target = F.one_hot(torch.tensor([1, 2, 3]), 10).double()
    nudge = Nudge(target, 0.7) if nudged else None
    value = phi(substrate, images, states)
    if nudged:
        value = value + 0.7 * (target * F.log_softmax(substrate.logits(states[-1]), 1)).sum()
    expected = [(0.5 * g).clamp(0, 1) for g in torch.autograd.grad(value, states)]
    with torch.no_grad():
        got = relax(substrate, images, schedule="synchronous", steps=1, states=states, nudge=nudge).states
    for a, b in zip(got, expected):
        assert (a - b).abs().max() < 1e-12


@pytest.mark.parametrize("changes", [{}, {"feedback_gain": 0.3}, {"feedback_gain": 3.0, "strides": (2, 1)},
                                     {"pools": (1, 1), "strides": (1, 2), "ceilings": (0.4, None)},
                                     {"channels": (4, 5, 6), "paddings": (1, 1, 1), "pools": (2, 1, 2),
                                      "feedback_gain": (7.0, 0.5, 2.0)}], ids=str)
def test_one_synchronous_step_goes_down_the_weighted_energy(changes):
    """s_n <- clamp(s_n - slope_n / c_n dE/ds_n, 0, ceiling_n), c_n the product of the gains below: to 1e-12."""
    substrate, images = substrate64(**changes), random_images(3, dtype=torch.float64)
    start = relax(substrate, images, schedule="synchronous", steps=3).states
    states = tuple(s.detach().requires_grad_() for s in start)
    downhill = torch.autograd.grad(energy(substrate, substrate.encode(images), states).sum(), states)
    with torch.no_grad():
        got = relax(substrate, images, schedule="synchronous", steps=1, states=states).states
        for n, (new, old, slope) in enumerate(zip(got, states, downhill)):
            gains, own = [c.feedback_gain for c in substrate.projections[1:n + 1]], substrate.populations[n]
            share = math.prod(gains)
            expected = (old - own.slope / share * slope).clamp(0, own.ceiling)
            assert (new - expected).abs().max() < 1e-12


@given(st.integers(0, 10**6), st.sampled_from([0.1, 0.5, 1.0, 2.0]), st.sampled_from([(1, 1, 1), (2, 1, 1)]))
@settings(max_examples=20)
def test_energy_never_rises_under_the_alternating_schedule(seed, feedback_gain, strides):
    substrate = substrate64(seed, channels=(4, 5, 6), paddings=(1, 1, 1), pools=(2, 1, 2), strides=strides,
                            feedback_gain=feedback_gain)
    images = random_images(4, seed=seed, dtype=torch.float64)
    energies = []
    relax(substrate, images, schedule="alternating", steps=30,
          trace=lambda t, states: energies.append(energy(substrate, substrate.encode(images), states)))
    rises = torch.stack(energies).diff(dim=0)
    assert rises.max() < 1e-12


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_fixed_point_of_either_schedule_is_one_of_the_other(schedule):
    substrate, images = substrate64(), random_images(4, dtype=torch.float64)
    end = relax(substrate, images, schedule="alternating", steps=400).states
    again = relax(substrate, images, schedule=schedule, steps=2, states=end).states
    assert max((a - b).abs().max() for a, b in zip(end, again)) < 1e-10


def test_an_alternating_sweep_updates_odd_layers_then_even_ones_with_the_new():
    substrate, images = substrate64(), random_images(2, dtype=torch.float64)
    seen = {}
    relax(substrate, images, schedule="alternating", steps=2, trace=lambda t, s: seen.__setitem__(t, s))
    assert seen[1][1].abs().max() == 0
    assert torch.equal(seen[1][0], seen[2][0])
    by_hand = (substrate.projections[1].forward(seen[1][0])[0] * 0.5).clamp(0, 1)
    assert torch.allclose(seen[2][1], by_hand, atol=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_stopping_each_sample_alone_does_not_depend_on_the_batch(schedule):
    machine = ReferenceMachine(small_network(gain=2.0).lower(), dtype=torch.float64)
    images = random_images(12, dtype=torch.float64)
    together = machine.relax(images, schedule=schedule)
    assert together.converged.all()
    assert together.steps.unique().numel() > 1, "the batch should stop at different times for this test to mean much"
    for i in range(12):
        alone = machine.relax(images[i:i + 1], schedule=schedule)
        assert alone.steps[0] == together.steps[i]
        for a, b in zip(alone.states, together.states):
            assert (a[0] - b[i]).abs().max() < 1e-12


def test_a_sample_stops_at_the_first_sweep_whose_residual_is_within_tolerance():
    machine = ReferenceMachine(small_network(gain=2.0).lower())
    images, seen = random_images(1), {}
    end = machine.relax(images)
    machine.relax(images, trace=lambda t, s: seen.__setitem__(t, s))
    def change(t):
        return max((a - b).abs().max() for a, b in zip(seen[t], seen[t - 2]))
    steps = int(end.steps[0])
    assert change(steps) <= machine.graph.tolerance < change(steps - 2)
    assert end.residual[0] == change(steps)


@pytest.mark.parametrize("schedule", ["synchronous", "alternating"])
def test_states_of_samples_that_ended_are_held_no_longer(schedule):
    """A batch of large maps would lie in memory twice or thrice where it shrinks."""
    machine, earlier, rows = small_network(3, schedule=schedule).machine(), [], []

    def trace(t, states):
        rows.append(len(states[0]))
        held = [len(s) for s in (ref() for ref in earlier) if s is not None]
        assert max(held, default=0) <= rows[-1]
        earlier.extend(weakref.ref(s) for s in states)

    relax(machine.substrate, random_images(12), schedule=schedule, steps=200, stop=Residual(1e-3), trace=trace)
    assert rows[0] == 12 > rows[-1]


def test_what_does_not_converge_says_so():
    machine = ReferenceMachine(small_network(gain=2.0).lower(), steps=4)
    end = machine.relax(random_images(3))
    assert not end.converged.any()
    assert (end.steps == 4).all()
    assert (end.residual > machine.graph.tolerance).all()


@pytest.mark.parametrize(("images", "message"), [
    (torch.zeros(2, 1, 9, 8), "wrong shape"), (torch.full((2, 1, 8, 8), 1.5), "out of range"),
    (torch.full((1, 1, 8, 8), float("nan")), "out of range"), (torch.zeros(2, 1, 8, 8, dtype=torch.int64), "floats")])
def test_bad_images_are_refused(images, message):
    with pytest.raises(Refusal, match=message):
        ReferenceMachine(small_network().lower()).relax(images)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_nudge_pulls_down_its_loss(loss):
    """error = -dLoss/dlogits by autograd, and the margin's error does not fade where the softmax saturates."""
    logits = (10 * torch.randn((6, 4), generator=torch.Generator().manual_seed(0))).requires_grad_()
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    if loss == "margin":
        own = F.one_hot(labels, 4).bool()
        value = logits.masked_fill(own, -torch.inf).amax(1) - logits[own]
    else:
        value = F.cross_entropy(logits, labels, reduction="none")
    gradient, = torch.autograd.grad(value.sum(), logits)
    assert torch.allclose(Nudge(F.one_hot(labels, 4).float(), 1.0, loss).error(logits.detach()), -gradient, atol=1e-6)


def test_an_unknown_loss_is_refused():
    with pytest.raises(Refusal, match="unknown loss"):
        Nudge(torch.eye(3), 0.5, "hinge")


@given(st.integers(0, 10**6), st.sampled_from(SCHEDULES), st.floats(0.5, 50), st.booleans())
@settings(max_examples=15)
def test_an_answer_is_decided_at_the_first_sweep_whose_margin_outweighs_the_change(seed, schedule, factor, labelled):
    """Where labels are given, none but these; all others are at rest."""
    substrate, images = substrate64(seed, gain=4.0), random_images(6, seed=seed, dtype=torch.float64)
    labels = torch.randint(3, (6,), generator=torch.Generator().manual_seed(seed)) if labelled else None
    rule = Decided(Residual(1e-9), substrate.logits, factor, labels)
    seen = [substrate.start(images)]
    relax(substrate, images, schedule=schedule, steps=60, trace=lambda t, states: seen.append(states))
    found = relax(substrate, images, schedule=schedule, steps=60, stop=rule)
    period = 1 if schedule == "synchronous" else 2
    for n, steps in enumerate(found.steps.tolist()):
        sweeps = range(period, 61, period)
        for t in sweeps:
            change = max((a[n] - b[n]).abs().max() for a, b in zip(seen[t], seen[t - period]))
            answers = substrate.logits(seen[t][-1])[n]
            logits, allowed = sorted(answers.tolist()), labels is None or answers.argmax() == labels[n]
            if (allowed and logits[-1] - logits[-2] > factor * change) or change <= 1e-9:
                break
        assert steps == t
        assert all(torch.allclose(a[n], b[n], atol=1e-12) for a, b in zip(found.states, seen[t]))


def test_decided_answers_are_those_at_rest_in_half_the_steps():
    net, test = ep_hw.load("digits"), load_data("digits", "test")
    rest = ReferenceMachine(net.lower()).relax(test.images)
    decided = ReferenceMachine(net.lower(), decided=20).relax(test.images)
    assert (decided.prediction == rest.prediction).float().mean() >= 0.995
    assert decided.steps.float().mean() < 0.5 * rest.steps.float().mean()
    assert not decided.converged.all()
    assert rest.converged.all()


class Updates(FloatSubstrate):
    """Counts the updates of layers."""

    made = 0

    def activate(self, n, drive):
        self.made += 1
        return super().activate(n, drive)


@given(seed=st.integers(0, 10**6), steps=st.integers(1, 8), schedule=st.sampled_from(SCHEDULES),
       feedback_gain=st.sampled_from([1.0, 0.125]), begun=st.booleans())
@settings(max_examples=12)
def test_logits_alone_take_fewer_updates_and_have_the_same_bits_and_gradients(seed, steps, schedule, feedback_gain,
                                                                              begun):
    graph = small_network(seed, channels=(3, 4, 5), paddings=(1, 1, 1), pools=(2, 1, 1),
                          feedback_gain=feedback_gain).lower()
    images, found = random_images(2, seed=seed), []
    whole = ReferenceMachine(graph).with_substrate(Updates.of(graph))
    states = whole.relax(images, 2, schedule=schedule).states if begun else None
    for machine in (whole, whole.answering):
        machine.substrate.made, shown = 0, images.clone().requires_grad_()
        with torch.enable_grad():
            logits = machine.relax(shown, steps, schedule=schedule, states=states).logits
        gradient = torch.autograd.grad(logits.square().sum(), shown)[0] if logits.requires_grad else torch.zeros(1)
        found.append((logits, gradient, machine.substrate.made))
    (logits, gradient, all_updates), (same, same_gradient, fewer) = found
    assert torch.equal(logits, same)
    assert torch.equal(gradient, same_gradient)
    assert schedule == "alternating" or all_updates - fewer == sum(min(n, steps) for n in (1, 2))
    assert fewer <= all_updates
