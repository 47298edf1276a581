"""Ladder of the Loihi twin: numpy integers step by step, the rungs against the reference, early stops, gradients."""

from dataclasses import replace
from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from chains import FEEDBACK, random_activity, random_chain
from cores import spread_network
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

import mapping
import simulators
from ep_hw.networks.checkpoint import load
from ep_hw.networks.network import EPNetwork, NetworkSpec
from ep_hw.threats.attacks.gradients import Nudged
from mapping.errors import Refusal
from mapping.graph import Coupling, EPGraph, Population
from mapping.loihi.integers import LOSSES
from simulators.loihi.arithmetic import arithmetic_of
from simulators.loihi.twin import open_twin
from simulators.reference import ReferenceMachine
from simulators.relaxation import Nudge, active_layers, relax

SOME = settings(max_examples=15)
SCHEDULES = ("synchronous", "alternating")


WEAK = {"feedback_gain": 0.3, "ceilings": (None, 0.5), "slope": 0.7}
FORWARD = {"feedback_gain": 0.0, "ceilings": (None, None), "slope": 1.0}


def trained_size_graph(schedule="alternating", seed=0, **changes) -> EPGraph:
    """An untrained network whose weights have the size that training starts from: its relaxation contracts."""
    spec = NetworkSpec(image_shape=(1, 8, 8), channels=(4, 6), paddings=(1, 1), pools=(2, 2), classes=10, mean=(0.3,),
                       scale=(1.1,), schedule=schedule, **changes)
    network = EPNetwork.initialise(spec, seed)
    images = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    return replace(network, calibration=images if changes else None).lower()


def images_for(graph, count=5, seed=0):
    return torch.rand((count, *graph.image_shape), generator=torch.Generator().manual_seed(seed))


def nudge_for(graph, count=5, beta=0.25, loss="cross_entropy"):
    return Nudge(F.one_hot(torch.arange(count) % graph.classes, graph.classes).float(), beta, loss)


def numpy_steps(program, image, nudge, steps):
    """The program's integers, step by step, in numpy: what Lava's processes compute."""
    graph, arithmetic = program.graph, arithmetic_of(program)
    states = [np.zeros((len(image), *p.shape), np.int32) for p in graph.populations]
    for t in range(steps):
        reads = [s.forward(x) for s, x in zip(arithmetic.synapses, [image, *states[:-1]])]
        drives = [u for u, _ in reads]
        for n in np.flatnonzero(graph.gains):
            drives[n - 1] = drives[n - 1] + arithmetic.synapses[n].backward(states[n], reads[n][1])
        if nudge:
            target = np.floor(nudge.target.numpy() * 2.0**15 + 0.5).astype(np.int64)
            logits = arithmetic.readout.logits(states[-1])
            beta = round(nudge.beta * program.nudge_scale * 2**16)
            pull = arithmetic.readout.pull(logits, target, beta, nudge.loss)
            drives[-1] = (drives[-1] + pull).astype(np.int32)
        new = [arithmetic.activations[n](drive) for n, drive in enumerate(drives)]
        states = [new[n] if n in active_layers(graph.schedule, t, len(new)) else s for n, s in enumerate(states)]
        yield states


@SOME
@given(seed=st.integers(0, 10**6), feedback=st.sampled_from(FEEDBACK), schedule=st.sampled_from(SCHEDULES),
       beta=st.sampled_from([None, 0.25, -0.25]), loss=st.sampled_from(LOSSES))
