"""Ladder of the Loihi program: plain Python integers, the twin, and Lava with both models of a connection."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from chains import FEEDBACK, random_activity, random_chain
from cores import limits
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from oracle import Oracle

import mapping
from mapping.errors import Refusal
from mapping.loihi.bound import ACCUMULATOR_LIMIT
from mapping.loihi.integers import BETA_BITS, ERROR_BITS, LOSSES
from mapping.loihi.placement import place
from simulators.loihi.arithmetic import arithmetic_of, encode
from simulators.loihi.clock import CELLS, Clock
from simulators.loihi.lava import LavaMachine
from simulators.loihi.messages import Inbox
from simulators.loihi.twin import open_twin, twin_of
from simulators.relaxation import Nudge

STEPS = 7
MODELS = ("behavioural", "structural")
OPTIONS = st.fixed_dictionaries({"weight_bits": st.integers(1, 8), "state_bits": st.sampled_from([None, 4, 7]),
                                 "threshold": st.sampled_from([None, 0.0, 0.01, 0.125])})
GRAPHS = st.fixed_dictionaries({
    "seed": st.integers(0, 10**6), "unusual": st.booleans(), "feedback": st.sampled_from(FEEDBACK),
    "schedule": st.sampled_from(["synchronous", "alternating"])})
NUDGES = st.none() | st.tuples(st.sampled_from([0.25, -0.25, 0.003]), st.sampled_from(LOSSES))


def proven(graph, target):
    """A program, of networks that no exponents make safe none."""
    try:
        return mapping.compile(graph, target)
    except Refusal:
        assume(False)


def images_for(graph, count, seed=0):
    return torch.rand((count, *graph.image_shape), generator=torch.Generator().manual_seed(seed))


def chain_for(seed, **drawn):
    graph = random_chain(seed, **drawn)
    return replace(graph, activity=random_activity(graph, seed) if drawn["unusual"] else None)


def nudge_for(program, count, drawn):
    if drawn is None or not program.graph.has_feedback:
        return None
    beta, loss = drawn
    target = F.one_hot(torch.arange(count) % program.graph.classes, program.graph.classes).float()
    return Nudge(target, float(np.sign(beta)) * min(abs(beta), program.largest_beta), loss)


def oracles_for(program, images, nudge):
    """An `Oracle` for each image."""
    encoded = encode(program, images.numpy()).tolist()
    settings = {} if nudge is None else {"beta": round(nudge.beta * program.nudge_scale * 2**BETA_BITS),
                                         "loss": nudge.loss}
    return [Oracle(program, image, nudge and (nudge.target[i] * 2**ERROR_BITS).int().tolist(), **settings)
            for i, image in enumerate(encoded)]


def check_against_oracles(machine, program, images, nudge, oracles):
    """A machine's states at every step, and its logits, are those of the oracles."""
    trace = []
    end = machine.relax(images, STEPS, nudge, trace=lambda t, states: trace.append(states))
    for states in trace:
        for i, oracle in enumerate(oracles):
            oracle.step()
            assert [(s[i] / unit).round().tolist() for s, unit in zip(states, program.units)] == oracle.states
    for oracle, logits in zip(oracles, end.logits):
        assert (logits * 2**program.readout.scale).tolist() == oracle.logits(oracle.states[-1])
        assert oracle.met["bound"] <= 1


@settings(max_examples=25)
@given(drawn=GRAPHS, options=OPTIONS, nudge=NUDGES)
def test_twin_equals_plain_integers(drawn, options, nudge):
    program = proven(chain_for(**drawn), replace(mapping.parse("loihi"), **options))
    images, nudge = images_for(program.graph, 2, drawn["seed"]), nudge_for(program, 2, nudge)
    check_against_oracles(open_twin(program), program, images, nudge, oracles_for(program, images, nudge))


