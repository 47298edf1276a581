"""The frame of every page: an answer, one picture, what a reader may trust and quote, then sections that unfold.

A page is one HTML file that needs no network. Its script and style sheet lie beside this module; without the script
all that it says is still there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

EMPTY = Markup("")
MARKERS = (   # of charts, about (0, 0), pixels
    '<circle r="4.5"/>', '<rect x="-4" y="-4" width="8" height="8"/>', '<path d="M0-5.5 5 4H-5z"/>',
    '<path d="M0-5.5 5.5 0 0 5.5-5.5 0z"/>', '<path d="M0 5.5 5-4H-5z"/>',
    '<path d="M-1.7-5h3.4v3.3H5v3.4H1.7V5h-3.4V1.7H-5v-3.4h3.3z"/>',
    '<path d="M-5-3-3-5 0-2 3-5 5-3 2 0 5 3 3 5 0 2-3 5-5 3-2 0z"/>', '<path d="M-5.5 0 4-5V5z"/>')


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


def environment() -> Environment:
    """For templates of pages."""
    return Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


@cache
def beside(name: str) -> str:
    """The text of a file beside this module."""
    return resources.files(__package__).joinpath(name).read_text("utf-8")


def in_frame(page: Page) -> str:
    """A page as the text of its file."""
    return environment().from_string(beside("frame.html")).render(
        page=page, css=Markup(beside("page.css")), script=Markup(beside("page.js")), markers=_markers())


def filled(sections: Sequence[Section]) -> list[Section]:
    """The sections that have something in them."""
    return [section for section in sections if section.body.strip()]


def _markers() -> Markup:
    drawn = "".join(f'<g id="mark{n}" fill="var(--fill)" stroke="currentColor" stroke-width="1.5">{shape}</g>'
                    for n, shape in enumerate(MARKERS))
    return Markup(drawn)