def test_twin_equals_numpy_integers_at_every_step(seed, feedback, schedule, beta, loss):
    graph = random_chain(seed, feedback=feedback, schedule=schedule, unusual=True)
    program = mapping.compile(replace(graph, activity=random_activity(graph, seed)), "loihi[weight_bits=6]")
    twin, images = open_twin(program), images_for(graph, seed=seed)
    strength = beta and min(abs(beta), program.largest_beta) * np.sign(beta)
    nudge = nudge_for(graph, beta=strength, loss=loss) if beta and graph.has_feedback else None
    trace = []
    end = twin.relax(images, 12, nudge, trace=lambda t, states: trace.append(states))
    image, steps = twin.substrate.encode(images).numpy().astype(np.int32), 12 if graph.has_feedback else graph.period
    for ours, theirs in zip(trace, numpy_steps(program, image, nudge, steps), strict=True):
        for a, b, unit in zip(ours, theirs, program.units):
            assert np.array_equal(a.numpy(), b.astype(np.float32) * np.float32(unit))
    readout = arithmetic_of(program).readout
    assert np.array_equal(end.logits.numpy(), readout.logits(theirs[-1]) * 2.0**-readout.scale)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_early_stop_changes_no_bit(random_graph, schedule):
    graph = random_graph(5, schedule=schedule, gain=0.3)
    twin, images = open_twin(mapping.compile(graph, "loihi")), images_for(graph, 20)
    stopped, full = twin.relax(images), twin.relax(images, graph.steps)
    assert stopped.steps.min() < graph.steps
    for a, b in zip((*stopped.states, stopped.logits), (*full.states, full.logits)):
        assert torch.equal(a, b)


def ping_pong_graph(steps: int) -> EPGraph:
    """Two neurons that excite each other and nothing else: synchronously they swap their states for ever."""
    def link(name, weight):
        return Coupling(name, np.float32(weight).reshape(1, 1, 1, 1), np.float32([0]), 0, 1, (1, 1, 1))

    readout = Coupling("readout", np.float32([1, -1]).reshape(2, 1, 1, 1), np.float32([0, 0]), 0, 1, (1, 1, 1))
    populations = tuple(Population(f"layer{n}", (1, 1, 1), 0.5) for n in (1, 2))
    couplings = (link("conv1", 0), link("conv2", 4))
    return EPGraph((1, 1, 1), np.float32([0]), np.float32([1]), populations, couplings, readout,
                   schedule="synchronous", steps=steps, tolerance=1e-3)


@pytest.mark.parametrize("steps", [20, 21])
def test_a_two_cycle_is_stopped_early_in_its_right_phase_and_has_not_converged(steps):
    graph = ping_pong_graph(steps)
    twin = open_twin(mapping.compile(graph, "loihi"))
    start = (torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1))
    stopped, full = (twin.relax(torch.zeros(1, 1, 1, 1), n, states=start) for n in (None, steps))
    assert stopped.steps.item() < 10
    assert not stopped.converged
    assert (full.states[0] > 0.5).item() == (steps % 2 == 0)
    assert all(torch.equal(a, b) for a, b in zip(stopped.states, full.states))


@pytest.mark.parametrize(("schedule", "changes"), [*((schedule, {}) for schedule in SCHEDULES), ("alternating", WEAK),
                                                   ("alternating", FORWARD)])
def test_states_rung_is_within_a_few_grid_steps_of_the_reference(schedule, changes):
    graph = replace(trained_size_graph(schedule, **changes), tolerance=1e-6)
    images = images_for(graph, 10)
    reference = ReferenceMachine(graph).relax(images)
    for bits in (4, 6, 8, 10, 12):
        program = mapping.compile(graph, f"loihi:states[state_bits={bits}]")
        end = open_twin(program).relax(images)
        for a, b, unit in zip(end.states, reference.states, program.units):
            assert torch.quantile((a - b).abs(), 0.95) <= unit
            assert torch.equal(a, (a / unit).round() * unit)


@pytest.mark.parametrize("changes", [{}, WEAK, FORWARD])
def test_weights_rung_approaches_the_reference_as_bits_grow(changes):
    graph = replace(trained_size_graph(**changes), tolerance=1e-6)
    images = images_for(graph, 10)
    reference = ReferenceMachine(graph).relax(images)
    errors = []
    for bits in (2, 4, 6, 8):
        end = open_twin(mapping.compile(graph, f"loihi:weights[weight_bits={bits}]")).relax(images)
        errors.append(max((a - b).abs().mean().item() for a, b in zip(end.states, reference.states)))
    assert all(fine < coarse / 2 for coarse, fine in pairwise(errors))


