"""Ladder of writing: one pulse in plain Python, many at once in closed form, whole updates, devices that stay."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import mapping
from mapping import Refusal
from mapping.crossbar.writing import WRITINGS, parse_writing
from simulators.crossbar.writing import pulsed, unwritten, write

PAIR, OFFSET = mapping.parse("crossbar:generic"), mapping.parse("crossbar:generic[encoding=offset,on_off=10]")
SHAPE = (5, 3, 2, 2)   # weights of a layer


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


def devices(target, seed=0, outputs=5):
    """Conductances anywhere in the range: a pair each, or one each and two reference columns."""
    shape = (1, 2, *SHAPE) if target.array.encoding == "pair" else (1, 1, outputs + 2, *SHAPE[1:])
    span = target.g_max_us - target.g_min_us
    return target.g_min_us + span * torch.rand(shape, generator=draws(seed))


def never(g_us):
    return torch.zeros_like(g_us, dtype=torch.bool)


def one_pulse(x: float, up: bool, writing) -> float:
    """Equation (2) without noise, kept in the range."""
    if up:
        return min(1.0, x + writing.step * (1 + writing.asymmetry) * (1 - writing.saturation * x))
    return max(0.0, x - writing.step * (1 - writing.asymmetry) * (1 - writing.saturation * (1 - x)))


@given(start=st.floats(0, 1), count=st.integers(-40, 40), step=st.floats(0.001, 0.2), asymmetry=st.floats(-0.5, 0.5),
       saturation=st.one_of(st.just(0.0), st.floats(1e-6, 1)))
@settings(max_examples=30)
def test_pulses_at_once_are_pulses_one_by_one(start, count, step, asymmetry, saturation):
    writing = replace(WRITINGS["linear"], step=step, asymmetry=asymmetry, saturation=saturation)
    x = start
    for _ in range(abs(count)):
        x = one_pulse(x, count > 0, writing)
    g = pulsed(torch.tensor([3 + 8 * start], dtype=torch.float64), torch.tensor([count]), writing, 3.0, 11.0, draws())
    assert g.item() == pytest.approx(3 + 8 * x, abs=1e-6)


def test_noise_of_many_pulses_is_that_of_single_ones():
    """Mean and variance of 12 pulses written at once against 12 calls of one; relative error of a variance sqrt(2/n).
    """
    writing, n = parse_writing("reram[step=0.02]"), 20_000
    start, pulses = torch.full((n,), 10.0), torch.full((n,), 12)
    at_once = pulsed(start, pulses, writing, 0.0, 40.0, draws(1))
    single, generator = start, draws(2)
    for _ in range(12):
        single = pulsed(single, pulses.clamp(max=1), writing, 0.0, 40.0, generator)
    sd = single.std().item()
    assert abs(at_once.mean() - single.mean()) < 5 * sd * (2 / n) ** 0.5
    assert at_once.var().item() == pytest.approx(sd**2, rel=5 * 2 / n**0.5)
    assert sd > 0.3


@given(a=st.floats(-0.4, 0.4), start=st.floats(0, 1))
@settings(max_examples=10)
def test_asymmetry_biases_a_device_as_predicted(a, start):
    """Up and down in turn: by 2 a d a pair without saturation, to x* = a / c + (1 - a) / 2 with it."""
    def in_turn(writing, pairs):
        g = torch.tensor([start], dtype=torch.float64)
        for _ in range(pairs):
            for direction in (1, -1):
                g = pulsed(g, torch.tensor([direction]), writing, 0.0, 1.0, draws())
        return g.item()

    linear = replace(WRITINGS["linear"], step=0.002, asymmetry=a)
    expected = start + 10 * 2 * a * 0.002
    if 0.01 < start < 0.99 and 0.01 < expected < 0.99:
        assert in_turn(linear, 10) == pytest.approx(expected, abs=1e-9)
    soft = replace(linear, saturation=0.9, step=0.02)
    rest = a / 0.9 + (1 - a) / 2
    if 0.02 < rest < 0.98:
        assert in_turn(soft, 200) == pytest.approx(rest, abs=2 * soft.step)


@pytest.mark.parametrize("target", [PAIR, OFFSET], ids=["pair", "offset"])
@pytest.mark.parametrize("name", WRITINGS)
def test_updates_of_size_zero_change_nothing(target, name):
    if target is OFFSET and not WRITINGS[name].depresses:
        pytest.skip("refused: tested below")
    before = unwritten(devices(target), SHAPE[0])
    after = write(before, torch.zeros(SHAPE), WRITINGS[name], target, never(before.conductance_us), draws())
    assert torch.equal(after.conductance_us, before.conductance_us)
    assert not after.pulses.any()
    assert not after.owed_us.any()


@pytest.mark.parametrize("target", [PAIR, OFFSET], ids=["pair", "offset"])
def test_pulses_are_updates_over_the_step_and_the_rest_is_owed(target):
    """Over several updates nothing is lost: written plus owed is what was asked for."""
    writing, state, asked, generator = parse_writing("linear[step=0.004,noise=0.3]"), None, 0, draws(3)
    state = unwritten(devices(target), SHAPE[0])
    step = 0.004 * (target.g_max_us - target.g_min_us)
    for n in range(6):
        update = torch.randn(SHAPE, generator=generator, dtype=torch.float64) * step * 3
        expected = torch.trunc((state.owed_us + update) / step).abs()
        before, asked = state, asked + update
        state = write(state, update, writing, target, never(state.conductance_us), draws(n))
        taken = state.pulses - before.pulses
        assert torch.equal(taken.sum((0, 1))[:5] if target is OFFSET else taken[0].sum(0), expected.to(torch.int32))
        assert state.owed_us.abs().max() < step
    exact = write(unwritten(devices(target), SHAPE[0]), asked, WRITINGS["linear"], target,
                  never(state.conductance_us), draws())
    assert exact.pulses.sum() == torch.trunc(asked / (step / 4)).abs().sum()
    if target is OFFSET:
        assert torch.equal(state.conductance_us[:, :, 5:], devices(target)[:, :, 5:])   # reference columns stay


@pytest.mark.parametrize("target", [PAIR, OFFSET], ids=["pair", "offset"])
def test_exact_writing_adds_what_was_asked_for(target):
    before = unwritten((devices(target) * 0.5).clamp(min=4), SHAPE[0])
    update = torch.randn(SHAPE, generator=draws(5)) * 0.1

    def weights(g):
        return g[0, 0] - g[0, 1] if target is PAIR else g[0, 0, :5]

    after = write(before, update, WRITINGS["exact"], target, never(before.conductance_us), draws())
    moved = weights(after.conductance_us) - weights(before.conductance_us)
    assert torch.allclose(moved, update, atol=1e-5)
    assert not after.owed_us.any()


def test_stuck_devices_take_pulses_and_stay():
    before = unwritten(devices(PAIR), SHAPE[0])
    stuck = torch.rand(before.conductance_us.shape, generator=draws(7)) < 0.3
    after = write(before, torch.full(SHAPE, 0.5), WRITINGS["reram"], PAIR, stuck, draws())
    assert torch.equal(after.conductance_us[stuck], before.conductance_us[stuck])
    taken = torch.zeros_like(stuck)
    write_up = write(before, torch.full(SHAPE, 5.0), WRITINGS["reram"], PAIR, stuck, draws())
    taken[:, 0] = True
    assert torch.equal(write_up.pulses > 0, taken)
    moved = write_up.conductance_us != before.conductance_us
    assert torch.equal(moved, taken & ~stuck)


def test_no_pulse_leaves_the_range_or_moves_a_device_the_wrong_way():
    g = torch.linspace(-2, 14, 400)   # programming errors leave devices outside the range of targets, here 1 to 10
    for name, direction in (("pcm", 1), ("reram", 1), ("reram", -1)):
        quiet = replace(WRITINGS[name], noise=0.0)
        moved = pulsed(g, torch.full((400,), 3 * direction), quiet, 1.0, 10.0, draws())
        assert torch.all(direction * (moved - g) >= -1e-5)
        assert torch.all((moved <= g.clamp(min=10) + 1e-5) & (moved >= g.clamp(max=1) - 1e-5))


@pytest.mark.parametrize("share", [0.5, 0.75, 0.9])
def test_pulses_of_pcm_fill_a_device_less_than_twice_as_slowly_as_the_published_fit(share):
    """Of steps 0.01 (1 + 27.235 exp(-2.5 w)), w from 0 to 2: aihwkit's PCMPresetDevice."""
    w, theirs, x, ours = 0.0, 0, 0.0, 0
    while w < 2 * share:
        w, theirs = w + 0.01 * (1 + 27.235 * math.exp(-2.5 * w)), theirs + 1
    while x < share:
        x, ours = one_pulse(x, True, WRITINGS["pcm"]), ours + 1
    assert 1 <= ours / theirs < 2
    said = f"{theirs} pulses from the bottom to three quarters of the range there, {ours} here"
    assert share != 0.75 or said in WRITINGS["pcm"].source


@pytest.mark.parametrize(("target", "name", "words"), [
    ("crossbar:pcm[encoding=slices,levels=4]", "pcm", "bit slices"),
    ("crossbar:pcm[encoding=offset]", "pcm", "lowered")])
def test_cells_that_are_not_written_pulse_by_pulse_are_refused(target, name, words):
    g = torch.ones(1, 2, *SHAPE)
    with pytest.raises(Refusal, match=words):
        write(unwritten(g, 5), torch.zeros(SHAPE), WRITINGS[name], mapping.parse(target), never(g), draws())
