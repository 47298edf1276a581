"""Ladder of the Loihi compiler: weights, shifts, the overflow proof, refusals, programs on disk."""

import math
import operator
import re
from dataclasses import replace
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import torch
from chains import FEEDBACK, random_activity, random_chain
from hypothesis import example, given, settings
from hypothesis import strategies as st
from oracle import Oracle

import mapping
from mapping.errors import Refusal
from mapping.graph import Coupling
from mapping.kernels import convolve, convolve_transpose, max_pool, unpool
from mapping.loihi.bound import ACCUMULATOR_LIMIT, backward_reach, forward_reach, signed_sums
from mapping.loihi.integers import EXPONENTIAL, natural_exponent, nudge_pull, quantise, rescale, softmax_error
from mapping.loihi.program import LoihiProgram
from mapping.loihi.report import used_bits
from mapping.program import FILE
from simulators.loihi.arithmetic import encode
from simulators.loihi.twin import open_twin

SOME = settings(max_examples=25)
seeds = st.integers(0, 10**6)
powers = st.integers(-13, 15)   # of ten
feedback = st.sampled_from(FEEDBACK)


@SOME
@given(seeds, st.integers(2, 8), st.floats(1e-4, 1e4))
def test_weights_are_within_half_a_step_and_no_finer_exponent_would_fit(seed, bits, size):
    weight = np.float32(size * np.random.default_rng(seed).standard_normal((3, 2, 3, 3)))
    q = natural_exponent(weight, bits)
    integers = quantise(weight, bits, q)
    limit = 2 ** (bits - 1) - 1
    assert np.abs(integers.astype(int)).max() <= limit
    assert np.abs(weight - integers * 2.0**-q).max() <= 2.0**-q / 2
    assert np.floor(np.abs(weight).max() * 2.0 ** (q + 1) + 0.5) > limit


@pytest.mark.parametrize(("x", "shift", "expected"),
                         [(5, 1, 3), (-5, 1, -2), (6, 2, 2), (-6, 2, -1), (3, 0, 3), (3, -2, 12), (2**60, 62, 0),
                          (-2**60, 63, 0), (2**60, 200, 0)])
def test_rescaling_rounds_half_up(x, shift, expected):
    assert rescale(np.int64(x), shift) == expected


