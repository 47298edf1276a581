"""Learning on Loihi: the twin's bits are those of Lava's processes, and what they learn is equilibrium propagation."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from chains import random_activity, random_chain
from cores import spread_network
from hypothesis import Phase, given, reject, settings
from hypothesis import strategies as st

import mapping
from ep_hw.data import load_data
from ep_hw.learning.rule import ep_gradient
from ep_hw.networks.accuracy import accuracy
from ep_hw.networks.checkpoint import load
from ep_hw.threats.corruptions import corrupt
from mapping.errors import Refusal
from mapping.loihi.plasticity import Phases, plan_learning
from simulators.loihi.learner import LavaLearner, TwinLearner
from simulators.loihi.twin import open_twin
from simulators.reference import FloatSubstrate

PHASES = Phases(batch=5, free_steps=18, nudged_steps=5, beta=0.25)


def plan(program, rates=0.3, **changes):
    rates = [rates] * (len(program.graph.couplings) + 1) if isinstance(rates, float) else rates
    beta = min(PHASES.beta, program.largest_beta)
    return plan_learning(program, rates=rates, phases=replace(PHASES, **{"beta": beta, **changes}), seed=7)


def batches(graph, count, size):
    images = torch.rand((count, size, *graph.image_shape), generator=torch.Generator().manual_seed(0))
    return [(batch, torch.arange(size) % graph.classes) for batch in images]


def integers(program):
    return [array for layer in (*program.layers, program.readout) for array in (layer.weight, layer.bias)]


def unusual_chain(seed, feedback, schedule):
    graph = random_chain(seed, feedback=feedback, schedule=schedule, unusual=True)
    graph = replace(graph, couplings=tuple(replace(c, weight=c.weight / np.float32(3)) for c in graph.couplings))
    return replace(graph, activity=random_activity(graph, seed))


@pytest.mark.parametrize(("make", "target", "rate"), [
    (lambda: load("digits").lower(), "lava[state_bits=9,dead=0.05,dead_seed=3]", 1.0),
    (lambda: unusual_chain(2, "full", "synchronous"), "lava[state_bits=6]", 3.0),
    (spread_network, "lava[state_bits=6,lost_core=4]", 0.03),
    (lambda: unusual_chain(4, "mixed", "alternating"), "lava[weight_bits=6,state_bits=6]", 3.0)])
def test_lava_learns_the_bits_of_the_twin(make, target, rate):
    graph = make()
    program = mapping.compile(graph, target)
    learning = plan(program, rate)
    twin = TwinLearner(program, learning)
    with LavaLearner(program, learning) as lava:
        for cooling, batch in enumerate(batches(graph, 3, PHASES.batch)):
            for learner in (twin, lava):
                learner.learn(*batch, cooling=cooling)
            for a, b in zip(integers(lava.program), integers(twin.program), strict=True):
                assert (a == b).all()
    changed = [bool((a != b).any()) for a, b in zip(integers(program), integers(twin.program))]
    assert sum(changed[-4:]) >= 3, "the top layer and the readout learned"


@settings(max_examples=3, phases=[Phase.generate])   # Lava's processes are made for each
@given(st.data())
def test_lava_learns_the_bits_of_the_twin_whatever_the_network_and_the_schedule(data):
    """Refusals, too: of what was learned and is no longer proven."""
    graph = unusual_chain(data.draw(st.integers(0, 10**4)), data.draw(st.sampled_from(("full", "mixed"))),
                          data.draw(st.sampled_from(("synchronous", "alternating"))))
    bits, dead = data.draw(st.integers(4, 8)), data.draw(st.sampled_from((0, 0.2)))
    try:
        program = mapping.compile(graph, f"lava[weight_bits={bits},state_bits=5,dead={dead}]")
    except Refusal:
        reject()
    share, batch = data.draw(st.floats(0.05, 1)), data.draw(st.integers(1, 4))
    learning = plan(program, data.draw(st.floats(0.03, 10)), batch=batch, beta=share * program.largest_beta,
                    free_steps=data.draw(st.integers(1, 9)), nudged_steps=data.draw(st.integers(1, 4)))
    twin = TwinLearner(program, learning)
    with LavaLearner(program, learning) as lava:
        for images, labels in batches(graph, 2, batch):
            cooling, said = data.draw(st.integers(0, 3)), []
            for learner in (twin, lava):
                try:
                    learner.learn(images, labels, cooling=cooling)
                except Refusal as refusal:
                    said.append(str(refusal))
            assert len(said) in (0, 2)
            assert len(set(said)) <= 1
            if said:
                return
            for a, b in zip(integers(lava.program), integers(twin.program), strict=True):
                assert (a == b).all()


def test_the_sums_are_the_contrasts_of_equilibrium_propagation():
    """In floats, of the network that the integers stand for, where nudges move states by many of their units."""
    program = mapping.compile(load("digits").lower(), "loihi")
    train, learning = load_data("digits", "train").take(slice(20)), plan(program, batch=20, beta=1.0)
    learner = TwinLearner(program, learning)
    for own in learner._plastic:
        own.weight.write = own.bias.write = lambda cooling: None
    learner.learn(train.images, train.labels)
    gradient, _ = ep_gradient(FloatSubstrate.of(program.dequantised()), train.images, train.labels,
                              schedule=program.graph.schedule, free_steps=PHASES.free_steps,
                              nudged_steps=PHASES.nudged_steps, beta=1.0)
    for own, layer, (weight, bias) in zip(learner._plastic, (*program.layers, program.readout), gradient):
        for accumulator, exponent, expected in ((own.weight, layer.exponent, weight), (own.bias, layer.scale, bias)):
            change = torch.from_numpy(accumulator.sum * accumulator.step.factor * 2.0**-exponent).flatten()
            expected = -0.3 * expected.flatten().double()
            assert torch.cosine_similarity(change, expected, 0) > 0.995
            assert change.norm() == pytest.approx(expected.norm().item(), rel=0.01)


def test_a_chip_adapts_to_a_world_of_less_contrast():
    program = mapping.compile(load("digits").lower(), "loihi[state_bits=9]")
    bright = load_data("digits", "train").take(slice(400)), load_data("digits", "test")
    dim = [replace(split, images=torch.from_numpy(corrupt(split.images.numpy(), "contrast", 3, None)))
           for split in bright]
    gains = {}
    for name, rates in (("all", [0.3, 0.3, 0.1]), ("readout", [0.0, 0.0, 0.1])):
        learner = TwinLearner(program, plan(program, rates, batch=40, beta=0.5))
        for n in range(0, 400, 40):
            learner.learn(dim[0].images[n:n + 40], dim[0].labels[n:n + 40])
        gains[name] = accuracy(open_twin(learner.program), dim[1]) - accuracy(open_twin(program), dim[1])
    assert gains["all"] > 0.04
    assert gains["all"] > gains["readout"]


def test_a_layer_without_a_rate_stays_as_it_is(graph):
    program = mapping.compile(graph, "loihi[state_bits=8]")
    learner = TwinLearner(program, plan(program, [0.0, 3.0, 0.0]))
    for batch in batches(graph, 3, PHASES.batch):
        learner.learn(*batch)
    changed = [bool((a != b).any()) for a, b in zip(integers(program), integers(learner.program))]
    assert changed == [False, False, True, True, False, False]


def test_only_whole_batches_and_whole_connections_learn(graph):
    program = mapping.compile(graph, "loihi[state_bits=8]")
    with pytest.raises(Refusal, match="not a whole batch"):
        TwinLearner(program, plan(program)).learn(*batches(graph, 1, PHASES.batch - 1)[0])
    structural = mapping.compile(graph, "lava[model=structural]")
    with pytest.raises(Refusal, match="these processes cannot learn"):
        LavaLearner(structural, plan(structural))


def test_a_lost_core_of_logits_learns_nothing_and_the_others_do():
    program = mapping.compile(spread_network(), "loihi[state_bits=6,lost_core=4]")
    learner = TwinLearner(program, plan(program, 0.03))
    learner.learn(*batches(program.graph, 1, PHASES.batch)[0])
    for before, after in ((getattr(own.readout, name) for own in (program, learner.program))
                          for name in ("weight", "bias")):
        assert (before[:7] == after[:7]).all()
        assert (before[7:] != after[7:]).any()
