"""The frame of every page: an answer, one picture, what a reader may trust and quote, then sections that unfold.

A page is one HTML file that needs no network. Its script and style sheet lie beside this module; without the script
all that it says is still there.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib import resources

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup, escape

from ep_hw.report.figures.drawing import attributes

EMPTY = Markup("")
MARKERS = (   # of charts, about (0, 0), pixels
    '<circle r="4.5"/>', '<rect x="-4" y="-4" width="8" height="8"/>', '<path d="M0-5.5 5 4H-5z"/>',
    '<path d="M0-5.5 5.5 0 0 5.5-5.5 0z"/>', '<path d="M0 5.5 5-4H-5z"/>',
    '<path d="M-1.7-5h3.4v3.3H5v3.4H1.7V5h-3.4V1.7H-5v-3.4h3.3z"/>',
    '<path d="M-5-3-3-5 0-2 3-5 5-3 2 0 5 3 3 5 0 2-3 5-5 3-2 0z"/>', '<path d="M-5.5 0 4-5V5z"/>')


@dataclass(frozen=True)
class Drawn:
    """A chart with what stands around it.

    Attributes:
        title: above it.
        drawn: the chart.
        caption: below it.
        machine: number of the machine that it is about, where it is about one.
        threat: number of the kind of threat, likewise.
    """

    title: str
    drawn: Markup
    caption: str = ""
    machine: int | None = None
    threat: int | None = None

    @property
    def switched(self) -> Markup:
        """What the page's switches look at."""
        return attributes(data_machine=self.machine, data_threat=self.threat)


@dataclass(frozen=True)
class Section:
    """A part of a page below its answer.

    Attributes:
        id: that contents and links lead to.
        title: above it.
        body: inside.
        folded: whether a reader opens it.
    """

    id: str
    title: str
    body: Markup
    folded: bool = True


@dataclass(frozen=True, kw_only=True)
class Page:
    """What a page says, the most important first.

    Attributes:
        title: what was asked, of what.
        subtitle: how much it is based on.
        answer: one sentence.
        picture: that shows it.
        alarm: why the answer may not be believed; empty where nothing speaks against it.
        facts: (term, what is said of it).
        quote: the answer as a paper would say it, or empty.
        switches: (kind of thing, (number, name) of each) that a reader shows and hides.
        sections: everything else; those without content are left out.
    """

    title: str
    answer: str
    picture: Markup
    subtitle: str = ""
    alarm: Markup = EMPTY
    facts: Sequence[tuple[str, str | Markup]] = ()
    quote: str = ""
    switches: Sequence[tuple[str, Sequence[tuple[int, str]]]] = ()
    sections: Sequence[Section] = ()


def environment(names: Mapping[str, str] | None = None) -> Environment:
    """For templates of pages.

    Args:
        names: what a machine is called -> its full name, of those that are called otherwise.
    """
    own = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
                      loader=FunctionLoader(beside))
    own.filters |= {"cell": cell_text, "breakable": partial(breakable, names or {})}
    return own


@cache
def beside(name: str) -> str:
    """The text of a file beside this module."""
    return resources.files(__package__).joinpath(name).read_text("utf-8")


def in_frame(page: Page) -> str:
    """A page as the text of its file."""
    return environment().get_template("frame.html").render(
        page=page, css=Markup(beside("page.css")), script=Markup(beside("page.js")), markers=_markers())


def filled(sections: Sequence[Section]) -> list[Section]:
    """The sections that have something in them."""
    return [section for section in sections if section.body.strip()]


def _markers() -> Markup:
    drawn = "".join(f'<g id="mark{n}" fill="var(--fill)" stroke="currentColor" stroke-width="1.5">{shape}</g>'
                    for n, shape in enumerate(MARKERS))
    return Markup(drawn)


def breakable(names: Mapping[str, str], machine: str) -> Markup:
    """What a machine is called, which may be broken where its parts meet, and its full name for who points at it."""
    shown = Markup(re.sub(r"([:/\[,])", r"\1<wbr>", str(escape(machine))))
    return Markup('<span title="{}">{}</span>').format(names[machine], shown) if machine in names else shown


def cell_text(value: object) -> str:
    """A plain value in a table: floats at six significant digits, a dash for None, lists and dicts spelled out."""
    if value is None:
        return "\u2013"
    if isinstance(value, dict):
        return ", ".join(f"{name} = {cell_text(inner)}" for name, inner in value.items())
    if isinstance(value, (list, tuple)):
        return " ".join(map(cell_text, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)
