"""SVG that lives in the page and fits its width: places are percentages, sizes of marks and text are pixels.

Colours are classes (`c0` to `c6`), which the page's style sheet sets for light, dark and print. Whatever shows a
number carries it in words (`data-tip`), which the page shows where a pointer or the keyboard is.
"""

from collections.abc import Sequence

from markupsafe import Markup

from ep_hw.analysis.points import Estimate
from ep_hw.report.figures.scales import Scale

COLOUR_COUNT = 6
MARKER_COUNT = 8
EMPTY = Markup("")


def joined(parts: Sequence[Markup]) -> Markup:
    """Parts one after another."""
    return EMPTY.join(parts)


def attributes(**named: object) -> Markup:
    """` name="value"` of each that is not None; `data_tip` is data-tip, and `class_` is class."""
    return joined([Markup(' {}="{}"').format(name.rstrip("_").replace("_", "-"), value)
                   for name, value in named.items() if value is not None])


def element(tag: str, inner: Markup | str = "", /, **named: object) -> Markup:
    """An element; what is inside is escaped unless it is markup."""
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(tag), attributes(**named), inner)


def at(share: float) -> str:
    """A share of the width or height as SVG says it."""
    return f"{100 * share:.2f}%"


def line(x1: float, y1: float, x2: float, y2: float, kind: str, **named: object) -> Markup:
    """From one place to another, shares of width and height."""
    return element("line", class_=kind, x1=at(x1), y1=at(y1), x2=at(x2), y2=at(y2), **named)


def box(x: float, y: float, width: float, height: float, kind: str, **named: object) -> Markup:
    """A rectangle, shares of width and height."""
    return element("rect", class_=kind, x=at(x), y=at(y), width=at(width), height=at(height), **named)


def mark(x: float, y: float, shape: int, kind: str, **named: object) -> Markup:
    """One of the page's markers."""
    return element("use", href=f"#mark{shape % MARKER_COUNT}", class_=f"mark {kind}", x=at(x), y=at(y), **named)


def text(x: float, y: float, written: str, kind: str, dx: float = 0, dy: float = 0) -> Markup:
    """Text at a place, moved by so many pixels."""
    return element("text", written, class_=kind, x=at(x), y=at(y), dx=f"{dx:g}", dy=f"{dy:g}")


def band(x: Sequence[float], low: Sequence[float], high: Sequence[float], kind: str) -> Markup:
    """The area between two lines, shares of width and height."""
    corners = [*zip(x, low), *reversed([*zip(x, high)])]
    points = " ".join(f"{100 * a:.2f},{100 * b:.2f}" for a, b in corners)
    area = element("polygon", points=points)
    return element("svg", area, class_=kind, viewBox="0 0 100 100", preserveAspectRatio="none", width="100%",
                   height="100%")


def whisker_across(estimate: Estimate, y: float, scale: Scale, kind: str) -> Markup:
    """An interval along the horizontal axis."""
    low, high = (scale.place(end) for end in (estimate.low, estimate.high))
    return line(max(low, 0), y, min(high, 1), y, f"whisker {kind}")


def whisker_up(estimate: Estimate, x: float, scale: Scale, kind: str) -> Markup:
    """An interval along the vertical axis, which rises upwards."""
    low, high = (1 - scale.place(end) for end in (estimate.low, estimate.high))
    return line(x, min(low, 1), x, max(high, 0), f"whisker {kind}")


def grid_across(scale: Scale) -> Markup:
    """A line at each tick of the horizontal axis."""
    return joined([line(place, 0, place, 1, "grid") for place, _ in scale.spaced])
