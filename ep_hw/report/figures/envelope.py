"""The figure of adversarial success: a row a network, a column an attack, a line a platform."""

from collections.abc import Mapping
from itertools import cycle

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from ep_hw.report.figures.plots import COLOURS, INK, MARKERS, RC, legend
from ep_hw.threats.registry import ATTACKS

Envelope = tuple[list[float], NDArray[np.float64]]   # strengths, and successes (efforts, strengths)


def envelope_figure(curves: Mapping[str, Mapping[str, Mapping[str, Envelope]]]) -> Figure:
    """Network -> platform -> attack -> its envelope."""
    attacks = list(dict.fromkeys(attack for ones in curves.values() for own in ones.values() for attack in own))
    labels = list(dict.fromkeys(label for ones in curves.values() for label in ones))
    looks = dict(zip(labels, zip(cycle((INK, *COLOURS)), cycle(("o", *MARKERS)))))
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(3.2 * len(attacks), 2.6 * len(curves) + 0.25 * len(labels)), layout="constrained")
        grid = figure.subplots(len(curves), len(attacks), squeeze=False, sharey=True)
        for row, (kind, ones) in zip(grid, curves.items()):
            for axes, attack in zip(row, attacks):
                for label, own in ones.items():
                    _draw(axes, own[attack], label, *looks[label])
                axes.set_title(f"{kind}, {attack}", loc="left", fontsize=10, weight="bold")
                axes.set_xlabel(ATTACKS[attack].strength.label)
                axes.set_ylim(-0.02, 1.02)
                axes.yaxis.set_major_formatter(PercentFormatter(1))
                axes.grid()
        handles = {label: handle for axes in grid[:, 0]
                   for handle, label in zip(*axes.get_legend_handles_labels())}
        legend(figure, list(handles.values()), handles)
    return figure


def _draw(axes: Axes, envelope: Envelope, label: str, colour: str, marker: str):
    strengths, successes = envelope
    axes.plot(strengths, successes[-1], color=colour, marker=marker, markersize=4, label=label)
    if len(successes) > 1:
        axes.plot(strengths, successes[0], color=colour, ls=":", lw=0.9)
