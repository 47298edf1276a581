"""Charts of the page: every number lies where its axis says and says itself in words, its interval drawn around it."""

import itertools
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ep_hw.analysis.points import Estimate
from ep_hw.report.drawings import looks_of
from ep_hw.report.figures.charts import (
    INSET,
    Curve,
    Look,
    Row,
    Step,
    Value,
    bars_chart,
    curves_chart,
    heat_chart,
    rows_chart,
    waterfall_chart,
)
from ep_hw.report.figures.scales import PERCENT, fitting, linear, ordered, strengths

few = settings(max_examples=25)
shares = st.floats(0, 1, allow_subnormal=False)
LOOK = Look(1, 1, 1)


class Drawn(HTMLParser):
    """Elements of a chart: (tag, attributes) of each."""

    def __init__(self, markup):
        super().__init__()
        self.elements, self.words = [], []
        self.feed(str(markup))

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)

    def of(self, tag, kind=""):
        return [own for name, own in self.elements if name == tag and kind in ["", *(own.get("class") or "").split()]]


def place(attribute):
    return float(attribute.removesuffix("%")) / 100


@st.composite
def estimates(draw):
    low, value, high = sorted(draw(st.tuples(shares, shares, shares)))
    return Estimate(value, low, high)


@few
@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=6, unique=True))
def test_axes_keep_the_order_of_what_lies_on_them(values):
    scale = strengths([0.0, *values])
    places = [scale.place(value) for value in sorted([0.0, *values])]
    assert places == sorted(places)
    assert 0 <= places[0] <= places[-1] <= 1 + 1e-9
    ticks = [where for where, _ in scale.spaced]
    assert all(b - a >= 0.07 - 1e-9 for a, b in itertools.pairwise(ticks))


def test_ticks_of_a_logarithmic_axis_are_the_strengths_that_were_run():
    scale = strengths([0, 0.01, 0.1, 1.0])
    assert [text for _, text in scale.ticks] == ["0", "0.01", "0.1", "1"]
    assert scale.place(0.1) == pytest.approx(0.55)
    assert [text for _, text in linear(0, 100).ticks] == ["0", "20", "40", "60", "80", "100"]
    assert [ordered("abc").place(n) for n in range(3)] == [0, 0.5, 1]


@few
@given(st.lists(estimates(), min_size=1, max_size=4))
def test_rows_lie_where_their_axis_says_with_their_intervals_around_them(values):
    rows = [Row(f"m{n}", [Value(one, f"said {n}")], LOOK, f"{n}") for n, one in enumerate(values)]
    chart = Drawn(rows_chart(rows, "alt"))
    marks, bars = chart.of("use"), chart.of("line", "whisker")
    assert [place(mark["x"]) for mark in marks] == pytest.approx([one.value for one in values], abs=1e-4)
    assert [(place(bar["x1"]), place(bar["x2"])) for bar in bars] == [
        pytest.approx((one.low, one.high), abs=1e-4) for one in values]
    assert [mark["data-tip"] for mark in marks] == [f"said {n}" for n in range(len(values))]


@few
@given(st.lists(estimates(), min_size=2, max_size=5), st.booleans())
def test_curves_lie_where_their_axes_say_and_no_interval_is_lost(values, bands):
    points = [(float(n), Value(one, f"said {n}")) for n, one in enumerate(values)]
    across = strengths([float(n) for n in range(len(values))])
    chart = Drawn(curves_chart([Curve("a line", LOOK, points)], across, PERCENT, "axis", "alt", bands=bands))
    marks = [mark for mark in chart.of("use") if "data-tip" in mark]
    assert [place(mark["y"]) for mark in marks] == pytest.approx([1 - one.value for one in values], abs=1e-4)
    assert [(place(mark["x"]) - INSET) / (1 - 2 * INSET) for mark in marks] == pytest.approx(
        [n / (len(values) - 1) for n in range(len(values))], abs=1e-3)
    if bands:
        (area,) = chart.of("polygon")
        corners = [tuple(map(float, corner.split(","))) for corner in area["points"].split()]
        y = [100 - 100 * one.high for one in values] + [100 - 100 * one.low for one in reversed(values)]
        assert [corner[1] for corner in corners] == pytest.approx(y, abs=0.02)
    else:
        assert len(chart.of("line", "whisker")) == len(values)


def test_a_waterfall_fills_what_is_lost_and_leaves_open_what_is_gained():
    def step(value, before):
        return Step("cause", "machine", Value(Estimate(value, value - 0.05, value + 0.05), "said"), before, ("1", "2"))

    scale = fitting([0.7, 1])
    chart = Drawn(waterfall_chart([step(0.9, None), step(0.8, 0.9), step(0.85, 0.8)], LOOK, scale, "alt"))
    (lost,), (gained,) = chart.of("rect", "lost"), chart.of("rect", "gained")
    assert place(lost["x"]) == pytest.approx(scale.place(0.8), abs=1e-4)
    assert place(lost["width"]) == pytest.approx(scale.place(0.9) - scale.place(0.8), abs=1e-4)
    assert place(gained["width"]) == pytest.approx(scale.place(0.85) - scale.place(0.8), abs=1e-4)


def test_bars_stand_on_the_axis_and_maps_keep_the_order_of_both():
    value = Value(Estimate(0.25, 0.2, 0.3), "said", images="images-1")
    chart = Drawn(bars_chart(["fog", "snow"], [("loihi", LOOK, [value, None])], "alt"))
    (bar,) = chart.of("rect", "bar")
    assert (place(bar["y"]), place(bar["height"]), bar["data-images"]) == (0.75, 0.25, "images-1")
    words = Drawn(heat_chart(["r1", "r2"], ["c1", "c2"], {(0, 1): value}, ("down", "across"), (0, 1), "alt")).words
    assert [word for word in words if word.strip()] == [
        "down \u2193  across \u2192", "c1", "c2", "r1", "\u2013", "25.0", "\u00b15.0", "r2", "\u2013", "\u2013"]


def test_whatever_is_switched_says_which_and_names_are_escaped():
    looks = looks_of(["reference", "<loihi>", "pcm"])
    assert [look.key for look in looks.values()] == [0, 1, 2]
    assert len({(look.colour, look.marker) for look in looks.values()}) == 3
    markup = str(rows_chart([Row(name, [Value(Estimate(0.5, 0.4, 0.6), name)], look)
                             for name, look in looks.items()], "the <finding>"))
    assert re.findall(r'data-machine="(\d)"', markup) == ["0", "1", "2"]
    assert "<loihi>" not in markup
    assert 'aria-label="the &lt;finding&gt;"' in markup
