"""The page of a study: what its sentence says of the swept options, and pictures whose intervals never vanish."""

import re

import pytest

from ep_hw.analysis.points import Estimate, pool
from ep_hw.analysis.statistics import wilson
from ep_hw.report.story import told
from ep_hw.studies.axes import SweptAxis
from ep_hw.studies.figures import curves_figure
from ep_hw.studies.order import Interaction
from ep_hw.studies.outcome import study_table
from ep_hw.studies.story import answer, effects, story_of
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


def test_the_sentence_names_the_largest_visible_change_from_the_first_value_to_the_last():
    study, rows, points = swept(by_bits, adc_bits=(8, 4, 6))
    clean, fog = effects(study, rows, points)
    assert (clean.ends, clean.accuracies, clean.is_open) == (("4", "8"), (0.95, 0.95), True)
    assert fog.change.value == pytest.approx(0.7)
    said = answer([clean, fog])
    assert said.startswith("Accuracy changes visibly in 1 of 2 comparisons")
    assert "crossbar:pcm under fog at 5, adc bits from 4 to 8: 20.0 % to 90.0 % (+70.0 points [" in said
    assert "no option changes accuracy visibly" in answer([clean])
    assert "Nothing was swept" in answer([])


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
    heads = re.findall(r"<th scope=\"(?:col|row)\">([^<]*)</th>", page.partition('class="heat"')[2])[:5]
    assert heads == ["tile \u2193  adc bits \u2192", "4", "8", "256", "64"]
    assert "Made by" not in page
