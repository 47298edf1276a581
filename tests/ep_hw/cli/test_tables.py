"""Tables on narrow terminals: no line is too long, no word is broken, nothing is left out."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from ep_hw.cli import printing
from ep_hw.cli.tables import fitted, pieces, wrapped
from mapping.program import Table

WORDS = st.text(st.sampled_from("abc@.=_,[]:\u4e2d "), min_size=1, max_size=14).map(str.strip).filter(bool)
CELLS = st.lists(WORDS, max_size=4).map(" ".join) | st.floats(0, 1) | st.integers(0, 99)
LONGEST = 24   # columns of a piece: fourteen letters, some of them two columns wide


@st.composite
def tables(draw):
    columns = draw(st.integers(1, 9))
    row = st.tuples(*[CELLS] * columns)
    return Table(draw(WORDS), draw(st.tuples(*[WORDS] * columns)), tuple(draw(st.lists(row, max_size=4))))


def printed(table, width):
    file = io.StringIO()
    for part in fitted(table, width):
        Console(file=file, width=width).print(part, highlight=False, no_wrap=True, overflow="ignore", crop=False)
    return file.getvalue()


@given(tables(), st.integers(60, 200))
def test_words_stay_whole_and_lines_within_the_terminal(table, width):
    out = printed(table, width)
    assert all(cell_len(line) <= width for line in out.splitlines())
    shown = [f"{cell:.4g}" if isinstance(cell, float) else str(cell) for row in table.rows for cell in row]
    for text in (table.title, *shown, *table.columns * bool(table.rows)):
        assert all(piece.strip() in out for piece in pieces(text))


@given(WORDS, st.integers(LONGEST, 40))
def test_a_wrapped_text_is_the_text(text, width):
    assert "".join(wrapped(text, width).split()) == "".join(text.split())
    assert all(cell_len(line) <= width for line in wrapped(text, width).splitlines())


OPTIONS = "adc_bits=6,drift_compensation=off,tile=64"
MACHINES = ("reference", f"crossbar:pcm[age=1d,{OPTIONS}]", f"crossbar:pcm[age=1y,{OPTIONS}]")
SUMMARY = Table("summary", ("machine", "chips", "threat", "accuracy", "95 %", "agreement", "to wrong", "to right"),
                tuple((machine, 5, threat, 0.975, "0.946 to 0.989", 1.0, 0.0, 0.0) for machine in MACHINES
                      for threat in ("clean", "transfer:reference:pgd_l2@0.5", "jpeg_compression@3")))


@pytest.mark.parametrize("width", [40, 80, 100, 160])
def test_what_differs_between_two_machines_is_there_at_any_width(width):
    out = printed(SUMMARY, width)
    assert max(map(len, out.splitlines())) <= width
    whole = [f"{option}{end}" for option, end in (("[age=1d", ","), ("[age=1y", ","), ("adc_bits=6", ","),
                                                  ("drift_compensation=off", ","), ("tile=64", "]"))]
    assert all(option in out for option in (*whole, "jpeg_compression@3", "reference:pgd_l2@0.5"))
    assert ("\u2502" in out) == (width == 160)


def test_a_terminal_is_asked_for_its_width_and_notes_are_wrapped(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(Console, "is_terminal", True)
    printing.print_table(Table("t", ("a",), (("b",),), (" ".join(["word"] * 40),)))
    out, _ = capsys.readouterr()
    assert max(map(len, out.splitlines())) <= 80
    assert out.count("word") == 40
