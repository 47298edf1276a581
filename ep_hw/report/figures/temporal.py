"""Attack time against prediction time: the figure, and the charts of a page."""

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from ep_hw.analysis.points import Estimate, estimate
from ep_hw.evaluation.temporal import TemporalPoint, worst_over_times
from ep_hw.report.drawings import looks_of
from ep_hw.report.figures.charts import Curve, Look, Value, curves_chart, heat_chart
from ep_hw.report.figures.plots import INK, RC
from ep_hw.report.figures.scales import PERCENT, ordered
from ep_hw.report.frame import Drawn
from ep_hw.report.wording import interval, percent


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


def temporal_charts(points: Sequence[TemporalPoint]) -> list[Drawn]:
    """Accuracy against prediction step, a line an attack time; and the grid of both times."""
    machine, steps = points[0].machine, list(map(str, points[0].steps))
    attacked = [point for point in points if point.attack_time]
    names = [f"T = {point.attack_time}" for point in attacked]
    looks = list(looks_of(names, "time").values())[1:]
    curves = [Curve("clean", Look(0, 0), _values(points[0], "clean")),
              *(Curve(name, look, _values(point, name)) for name, look, point in zip(names, looks, attacked))]
    if not attacked:
        return [_against_steps(machine, curves, steps)]
    worst = [estimate([value], len(points[0].correct)) for value in worst_over_times(points)]
    curves.append(Curve("worst over T", Look(0, 1), [
        (n, Value(one, f"worst over T, step {step}: {percent(one.value)} {interval(one)}"))
        for n, (step, one) in enumerate(zip(steps, worst))], dashed=True))
    cells = {(i, j): value for i, (point, name) in enumerate(zip(attacked, names))
             for j, (_, value) in enumerate(_values(point, name))}
    times = [str(point.attack_time) for point in attacked]
    grid = heat_chart(times, steps, cells, ("T", "steps"), (0, 1), "; ".join(value.tip for value in cells.values()))
    return [_against_steps(machine, curves, steps),
            Drawn(f"{machine}: accuracy under pgd_l2 at {points[0].eps:g}, attack time T by steps, percent", grid)]


def _values(point: TemporalPoint, name: str) -> list[tuple[float, Value]]:
    """(place, accuracy) at every prediction step."""
    rows, images = point.rows(), len(point.correct)
    accuracies = [Estimate(row["accuracy"], row["ci_low"], row["ci_high"]) for row in rows]
    return [(n, Value(one, f"{name}, step {row['steps']}: {percent(one.value)} {interval(one)}, {images} images"))
            for n, (row, one) in enumerate(zip(rows, accuracies))]


def _against_steps(machine: str, curves: Sequence[Curve], steps: Sequence[str]) -> Drawn:
    alt = "; ".join(curve.points[-1][1].tip for curve in curves)
    return Drawn(f"{machine}: accuracy against time steps before the prediction, percent",
                 curves_chart(curves, ordered(steps), PERCENT, "time steps before the prediction", alt))
