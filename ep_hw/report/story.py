"""What a study or a measurement says, in the frame of every page: its question, an answer, a picture, the numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ep_hw.report.frame import Drawn, Page, Section, environment, filled, in_frame
from mapping.files import slug, write_atomically
from mapping.program import Table

FILE = "report.html"


@dataclass(frozen=True, kw_only=True)
class Story:
    """A study or a measurement.

    Attributes:
        title: the question.
        answer: one sentence.
        pictures: charts that show it.
        table: the numbers.
        facts: (term, what is said of it): what was held fixed.
        sections: (title, charts) behind it; those without charts are left out.
        command: that made it.
        switches: see `ep_hw.report.frame.Page`.
    """

    title: str
    answer: str
    pictures: Sequence[Drawn]
    table: Table
    facts: Sequence[tuple[str, str]] = ()
    sections: Sequence[tuple[str, Sequence[Drawn]]] = ()
    command: str = ""
    switches: Sequence[tuple[str, Sequence[tuple[int, str]]]] = ()


def told(story: Story) -> str:
    """The page as text."""
    parts: Any = environment().get_template("parts.html").module
    sections = [*(Section(slug(title), title, parts.figures(drawn), folded=n > 0)
                  for n, (title, drawn) in enumerate((title, list(drawn)) for title, drawn in story.sections if drawn)),
                Section("numbers", "The numbers", parts.plain(story.table), folded=False),
                Section("provenance", "Provenance", parts.made_by(story.command, ()))]
    return in_frame(Page(title=story.title, answer=story.answer, picture=_picture(parts, story.pictures),
                         facts=story.facts, switches=story.switches, sections=filled(sections)))


def _picture(parts: Any, pictures: Sequence[Drawn]) -> Markup:
    return Markup(parts.figures(pictures, layout="grid tiny" if len(pictures) > 2 else "grid"))


def write_story(folder: Path, story: Story) -> Path:
    """Write the page into an existing folder; the same story gives the same bytes.

    Returns:
        The file.

    Raises:
        Refusal: it cannot be written.
    """
    write_atomically(path := folder / FILE, told(story).encode())
    return path
