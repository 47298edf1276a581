"""Charts of measurements: each number of the rows is drawn once, where its axes say, and says itself in words."""

import itertools
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ep_hw.analysis.statistics import wilson
from ep_hw.evaluation.temporal import TemporalPoint, worst_over_times
from ep_hw.learning.in_situ.figure import tuning_charts
from ep_hw.measurements import charts
from ep_hw.measurements.landscape import Slice
from ep_hw.measurements.uncertainty import Uncertainty
from ep_hw.report.figures.scales import decades
from ep_hw.report.figures.temporal import temporal_charts
from ep_hw.report.wording import percent

N = 100
few = settings(max_examples=20)
rights = st.lists(st.integers(0, N), min_size=2, max_size=5)


def tips(drawn):
    return re.findall(r'data-tip="([^"]*)"', "".join(str(one.drawn) for one in drawn))


def row(right, **more):
    low, high = wilson(right, N)
    return {"machine": "loihi", "images": N, "accuracy": right / N, "ci_low": low, "ci_high": high, **more}


@few
@given(st.lists(st.floats(1e-6, 1e6), min_size=2, max_size=6, unique=True))
def test_equal_ratios_are_equal_distances_on_a_logarithmic_axis(values):
    scale = decades(values)
    places = [scale.place(value) for value in sorted(values)]
    assert 0 < places[0] <= places[-1] < 1
    decade = scale.place(10.0) - scale.place(1.0)
    for (a, x), (b, y) in itertools.pairwise(zip(sorted(values), places)):
        assert y - x == pytest.approx(decade * np.log10(b / a), abs=1e-9)
    assert all(10 ** round(np.log10(value)) == pytest.approx(value) or f"{value:g}"[0] in "25"
               for value, _ in scale.ticks)


@few
@given(rights)
def test_events_are_drawn_by_threshold_and_by_sweep(right):
    rows = [row(one, threshold=None if n == 0 else 0.1 * n, events=1000.0 / (n + 1), agreement=0.9,
                events_per_step={"image": [9.0, 0, 0, 0], "hidden": [0, 4.0, 2.0, 1.0], "out": [0, 1.0, 0, 0]})
            for n, one in enumerate(right)]
    against, over_time = charts.events_charts(rows, period=2)
    said = tips([against])
    assert [one for one in said if "right" in one] == [
        f"{'whole states' if n == 0 else f'{0.1 * n:g}'}: {charts.with_interval(one)} right, "
        f"{one['events']:.0f} events an image" for n, one in enumerate(rows)]
    assert sum("agrees with the reference on 90.0 %" in one for one in said) == len(rows) - 1
    assert [one.split(", ")[1] for one in tips([over_time])] == ["step 2: 7 events a sweep",
                                                                 "step 4: 1 events a sweep"] * len(rows)


def test_gradients_have_a_chart_a_loss_and_quantity():
    rows = [{"machine": machine, "loss": loss, "beta": beta, "cosine": cosine, "cosine_low": cosine - 0.1,
             "cosine_high": cosine + 0.05, "zero_entries": 0.25}
            for loss in ("cross_entropy", "margin") for machine, cosine in (("reference", 0.9), ("loihi", -0.2))
            for beta in (0.1, 0.5)]
    drawn = charts.gradients_charts(rows)
    assert [one.title.partition(":")[0] for one in drawn] == ["Cross-entropy"] * 2 + ["Margin"] * 2
    assert tips(drawn[:1]) == [f"{machine}, beta {beta:g}: median cosine {cosine:.2f} "
                               f"[{cosine - 0.1:.2f}, {cosine + 0.05:.2f}]"
                               for machine, cosine in (("reference", 0.9), ("loihi", -0.2)) for beta in (0.1, 0.5)]
    assert all("25.0 % of entries are zero" in one for one in tips(drawn[1::2]))


