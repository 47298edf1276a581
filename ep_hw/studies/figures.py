"""Figures of a study: accuracy along one option, over two, and what each cause takes in two orders."""

import math
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from ep_hw.report.entry import Entry
from ep_hw.report.figures.plots import COLOURS, INK, MARKERS, RC, title
from ep_hw.report.wording import points_of, threat_name
from ep_hw.studies.axes import SweptAxis
from ep_hw.studies.order import Interaction
from ep_hw.threats.threat import Threat

Look = dict[tuple, tuple]   # setting of the other options -> its label, colour and marker
Panels = dict[tuple[str, Threat], Axes]   # by technology and threat
ACROSS = 5     # threats side by side
_WIDE = 40.0   # an option whose values span more than this factor is drawn on a logarithmic axis


def curves_figure(rows: Sequence[dict], axis: SweptAxis, others: Sequence[str]) -> Figure:
    """Accuracy along one option: panels as `_panels` lays them out, a line a setting of the others.

    Lines are means over chips; bands are their 95 % intervals over images and chips, which equal chips do not close,
    and dots the worst and the best chip.
    """
    technologies, threats = _distinct(rows, "technology"), _distinct(rows, "threat")
    look = _look(rows, others)
    with matplotlib.rc_context(RC):
        figure, panels = _panels(technologies, threats, (1.6, 0.8), (3.6, 1.7), shared=True)
        for (technology, threat), axes in panels.items():
            own = [r for r in rows if r["technology"] == technology and r["threat"] == threat]
            _lines(axes, own, axis, look)
            axes.grid()
            if technology == technologies[0]:
                axes.set_title(threat.label, loc="left", fontsize=10, weight="bold")
            if technology == technologies[-1]:
                axes.set_xlabel(axis.label)
                axes.tick_params(axis="x", rotation=45 if axis.is_time else 0, labelbottom=True)
            if threat in threats[::ACROSS]:
                axes.set_ylabel(f"{_short(technology, technologies)}\naccuracy, %")
        axes.set_ylim(*_limits(rows))
        _scale(axes, axis)
        _caption(figure, "bands: 95 %, the wider over images and over chips; dots: the worst and the best chip")
        if others:
            lines = {line.get_label(): line for axes in panels.values() for line in axes.get_lines()}
            names = [style[0] for style in look.values() if style[0] in lines]
            figure.legend([lines[name] for name in names], names, loc="outside right upper", frameon=False, fontsize=8)
    return figure


def heat_figure(rows: Sequence[dict], across: SweptAxis, up: SweptAxis) -> Figure:
    """Accuracy over two options, panels as `_panels` lays them out: mean over chips in percent, and the half width of
    its 95 % interval over images and chips; means over the settings of the other options, where there are any.
    """
    technologies, threats = _distinct(rows, "technology"), _distinct(rows, "threat")
    size = 0.62 * len(across.values) + 0.9, 0.42 * len(up.values) + 0.7
    low, high = (end(100 * r["accuracy"] for r in rows) for end in (min, max))
    with matplotlib.rc_context(RC):
        figure, panels = _panels(technologies, threats, (1.0, 0.4), size)
        for (technology, threat), axes in panels.items():
            own = [r for r in rows if r["technology"] == technology and r["threat"] == threat]
            picture = _map(axes, own, across, up, (low, high))
            axes.set_title(f"{_short(technology, technologies)}\n{threat.label}", loc="left", fontsize=8, weight="bold")
            if technology == technologies[-1]:
                axes.set_xlabel(across.label)
            if threat in threats[::ACROSS]:
                axes.set_ylabel(up.label)
        figure.colorbar(picture, ax=list(panels.values()), label="accuracy, %", shrink=0.8, aspect=30)
        _caption(figure, "±: half of the 95 % interval, the wider over images and over chips")
    return figure