@pytest.mark.parametrize("changes", [{}, WEAK, FORWARD])
def test_gradient_points_where_the_reference_gradient_does(changes):
    graph = trained_size_graph(**changes)
    gradients = []
    for machine in (ReferenceMachine(graph), open_twin(mapping.compile(graph, "loihi"))):
        images = images_for(graph).requires_grad_()
        F.cross_entropy(machine.relax(images, 20).logits, torch.arange(5)).backward()
        gradients.append(images.grad.flatten())
    assert F.cosine_similarity(*gradients, 0) > 0.9


@pytest.mark.parametrize("changes", [{}, WEAK])
def test_nudge_pulls_the_integer_network_as_it_pulls_the_reference(changes):
    graph = trained_size_graph(**changes)
    images, shifts = images_for(graph), []
    for name in ("reference", "loihi", "loihi:states"):
        machine = simulators.open(mapping.compile(graph, name))
        free = machine.relax(images)
        nudged = machine.relax(images, 20, nudge_for(graph, beta=0.5), states=free.states)
        shifts.append((nudged.states[-1] - free.states[-1]).flatten())
    for shift in shifts[1:]:
        assert F.cosine_similarity(shift, shifts[0], 0) > 0.99
        assert shift.norm().item() == pytest.approx(shifts[0].norm().item(), rel=0.05)


@pytest.mark.parametrize("changes", [{}, WEAK])
def test_the_gradient_measured_on_integers_is_that_of_the_reference(changes):
    graph = trained_size_graph(**changes)
    gradients = [Nudged(1.0)(simulators.open(mapping.compile(graph, name)), images_for(graph), torch.arange(5), None)
                 for name in ("reference", "loihi")]
    assert F.cosine_similarity(*(g.flatten() for g in gradients), 0) > 0.95
    assert gradients[1].norm().item() == pytest.approx(gradients[0].norm().item(), rel=0.05)


def test_a_nudge_beyond_the_proof_is_refused():
    program = mapping.compile(trained_size_graph(), "loihi")
    for beta in (2 * program.largest_beta, -2 * program.largest_beta, 1e-9):
        with pytest.raises(Refusal, match="nudge strength out of range"):
            open_twin(program).relax(images_for(program.graph), 4, nudge_for(program.graph, beta=beta))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("target", ["loihi", "loihi[threshold=0]"])
