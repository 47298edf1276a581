"""The page's charts: rows of accuracies, waterfalls, curves, bars and maps, each as markup that fits any width."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

from ep_hw.analysis.points import Estimate
from ep_hw.report.figures import drawing
from ep_hw.report.figures.drawing import at, attributes, element, joined
from ep_hw.report.figures.scales import PERCENT, Scale
from ep_hw.report.frame import breakable
from ep_hw.report.wording import short_percent

PLOT_HEIGHT = 230   # pixels of a chart with two axes
DODGE = 0.011       # of the width, between lines that would hide each other
INSET = 0.04        # of the width, on either side of curves
CROWD = 5           # curves from which their intervals are drawn faintly
DARK = 0.6          # share of the darkest shade from which paper is easier to read on it than ink


@dataclass(frozen=True)
class Look:
    """How one thing that is compared looks everywhere on a page.

    Attributes:
        colour: number of its colour; 0 is ink.
        marker: number of its marker.
        key: number that the page switches it on and off by; None for what is always shown.
        group: what kind of thing it is to those switches.
    """

    colour: int
    marker: int
    key: int | None = None
    group: str = "machine"

    @property
    def switched(self) -> dict[str, int | None]:
        """The attribute that the page's switches look at."""
        return {f"data_{self.group}": self.key}


@dataclass(frozen=True)
class Value:
    """A number on a chart.

    Attributes:
        estimate: an accuracy with its interval, fractions.
        tip: the same in words.
        hollow: whether its marker is drawn empty.
        images: id of the gallery behind it, None without one.
    """

    estimate: Estimate
    tip: str
    hollow: bool = False
    images: str | None = None


@dataclass(frozen=True)
class Row:
    """A line of a chart of rows.

    Attributes:
        name: before it.
        note: below the name, smaller.
        values: marks on it.
        look: of its marks.
        written: behind it.
        begins: whether it is the first of a group.
        chips: what single chips came to.
    """

    name: str
    values: Sequence[Value]
    look: Look
    written: str = ""
    note: str = ""
    begins: bool = False
    chips: Sequence[float] = ()


@dataclass(frozen=True)
class Step:
    """A rung of a waterfall.

    Attributes:
        cause: that it adds.
        machine: on which.
        value: accuracy after it.
        before: accuracy before it, a fraction; None for the first.
        written: accuracy, and the change.
        chips: accuracies of single chips.
    """

    cause: str
    machine: str
    value: Value
    before: float | None
    written: tuple[str, str]
    chips: Sequence[float] = ()


@dataclass(frozen=True)
class Curve:
    """A line of a chart with two axes.

    Attributes:
        name: in the legend.
        look: of the line.
        points: (value on the horizontal axis, number).
        dashed: whether its line is, and its markers empty.
        bare: whether its markers show only where a reader points; for lines of many points.
    """

    name: str
    look: Look
    points: Sequence[tuple[float, Value]]
    dashed: bool = False
    bare: bool = False


def rows_chart(rows: Sequence[Row], alt: str, scale: Scale = PERCENT, legend: Markup = drawing.EMPTY,
               label: str = "accuracy, %") -> Markup:
    """A row a thing, its numbers with their intervals on one axis."""
    lines = [_row(row, scale) for row in rows]
    return legend + _chart("rows", joined([*lines, _axis_row(scale, label)]), alt)


def _row(row: Row, scale: Scale) -> Markup:
    places = np.linspace(0.3, 0.7, len(row.values)) if len(row.values) > 1 else np.array([0.5])
    marks = [_valued(value, scale.place(value.estimate.value), y, row.look)
             for value, y in zip(row.values, places.tolist())]
    bars = [drawing.whisker_across(value.estimate, y, scale, _colour(row.look))
            for value, y in zip(row.values, places.tolist())]
    drawn = joined([drawing.grid_across(scale), *bars, *_chips(row.chips, scale, row.look), *marks])
    return _strip(row.name, row.note, drawn, row.written, row.look, row.begins)


def _chips(chips: Sequence[float], scale: Scale, look: Look) -> list[Markup]:
    """What single chips came to, one above another."""
    return [drawing.mark(scale.place(chip), y, 0, f"{_colour(look)} hollow small")
            for chip, y in zip(chips, np.linspace(0.3, 0.7, len(chips)).tolist())]


def _strip(name: str, note: str, drawn: Markup, written: str, look: Look | None = None, begins: bool = False) -> Markup:
    names = [element(kind, said) for kind, said in (("span", name), ("small", note)) if said]
    parts = (element("div", joined(names), class_="name"),
             element("svg", drawn, class_="track", aria_hidden="true"),
             element("div", written, class_="written"))
    return element("div", joined(parts), class_="strip group" if begins else "strip", **(look.switched if look else {}))