def interaction_figure(technology: str, causes: Sequence[Interaction]) -> Figure:
    """Points of accuracy that each cause takes in the ladder's order and in reverse; in text, their difference."""
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(5.6, 1.0 + 0.5 * len(causes)), layout="constrained")
        axes = figure.add_subplot()
        for place, kind, colour, filled in ((-0.17, "forward", COLOURS[0], True), (0.17, "reverse", COLOURS[1], False)):
            changes = [getattr(one, kind) for one in causes]
            values = [100 * c.value for c in changes]
            bars = [[100 * abs(c.value - end) for c, end in zip(changes, ends)]
                    for ends in ([c.low for c in changes], [c.high for c in changes])]
            y = np.arange(len(causes)) + place
            axes.barh(y, values, 0.3, xerr=bars, color=colour if filled else "none", edgecolor=colour, ecolor=INK,
                      capsize=2, error_kw={"elinewidth": 0.8},
                      label={"forward": "added after those above", "reverse": "added after those below"}[kind])
        axes.axvline(0, color=INK, lw=0.6)
        axes.set_yticks(range(len(causes)), [one.cause for one in causes])
        axes.set_ylim(len(causes) - 0.5, -0.9)
        for row, one in enumerate(causes):
            _text_right_of(axes, 34, row, points_of(one.interaction.value), weight="bold", va="center")
            span = f"{points_of(one.interaction.low)} to {points_of(one.interaction.high)}"
            _text_right_of(axes, 104, row, span, fontsize=8, va="center")
        _text_right_of(axes, 104, -0.55, "interaction, 95 %", fontsize=8, va="bottom")
        axes.set_xlabel("change of accuracy, points")
        title(axes, technology, 4.2)
        axes.grid(axis="x")
        figure.legend(loc="outside lower left", frameon=False, fontsize=8, ncols=2)
    return figure


def networks_figure(entries: Sequence[Entry], groups: Mapping[str, str], threats: Sequence[Threat]) -> Figure:
    """Accuracy of groups of networks in their order: a panel a machine, a line a threat.

    Args:
        entries: one a group and machine.
        groups: in their order -> what the axis calls them.
        threats: to draw.
    """
    machines = list(dict.fromkeys(entry.machine for entry in entries))
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(1.2 + 2.6 * len(machines), 3.6), layout="constrained")
        panels = figure.subplots(1, len(machines), squeeze=False, sharey=True)[0]
        for machine, axes in zip(machines, panels):
            for n, threat in enumerate(threats):
                own = {entry.kind: entry.mean([threat]) for entry in entries if entry.machine == machine}
                line = [(place, mean) for place, kind in enumerate(groups) if (mean := own.get(kind))]
                x, y = [place for place, _ in line], [100 * mean.value for _, mean in line]
                bars = [[100 * abs(mean.value - end) for (_, mean), end in zip(line, ends)]
                        for ends in ([m.low for _, m in line], [m.high for _, m in line])]
                axes.errorbar(np.add(x, 0.05 * (n - len(threats) / 2)), y, bars, color=COLOURS[n % len(COLOURS)],
                              marker=MARKERS[n % len(MARKERS)], markersize=4, lw=1, elinewidth=0.7,
                              label=threat_name(threat))
            axes.set_xticks(range(len(groups)), [*groups.values()], rotation=30, ha="right")
            title(axes, machine, 2.4)
            axes.grid(axis="y")
        panels[0].set_ylabel("accuracy, %")
        panels[0].set_ylim(-1.5, 101.5)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=8)
    return figure


