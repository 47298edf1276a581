"""Sentences of measurements: each says the numbers of its rows, and no more than these show."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ep_hw.analysis.statistics import wilson
from ep_hw.evaluation.temporal import TemporalPoint
from ep_hw.learning.in_situ.comparison import tuning_told
from ep_hw.measurements import answers
from ep_hw.measurements.charts import transfer_charts
from ep_hw.measurements.landscape import Slice
from ep_hw.measurements.uncertainty import Uncertainty

N = 100


def row(right, **more):
    low, high = wilson(right, N)
    return {"machine": "loihi", "images": N, "accuracy": right / N, "ci_low": low, "ci_high": high, **more}


def test_events_are_saved_only_where_no_accuracy_is_visibly_lost():
    whole = row(95, threshold=None, events=1000.0)
    rows = [whole, row(95, threshold=0.1, events=400.0), row(40, threshold=0.4, events=10.0)]
    said = answers.events_told(rows).answer
    assert "up to 0.1 held back, an image takes 400 events in place of 1000, 60 % fewer" in said
    assert "Every threshold costs visible accuracy" in answers.events_told([whole, rows[2]]).answer


@settings(max_examples=25)
@given(st.integers(0, N), st.integers(0, N))
def test_a_change_between_rows_holds_its_own_difference(first, second):
    change = answers.accuracy_change(row(first), row(second))
    assert change.value == pytest.approx((second - first) / N)
    assert change.low - 1e-9 <= change.value <= change.high + 1e-9


def test_gradients_are_ranked_by_their_best():
    def measured(machine, cosine, beta):
        return {"machine": machine, "cosine": cosine, "cosine_low": cosine - 0.1, "cosine_high": cosine + 0.1,
                "beta_used": beta}

    rows = [measured("loihi", 0.2, 0.1), measured("loihi", 0.5, 1.0), measured("a-b", 0.9, 0.5)]
    said = "is 0.90 [0.80, 1.00] on a-b at beta 0.5 and 0.50 [0.40, 0.60] on loihi at beta 1"
    assert answers.gradients_told(rows).answer.endswith(f"{said}.")
    more = [measured(name, 0.7, 1.0) for name in ("c", "d", "e")]
    assert answers.gradients_told([*rows, *more]).answer.endswith(f"{said}, and between these on 3 more.")


def test_the_worst_attack_time_and_what_withstands_all():
    def point(time, right):
        correct = torch.zeros(4, 2, dtype=torch.bool)
        correct[right, 1] = True
        return TemporalPoint("reference", 0.5, time, (5, 60), correct)

    said = answers.temporal_told([point(0, [0, 1, 2, 3]), point(5, [0, 1, 2]), point(15, [1, 3])]).answer
    assert said.startswith("After 60 steps reference gets 100.0 % [")
    assert "T = 15 iterations, the worst time; 25.0 % withstand all of them" in said
    assert answers.temporal_told([point(0, [0])]).answer.endswith("of clean images right.")


def test_exponents_are_said_where_they_could_be_fitted():
    def curve(machine, alpha):
        ends = (None, None) if alpha is None else (alpha - 0.1, alpha + 0.1)
        return Uncertainty(machine, (0.1,), 1, np.zeros((1, 1), int), alpha, *ends)

    said = answers.uncertainty_told([curve("reference", 0.8), curve("loihi", None)]).answer
    assert "0.80 [0.70, 0.90] on reference; 1 is a smooth boundary" in said
    assert said.endswith("Too few predictions change on loihi to fit an exponent.")
    assert "exponent is" not in answers.uncertainty_told([curve("loihi", None)]).answer


def test_what_carries_over_best_stands_beside_the_white_box():
    def shown(source, target, right):
        return row(right, source=source, target=target, threat="pgd_l2", strength=0.5)

    rows = [shown("a", "a", 10), shown("a", "b", 30), shown("b", "a", 60), shown("b", "b", 20)]
    said = answers.transfer_told(rows)
    assert said.question == "Whom does pgd_l2 at 0.5 fool?"
    assert "made on a carry over best: they leave b 30.0 %" in said.answer
    assert "those made on b itself leave 20.0 %" in said.answer
    (drawn,) = transfer_charts(rows)
    assert drawn.drawn.count("data-tip") == 4
    assert "made on a, shown to b: 30.0 %" in drawn.drawn
    assert "nothing else met them" in answers.transfer_told(rows[:1]).answer


def test_averages_slices_and_devices_are_said():
    eot = answers.eot_told([row(50, draws=1, cosine=0.4), row(48, draws=16, cosine=0.9)]).answer
    assert "From 1 to 16 averaged gradients" in eot
    assert "\u22122.0 points [" in eot
    assert eot.endswith("a difference this sample cannot tell from none.")
    one = Slice("reference", "bptt@10", np.zeros(7), np.zeros((7, 7)), 0.98, 50)
    assert "98 % on reference of 50 images" in answers.slice_told([one]).answer
    assert "2 memory devices" in answers.devices_told(["pcm", "sonos"]).answer


def test_tuning_says_what_it_wins_back_and_whether_that_has_an_interval():
    def rows(chips):
        return [{"variant": variant, "chip": chip, "accuracy": right, "images": N, "machine": "m"}
                for variant, right in (("digital", 0.98), ("mapped", 0.8), ("tuned", 0.95))
                for chip in ([None] if variant == "digital" else range(chips))]

    said = tuning_told(rows(3)).answer
    assert said.startswith("Tuned chips get 95.0 % right where mapped ones get 80.0 % and the digital network 98.0 %")
    assert "+15.0 points [" in said
    assert "on one chip, without an interval" in tuning_told(rows(1)).answer
