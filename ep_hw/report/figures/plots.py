"""The report's figures as files: data in, matplotlib Figure out. No pyplot, no global state.

Colours are Okabe and Ito's, safe for colour-blind readers. Pages draw their own charts (`figures.charts`).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from ep_hw.analysis.corruption import CorruptionRow
from ep_hw.analysis.points import Estimate, Point
from ep_hw.analysis.series import Ladder, Line, Panel
from ep_hw.report.wording import points_of
from ep_hw.threats.definitions import SEVERITY
from ep_hw.threats.registry import ATTACKS
from mapping.targets import REFERENCE

INK, PAPER = "#0a0b0c", "#f9f8f7"
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
INTERVAL = "#8a8f98"   # shows on every bar, and on light and dark pages
LETTERS = 16   # of a legend, on an inch
MARKERS = ("s", "^", "D", "v", "P", "X", "<", ">")
RC = {"font.size": 9, "axes.edgecolor": INK, "axes.labelcolor": INK, "text.color": INK, "xtick.color": INK,
      "ytick.color": INK, "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.6,
      "grid.color": INK, "grid.alpha": 0.15, "grid.linewidth": 0.6, "lines.linewidth": 1.4, "lines.markersize": 5}


@dataclass(frozen=True)
class Style:
    """How a machine looks in every figure."""

    colour: str
    marker: str


def styles(machines: Sequence[str]) -> dict[str, Style]:
    """One colour and marker a machine; the reference is drawn in ink, with circles."""
    others = [name for name in machines if name != REFERENCE]
    return {REFERENCE: Style(INK, "o")} | {
        name: Style(COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]) for i, name in enumerate(others)}


def waterfall_figure(ladder: Ladder, style: Style) -> Figure:
    """One bar a rung, from the accuracy before its cause to the accuracy after: filled where lost, open where gained.

    The tick in ink is the rung's accuracy with its 95 % interval, the dots are its chips; the columns on the right
    give accuracy in percent and change in points.
    """
    steps = ladder.steps
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(4.9, 0.75 + 0.46 * len(steps)), layout="constrained")
        axes = figure.add_subplot()
        before = None
        for y, step in enumerate(steps):
            _rung(axes, y, step.point, before, style)
            before = step.point.accuracy.value
        axes.axvline(steps[0].point.accuracy.value * 100, color=INK, alpha=0.5, lw=0.8, ls=":", zorder=0)
        axes.set_yticks(range(len(steps)), [f"{step.cause}\n{_machine(step.machine)}" for step in steps])
        axes.set_ylim(len(steps) - 0.5, -0.5)
        axes.set_xlim(*_limits([step.point for step in steps]))
        axes.set_xlabel("accuracy, %")
        axes.grid(axis="x")
        axes.tick_params(length=0)
        _columns(axes, ladder)
    return figure


def _machine(name: str) -> str:
    """A rung's machine without its options, where those do not leave causes out."""
    return "and those above" if "without=" in name else name.partition("[")[0]


def _rung(axes: Axes, y: int, point: Point, before: float | None, style: Style):
    value = 100 * point.accuracy.value
    if before is not None:
        lost = value < 100 * before
        axes.add_patch(Rectangle((min(value, 100 * before), y - 0.3), abs(value - 100 * before), 0.6, lw=1.2,
                                 facecolor=style.colour if lost else "none", edgecolor=style.colour))
        axes.plot([100 * before] * 2, [y - 1, y - 0.3], color=INK, lw=0.6, alpha=0.5)
    _interval_bar(axes, y, point.accuracy)
    axes.plot([value] * 2, [y - 0.34, y + 0.34], color=INK, lw=2)
    for place, (_, accuracy) in zip(np.linspace(-0.22, 0.22, len(point.chips)), point.chips):
        axes.plot(100 * accuracy, y + place, "o", ms=3.4, markerfacecolor=PAPER, markeredgecolor=INK,
                  markeredgewidth=0.7)


