"""Learning in integers: sums against plain loops, writing right in the mean, proofs that hold at the extremes."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mapping
from mapping.errors import Refusal
from mapping.loihi.plasticity import (
    SUM_LIMIT,
    Accumulator,
    Learning,
    Phases,
    Rounding,
    Step,
    learned,
    plan_learning,
    weight_products,
)

PHASES = Phases(batch=3, free_steps=8, nudged_steps=4, beta=0.25)


def plain_products(below, spread, kernel, padding, stride):
    """Equation (21) in Python's own integers."""
    sums = np.zeros((spread.shape[1], below.shape[1], *kernel), object)
    for b, o, i, u, v, y, x in product(*map(range, (*spread.shape[:2], below.shape[1], *kernel, *spread.shape[2:]))):
        row, column = y * stride + u - padding, x * stride + v - padding
        if 0 <= row < below.shape[2] and 0 <= column < below.shape[3]:
            sums[o, i, u, v] += int(below[b, i, row, column]) * int(spread[b, o, y, x])
    return sums


@given(st.integers(0, 2**32 - 1), st.tuples(st.integers(1, 3), st.integers(1, 3)), st.integers(0, 2), st.integers(1, 2))
def test_sums_are_those_of_plain_loops(seed, kernel, padding, stride):
    rng = np.random.default_rng(seed)
    below = rng.integers(-2**12, 2**12, (2, 2, 4, 5))
    shape = [(n + 2 * padding - k) // stride + 1 for n, k in zip(below.shape[2:], kernel)]
    spread = rng.integers(0, 2**10, (2, 3, *shape))
    assert (weight_products(below, spread, kernel, padding, stride)
            == plain_products(below, spread, kernel, padding, stride)).all()


def test_the_generator_is_splitmix64():
    """First numbers of seed 0, as Steele et al.'s own program prints them."""
    rounding = Rounding(0, "")
    rounding._state = np.uint64(0)
    first = rounding.draw(2, 62), rounding.draw(1, 62)
    assert [int(x) for x in np.concatenate(first)] == [
        x >> 2 for x in (0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F)]


def test_every_process_draws_its_own_numbers():
    names = [f"conv{n} {kind}" for n in range(3) for kind in ("weight", "bias")]
    drawn = {tuple(Rounding(seed, name).draw(4, 62)) for seed in range(3) for name in names}
    assert len(drawn) == 3 * len(names)


@given(st.integers(-2**30, 2**30), st.floats(1e-9, 1e-3))
def test_writing_is_right_in_the_mean(total, factor):
    n, step = 4000, Step.of(factor)
    own = Accumulator(np.zeros(n, np.int64), step, None, Rounding(total, "weight"))
    own.add(np.full(n, total))
    own.write()
    mean, spread = total * step.factor, 0.5   # of a rounding up or down
    assert abs(own.value.mean() - mean) < 5 * spread / np.sqrt(n)
    assert set(own.value - int(np.floor(mean))) <= {0, 1}
    assert not own.sum.any()


@given(st.floats(1e-12, 1e12))
def test_a_step_has_eight_bits(factor):
    step = Step.of(factor)
    assert 128 <= step.multiplier < 256
    assert step.factor == pytest.approx(factor, rel=2**-8)


@given(st.integers(-2**31, 2**31), st.integers(1, 255), st.integers(-8, 0))
def test_weights_stay_within_their_bits_and_whole_steps_need_no_chance(total, multiplier, shift):
    own = Accumulator(np.array([5], np.int8), Step(multiplier, shift), 127, Rounding(0, "weight"))
    own.add(np.array([total]))
    own.write()
    assert own.value[0] == np.clip(5 + (total * multiplier << -shift), -127, 127)


def test_cooling_makes_steps_smaller():
    warm, cold = (Accumulator(np.zeros(1, np.int64), Step(128, 3), None, Rounding(0, "weight")) for _ in range(2))
    for own, cooling in ((warm, 0), (cold, 2)):
        own.add(np.array([2**20]))
        own.write(cooling)
    assert warm.value[0] == 4 * cold.value[0] != 0


def learning_of(program, **changes):
    rates = [0.1] * (len(program.graph.couplings) + 1)
    return plan_learning(program, rates=rates, phases=replace(PHASES, **changes), seed=3)


@pytest.mark.parametrize("batch", [1, 50, 5000])
def test_no_sum_passes_its_proof_when_every_state_is_at_its_top(graph, batch):
    """The image too: every pixel as bright as it can be."""
    program = mapping.compile(graph, "loihi")
    for n, (rule, population) in enumerate(zip(learning_of(program, batch=batch).layers, graph.populations)):
        top = program.tops[n - 1] if n else 2**program.input_bits * np.abs(
            [(x - graph.mean) / graph.scale for x in (0, 1)]).max()
        below, above = (int(x + (1 << k >> 1)) >> k for x, k in ((top, rule.before), (program.tops[n], rule.after)))
        sites = batch * population.shape[1] * population.shape[2]
        assert sites * below * above <= rule.bound < SUM_LIMIT
        assert sites * above <= rule.bound


def test_learning_survives_a_file(graph):
    from dataclasses import asdict
    from json import dumps, loads

    learning = learning_of(mapping.compile(graph, "loihi"))
    assert Learning.of(loads(dumps(asdict(learning)))) == learning


def test_what_is_learned_is_proven_anew(graph):
    program = mapping.compile(graph, "loihi")
    layers = (*program.layers, program.readout)
    same = learned(program, [layer.weight for layer in layers], [layer.bias for layer in layers])
    assert same.prove() == program.prove()
    assert same.largest_beta == program.largest_beta
    with pytest.raises(Refusal, match="learning leaves what is proven safe"):
        learned(program, [np.full_like(layer.weight, 127) for layer in layers],
                [layer.bias + 2**22 for layer in layers])


@pytest.mark.parametrize(("target", "beta", "words"), [
    ("loihi", 1e6, "nudge strength out of range"), ("loihi", 0.0, "nudge strength out of range"),
    ("loihi[threshold=0.1]", 0.25, "this program cannot learn")])
def test_what_cannot_learn_is_refused(graph, target, beta, words):
    with pytest.raises(Refusal, match=words):
        learning_of(mapping.compile(graph, target), beta=beta)