def _panels(technologies: Sequence[str], threats: Sequence[Threat], margin: tuple[float, float],
            size: tuple[float, float], shared: bool = False) -> tuple[Figure, Panels]:
    """A figure of a column of panels a threat, a panel a technology; threats beyond `ACROSS` go on below.

    Args:
        technologies, threats: in order.
        margin: inches of the figure beyond its panels, across and up.
        size: inches of a panel.
        shared: whether all panels have the same axes.
    """
    count = len(technologies)
    columns, lines = min(len(threats), ACROSS), count * math.ceil(len(threats) / ACROSS)
    figure = Figure(figsize=(margin[0] + size[0] * columns, margin[1] + size[1] * lines), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False, sharex=shared, sharey=shared)
    panels = {(technology, threat): grid[n // ACROSS * count + line][n % ACROSS]
              for line, technology in enumerate(technologies) for n, threat in enumerate(threats)}
    for axes in [axes for axes in grid.flat if axes not in panels.values()]:
        axes.remove()
    return figure, panels


def _caption(figure: Figure, text: str):
    figure.supxlabel(text, x=0.01, ha="left", fontsize=8)


def _text_right_of(axes: Axes, points: float, y: float, text: str, **style):
    """Text that ends so many points to the right of the axes, at a place of their y axis."""
    axes.annotate(text, (1, y), (points, 0), xycoords=axes.get_yaxis_transform(), textcoords="offset points",
                  ha="right", annotation_clip=False, **style)


def _look(rows: Sequence[dict], others: Sequence[str]) -> Look:
    """(label, colour, marker) of each setting of the other options, the same in every panel."""
    settings = list(dict.fromkeys(tuple((name, r[name]) for name in others) for r in rows))
    many = matplotlib.colormaps["viridis"](np.linspace(0, 0.88, len(settings)))
    shades = many if len(settings) > 1 else COLOURS
    return {setting: (", ".join(f"{name} {text}" for name, text in setting), shade, MARKERS[n % len(MARKERS)])
            for n, (setting, shade) in enumerate(zip(settings, shades))}


def _lines(axes: Axes, rows: Sequence[dict], axis: SweptAxis, look: Look):
    for setting, (label, colour, marker) in look.items():
        own = sorted((r for r in rows if all(r[name] == text for name, text in setting)), key=axis.place)
        if not own:
            continue
        x, value = [axis.place(r) for r in own], [100 * r["accuracy"] for r in own]
        axes.plot(x, value, color=colour, marker=marker, label=label, markersize=4, clip_on=False)
        axes.fill_between(x, [100 * r["ci_low"] for r in own], [100 * r["ci_high"] for r in own], color=colour,
                          alpha=0.15, lw=0)
        if all(r["chips_low"] is not None for r in own):
            for end in ("chip_worst", "chip_best"):
                axes.plot(x, [100 * r[end] for r in own], ".", color=colour, markersize=2.5, alpha=0.7)


def _map(axes: Axes, rows: Sequence[dict], across: SweptAxis, up: SweptAxis, limits: tuple[float, float]) -> AxesImage:
    mean, half = np.full((2, len(up.values), len(across.values)), np.nan)
    for i, j in np.ndindex(mean.shape):
        cell = [r for r in rows if r[up.option] == up.values[i] and r[across.option] == across.values[j]]
        if cell:
            mean[i, j] = 100 * np.mean([r["accuracy"] for r in cell])
        if len(cell) == 1:
            half[i, j] = 50 * (cell[0]["ci_high"] - cell[0]["ci_low"])
    picture = axes.imshow(mean, vmin=limits[0], vmax=limits[1], cmap="viridis", aspect="auto", origin="lower")
    dark = limits[0] + 0.6 * (limits[1] - limits[0])
    for (i, j), value in np.ndenumerate(mean):
        if not math.isnan(value):
            spread = "" if math.isnan(half[i, j]) else f"\n±{half[i, j]:.1f}"
            axes.text(j, i, f"{value:.1f}{spread}", ha="center", va="center", fontsize=7,
                      color="white" if value < dark else "black")
    axes.set_xticks(range(len(across.values)), across.values)
    axes.set_yticks(range(len(up.values)), up.values)
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    return picture


def _scale(axes: Axes, axis: SweptAxis):
    """Ticks at the values that were run; logarithmic where they span a wide range, linear near 0."""
    places = axis.places
    positive = [p for p in places if p > 0]
    if axis.is_number and len(positive) > 1 and max(positive) / min(positive) > _WIDE:
        if min(places) < 0 or 0 in places:
            axes.set_xscale("symlog", linthresh=min(positive))
        else:
            axes.set_xscale("log")
    room = 0.04 * (max(places) - min(places)) if axes.get_xscale() == "linear" else 0
    axes.set_xlim(min(places) - room, max(places) + room)
    axes.set_xticks(places, axis.values)
    axes.minorticks_off()


def _limits(rows: Sequence[dict]) -> tuple[float, float]:
    keys = ("accuracy", "ci_low", "ci_high", "chip_worst", "chip_best")
    ends = [100 * r[key] for r in rows for key in keys if r[key] is not None]
    room = max(0.06 * (max(ends) - min(ends)), 1.0)
    return max(min(ends) - room, 0.0), min(max(ends) + room, 101.0)


def _short(technology: str, technologies: Sequence[str]) -> str:
    """A technology without its options, where no other one has the same name."""
    name = technology.partition("[")[0]
    shared = sum(other.partition("[")[0] == name for other in technologies) > 1
    return (technology if shared else name).removeprefix("crossbar:")


def _distinct(rows: Sequence[dict], key: str) -> list:
    return list(dict.fromkeys(r[key] for r in rows))