def _interval_bar(axes: Axes, y: int, accuracy: Estimate):
    axes.plot([100 * accuracy.low, 100 * accuracy.high], [y, y], color=INK, lw=1)
    for end in (accuracy.low, accuracy.high):
        axes.plot([100 * end] * 2, [y - 0.12, y + 0.12], color=INK, lw=1)


def _columns(axes: Axes, ladder: Ladder):
    """Accuracy and change of each rung, as text right of the axes, `x` typographic points from them."""
    def write(x: float, y: float, text: str, **kwargs):
        axes.annotate(text, (1, y), (x, 0), xycoords=axes.get_yaxis_transform(), textcoords="offset points",
                      ha="right", annotation_clip=False, **kwargs)

    write(32, -0.6, "%", va="bottom", fontsize=8)
    write(70, -0.6, "change", va="bottom", fontsize=8)
    for y, step in enumerate(ladder.steps):
        write(32, y, f"{100 * step.point.accuracy.value:.1f}", va="center")
        if step.change is not None:
            write(70, y, points_of(step.change.value), va="center", weight="bold")


def curves_figure(panel: Panel, look: dict[str, Style], limits: tuple[float, float]) -> Figure:
    """Accuracy against the attack's budget; adaptive attacks filled and solid, transferred ones open and dashed."""
    figure, axes = _panel(panel, limits)
    for line in panel.lines:
        _draw(axes, line, look[line.machine])
    _budget_axis(axes, [point.strength for line in panel.lines for point in line.points], panel.name)
    _legend(figure, axes)
    return figure


def models_figure(attack: str, lines: Mapping[str, Sequence[tuple[float, Estimate]]]) -> Figure:
    """Accuracy against the attack's budget, a line a model with its interval as a band.

    Args:
        lines: model -> (budget, accuracy) by rising budget.
    """
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(6.4, 4.2), layout="constrained")
        axes = figure.add_subplot()
        for n, (name, line) in enumerate(lines.items()):
            budgets, (value, low, high) = [eps for eps, _ in line], zip(*((100 * e.value, 100 * e.low, 100 * e.high)
                                                                          for _, e in line))
            axes.plot(budgets, value, color=COLOURS[n], marker=MARKERS[n], label=name)
            axes.fill_between(budgets, low, high, color=COLOURS[n], alpha=0.15, lw=0)
        axes.set_ylabel("accuracy, %")
        axes.set_ylim(-1.5, 101.5)
        axes.grid()
        _budget_axis(axes, [eps for line in lines.values() for eps, _ in line], attack)
        _legend(figure, axes)
    return figure


def _budget_axis(axes: Axes, strengths: Sequence[float], attack: str):
    """Budgets over more than a decade are drawn on a logarithmic axis, with 0 at its left end."""
    budgets = sorted(set(strengths) - {0.0})
    if budgets and budgets[-1] > 10 * budgets[0]:
        axes.set_xscale("symlog", linthresh=budgets[0], linscale=0.4)
        axes.set_xlim(0, 1.3 * budgets[-1])
        decades = 10 ** np.arange(np.ceil(np.log10(budgets[0])), np.floor(np.log10(budgets[-1])) + 1)
        axes.set_xticks([0, *decades], [f"{tick:g}" for tick in (0, *decades)])
        axes.minorticks_off()
    axes.set_xlabel(ATTACKS[attack].strength.label)


