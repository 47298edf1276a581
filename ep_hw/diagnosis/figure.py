"""The gap between two machines, layer by layer, against the time step."""

import io

import matplotlib
from matplotlib.figure import Figure

from ep_hw.diagnosis.divergence import Divergence
from ep_hw.report.figures.lettering import literal
from ep_hw.report.figures.plots import COLOURS, MARKERS

_RC = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "ep-hw"}
_SMALLEST = 1e-7   # gap that the logarithmic part of the axis shows; below it the axis is linear


def draw_gaps(divergence: Divergence, kind: str) -> bytes:
    """A figure as "png" or "svg"; the same comparison gives the same bytes."""
    with matplotlib.rc_context(_RC):
        figure = Figure(figsize=(6, 3.4), layout="constrained")
        axes = figure.add_subplot()
        steps = range(1, len(divergence.gaps) + 1)
        for n, (layer, gaps) in enumerate(zip(divergence.layers, divergence.gaps.T)):
            axes.plot(steps, gaps, label=layer, color=COLOURS[n % len(COLOURS)], marker=MARKERS[n % len(MARKERS)],
                      markersize=3, linewidth=1)
        axes.set_yscale("symlog", linthresh=_SMALLEST)
        axes.set_yticks([0, *(10.0**k for k in range(-7, 1))])
        axes.set_ylim(0, 1.5)
        axes.axhline(divergence.tolerance, color="0.5", linewidth=0.8, linestyle=":")
        axes.set(xlabel="time step", ylabel="largest difference of a state",
                 title=f"{divergence.first} against {divergence.second}")
        axes.legend(frameon=False)
        out = io.BytesIO()
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        literal(figure).savefig(out, format=kind, dpi=150, metadata=metadata)
    return out.getvalue()
