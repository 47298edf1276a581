"""Lava against the twin bit for bit, against the reference in floats, and what is and is not wired."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from chains import random_activity, random_chain
from cores import spread_network

import ep_hw
import mapping
import simulators
from ep_hw.data import load_data
from mapping.errors import Refusal
from simulators.loihi.lava import LavaMachine
from simulators.loihi.session import LavaError
from simulators.relaxation import Nudge

CASES = [("full", "synchronous", "lava"), ("full", "alternating", "lava[threshold=0.02]"),
         ("mixed", "alternating", "lava[model=structural]"), ("none", "sequential", "lava[weight_bits=5]"),
         ("none", "sequential", "lava[threshold=0.02,model=structural]")]


def unusual_chain(seed, feedback, schedule):
    """Strides, ceilings and slopes of all sorts; weights of a size at which states are busy."""
    graph = random_chain(seed, feedback=feedback, schedule=schedule, unusual=True)
    couplings = tuple(replace(c, weight=c.weight / np.float32(3)) for c in graph.couplings)
    return replace(graph, couplings=couplings, activity=random_activity(graph, seed))


def images_for(graph, count, seed=0):
    return torch.rand((count, *graph.image_shape), generator=torch.Generator().manual_seed(seed))


def nudge_for(graph, count, beta, loss="cross_entropy"):
    return Nudge(F.one_hot(torch.arange(count) % graph.classes, graph.classes).float(), beta, loss)


def compare(lava, other, images, tolerance=0.0, **phase):
    """Both machines' relaxations, step by step and at their ends, agree within a tolerance. Returns both ends."""
    traces, ends = ([], []), []
    for machine, trace in zip((lava, other), traces):
        machine.relax(images, 11, trace=lambda t, states, trace=trace: trace.append((t, states)), **phase)
        ends.append(machine.relax(images, **phase))
    for (t, ours), (u, theirs) in zip(*traces, strict=True):
        assert t == u
        for a, b in zip(ours, theirs, strict=True):
            assert (a - b).abs().max() <= tolerance * max(1, b.max())
    assert (ends[0].logits - ends[1].logits).abs().max() <= 10 * tolerance * max(1, ends[1].logits.abs().max())
    return ends


@pytest.mark.parametrize(("feedback", "schedule", "target"), CASES)
def test_lava_equals_the_twin_bit_for_bit(feedback, schedule, target):
    graph = unusual_chain(len(target), feedback, schedule)
    images = images_for(graph, 7)
    with LavaMachine(mapping.compile(graph, target), batch=3) as lava:   # 7 images: two full batches and a padded one
        ours, theirs = compare(lava, lava.gradient_model, images)
        for name in ("residual", "converged", "steps", "logits"):
            assert torch.equal(getattr(ours, name), getattr(theirs, name))
        for a, b in zip(ours.states, theirs.states):
            assert torch.equal(a, b)
        for steps in (1, 2, 4, 6, 8):   # unlike a state, what was sent of it may still move far in the last sweep
            ends = [machine.relax(images, steps) for machine in (lava, lava.gradient_model)]
            for name in ("residual", "converged", "steps", "logits"):
                assert torch.equal(getattr(ends[0], name), getattr(ends[1], name))
        for sign, loss in ((1, "cross_entropy"), (-1, "margin")) if graph.has_feedback else ():
            beta = sign * min(0.25, lava.largest_beta)
            compare(lava, lava.gradient_model, images, nudge=nudge_for(graph, 7, beta, loss), states=ours.states)


@pytest.mark.parametrize("options", ["lost_core=2", "lost_core=3,model=structural", "lost_core=3,threshold=0.02",
                                     "lost_core=4,dead=0.1"])
def test_lava_loses_a_core_as_the_twin_does(options):
    graph = spread_network()
    images = images_for(graph, 2)
    with LavaMachine(mapping.compile(graph, f"lava[{options}]"), batch=2) as lava:
        beta = min(0.25, lava.largest_beta)
        for nudge in (None, nudge_for(graph, 2, beta), nudge_for(graph, 2, -beta, "margin")):
            ours, theirs = (machine.relax(images, 6, nudge) for machine in (lava, lava.gradient_model))
            assert all(map(torch.equal, (*ours.states, ours.logits), (*theirs.states, theirs.logits)))


@pytest.mark.parametrize(("feedback", "schedule", "target"), [("mixed", "synchronous", "lava:float"),
                                                              ("none", "sequential", "lava:float[model=structural]")])
def test_lava_in_floats_is_the_reference(feedback, schedule, target):
    graph = unusual_chain(4, feedback, schedule)
    images = images_for(graph, 6)
    with simulators.open(mapping.compile(graph, target)) as lava:
        ours, theirs = compare(lava, lava.gradient_model, images, tolerance=1e-5)
        assert torch.equal(ours.steps, theirs.steps)
        if graph.has_feedback:
            nudges = nudge_for(graph, 6, -0.5), nudge_for(graph, 6, 0.5, "margin")
            compare(lava, lava.gradient_model, images, tolerance=1e-5, nudge=nudges[0], states=theirs.states)
            compare(lava, lava.gradient_model, images, tolerance=1e-5, nudge=nudges[1])


@pytest.mark.slow
def test_lava_runs_the_digits_model_bit_for_bit():
    graph = ep_hw.load("digits").lower()
    images = load_data("digits", "test").images[:16]
    with LavaMachine(mapping.compile(graph, "lava"), batch=8) as lava:
        ours, theirs = compare(lava, lava.gradient_model, images)
        assert torch.equal(ours.logits, theirs.logits)
        assert torch.equal(ours.steps, theirs.steps)
    with LavaMachine(mapping.compile(graph, "lava:float"), batch=16) as lava:
        compare(lava, lava.gradient_model, images, tolerance=1e-5)


@pytest.mark.parametrize("name", ["digits", "digits-bp-s11"])
def test_digits_lose_at_most_a_point_on_integers(name):
    graph, split = ep_hw.load(name).lower(), load_data("digits", "test")
    right = [(simulators.open(mapping.compile(graph, name)).relax(split.images).prediction == split.labels)
             .float().mean().item() for name in ("reference", "loihi")]
    assert abs(right[0] - right[1]) <= 0.01


def test_another_schedule_is_refused(random_graph):
    with LavaMachine(mapping.compile(random_graph(0), "lava"), batch=2) as lava:
        with pytest.raises(Refusal, match="the processes run another schedule"):
            lava.relax(images_for(lava.graph, 1), schedule="synchronous")
        with pytest.raises(Refusal, match="out of range"):
            lava.relax(images_for(lava.graph, 1) + 1)
        assert not lava.differentiable


def test_changes_held_back_at_threshold_zero_are_whole_states(random_graph):
    graph = random_graph(5, 6, (2, 1), "alternating", gain=0.5)
    images = images_for(graph, 3)
    with LavaMachine(mapping.compile(graph, "lava[threshold=0]"), batch=3) as lava:
        ours, dense = compare(lava, simulators.open(mapping.compile(graph, "loihi")), images)
        assert torch.equal(ours.steps, dense.steps)


@pytest.mark.parametrize("target", ["loihi[model=structural]", "loihi:weights[model=structural]"])
def test_models_of_connections_are_lavas_only(target):
    with pytest.raises(Refusal, match="model=structural; allowed: on lava, lava:float"):
        mapping.parse(target)


def test_a_closed_machine_says_so(random_graph):
    lava = LavaMachine(mapping.compile(random_graph(0), "lava"), batch=1)
    lava.close()
    lava.close()
    with pytest.raises(LavaError, match="closed"):
        lava.relax(images_for(lava.graph, 1))