def test_changes_that_never_happened_are_left_out_of_a_logarithmic_chart():
    changed = np.array([[0, 0, 1]] * 30 + [[0, 1, 1]] * 10)
    (drawn,) = charts.uncertainty_charts([Uncertainty("loihi", (0.1, 0.2, 0.4), 1, changed, None, None, None)])
    sizes = [one.split(",")[1].split(":")[0] for one in tips([drawn]) if "change" in one]
    assert sizes == [" size 0.2", " size 0.4"]
    assert "25.0 % [" in tips([drawn])[0]


def test_averages_and_slices_say_every_number():
    eot = [row(right, draws=draws, eps=0.5, cosine=0.5, cosine_low=0.4, cosine_high=0.6)
           for right, draws in ((50, 1), (60, 8))]
    assert [one.partition(":")[0] for one in tips(charts.eot_charts(eot))] == ["1 gradients", "8 gradients"] * 2
    loss = np.arange(9.0).reshape(3, 3)
    (drawn,) = charts.slice_charts([Slice("loihi", "bptt@10", np.array([-1.0, 0, 1]), loss, 0.9, 50)])
    said = tips([drawn])
    assert said[0] == "loihi, 1 along bptt@10 and \u22121 at random: cross-entropy 6", "uphill is on top"
    assert [one.rpartition(" ")[2] for one in said] == ["6", "7", "8", "3", "4", "5", "0", "1", "2"]


def test_devices_have_bands_and_no_noise_that_nobody_published():
    def device(name, noise):
        return [{"device": name, "age_s": age, "target_us": g} | {
            f"{kind}_{end}_us": value for kind in ("programming_error", "aged_error", "slow_noise", "fresh_noise")
            for end, value in (("low", -0.5), ("median", noise), ("high", 0.5))}
                for age in (1.0, 3600.0) for g in (0.0, 25.0)]

    drawn = charts.devices_charts([*device("pcm", 0.1), *device("sonos", 0.0)])
    assert [one.title.partition(",")[0] for one in drawn] == [
        "pcm: programming error", "pcm: error after drift", "pcm: read noise after 1 h", "sonos: programming error",
        "sonos: error after drift"]
    assert tips(drawn[1:2])[0] == ("1 s, target 0 \u00b5S: median 0.1, 95 % of 4000 devices within \u22120.5 to 0.5 "
                                   "\u00b5S")
    assert str(drawn[1].drawn).count("<polygon") == 2


@few
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=3, max_size=9))
def test_attack_times_are_lines_and_a_map_with_the_worst_beside(right):
    def point(time, correct):
        return TemporalPoint("loihi", 0.5, time, (5, 60), correct)

    correct = torch.tensor(right)
    points = [point(0, torch.ones_like(correct)), point(5, correct), point(15, correct.flip(0))]
    lines, grid = temporal_charts(points)
    worst = [one for one in tips([lines]) if one.startswith("worst over T")]
    assert [one.split(": ")[1].partition(" [")[0] for one in worst] == list(map(percent, worst_over_times(points)))
    assert [one for one in tips([lines]) if one.startswith("T =")] == tips([grid])
    assert len(temporal_charts(points[:1])) == 1


def test_tuning_shows_each_chip_and_each_epoch():
    rows = [{"variant": variant, "chip": chip, "accuracy": right, "images": N, "machine": "m"}
            for variant, right in (("digital", 0.98), ("mapped", 0.8), ("tuned", 0.95))
            for chip in ((None,) if variant == "digital" else (0, 1))]
    variants, epochs = tuning_charts(rows, {0: [0.8, 0.9], 1: [0.7, 0.95]})
    assert [one.partition(" [")[0] for one in tips([variants])] == ["digital: 98.0 %", "mapped: 80.0 %",
                                                                    "tuned: 95.0 %"]
    assert str(variants.drawn).count("small") == 4
    assert tips([epochs]) == ["chip 0, epoch 0: 80.0 %", "chip 0, epoch 1: 90.0 %", "chip 1, epoch 0: 70.0 %",
                              "chip 1, epoch 1: 95.0 %"]