@SOME
@given(seeds, st.sampled_from([1, 2]), st.integers(8, 11), st.integers(1, 2))
def test_feedback_never_exceeds_its_reach_and_reaches_half_of_it(seed, pool, side, stride):
    """Winners chosen to push one unit as far as they can; in the middle of the map are units of every parity."""
    rng = np.random.default_rng(seed)
    weight = rng.integers(-127, 128, (3, 2, 3, 3))
    coupling = Coupling("c", weight, np.zeros(3), 1, pool, (2, side, side), stride)
    reach = backward_reach(weight, pool, stride)
    pooled = (1, *coupling.post)
    worst = np.zeros((2, 2))
    middle = range(side // 2 - 2, side // 2 + 2)
    for channel, row, column in product(range(2), middle, middle):
        unit = np.zeros((1, 2, side, side), np.float64)
        unit[0, channel, row, column] = 1
        taps = convolve(unit, weight, 1, stride)
        for sign in (0, 1):
            gain, winners = max_pool(-taps if sign else taps, pool)
            state = (gain > 0).astype(np.float64).reshape(pooled)
            drive = convolve_transpose(unpool(state, winners, pool, coupling.unpooled), weight, 1, stride,
                                       coupling.window.uncovered)
            assert -reach[1, channel] <= drive[0, channel].min()
            assert drive[0, channel].max() <= reach[0, channel]
            worst[sign, channel] = max(worst[sign, channel], abs(drive[0, channel, row, column]))
    assert np.all(worst >= reach / 2)


def test_forward_reach_is_attained_by_extreme_inputs():
    weight = np.array([[[[3, -2]], [[-5, 7]]]])
    low, high = np.array([-10, 0]), np.array([20, 30])
    up = 3 * 20 + 2 * 10 + 7 * 30
    down = 3 * 10 + 2 * 20 + 5 * 30
    assert forward_reach(signed_sums(weight), low, high).tolist() == [[up], [down]]


@SOME
@given(seeds, feedback)
def test_no_accumulator_exceeds_its_bound_under_extreme_states(seed, feedback):
    graph = calibrated_chain(seed, feedback=feedback)
    program = compiled_or_refused(graph, "loihi")
    if isinstance(program, Refusal):
        return
    rng = np.random.default_rng(seed)
    shapes = [c.pre for c in graph.couplings] + [graph.couplings[-1].post]
    extremes = [rng.integers(0, 2, (8, *shape)) * top for shape, top in zip(shapes, (1, *program.tops))]
    extremes[0] = np.where(extremes[0] > 0, *(np.floor((end - graph.mean) / graph.scale * 2.0**program.input_bits + 0.5)
                                               .reshape(1, -1, 1, 1) for end in (1, 0)))
    for n, (layer, coupling) in enumerate(zip(program.layers, graph.couplings)):
        total, winners = max_pool(integer_drive(extremes[n], layer, coupling), coupling.pool)
        total = total * 2.0**layer.forward_shift + layer.bias.reshape(-1, 1, 1) + layer.half
        if graph.gains[n + 1]:
            above, next_layer = graph.couplings[n + 1], program.layers[n + 1]
            _, winners = max_pool(integer_drive(extremes[n + 1], next_layer, above), above.pool)
            z = unpool(extremes[n + 2].astype(float), winners, above.pool, above.unpooled)
            total = total + 2.0**layer.backward_shift * convolve_transpose(z, next_layer.weight, above.padding,
                                                                           above.stride, above.window.uncovered)
        assert np.abs(total).max() <= layer.bound < ACCUMULATOR_LIMIT


def calibrated_chain(seed, **changes):
    """A chain of unusual layers that knows what it does on calibration images."""
    graph = random_chain(seed, unusual=True, **changes)
    return replace(graph, activity=random_activity(graph, seed))


def integer_drive(states, layer, coupling):
    return convolve(states.astype(float), layer.weight, coupling.padding, coupling.stride)


@SOME
@given(seeds)
def test_default_state_bits_are_the_largest_that_are_proven(random_graph, seed):
    graph = random_graph(seed)
    program = mapping.compile(graph, "loihi")
    given_bits = mapping.compile(graph, f"loihi[state_bits={program.state_bits}]")
    assert [layer.bound for layer in given_bits.layers] == [layer.bound for layer in program.layers]
    more = compiled_or_refused(graph, f"loihi[state_bits={min(program.state_bits + 1, 16)}]")
    if isinstance(more, Refusal):
        assert re.match(r"layer .*not proven safe.*bound \d+.*remedy", str(more))
    elif program.state_bits < 16:   # one more state bit costs weight bits somewhere
        assert more.is_proven
        finer, coarser = ([layer.exponent for layer in (*p.layers, p.readout)] for p in (program, more))
        assert sum(coarser) < sum(finer)


def compiled_or_refused(graph, target):
    try:
        return mapping.compile(graph, target)
    except Refusal as refusal:
        return refusal


@settings(SOME, max_examples=16)
@given(seeds, st.integers(1, 8), st.sampled_from([None, 6, 10, 16]), st.sampled_from(["usual", *FEEDBACK]))
def test_any_network_is_proven_and_runs_as_plain_integers_or_is_refused_by_layer(seed, bits, state_bits, kind):
    schedule = "synchronous" if seed % 2 else "alternating"
    graph = (random_chain(seed, schedule=schedule) if kind == "usual" else
             calibrated_chain(seed, schedule=schedule, feedback=kind))
    option = "" if state_bits is None else f",state_bits={state_bits}"
    program = compiled_or_refused(graph, f"loihi[weight_bits={bits}{option}]")
    if isinstance(program, Refusal):
        assert re.match(r"layer (conv\d|readout): accumulator is not proven safe", str(program))
        return
    assert program.prove() == tuple(layer.bound for layer in (*program.layers, program.readout))
    for layer in (*program.layers, program.readout):
        assert used_bits(layer.weight, bits) <= bits
    twin, image = open_twin(program), torch.rand(1, *graph.image_shape, generator=torch.Generator().manual_seed(seed))
    trace = []
    twin.relax(image, 4, trace=lambda t, states: trace.append(states))
    oracle = Oracle(program, twin.substrate.encode(image)[0].int().tolist())
    for states in trace:
        oracle.step()
        for ours, theirs, unit in zip(states, oracle.states, program.units):
            assert (ours[0] / unit).round().int().tolist() == theirs
    assert oracle.met["bound"] <= 1


@settings(SOME, max_examples=12)
@given(seeds, st.tuples(powers, powers, powers), st.tuples(powers, powers, powers))
@example(1, (0, 0, 0), (14, 0, 0))   # biases that pass int64 at the accumulator's scale, and so did pass the proof
@example(1, (0, 0, 0), (0, 15, 0))
@example(1, (0, 0, 0), (0, 0, 15))
def test_weights_and_biases_of_any_size_are_proven_or_refused(random_graph, seed, weights, biases):
    """Proven means: in Python's own integers no sum of the forward terms of one sign leaves 24 bits."""
    graph = random_graph(seed)
    layers = [replace(c, weight=c.weight * np.float32(10.0**w), bias=c.bias * np.float32(10.0**b))
              for c, w, b in zip((*graph.couplings, graph.readout), weights, biases)]
    program = compiled_or_refused(replace(graph, couplings=tuple(layers[:-1]), readout=layers[-1]), "loihi")
    if isinstance(program, Refusal):
        assert re.match(r"layer (conv\d|readout): accumulator is not proven safe", str(program))
        return
    white = int(encode(program, np.ones((1, *graph.image_shape), np.float32)).max())
    for n, (coupling, layer) in enumerate(zip(layers, (*program.layers, program.readout))):
        exact = [math.floor(Fraction(float(b)) * Fraction(2)**layer.scale + Fraction(1, 2)) for b in coupling.bias]
        assert layer.bias.tolist() == exact
        reach = [sum(w for w in map(int, kernel.ravel()) if w > 0) * (program.tops[0] if n else white)
                 << layer.forward_shift for kernel in layer.weight]
        assert max(map(operator.add, exact, reach)) < ACCUMULATOR_LIMIT


@pytest.mark.parametrize("bits", [1, 2, 5])
def test_weights_of_few_bits_take_no_other_values(random_graph, bits):
    program = mapping.compile(random_graph(4), f"loihi[weight_bits={bits}]")
    limit = max(2 ** (bits - 1) - 1, 1)
    for layer, coupling in zip(program.layers, program.graph.couplings):
        assert set(np.unique(layer.weight)) <= set(range(-limit, limit + 1)) - ({0} if bits == 1 else set())
        assert np.abs(layer.weight).max() >= limit / 2
        assert np.all(layer.weight * coupling.weight >= 0)


def test_binary_weights_have_the_scale_of_least_squares(random_graph):
    weight = random_graph(6).couplings[0].weight
    q = natural_exponent(weight, 1)
    errors = {k: np.square(weight - quantise(weight, 1, k) * 2.0**-k).sum() for k in range(q - 3, q + 4)}
    assert errors[q] == min(errors.values())


def test_a_layer_without_weights_stays_without(random_graph):
    graph = random_graph(1)
    empty = replace(graph.couplings[0], weight=np.zeros_like(graph.couplings[0].weight))
    for bits in (1, 8):
        program = mapping.compile(replace(graph, couplings=(empty, graph.couplings[1])), f"loihi[weight_bits={bits}]")
        assert not program.layers[0].weight.any()


def test_a_network_too_large_for_four_bits_is_refused_by_layer(random_graph):
    graph = random_graph(1)
    small = replace(graph.couplings[0], weight=graph.couplings[0].weight * 1e-5)
    with pytest.raises(Refusal, match="layer conv"):
        mapping.compile(replace(graph, couplings=(small, graph.couplings[1])), "loihi")


@pytest.mark.parametrize("target", ["loihi", "lava", "loihi:states", "loihi:weights[weight_bits=5]",
                                    "loihi[weight_bits=1,threshold=0.01,weights=unrolled,chips=3]"])
def test_a_program_comes_back_from_disk_to_the_same_bytes(random_graph, tmp_path, target):
    program = mapping.compile(random_graph(2), target)
    program.save(tmp_path / "program")
    again = mapping.load_program(tmp_path / "program")
    assert isinstance(again, LoihiProgram)
    assert again.digest() == program.digest()
    assert again.report() == program.report()
    image = torch.rand(2, 2, 7, 7, generator=torch.Generator().manual_seed(0))
    ends = [open_twin(replace(p, target=replace(p.target, name="loihi"))).relax(image) for p in (program, again)]
    assert all(torch.equal(a, b) for a, b in zip(*((*end.states, end.logits) for end in ends)))
    again.save(tmp_path / "again")
    assert (tmp_path / "again" / FILE).read_bytes() == (tmp_path / "program" / FILE).read_bytes()


@pytest.mark.parametrize("feedback", FEEDBACK)
def test_scales_and_ceilings_come_back_from_disk(tmp_path, feedback):
    program = mapping.compile(calibrated_chain(3, feedback=feedback), "loihi[weight_bits=4]")
    program.save(tmp_path / "program")
    again = mapping.load_program(tmp_path / "program")
    assert (again.scales, again.tops, again.digest()) == (program.scales, program.tops, program.digest())
    assert set(program.scales) != {1.0}
    images = torch.rand(2, *program.graph.image_shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(*(open_twin(p).relax(images).logits for p in (program, again)))


def test_a_program_whose_bounds_do_not_follow_from_its_weights_is_refused(random_graph, tmp_path):
    program = mapping.compile(random_graph(2), "loihi")
    weight = program.layers[0].weight // 2   # the digest will be right: it is computed from these
    louder = replace(program.layers[1], forward_shift=program.layers[1].forward_shift + 9)
    for n, layers in enumerate([(replace(program.layers[0], weight=weight), program.layers[1]),
                                (program.layers[0], louder)]):
        replace(program, layers=layers).save(tmp_path / str(n))
        with pytest.raises(Refusal, match="bounds that do not follow from the weights"):
            mapping.load_program(tmp_path / str(n))


def test_report_names_every_layer_and_compares_used_with_allowed(random_graph):
    program = mapping.compile(random_graph(3), "loihi")
    table = program.report()
    rows = [dict(zip(table.columns, row)) for row in table.rows]
    assert [row["layer"] for row in rows] == ["conv1", "conv2", "readout"]
    assert all(row["bound"] <= row["allowed"] < ACCUMULATOR_LIMIT for row in rows)
    assert [row["used"] for row in rows] == [8, 8, 8]


@SOME
@given(seeds, st.integers(-60, 90))
def test_integer_softmax_is_the_softmax_within_its_table(seed, exponent):
    rng = np.random.default_rng(seed)
    logits = 4 * rng.standard_normal((6, 10))
    target = np.eye(10)[rng.integers(0, 10, 6)]
    integers = np.floor(logits * 2.0**min(max(exponent, 0), 20) + 0.5).astype(np.int64)
    error = softmax_error(integers, exponent, (target * 2**15).astype(np.int64)) * 2.0**-15
    e = np.exp((integers - integers.max(1, keepdims=True)) * 2.0**-exponent)
    # half a table step of 2^-8 in each exponent, one rounding of the table, one floor
    assert np.abs(error - (target - e / e.sum(1, keepdims=True))).max() <= 2.0**-8 + 12 * 2.0**-15
    assert EXPONENTIAL[0] == 2**15
    assert EXPONENTIAL[-1] == 0


@SOME
@given(seeds, st.floats(-2, 2), st.integers(0, 30))
def test_pull_is_the_product_rounded_once(seed, beta, shift):
    rng = np.random.default_rng(seed)
    error, weight = rng.integers(-2**15, 2**15, (3, 4)), rng.integers(-127, 128, (4, 2, 2, 2)).astype(np.int8)
    numerator = round(beta * 2**16)
    exact = numerator * np.einsum("bk,kchw->bchw", error, weight.astype(np.int64)) / 2.0**shift
    assert np.all(np.abs(nudge_pull(error, weight, numerator, shift) - exact) <= 0.5)