def _axis_row(scale: Scale, label: str) -> Markup:
    ticks = joined([drawing.text(place, 0, text, f"tick {_anchor(place)}", dy=14) for place, text in scale.spaced])
    name = drawing.text(0.5, 0, label, "tick middle", dy=31)
    parts = (element("div", class_="name"), element("svg", ticks + name, class_="track", aria_hidden="true"),
             element("div", class_="written"))
    return element("div", joined(parts), class_="strip axis")


def _anchor(place: float) -> str:
    """Which end of a text lies at a place of the axis."""
    return "start" if place < 0.03 else "end" if place > 0.97 else "middle"


def waterfall_chart(steps: Sequence[Step], look: Look, scale: Scale, alt: str) -> Markup:
    """A bar a rung from the accuracy before its cause to that after, filled where lost and open where gained."""
    return _chart("rows waterfall", joined([*(_rung(step, look, scale) for step in steps),
                                            _axis_row(scale, "accuracy, %")]), alt)


def _rung(step: Step, look: Look, scale: Scale) -> Markup:
    value, place = step.value.estimate.value, scale.place(step.value.estimate.value)
    drawn = [drawing.grid_across(scale)]
    if step.before is not None:
        before = scale.place(step.before)
        kind = "lost" if value < step.before else "gained"
        drawn += [drawing.box(min(place, before), 0.2, abs(place - before), 0.6, f"{kind} {_colour(look)}"),
                  drawing.line(before, 0, before, 0.2, "link")]
    drawn += [drawing.line(place, 0.8, place, 1, "link"), drawing.line(place, 0.14, place, 0.86, "level"),
              drawing.whisker_across(step.value.estimate, 0.5, scale, "ink"),
              *_chips(step.chips, scale, Look(0, 0)),
              element("rect", class_="hit", x=0, y=0, width="100%", height="100%", data_tip=step.value.tip,
                      data_images=step.value.images)]
    accuracy, change = step.written
    written = element("span", accuracy) + (element("strong", change) if change else drawing.EMPTY)
    return _strip(step.cause, step.machine, joined(drawn), written)


def curves_chart(curves: Sequence[Curve], across: Scale, up: Scale, label: str, alt: str, *,
                 bands: bool = False, aslant: bool = False) -> Markup:
    """A line a curve, its intervals as bars or as bands; lines stand a little apart where they would hide each other.

    Args:
        curves: the lines.
        across: horizontal axis.
        up: vertical axis.
        label: of the horizontal axis.
        alt: what the chart shows.
        bands: whether intervals are areas.
        aslant: whether ticks of the horizontal axis are long names.
    """
    dodge = 0 if bands else min(DODGE, INSET / max(len(curves), 1))
    shifts = ((np.arange(len(curves)) - (len(curves) - 1) / 2) * dodge).tolist()
    inset = Scale(lambda value: INSET + (1 - 2 * INSET) * across.place(value), across.ticks)
    bars = None if bands else "faint " if len(curves) >= CROWD else ""
    drawn = [_curve(curve, inset, up, shift, bars) for curve, shift in zip(curves, shifts)]
    return legend_of([(curve.name, curve.look, curve.dashed) for curve in curves]) + _plot(
        joined(drawn), inset, up, label, alt, aslant)


def _curve(curve: Curve, across: Scale, up: Scale, shift: float, bars: str | None) -> Markup:
    """Intervals as bars of a kind, or as a band for None."""
    x = [across.place(value) + shift for value, _ in curve.points]
    ends = [value.estimate for _, value in curve.points]
    y = [1 - up.place(end.value) for end in ends]
    kind = f"{_colour(curve.look)}{' dashed' if curve.dashed else ''}"
    parts = [drawing.line(*a, *b, f"curve {kind}") for a, b in zip(zip(x, y), list(zip(x, y))[1:])]
    if bars is None and len(x) > 1:
        parts.insert(0, drawing.band(x, [1 - up.place(e.high) for e in ends],
                                     [1 - up.place(e.low) for e in ends], f"band {_colour(curve.look)}"))
    else:
        parts += [drawing.whisker_up(end, place, up, f"{bars or ''}{_colour(curve.look)}")
                  for end, place in zip(ends, x)]
    parts += [_valued(value, a, b, curve.look, curve.dashed, curve.bare)
              for (_, value), a, b in zip(curve.points, x, y)]
    return element("g", joined(parts), **curve.look.switched)


def _valued(value: Value, x: float, y: float, look: Look, hollow: bool = False, bare: bool = False) -> Markup:
    kind = f"{_colour(look)}{' hollow' if value.hollow or hollow else ''}{' bare' if bare else ''}"
    return drawing.mark(x, y, look.marker, kind, data_tip=value.tip, data_images=value.images)


