"""Figures before they are drawn: texts show what they are given, and places are found once."""

from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter, FuncFormatter


def literal(figure: Figure) -> Figure:
    """The figure, showing every text as it is written: no $ of a name begins a formula.

    Numbers on axes, which matplotlib writes as formulas itself, stay.
    """
    numbers = {text for one in figure.axes for axis in (one.xaxis, one.yaxis) for text in _numbers(axis)}
    for text in figure.findobj(Text):
        text.set_parse_math(text in numbers)
    return figure


def settled(figure: Figure) -> Figure:
    """The figure with everything in its place, however often it is drawn: finding places takes longer than drawing."""
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()
        figure.set_layout_engine(None)
    return figure


def _numbers(axis: Axis) -> list[Text]:
    """The texts of an axis that its own formatter writes."""
    axis.get_ticklabels(which="both")   # makes the ticks
    if isinstance(axis.get_major_formatter(), (FixedFormatter, FuncFormatter)):
        return []
    ticks = (*axis.get_major_ticks(), *axis.get_minor_ticks())
    return [axis.offsetText, *(label for tick in ticks for label in (tick.label1, tick.label2))]