def test_no_tensor_stays_behind_on_the_cpu(target, loss):
    """On a GPU that torch pretends to have, with shapes and no values: what would fail on CUDA fails here."""
    program = mapping.compile(trained_size_graph(), target)
    with FakeTensorMode():
        substrate, nudge = open_twin(program, "cuda").substrate, Nudge(torch.eye(10, device="cuda")[:2], 0.5, loss)
        end = relax(substrate, torch.empty(2, 1, 8, 8, device="cuda"), schedule="alternating", steps=4, nudge=nudge)
        assert {t.device.type for t in (*end.states, substrate.logits(end.states[-1]))} == {"cuda"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_gives_the_bits_of_the_cpu(random_graph):
    graph = random_graph(3)
    program, images = mapping.compile(graph, "loihi"), images_for(graph)
    here, there = open_twin(program).relax(images), open_twin(program, "cuda").relax(images.cuda())
    for a, b in zip((*here.states, here.logits), (*there.states, there.logits)):
        assert torch.equal(a, b.cpu())


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_sending_every_change_is_sending_every_state(schedule):
    graph = trained_size_graph(schedule)
    images = images_for(graph)
    dense, events = (open_twin(mapping.compile(graph, name)) for name in ("loihi", "loihi[threshold=0]"))
    for a, b in zip(dense.relax(images, 15).states, events.relax(images, 15).states, strict=True):
        assert torch.equal(a, b)
    assert torch.equal(dense.relax(images).steps, events.relax(images).steps)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_states_err_by_about_the_threshold_that_is_held_back(schedule):
    graph = replace(trained_size_graph(schedule), tolerance=1e-6)
    images = images_for(graph, 10)
    exact = open_twin(mapping.compile(graph, "loihi")).relax(images).states
    gaps = []
    for threshold in (0.02, 0.005, 0.00125):
        end = open_twin(mapping.compile(graph, f"loihi[threshold={threshold}]")).relax(images)
        assert end.converged.all()
        gaps.append(max((a - b).abs().mean().item() for a, b in zip(end.states, exact)))
        assert 0 < gaps[-1] < threshold
    assert all(fine < coarse / 2 for coarse, fine in pairwise(gaps))


@pytest.mark.parametrize("seed", [0, 1])
def test_dead_neurons_stay_silent_and_the_others_hear_nothing_of_them(graph, seed):
    whole, none, damaged = (mapping.compile(graph, f"loihi{text}") for text in (
        "", "[dead=0]", f"[dead=0.3,dead_seed={seed}]"))
    images = images_for(graph, 6)
    ends = [open_twin(program).relax(images) for program in (whole, none, damaged)]
    assert all(torch.equal(a, b) for a, b in zip(ends[0].states, ends[1].states))
    trace = []
    open_twin(damaged).relax(images, 9, trace=lambda t, states: trace.append(states))
    for states in (*trace, ends[2].states):
        assert all((s[:, torch.tensor(~alive)] == 0).all() for s, alive in zip(states, damaged.alive.neurons))
    assert not torch.equal(ends[0].logits, ends[2].logits)


def test_another_seed_is_another_damaged_chip(graph):
    alive = [np.concatenate([a.ravel() for a in mapping.compile(graph, f"loihi[dead=0.5,dead_seed={n}]").alive.neurons])
             for n in range(3)]
    assert all((a != b).any() for a, b in combinations(alive, 2))
    assert 0.3 < np.mean(alive) < 0.7


def test_what_lies_on_a_lost_core_is_dead_and_nothing_else():
    """Every unit of every part is lost with one core, and with no other."""
    graph = load("digits").lower()
    lost = [mapping.compile(graph, f"loihi[weights=unrolled,lost_core={n}]").alive for n in range(4)]
    for maps in zip(*((*alive.neurons, alive.sums[1], alive.logits) for alive in lost)):
        assert (sum((~one).astype(int) for one in maps) == 1).all()
    both = mapping.compile(graph, "loihi[weights=unrolled,lost_core=1,dead=0.3]").alive
    assert not (both.neurons[1] & ~lost[1].neurons[1]).any()
    assert not both.neurons[0].all()


def test_lost_neurons_stay_silent():
    graph = load("digits").lower()
    program = mapping.compile(graph, "loihi[weights=unrolled,lost_core=1]")
    end = open_twin(program).relax(images_for(graph, 3))
    assert (end.states[1][:, :, 1] == 0).all()
    assert (end.states[1][:, :, 0] > 0).any()


def test_a_lost_core_of_feedback_passes_nothing_down_and_one_of_logits_answers_zero():
    graph = spread_network()
    images, nudge = images_for(graph, 3), nudge_for(graph, 3, 0.1)
    whole, feedback, logits = (open_twin(mapping.compile(graph, f"loihi{text}")) for text in (
        "", "[lost_core=3]", "[lost_core=4]"))
    trace = []
    feedback.relax(images, 8, trace=lambda t, states: trace.append(states[0]))
    assert all(torch.equal(state, trace[0]) for state in trace), "layer 1 hears of the image alone"
    ends = [machine.relax(images, 8) for machine in (whole, feedback, logits)]
    assert not torch.equal(ends[0].states[0], ends[1].states[0])
    assert all(map(torch.equal, ends[0].states, ends[2].states)), "the readout is outside the relaxation"
    assert (ends[2].logits[:, :7] == 0).all()
    assert torch.equal(ends[0].logits[:, 7:], ends[2].logits[:, 7:])
    dead = logits.substrate.pull(ends[2].states[1], nudge)
    logits.substrate.readout.weight[:7] = 0
    assert torch.equal(dead, logits.substrate.pull(ends[2].states[1], nudge))


def test_a_core_that_there_is_not_is_refused():
    with pytest.raises(Refusal, match="no such core; got 9; allowed: 0 to 3"):
        mapping.compile(load("digits").lower(), "loihi[weights=unrolled,lost_core=9]")
