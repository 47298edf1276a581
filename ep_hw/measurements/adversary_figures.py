"""Figures of adversaries: the transfer matrix, averaged gradients, slices of the loss. Data in, Figure out."""

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from ep_hw.measurements.landscape import Slice
from ep_hw.report.figures.plots import COLOURS, RC, in_lines, title


def transfer_figure(rows: Sequence[dict]) -> Figure:
    """Heat map of accuracies: sources down, targets across."""
    names = list(dict.fromkeys(row["source"] for row in rows))
    grid = np.array([row["accuracy"] for row in rows]).reshape(len(names), -1)
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(2.6 + 0.9 * len(names), 1.8 + 0.7 * len(names)), layout="constrained")
        axes = figure.subplots()
        image = axes.imshow(grid, cmap="viridis", vmin=0, vmax=1)
        for (i, j), value in np.ndenumerate(grid):
            axes.text(j, i, f"{100 * value:.0f}", ha="center", va="center", fontsize=9,
                      weight="bold" if i == j else "normal", color="white" if value < 0.6 else "black")
        shown = [in_lines(name, 24) for name in names]
        upright = any("\n" in name for name in shown)   # several lines aslant would cross each other
        axes.set_xticks(range(len(names)), shown, rotation=90 if upright else 30, ha="center" if upright else "right")
        axes.set_yticks(range(len(names)), shown)
        axes.set_xlabel("shown to")
        axes.set_ylabel("made on")
        axes.set_title(f"accuracy under {rows[0]['threat']}@{rows[0]['strength']:g}, %", loc="left", fontsize=10,
                       weight="bold")
        figure.colorbar(image, ax=axes, format=PercentFormatter(1))
    return figure


def eot_figure(rows: Sequence[dict]) -> Figure:
    """Cosine and robust accuracy against the number of gradients averaged."""
    draws = [row["draws"] for row in rows]
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(7.2, 3.2), layout="constrained")
        panels = zip(figure.subplots(1, 2), ("cosine", "accuracy"), ("cosine", "ci"), COLOURS)
        for axes, key, bounds, colour in panels:
            value = np.array([row[key] for row in rows])
            bars = [abs(value - [row[f"{bounds}_{end}"] for row in rows]) for end in ("low", "high")]
            axes.errorbar(draws, value, yerr=bars, marker="o", color=colour, capsize=2, elinewidth=0.8)
            axes.set_xscale("log")
            axes.set_xticks(draws, draws)
            axes.set_xlabel("gradients averaged")
            axes.grid()
        left, right = figure.axes
        left.set_title("cosine to the mean over many", loc="left", fontsize=10, weight="bold")
        right.set_title(f"accuracy under pgd_l2@{rows[0]['eps']:g}", loc="left", fontsize=10, weight="bold")
        right.yaxis.set_major_formatter(PercentFormatter(1))
        right.set_ylim(0, 1)
    return figure


def slice_figure(slices: Sequence[Slice]) -> Figure:
    """The loss over both directions; a panel a machine, one scale for all."""
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(1.2 + 3.0 * len(slices), 3.3), layout="constrained")
        top = max(s.loss.max() for s in slices)
        for axes, s in zip(figure.subplots(1, len(slices), squeeze=False)[0], slices):
            levels = np.linspace(0, max(top, 1e-6), 13)
            image = axes.contourf(s.places, s.places, s.loss, levels, cmap="viridis", extend="max")
            axes.plot(0, 0, "o", color="white", markeredgecolor="black")
            axes.set_xlabel("along a random direction, l2")
            axes.set_ylabel(f"along {s.gradient}, l2")
            title(axes, s.machine, 2.4)
        figure.colorbar(image, ax=figure.axes, label="cross-entropy")
    return figure
