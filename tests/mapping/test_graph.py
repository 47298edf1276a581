"""The contract refuses what is not a chain-shaped EP network, naming the layer."""

from contextlib import nullcontext
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


@pytest.mark.parametrize(("field", "size", "holds"), [("weight", 1e17, False), ("weight", 1e-17, False),
                                                      ("weight", 0, True), ("weight", 1e14, True),
                                                      ("bias", 1e17, False), ("bias", 1e-17, True), ("bias", 0, True)])
def test_arrays_whose_squares_leave_float32_are_refused(graph, field, size, holds):
    array = np.full_like(getattr(graph.couplings[1], field), size)
    with nullcontext() if holds else pytest.raises(Refusal, match=f"layer conv2: {field} is out of range; got largest"):
        broken(graph, 1, **{field: array})


@pytest.mark.parametrize("slope", [0.0, -0.5, 1e-9, 1e300, float("inf"), float("nan")])
def test_a_slope_that_no_state_follows_is_refused(graph, slope):
    with pytest.raises(Refusal, match="layer layer1: slope out of range"):
        replace(graph, populations=(replace(graph.populations[0], slope=slope), graph.populations[1]))


def test_a_chain_that_does_not_fit_is_refused(graph):
    with pytest.raises(Refusal, match="layer conv2: shapes do not chain"):
        broken(graph, 1, padding=0)
    with pytest.raises(Refusal, match="pool 3"):
        broken(graph, 0, pool=3)
    with pytest.raises(Refusal, match="unknown schedule"):
        replace(graph, schedule="random")
    with pytest.raises(Refusal, match=r"normalisation does not fit the image; got shapes \(2,\)"):
        replace(graph, mean=np.zeros(2, np.float32))
    for name, value in [("scale", 0), ("scale", 1e-5), ("scale", 1e7), ("scale", np.inf), ("scale", np.nan),
                        ("mean", 1e9), ("mean", -np.inf), ("mean", np.nan)]:
        with pytest.raises(Refusal, match=r"normalisation out of range.*allowed: scale > 0, at most 1e\+06; pix"):
            replace(graph, **{name: np.full(1, value, np.float32)})
    with pytest.raises(Refusal, match="steps >= 1"):
        replace(graph, tolerance=float("nan"))


@pytest.mark.parametrize("text", ["reference", "loihi[state_bits=10]", "crossbar:pcm/aged[age=1d,adc_bits=6]",
                                  "crossbar:pcm[drift_compensation=off]", "lava[steps=5]"])
def test_a_target_is_rebuilt_from_its_text(text):
    assert str(parse(text)) == text
    assert parse(str(parse(text))) == parse(text)


@given(st.floats(0, 3.2e7) | st.integers(0, 10**7).map(float))
def test_any_age_is_rebuilt_from_its_text(age):
    target = parse("crossbar:pcm").having(age=float(f"{age:.12g}"))
    assert parse(str(target)) == target


def test_durations_have_units():
    ages = [parse(f"crossbar:pcm[age={text}]").device.age for text in ("90", "25s", "2h", "1d")]
    assert ages == [90, 25, 7200, 86400]


@pytest.mark.parametrize("text", ["loihi3", "loihi[bits=4]", "loihi[weight_bits=9]", "loihi[weight_bits=x]", "loihi[",
                                  "crossbar:pcm[age=1w]", "crossbar:pcm[age=nan]", "crossbar:pcm[input_read=never]"])
def test_bad_targets_are_refused_with_what_is_allowed(text):
    with pytest.raises(Refusal, match="allowed: "):
        parse(text)