def bars_chart(groups: Sequence[str], columns: Sequence[tuple[str, Look, Sequence[Value | None]]], alt: str) -> Markup:
    """A group of bars a name, a bar a column; accuracies from 0 to 100 percent."""
    width = 0.8 / len(columns) / len(groups)
    drawn = []
    for n, (_, look, values) in enumerate(columns):
        bars = [_bar((g + 0.1) / len(groups) + n * width, width, value, look)
                for g, value in enumerate(values) if value]
        drawn.append(element("g", joined(bars), **look.switched))
    names = Scale(lambda value: (value + 0.5) / len(groups), tuple(enumerate(groups)))
    return legend_of([(name, look, False) for name, look, _ in columns]) + _plot(
        joined(drawn), names, PERCENT, "", alt, aslant=len(groups) > 4)


def _bar(x: float, width: float, value: Value, look: Look) -> Markup:
    top = 1 - value.estimate.value
    bar = drawing.box(x, top, width * 0.9, value.estimate.value, f"bar {_colour(look)}", data_tip=value.tip,
                      data_images=value.images)
    return bar + drawing.whisker_up(value.estimate, x + width * 0.45, PERCENT, "ink")


def _plot(drawn: Markup, across: Scale, up: Scale, label: str, alt: str, aslant: bool = False) -> Markup:
    level = [(1 - place, text) for place, text in up.spaced]
    lines = joined([drawing.line(0, y, 1, y, "grid") for y, _ in level])
    left = joined([drawing.text(0, y, text, "tick end", dx=-8, dy=4) for y, text in level])
    kind = "tick aslant" if aslant else "tick middle"
    below = joined([_below(place, text, kind) for place, text in across.spaced])
    name = drawing.text(0.5, 1, label, "tick middle", dy=34) if label else drawing.EMPTY
    axis = drawing.line(0, 1, 1, 1, "axis")
    inner = element("svg", lines + axis + drawn + left + below + name, class_="plot", width="100%",
                    height=PLOT_HEIGHT, aria_hidden="true")
    return _chart("plotted aslant" if aslant else "plotted", inner, alt)


def _below(place: float, text: str, kind: str) -> Markup:
    if "aslant" not in kind:
        return drawing.text(place, 1, text, kind, dy=17)
    nested = element("text", text, class_=kind, transform="translate(4 14) rotate(-35)")
    return element("svg", nested, x=at(place), y="100%", class_="nested", height=12, width=12)


def heat_chart(down: Sequence[str], across: Sequence[str], cells: Mapping[tuple[int, int], Value],
               labels: tuple[str, str], limits: tuple[float, float], alt: str,
               written: Callable[[float], str] = short_percent) -> Markup:
    """A table whose cells are shaded by their number: rows `down`, columns `across`, in their order.

    Args:
        down: names of rows, the first one on top.
        across: names of columns.
        cells: (row, column) -> number; those that were not run are missing.
        labels: what rows and columns are.
        limits: numbers of the lightest and the darkest shade.
        alt: what the map shows.
        written: how a cell says its number.
    """
    title = element("caption", f"{labels[0]} \u2193  {labels[1]} \u2192")
    head = element("tr", element("td", "") + joined(
        [element("th", breakable({}, name), scope="col") for name in across]))
    body = [element("tr", element("th", breakable({}, name), scope="row") + joined(
        [_shaded(cells.get((i, j)), limits, written) for j in range(len(across))])) for i, name in enumerate(down)]
    table = element("table", title + element("thead", head) + element("tbody", joined(body)), class_="heat",
                    aria_label=alt)
    return element("div", table, class_="scroll", tabindex=0, role="region", aria_label=alt)


def _shaded(value: Value | None, limits: tuple[float, float], written: Callable[[float], str]) -> Markup:
    if value is None:
        return element("td", "\u2013")
    share = (value.estimate.value - limits[0]) / ((limits[1] - limits[0]) or 1)
    half = (value.estimate.high - value.estimate.low) / 2
    inner = escape(written(value.estimate.value)) + (
        element("small", f"\u00b1{written(half)}") if half else drawing.EMPTY)
    return element("td", inner, style=f"--shade:{100 * share:.0f}%", class_="dark" if share > DARK else "light",
                   data_tip=value.tip, data_images=value.images)


def legend_of(entries: Sequence[tuple[str, Look, bool]]) -> Markup:
    """Names with their markers, those drawn dashed with empty ones."""
    return element("ul", joined([_entry(name, look, hollow) for name, look, hollow in entries]), class_="legend")


def _entry(name: str, look: Look, hollow: bool) -> Markup:
    kind = f"{_colour(look)}{' hollow' if hollow else ''}"
    sign = element("svg", drawing.mark(0.5, 0.5, look.marker, kind), class_="sign", aria_hidden="true")
    return element("li", sign + element("span", name), **look.switched)


def _chart(kind: str, inner: Markup, alt: str) -> Markup:
    """What the keyboard walks through; who cannot see it is told what it shows."""
    return Markup('<div{}>{}</div>').format(
        attributes(class_=f"chart {kind}", role="img", tabindex=0, aria_label=alt), inner)


def _colour(look: Look) -> str:
    return f"c{look.colour}"