@settings(max_examples=20)
@given(drawn=GRAPHS, nudge=NUDGES, way=st.sampled_from(("shared", "unrolled")), neurons=st.integers(25, 300),
       threshold=st.sampled_from([None, 0.01]), core=st.integers(0, 3))
def test_a_lost_core_answers_nothing_to_plain_integers_either(drawn, nudge, way, neurons, threshold, core):
    """From the last core on, that of the readout."""
    with limits(neurons_a_core=neurons, memory_a_core=20_000):
        target = replace(mapping.parse(f"loihi[weights={way},weight_bits=6]"), threshold=threshold)
        whole = proven(chain_for(**drawn), target)
        cores = place(whole.graph, target).cores
        program = mapping.compile(whole.graph, replace(target, lost_core=cores - 1 - core % cores))
        images, nudge = images_for(program.graph, 2, drawn["seed"]), nudge_for(program, 2, nudge)
        check_against_oracles(open_twin(program), program, images, nudge, oracles_for(program, images, nudge))


@pytest.mark.slow
@settings(max_examples=3, phases=(Phase.generate,))   # to shrink a failure would take many minutes
@given(drawn=GRAPHS, options=OPTIONS, nudge=NUDGES, batch=st.integers(1, 2), count=st.integers(1, 3))
def test_lava_equals_twin_and_plain_integers(drawn, options, nudge, batch, count):
    for model in MODELS:
        program = proven(chain_for(**drawn), replace(mapping.parse("lava"), model=model, steps=20, **options))
        images, pull = images_for(program.graph, count, drawn["seed"]), nudge_for(program, count, nudge)
        with LavaMachine(program, batch) as lava:
            check_against_oracles(lava, program, images, pull, oracles_for(program, images, pull))
            ours, theirs = (machine.relax(images, nudge=pull) for machine in (lava, twin_of(program)))
        for name in ("logits", "residual", "converged", "steps"):
            assert torch.equal(getattr(ours, name), getattr(theirs, name))
        assert all(map(torch.equal, ours.states, theirs.states))


def edge_program(graph, target):
    """A program with pool ties, both clamps, and sums within 1 % of 2^23.

    All first kernels are ones: a white image drives every state to the top, a black one none, so that all drives of a
    window are equal. The last channel of the second layer adds up everything, and its bias fills what is left of the
    accumulator up to 0.5 % below the limit; that of the first channel pulls as far down.
    """
    first, second = graph.couplings
    weight = np.sign(second.weight)
    weight[-1] = 1
    couplings = [replace(first, weight=np.ones_like(first.weight), bias=np.zeros_like(first.bias)),
                 replace(second, weight=weight, bias=np.zeros_like(second.bias))]
    graph = replace(graph, couplings=tuple(couplings), mean=np.float32([0, 0]), scale=np.float32([1, 1]))
    layer = mapping.compile(graph, target).layers[1]
    bias = np.zeros_like(second.bias)
    bias[[-1, 0]] = np.float32([1, -1]) * (0.995 * ACCUMULATOR_LIMIT - layer.bound) / 2.0**layer.scale
    return mapping.compile(replace(graph, couplings=(couplings[0], replace(couplings[1], bias=bias))), target)


@pytest.mark.parametrize("name", ["loihi", "loihi[threshold=0]", "lava", "lava[threshold=0,model=structural]"])
def test_edges_of_the_number_range(random_graph, name):
    program = edge_program(random_graph(3, 8, (2, 2), "synchronous"), name)
    images = torch.stack([torch.zeros(2, 8, 8), torch.ones(2, 8, 8), images_for(program.graph, 1)[0]])
    oracles = oracles_for(program, images, None)
    with LavaMachine(program, 3) if program.target.on_lava else open_twin(program) as machine:
        check_against_oracles(machine, program, images, None, oracles)
    met = sum((oracle.met for oracle in oracles), Counter())
    assert 0.99 * ACCUMULATOR_LIMIT < program.layers[1].bound < ACCUMULATOR_LIMIT
    assert all(met[edge] for edge in ("tie", "low", "high"))
    assert max(oracle.met["bound"] for oracle in oracles) > 0.99


