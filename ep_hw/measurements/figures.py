"""Figures of the measurements, in the style of the report's: data in, matplotlib Figure out."""

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from ep_hw.measurements.events import sent_by_sweep, threshold_name
from ep_hw.measurements.uncertainty import SMALL, Uncertainty
from ep_hw.report.figures.plots import COLOURS, INK, MARKERS, RC, legend


def events_figure(rows: Sequence[dict], period: int) -> Figure:
    """Accuracy and agreement against events an image; beside it, when the events are sent.

    Args:
        rows: from `EventPoint.row`, whole states first.
        period: time steps of a sweep.
    """
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(8.4, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        _accuracy_panel(left, rows)
        _time_panel(right, rows, period)
    return figure


def _accuracy_panel(axes: Axes, rows: Sequence[dict]):
    whole, thresholds = rows[0], rows[1:]
    for group, marker, line in (([whole], "s", "none"), (thresholds, "o", "-")):
        x, value = ([row[key] for row in group] for key in ("events", "accuracy"))
        bars = [[100 * abs(row["accuracy"] - row[end]) for row in group] for end in ("ci_low", "ci_high")]
        axes.errorbar(x, 100 * np.array(value), yerr=bars, marker=marker, linestyle=line, color=COLOURS[0], capsize=2,
                      elinewidth=0.8, label="accuracy" if group is thresholds else "accuracy, whole states")
    axes.plot([row["events"] for row in thresholds], [100 * row["agreement"] for row in thresholds], "--^",
              color=COLOURS[1], markersize=4, label="agreement with the reference")
    for row in thresholds:
        axes.annotate(f"{row['threshold']:g}", (row["events"], 100 * row["ci_low"]), (0, -3), fontsize=8, ha="center",
                      va="top", textcoords="offset points")
    axes.set_xscale("log")
    axes.set_xlabel("events an image")
    axes.set_ylabel("%")
    axes.set_title("accuracy against events, by threshold", loc="left", fontsize=10, weight="bold")
    axes.margins(x=0.1, y=0.12)
    axes.grid()
    axes.legend(frameon=False, fontsize=8, loc="lower right")


def _time_panel(axes: Axes, rows: Sequence[dict], period: int):
    shades = matplotlib.colormaps["viridis"](np.linspace(0, 0.85, len(rows) - 1))
    for row, colour in zip(rows, [INK, *shades]):
        sent = sent_by_sweep(row["events_per_step"], period)
        axes.plot(period * np.arange(1, len(sent) + 1), np.where(sent > 0, sent, np.nan), color=colour, lw=1,
                  label=threshold_name(row["threshold"]))
    axes.set_yscale("log")
    axes.set_xlabel("time step")
    axes.set_ylabel("events a sweep, mean over images")
    axes.set_title("when they are sent", loc="left", fontsize=10, weight="bold")
    axes.margins(x=0.02, y=0.05)
    axes.grid()
    axes.legend(frameon=False, fontsize=8, title="threshold", title_fontsize=8, ncols=2, loc="upper right")


def gradients_figure(rows: Sequence[dict]) -> Figure:
    """Cosine to the adjoint and fraction of zero entries against beta; a column a loss, a line a machine."""
    losses, names = (list(dict.fromkeys(row[key] for row in rows)) for key in ("loss", "machine"))
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(1.2 + 3.7 * len(losses), 5.6), layout="constrained")
        grid = figure.subplots(2, len(losses), sharex=True, sharey="row", squeeze=False)
        for column, loss in zip(grid.T, losses):
            for number, name in enumerate(names):
                line = [row for row in rows if (row["loss"], row["machine"]) == (loss, name)]
                _gradient_lines(column, line, COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)])
            column[0].set_title(loss.replace("_", "-"), loc="left", fontsize=10, weight="bold")
            column[1].set_xlabel("strength of the nudge, beta")
        grid[0, 0].set_ylabel("cosine to the adjoint, median")
        grid[1, 0].set_ylabel("entries that are zero, %")
        legend(figure, *grid[0, 0].get_legend_handles_labels())
    return figure


def _gradient_lines(column: Sequence[Axes], line: Sequence[dict], colour: str, marker: str):
    beta, cosine = ([row[key] for row in line] for key in ("beta", "cosine"))
    bars = [[abs(row["cosine"] - row[end]) for row in line] for end in ("cosine_low", "cosine_high")]
    column[0].errorbar(beta, cosine, yerr=bars, color=colour, marker=marker, label=line[0]["machine"], capsize=2,
                       elinewidth=0.8)
    column[1].plot(beta, [100 * row["zero_entries"] for row in line], color=colour, marker=marker)
    for axes in column:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.grid(visible=True)


def uncertainty_figure(curves: Sequence[Uncertainty]) -> Figure:
    """Chance of another prediction against the size of the perturbation, both logarithmic; a line a machine."""
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(5.6, 3.8), layout="constrained")
        axes = figure.subplots()
        for n, u in enumerate(curves):
            share = u.changed.mean(0) / u.draws
            name = u.machine if u.alpha is None else f"{u.machine}: alpha {u.alpha:.2f} ({u.low:.2f} to {u.high:.2f})"
            axes.plot(u.sizes, np.where(share > 0, share, np.nan), marker=MARKERS[n % len(MARKERS)],
                      color=COLOURS[n % len(COLOURS)], label=name)
        axes.axhline(SMALL, color=INK, lw=0.7, ls=":")
        axes.annotate("fitted below", (0, SMALL), (4, -4), axes.get_yaxis_transform(), "offset points", fontsize=8,
                      va="top")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(min(curves[0].sizes) / 1.2, max(curves[0].sizes) * 1.2)   # even where nothing changed
        axes.set_xlabel("size of a random perturbation, l2")
        axes.set_ylabel("predictions changed")
        axes.grid()
        legend(figure, *axes.get_legend_handles_labels())
    return figure
