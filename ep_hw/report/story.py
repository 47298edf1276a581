"""What a study or a measurement says, in the frame of every page: its question, an answer, a picture, the numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup
from matplotlib.figure import Figure

from ep_hw.report.exports import write_measurement
from ep_hw.report.figures.drawing import element, joined
from ep_hw.report.frame import Drawn, Page, Section, environment, filled, in_frame
from mapping.files import slug, write_atomically
from mapping.program import Table

FILE = "report.html"
LONG = 40   # rows of a table that a reader unfolds


class Told(NamedTuple):
    """What a measurement found, in words.

    Attributes:
        question: that it answers.
        answer: one sentence.
    """

    question: str
    answer: str


@dataclass(frozen=True, kw_only=True)
class Story:
    """A study or a measurement.

    Attributes:
        title: the question.
        answer: one sentence.
        pictures: charts that show it.
        tables: the numbers.
        facts: (term, what is said of it): what was held fixed.
        sections: (title, charts) behind it; those without charts are left out.
        command: that made it.
        switches: see `ep_hw.report.frame.Page`.
    """

    title: str
    answer: str
    pictures: Sequence[Drawn]
    tables: Sequence[Table]
    facts: Sequence[tuple[str, str]] = ()
    sections: Sequence[tuple[str, Sequence[Drawn]]] = ()
    command: str = ""
    switches: Sequence[tuple[str, Sequence[tuple[int, str]]]] = ()


def told(story: Story) -> str:
    """The page as text."""
    parts: Any = environment().get_template("parts.html").module
    short = [table for table in story.tables if len(table.rows) <= LONG]
    long = [table for table in story.tables if len(table.rows) > LONG]
    sections = [*(Section(slug(title), title, parts.figures(drawn), folded=n > 0)
                  for n, (title, drawn) in enumerate((title, list(drawn)) for title, drawn in story.sections if drawn)),
                Section("numbers", "The numbers", _tables(parts, short), folded=False),
                *(Section(f"all-{slug(table.title)}", f"All {len(table.rows)} rows: {table.title}",
                          Markup(parts.plain(table))) for table in long),
                Section("provenance", "Provenance", parts.made_by(story.command, ()))]
    return in_frame(Page(title=story.title, answer=story.answer, picture=_picture(parts, story.pictures),
                         facts=story.facts, switches=story.switches, sections=filled(sections)))


def _tables(parts: Any, tables: Sequence[Table]) -> Markup:
    return joined([element("h3", table.title) + parts.plain(table) for table in tables])


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


def write_told(out: Path, name: str, settings: Mapping[str, object], rows: list[dict], table: Table, figure: Figure,
               told: Told, command: str, pictures: Sequence[Drawn]) -> list[Path]:
    """Write a measurement's files (see `write_measurement`), then its page.

    Args:
        table: of the rows.
        figure: of the rows, as files.
        told: what they say.
        command: that made them.
        pictures: the figure as the page draws it.
    """
    paths = write_measurement(out, name, dict(settings), rows, figure)
    counted = [("images", str(rows[0]["images"]))] if rows and "images" in rows[0] else []
    facts = [(key.replace("_", " "), f"{value:g}" if isinstance(value, float) else str(value))
             for key, value in settings.items() if isinstance(value, (int, float, str)) and value != ""]
    return [*paths, write_story(out, Story(
        title=told.question, answer=told.answer, pictures=pictures, tables=[table], facts=[*facts, *counted],
        command=command))]
