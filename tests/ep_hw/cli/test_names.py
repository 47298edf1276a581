"""Names: what is none is refused at the door, and what is one shows as it is, whatever it means to a sink."""

import ast
import csv
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text
from networks import saved, small_network
from rich.console import Console

from ep_hw import cli
from ep_hw.cli import printing
from ep_hw.evaluation.progress import bar
from ep_hw.networks.checkpoint import load
from ep_hw.report.exports import DPI, MOST_PIXELS, csv_of, write_figure
from ep_hw.report.figures.lettering import literal
from mapping import Refusal
from mapping.fields import check_named
from mapping.files import slugs
from mapping.program import Table

HOSTILE = ["my$net", "$frac{$", "[/bold]", "[red]x", "<script>alert(1)</script>", "a&b", "x" * 80,
           ":smile:", "\\", "=1+1", "a,b\"c'", "caf\u00e9", "{name}", "%s", "{{ name }}"]
NO_NAMES = ["a/b", "..", "../x", ".", "", " a", "a\nb", "a\x1b[31m", "\x00", "\u202ex", "\udc80", "x" * 81, "a\\b",
            "\x9b1m", "\t"]


@pytest.mark.parametrize("name", NO_NAMES)
def test_what_is_no_name_is_refused_in_one_printable_line(name):
    with pytest.raises(Refusal, match="not a name") as caught:
        check_named(name, "here")
    assert str(caught.value).isprintable()


@settings(max_examples=100)
@given(st.text())
def test_a_name_stays_in_its_folder_and_on_its_line(name):
    try:
        check_named(name, "here")
    except Refusal:
        return
    assert (Path("folder") / f"{name}.json").parent == Path("folder")
    assert name.isprintable()


@pytest.mark.parametrize("name", ["my$net", "$frac{$", "[red]x", "{name}", "%s"])
def test_figures_show_names_as_they_are(tmp_path, name):
    """In titles, legends, labels and on ticks, with a logarithmic axis beside them."""
    figure = Figure()
    axes = figure.add_subplot()
    axes.plot([1, 1000], [1, 2], label=f"{name} $x$")
    axes.set_xscale("log")
    axes.set_yticks([1, 2], [f"{name} $tick$", "b"])
    axes.set_title(f"$title$ {name}")
    axes.annotate(f"{name} $note$", (1, 1))
    figure.legend()
    for path in write_figure(tmp_path, "figure", figure):
        assert path.stat().st_size
    texts = {text.get_text(): text.get_parse_math() for text in figure.findobj(Text)}
    assert not any(math for text, math in texts.items() if name in text)
    assert any(math for text, math in texts.items() if "mathdefault" in text)


def test_a_picture_has_a_bounded_number_of_pixels(tmp_path):
    for size, high in (((2, 1), DPI), ((100, 40), None)):
        png, svg = write_figure(tmp_path, "figure", Figure(figsize=size))
        picture = imread(png)
        assert picture.shape[0] * picture.shape[1] <= MOST_PIXELS
        assert high is None or picture.shape[:2] == (high, 2 * high)
        assert f'width="{72 * size[0]}pt"' in svg.read_text()


def test_what_a_formula_would_break_is_drawn_where_nothing_is_done_about_it_is_not(tmp_path):
    figure = Figure()
    figure.add_subplot(title="$\\frac{$")
    with pytest.raises(ValueError, match="frac"):
        figure.savefig(io.BytesIO())
    literal(figure).savefig(io.BytesIO())


@pytest.mark.parametrize("name", [*HOSTILE, "\x1b[31mred", "a\x9bb"])
def test_tables_and_progress_show_names_as_they_are(capsys, name):
    shown = name if name.isprintable() else repr(name)[1:-1]
    printing.print_table(Table(name, (name, "b"), ((name, 1.0),), (name,)))
    printing.say(name)
    out, _ = capsys.readouterr()
    assert out.replace("\n", "").count(shown) == 5
    assert not {"\x1b", "\x9b"} & set(out)
    terminal = io.StringIO()
    with bar("x", Console(file=terminal, force_terminal=True, width=200)) as show:
        show(name, 1, 2)
    assert shown in terminal.getvalue()


def test_commands_print_through_one_place():
    for path in Path(cli.__file__).parent.glob("*.py"):
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        echoed = [c for c in calls if isinstance(c.func, ast.Attribute) and c.func.attr == "echo"]
        assert not echoed or path.name in ("printing.py", "commands.py"), path


def test_rows_come_back_from_csv():
    rows = [{"name": name, "value": 1} for name in HOSTILE]
    assert [row["name"] for row in csv.DictReader(io.StringIO(csv_of(rows).decode()))] == HOSTILE


@settings(max_examples=100)
@given(st.lists(st.text() | st.sampled_from(["a", "a-2", "a:2", "..", "$$$", "x" * 5000])))
def test_slugs_are_files_names_and_no_two_are_the_same(names):
    found = list(slugs(names))
    assert len({*found}) == len(found)
    assert all(0 < len(name.encode()) < 200 and Path(name).name == name and name.isprintable() for name in found)


def test_a_network_of_a_strange_name_goes_through_every_command(ep_hw, tmp_path):
    name = "my$net [bold] caf\u00e9 <b>"
    assert load(saved(small_network(3), tmp_path, name)).name == name
    for command in (("evaluate", "--on", "loihi", "--images", 4, "--jobs", 1, "--corruption", "contrast@3"),
                    ("why", "reference", "loihi", "--images", 2, "--out", "why"), ("export", "--out", "exported"),
                    ("compile", "--on", "loihi", "--out", "prog")):
        code, _, err = ep_hw(command[0], f"{name}.safetensors", *command[1:])
        assert code == 0, err
    assert {f"{name}.safetensors", f"{name}.pt", f"{name}.toml"} == {p.name for p in (tmp_path / "exported").iterdir()}
    assert "<b>" not in next(tmp_path.rglob("report.html")).read_text()


@pytest.mark.parametrize("arguments", [
    ("train", "digits", "--out", "a\x1b[31m.safetensors"), ("evaluate", "a\x1b[31mb"), ("study", "\x07"),
    ("evaluate", "digits", "--on", "\x1b[1m"), ("evaluate", "digits", "--\x1b[2J", "1"), ("\x1b[2J",),
    ("evaluate", "digits", "--attack", "\x9b31m@1"), ("compile", "digits", "--on", "a\rb", "--out", "p"),
    ("evaluate", "digits", "--on", "[/bold]"),
    ("import", "\x1b[31m.pt", "--map", "laborieux", "--out", "x.safetensors"), ("compare", "\x1b[31m", "b")])
def test_control_characters_never_reach_the_terminal(ep_hw, arguments):
    code, out, err = ep_hw(*arguments)
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert (out + err).replace("\n", "").isprintable()
