"""The page of a study: what its sentence says of the swept options, and pictures whose intervals never vanish."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ep_hw.analysis.points import Estimate, pool
from ep_hw.analysis.statistics import wilson
from ep_hw.report.story import told
from ep_hw.studies.axes import SweptAxis
from ep_hw.studies.effects import answer, effects, effects_table, widened
from ep_hw.studies.figures import curves_figure, heat_figure
from ep_hw.studies.order import Interaction
from ep_hw.studies.outcome import study_table
from ep_hw.studies.story import story_of
from ep_hw.studies.study import Study
from ep_hw.threats.threat import CLEAN, Threat

N = 100
FOG = Threat("fog", 5.0)


def swept(right, options=("adc_bits",), **grid):
    """A study of one device, its rows and points: `right` gives images of 100 by options and threat, on two chips that
    agree.
    """
    study = Study(title="How many bits?", machines=("crossbar:pcm",), threats=("fog@5",), chips=2, waterfalls=False,
                  grid=grid)
    rows, summary = [], []
    for asked in study.combinations():
        machine = f"crossbar:pcm[{','.join(f'{k}={v}' for k, v in asked.items())}]"
        for threat in (CLEAN, FOG):
            correct = right(asked, threat)
            low, high = wilson(correct, N)
            summary += [{"machine": machine, "threat": threat, "chip_seed": chip, "n": N, "accuracy": correct / N,
                         "agreement": 1.0, "flips_to_wrong": N - correct, "flips_to_right": 0} for chip in (0, 1)]
            rows.append({"technology": "crossbar:pcm", **asked, "machine": machine, "threat": threat, "images": N,
                         "chips": 2, "accuracy": correct / N, "ci_low": low, "ci_high": high, "agreement": 1.0,
                         "chips_low": correct / N, "chips_high": correct / N, "chip_worst": correct / N,
                         "chip_best": correct / N})
    return study, rows, pool(summary)


def by_bits(asked, threat):
    return {"4": 20, "6": 60, "8": 90}[asked["adc_bits"]] if threat == FOG else 95


def test_the_sentence_names_the_best_and_the_worst_value_of_the_largest_visible_change():
    study, rows, points = swept(by_bits, adc_bits=(8, 4, 6))
    clean, fog = effects(study, rows, points)
    assert (clean.values, clean.is_open, clean.turn) == (("4", "6", "8"), True, None)
    assert (fog.worst, fog.best, fog.turn) == (0, 2, None)
    assert fog.change.value == pytest.approx(0.7)
    said = answer([clean, fog])
    assert said.startswith("Accuracy depends most on crossbar:pcm under fog at 5, along adc bits: worst 20.0 % at 4, "
                           "best 90.0 % at 8 (+70.0 points [")
    assert said.endswith("In 1 of 2 comparisons there is no difference this sample can tell.")
    assert answer([clean]).count("difference this sample can tell") == 1
    assert "Nothing was swept" in answer([])
    table = effects_table([clean, fog])
    assert [row[2] for row in table.rows] == ["fog at 5", "clean"], "what can be told comes first"


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, N), min_size=3, max_size=5))
def test_a_curve_turns_where_it_is_visibly_apart_from_both_ends(right):
    names = [str(2 + n) for n in range(len(right))]
    study, rows, points = swept(lambda asked, threat: right[names.index(asked["adc_bits"])],
                                adc_bits=tuple(map(int, names)))
    one = effects(study, rows, points)[0]
    assert one.points[one.worst].accuracy.value == min(right) / N
    assert one.points[one.best].accuracy.value == max(right) / N
    if one.turn is None:
        assert "turns" not in str(one)
    else:
        inner, ends = right[one.turn], (right[0], right[-1])
        assert inner > max(ends) or inner < min(ends)
        assert f"it turns at {names[one.turn]}" in str(one)


def test_a_peak_is_a_turn_and_a_slope_or_a_wiggle_is_none():
    def turn(*right):
        study, rows, points = swept(lambda asked, threat: right[int(asked["adc_bits"]) - 2],
                                    adc_bits=tuple(range(2, 2 + len(right))))
        return effects(study, rows, points)[0].turn

    assert [turn(20, 90, 30), turn(90, 20, 80), turn(20, 60, 90), turn(50, 55, 50)] == [1, 1, None, None]


@settings(max_examples=25)
@given(st.floats(-0.5, 0.5), st.floats(0.01, 0.3), st.integers(1, 45))
def test_intervals_grow_with_the_pairs_that_could_have_been_picked(value, half, pairs):
    one = widened(Estimate(value, value - half, value + half), pairs)
    again = widened(Estimate(value, value - half, value + half), pairs + 1)
    assert again.low <= one.low <= value - half + 1e-12
    assert one.high >= value + half - 1e-12 or one.high == 1
    if pairs == 1:
        assert (one.low, one.high) == pytest.approx((value - half, value + half))


def test_each_option_is_judged_with_the_others_alike():
    study, rows, points = swept(lambda asked, threat: 50 + 10 * (asked["tile"] == "256") + int(asked["adc_bits"]),
                                adc_bits=(4, 8), tile=(64, 256))
    changes = {(one.option, one.threat): one.change.value for one in effects(study, rows, points)}
    assert changes == {("adc_bits", CLEAN): pytest.approx(0.04), ("adc_bits", FOG): pytest.approx(0.04),
                       ("tile", CLEAN): pytest.approx(0.1), ("tile", FOG): pytest.approx(0.1)}


def test_bands_do_not_close_where_chips_agree():
    study, rows, points = swept(by_bits, adc_bits=(4, 6, 8))
    page = told(story_of(study, rows, points, {}, study_table(study, rows), "ep-hw study"))
    areas = re.findall(r'<polygon points="([^"]*)"', page)
    assert len(areas) == 2
    for area in areas:
        y = [float(corner.split(",")[1]) for corner in area.split()]
        assert all(low - high > 1 for high, low in zip(y[:3], reversed(y[3:])))
    figure = curves_figure(rows, SweptAxis.of("adc_bits", rows), ())
    heights = [path.vertices[:, 1] for axes in figure.axes for band in axes.collections for path in band.get_paths()]
    assert len(heights) == 2
    assert all(float(y.max() - y.min()) > 1 for y in heights)


@settings(max_examples=4, deadline=None)
@given(st.integers(1, 8), st.integers(1, 2))
def test_panels_of_many_threats_go_on_below_in_order(threats, technologies):
    study, rows, _ = swept(lambda asked, threat: 50, adc_bits=(4, 8), tile=(64, 256))
    met = [Threat("fog", 1.0 + n) for n in range(threats)]
    rows = [{**row, "technology": f"crossbar:{n}", "threat": threat} for row in rows if row["threat"] == FOG
            for threat in met for n in range(technologies)]
    axes = [SweptAxis.of(option, rows) for option in study.options()]
    for figure in (curves_figure(rows, axes[0], ["tile"]), heat_figure(rows, *axes)):
        panels = [(place.num1, axes) for axes in figure.axes if (place := axes.get_subplotspec())]
        assert len({place for place, _ in panels}) == len(panels) == threats * technologies
        assert figure.get_figwidth() < 25
        titles = [axes.get_title(loc="left") for _, axes in sorted(panels, key=lambda panel: panel[0])]
        assert list(dict.fromkeys(one.split("\n")[-1] for one in titles if one)) == [one.label for one in met]


def test_causes_stand_in_both_orders_with_their_difference_behind():
    study, rows, points = swept(by_bits, adc_bits=(4, 6, 8))
    cause = Interaction("read noise", Estimate(-0.2, -0.3, -0.1), Estimate(-0.05, -0.1, 0.0),
                        Estimate(-0.15, -0.2, -0.1))
    page = told(story_of(study, rows, points, {("crossbar:pcm", FOG): [cause]}, study_table(study, rows), ""))
    assert re.findall(r'data-tip="(read noise[^"]*)"', page) == [
        "read noise, added after those above: \u221220.0 points [\u221230.0, \u221210.0]",
        "read noise, added after those below: \u22125.0 points [\u221210.0, 0.0]"]
    assert '<div class="written">\u221215.0</div>' in page


def test_two_options_are_a_map_with_both_in_order():
    study, rows, points = swept(lambda asked, threat: 50 + int(asked["adc_bits"]), adc_bits=(8, 4), tile=(256, 64))
    page = told(story_of(study, rows, points, {}, study_table(study, rows), ""))
    table = page.partition('class="heat"')[2]
    assert "<caption>tile \u2193  adc bits \u2192</caption>" in table
    heads = re.findall(r"<th scope=\"(?:col|row)\">([^<]*)</th>", table)[:4]
    assert heads == ["4", "8", "256", "64"]
    assert "Made by" not in page