@settings(max_examples=20)
@given(drawn=GRAPHS, loss=st.sampled_from(LOSSES), sign=st.sampled_from([1, -1]))
def test_nudges_pull_as_plain_integers_do(drawn, loss, sign):
    """With a strength at which the margin's pull is often half-way between two integers, below zero too."""
    program = proven(chain_for(**{**drawn, "feedback": "mixed"}), mapping.parse("loihi[state_bits=4]"))
    images = images_for(program.graph, 2)
    beta = 2.0 ** (max(program.nudge_shift - ERROR_BITS - 1, 0) - BETA_BITS) / program.nudge_scale
    nudge = nudge_for(program, 2, (sign * beta, loss))
    top = np.random.default_rng(drawn["seed"]).integers(0, 16, (2, *program.graph.populations[-1].shape))
    twin, readout = open_twin(program), arithmetic_of(program).readout
    pulls = [oracle.pull(state) for oracle, state in zip(oracles_for(program, images, nudge), top.tolist())]
    target = (nudge.target.numpy() * 2**ERROR_BITS).astype(np.int64)
    assert twin.substrate.pull(torch.tensor(top, dtype=torch.float32), nudge).tolist() == pulls
    numerator = round(nudge.beta * program.nudge_scale * 2**BETA_BITS)
    assert readout.pull(readout.logits(top), target, numerator, loss).tolist() == pulls


def test_images_are_encoded_as_the_twin_does_with_negative_halves_upwards(random_graph):
    graph = replace(random_graph(0, 4), mean=np.float32([2.0**-17, 0.3]), scale=np.float32([1, 0.7]))
    program = mapping.compile(graph, "loihi[weight_bits=2,state_bits=4]")
    assert program.input_bits == 16
    images = images_for(graph, 20)
    images[0] = 0
    assert np.array_equal(encode(program, images.numpy()), open_twin(program).substrate.encode(images).numpy())
    assert encode(program, images.numpy())[0, 0, 0, 0] == 0   # -1/2


@settings(max_examples=20)
@given(drawn=GRAPHS)
def test_changes_of_all_states_at_once_add_up_exactly(drawn):
    """The largest change of drive there is: every state below a positive weight rises, every other one falls."""
    program = proven(chain_for(**drawn), mapping.parse("loihi"))
    synapses, layer, coupling = arithmetic_of(program).synapses[1], program.layers[1], program.graph.couplings[1]
    inbox, top = Inbox(Clock(np.zeros(CELLS, np.int64)), events=True), program.tops[0]
    kernel = layer.weight[np.abs(layer.weight.astype(int)).sum((1, 2, 3)).argmax()]
    side = min(*kernel.shape[1:], *coupling.pre[1:])
    low = np.zeros((1, *coupling.pre), np.int32)
    low[0, :, :side, :side] = np.where(kernel < 0, top, 0)[:, :side, :side]
    high = np.zeros_like(low)
    high[0, :, :side, :side] = np.where(kernel > 0, top, 0)[:, :side, :side]
    for t, message in enumerate((low, high - low, low - high), 1):
        drive = inbox.add(synapses.sum_forward(message), t)
        assert np.array_equal(drive, exact(layer, coupling, (low, high, low)[t - 1]))


def exact(layer, coupling, states):
    """Unpooled drive in int64."""
    padded = np.pad(states.astype(np.int64), ((0, 0), (0, 0), *[(coupling.padding,) * 2] * 2))
    windows = np.lib.stride_tricks.sliding_window_view(padded, layer.weight.shape[2:], (2, 3))
    windows = windows[:, :, ::coupling.stride, ::coupling.stride]
    return np.einsum("bcijkl,ockl->boij", windows, layer.weight.astype(np.int64)) << layer.forward_shift
