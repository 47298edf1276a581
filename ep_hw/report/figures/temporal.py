"""The figure of attack time against prediction time."""

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from ep_hw.evaluation.temporal import TemporalPoint, worst_over_times
from ep_hw.report.figures.plots import INK, RC


def temporal_figure(points: Sequence[TemporalPoint]) -> Figure:
    """The grid of accuracies (attack time by prediction step), and accuracy against prediction step."""
    attacked = [point for point in points if point.attack_time]
    steps = points[0].steps
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(9.6, 3.8), layout="constrained")
        left, right = figure.subplots(1, 2)
        grid = np.array([[row["accuracy"] for row in point.rows()] for point in attacked])
        image = left.imshow(grid, cmap="viridis", vmin=0, vmax=1, aspect="auto")
        for (i, j), value in np.ndenumerate(grid):
            left.text(j, i, f"{100 * value:.0f}", ha="center", va="center", fontsize=8,
                      color="white" if value < 0.6 else "black")
        left.set_xticks(range(len(steps)), steps)
        left.set_yticks(range(len(attacked)), [point.attack_time for point in attacked])
        left.set_ylabel("attack time, synchronous iterations")
        left.set_title(f"accuracy under pgd_l2@{points[0].eps:g}, %", loc="left", fontsize=10, weight="bold")
        figure.colorbar(image, ax=left, format=PercentFormatter(1))
        _curves(right, points)
        for axes in (left, right):
            axes.set_xlabel("time steps before the prediction")
    return figure


def _curves(axes: Axes, points: Sequence[TemporalPoint]):
    shades = matplotlib.colormaps["viridis"](np.linspace(0, 0.85, len(points) - 1))
    for point, colour in zip(points, [INK, *shades]):
        name = f"T = {point.attack_time}" if point.attack_time else "clean"
        axes.plot(point.steps, [row["accuracy"] for row in point.rows()], color=colour, marker="o", markersize=3,
                  label=name)
    axes.plot(points[0].steps, worst_over_times(points), color="#b3261e", ls="--", label="worst over T")
    axes.set_xscale("log")
    axes.set_xticks(points[0].steps, list(map(str, points[0].steps)))
    axes.set_xticks([], minor=True)
    axes.set_ylim(-0.02, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_title("accuracy against free-phase steps", loc="left", fontsize=10, weight="bold")
    axes.grid()
    axes.legend(frameon=False, fontsize=8, ncols=2)