def corruption_figure(panel: Panel, look: dict[str, Style], limits: tuple[float, float]) -> Figure:
    """Accuracy against the severity of one corruption; severity 0 is the clean image."""
    figure, axes = _panel(panel, limits)
    for line in panel.lines:
        _draw(axes, line, look[line.machine])
    axes.set_xlabel(SEVERITY.label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(figure, axes)
    return figure


def severity_figure(severity: int, rows: Sequence[CorruptionRow], look: dict[str, Style]) -> Figure:
    """Bars of one severity: a group a corruption, a bar a machine, with 95 % intervals."""
    machines = list(rows[0].cells)
    width = 0.8 / len(machines)
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(max(3.8, 1.4 + 0.5 * len(rows)), 3.2 + 0.17 * len(machines)), layout="constrained")
        axes = figure.add_subplot()
        for n, machine in enumerate(machines):
            bars = [(x + (n + 0.5) * width - 0.4, point.accuracy) for x, row in enumerate(rows)
                    for point in row.cells[machine] if point.strength == severity]
            places = [x for x, _ in bars]
            axes.bar(places, [100 * e.value for _, e in bars], width, color=look[machine].colour, label=machine)
            axes.vlines(places, [100 * e.low for _, e in bars], [100 * e.high for _, e in bars], color=INTERVAL, lw=1)
        axes.set_xticks(range(len(rows)), [row.name.replace("_", " ") for row in rows], rotation=40, ha="right")
        axes.set_title(f"severity {severity}", loc="left", fontsize=10, weight="bold")
        axes.set_ylabel("accuracy, %")
        axes.set_ylim(0, 101.5)
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        _legend(figure, axes)
    return figure


def _panel(panel: Panel, limits: tuple[float, float]) -> tuple[Figure, Axes]:
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(3.8, 2.6 + 0.17 * len(panel.lines)), layout="constrained")
        axes = figure.add_subplot()
        axes.set_title(panel.name, loc="left", fontsize=10, weight="bold")
        axes.set_ylabel("accuracy, %")
        axes.set_ylim(*limits)
        axes.grid()
    return figure, axes


def _draw(axes: Axes, line: Line, style: Style):
    adaptive = line.crafted_on is None
    x = [point.strength for point in line.points]
    value, low, high = zip(*((100 * e.value, 100 * e.low, 100 * e.high) for e in (p.accuracy for p in line.points)))
    below, above = ([abs(v - end) for v, end in zip(value, ends)] for ends in (low, high))
    name = line.machine if adaptive else f"{line.machine}, made on {line.crafted_on}"
    axes.errorbar(x, value, yerr=[below, above], color=style.colour, marker=style.marker, label=name, capsize=2,
                  elinewidth=0.8, linestyle="-" if adaptive else "--",
                  markerfacecolor=style.colour if adaptive else PAPER)


def legend(figure: Figure, handles: Sequence[Artist], labels: Iterable[str]):
    """A legend below the axes: labels wider than the figure go on in a new line, which makes it higher."""
    shown = [in_lines(label, int(figure.get_figwidth() * LETTERS) - 6) for label in labels]
    figure.set_figheight(figure.get_figheight() + 0.14 * sum(label.count("\n") for label in shown))
    figure.legend(handles, shown, loc="outside lower left", frameon=False, fontsize=8, labelcolor=INK)


def title(axes: Axes, text: str, inches: float):
    """A title of axes that are so wide, in as many lines as it takes."""
    axes.set_title(in_lines(text, int(inches * LETTERS * 0.75)), loc="left", fontsize=10, weight="bold")


def in_lines(name: str, columns: int) -> str:
    """A name in lines of so many letters, broken where its parts meet."""
    lines = [""]
    for part in re.findall(rf"[^:/\[, ]{{1,{columns - 1}}}[:/\[, ]?|[:/\[, ]", name):
        if lines[-1] and len(lines[-1]) + len(part.rstrip()) > columns:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.rstrip() for line in lines)


def _legend(figure: Figure, axes: Axes):
    legend(figure, *axes.get_legend_handles_labels())


def shared_limits(panels: Sequence[Panel]) -> tuple[float, float]:
    """Accuracy axis, in percent, that fits every line of every panel: panels side by side compare at a glance."""
    return _limits([point for panel in panels for line in panel.lines for point in line.points])


def _limits(points: Sequence[Point]) -> tuple[float, float]:
    values = [100 * v for p in points for v in (p.accuracy.low, p.accuracy.high, *(a for _, a in p.chips))]
    low, high = min(values), max(values)
    room = max(0.06 * (high - low), 0.5)
    return max(low - room, -1.5), min(high + room, 101.5)
