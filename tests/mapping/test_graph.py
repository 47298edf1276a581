"""The contract refuses what is not a chain-shaped EP network, naming the layer."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import small_network

from mapping import Refusal, parse


@pytest.fixture
def graph():
    return small_network().lower()


def broken(graph, n, **changes):
    couplings = list(graph.couplings)
    couplings[n] = replace(couplings[n], **changes)
    return replace(graph, couplings=tuple(couplings))


def test_shapes_follow_the_layers(graph):
    assert [c.pre for c in graph.couplings] == [(1, 8, 8), (4, 4, 4)]
    assert [c.unpooled for c in graph.couplings] == [(4, 8, 8), (6, 4, 4)]
    assert [p.shape for p in graph.populations] == [(4, 4, 4), (6, 2, 2)]
    assert graph.classes == 10


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused_by_layer(graph, value):
    weight = graph.couplings[1].weight.copy()
    weight[0, 0, 0, 0] = value
    with pytest.raises(Refusal, match=r"layer conv2: weight is not finite; got 1 NaN or infinite"):
        broken(graph, 1, weight=weight)


def test_a_chain_that_does_not_fit_is_refused(graph):
    with pytest.raises(Refusal, match="layer conv2: shapes do not chain"):
        broken(graph, 1, padding=0)
    with pytest.raises(Refusal, match="pool 3"):
        broken(graph, 0, pool=3)
    with pytest.raises(Refusal, match="unknown schedule"):
        replace(graph, schedule="random")
    with pytest.raises(Refusal, match="scale > 0"):
        replace(graph, scale=np.zeros(1, np.float32))
    with pytest.raises(Refusal, match="steps >= 1"):
        replace(graph, tolerance=float("nan"))


@pytest.mark.parametrize("text", ["reference", "loihi[state_bits=10]", "crossbar:pcm/aged[age=1d,adc_bits=6]",
                                  "crossbar:pcm[drift_compensation=off]", "lava[steps=5]"])
def test_a_target_is_rebuilt_from_its_text(text):
    assert str(parse(text)) == text
    assert parse(str(parse(text))) == parse(text)


@given(st.floats(0, 3.2e7) | st.integers(0, 10**7).map(float))
def test_any_age_is_rebuilt_from_its_text(age):
    target = replace(parse("crossbar:pcm"), age=float(f"{age:.12g}"))
    assert parse(str(target)) == target


def test_durations_have_units():
    ages = [parse(f"crossbar:pcm[age={text}]").age for text in ("90", "25s", "2h", "1d")]
    assert ages == [90, 25, 7200, 86400]


@pytest.mark.parametrize("text", ["loihi3", "loihi[bits=4]", "loihi[weight_bits=9]", "loihi[weight_bits=x]", "loihi[",
                                  "crossbar:pcm[age=1w]", "crossbar:pcm[age=nan]", "crossbar:pcm[input_read=never]"])
def test_bad_targets_are_refused_with_what_is_allowed(text):
    with pytest.raises(Refusal, match="allowed: "):
        parse(text)
