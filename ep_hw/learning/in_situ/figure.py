"""A comparison drawn, as a figure and on a page: accuracy of each variant, and of each chip epoch by epoch."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from ep_hw.analysis.points import Estimate
from ep_hw.learning.in_situ.comparison import VARIANTS, summarise
from ep_hw.report.drawings import looks_of
from ep_hw.report.figures.charts import Curve, Look, Row, Value, curves_chart, rows_chart
from ep_hw.report.figures.plots import COLOURS, INK, MARKERS, PAPER, RC
from ep_hw.report.figures.scales import fitting, strengths
from ep_hw.report.frame import Drawn
from ep_hw.report.wording import interval, percent, short_percent


def tuning_figure(rows: Sequence[dict], watched: Mapping[int, Sequence[float]]) -> Figure:
    """Accuracy of each variant on the left, of each chip over the epochs on the right.

    Args:
        rows: of the comparison.
        watched: chip -> accuracy on validation images before tuning and after each epoch.
    """
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(8.4, 3.4), layout=ConstrainedLayoutEngine(wspace=0.08))
        left, right = figure.subplots(1, 2, width_ratios=(1.2, 1))
        _variants_panel(left, rows)
        _epochs_panel(right, watched)
    return figure


def _variants_panel(axes: Axes, rows: Sequence[dict]):
    summaries = summarise(rows)
    for y, s in enumerate(summaries):
        chips = [100 * row["accuracy"] for row in rows if row["variant"] == s.variant]
        colour = INK if s.variant == "digital" else COLOURS[VARIANTS.index(s.variant) - 1]
        axes.plot([100 * s.low, 100 * s.high], [y, y], color=colour, lw=1)
        axes.plot([100 * s.accuracy] * 2, [y - 0.3, y + 0.3], color=colour, lw=2)
        if len(chips) > 1:
            axes.plot(chips, y + np.linspace(-0.2, 0.2, len(chips)), "o", ms=3.4, markerfacecolor=PAPER,
                      markeredgecolor=colour, markeredgewidth=0.7)
        axes.annotate(f"{100 * s.accuracy:.1f}", (1, y), (32, 0), xycoords=axes.get_yaxis_transform(), va="center",
                      textcoords="offset points", ha="right", annotation_clip=False)
    axes.set_yticks(range(len(summaries)), [s.variant for s in summaries])
    axes.set_ylim(len(summaries) - 0.5, -0.5)
    axes.set_xlabel("accuracy on test images, %")
    axes.set_title("mean over chips, 95 %", loc="left", fontsize=10, weight="bold")
    axes.grid(axis="x")
    axes.tick_params(length=0)


def _epochs_panel(axes: Axes, watched: Mapping[int, Sequence[float]]):
    for n, (chip, line) in enumerate(watched.items()):
        axes.plot(range(len(line)), [100 * value for value in line], marker=MARKERS[n % len(MARKERS)], markersize=4,
                  color=COLOURS[n % len(COLOURS)], label=f"chip {chip}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epochs of tuning")
    axes.set_ylabel("accuracy on validation images, %")
    axes.set_title("tuning in situ", loc="left", fontsize=10, weight="bold")
    axes.grid()
    axes.legend(frameon=False, fontsize=8, loc="lower right")


def tuning_charts(rows: Sequence[dict], watched: Mapping[int, Sequence[float]]) -> list[Drawn]:
    """What `tuning_figure` draws, for a page."""
    return [_variants(rows), _epochs(watched)]


def _variants(rows: Sequence[dict]) -> Drawn:
    shown = [(s, Estimate(s.accuracy, s.low, s.high), [row["accuracy"] for row in rows if row["variant"] == s.variant])
             for s in summarise(rows)]
    lines = [Row(s.variant, [Value(own, f"{s.variant}: {percent(own.value)} {interval(own)}"
                                   f"{f', mean of {len(chips)} chips' if len(chips) > 1 else ''}")],
                 Look(VARIANTS.index(s.variant), VARIANTS.index(s.variant)), short_percent(own.value),
                 chips=chips if len(chips) > 1 else ()) for s, own, chips in shown]
    scale = fitting([end for _, own, chips in shown for end in (own.low, own.high, *chips)])
    return Drawn("Accuracy on test images", rows_chart(lines, "; ".join(
        f"{line.name} {line.written} %" for line in lines), scale))


def _epochs(watched: Mapping[int, Sequence[float]]) -> Drawn:
    """Without intervals: the same validation images at every epoch."""
    looks = looks_of([f"chip {chip}" for chip in watched], "chip")
    curves = [Curve(f"chip {chip}", looks[f"chip {chip}"], [
        (epoch, Value(Estimate(value, value, value), f"chip {chip}, epoch {epoch}: {percent(value)}"))
        for epoch, value in enumerate(line)]) for chip, line in watched.items()]
    longest = max(map(len, watched.values()))
    alt = "; ".join(f"{curve.points[0][1].tip}, {curve.points[-1][1].tip}" for curve in curves)
    up = fitting([value for line in watched.values() for value in line])
    return Drawn("Tuning in situ: accuracy on validation images, percent", curves_chart(
        curves, strengths(range(longest)), up, "epochs of tuning", alt))
