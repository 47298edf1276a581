"""Progress: a bar where somebody watches, a line a minute where nobody may, an output of its own in a notebook."""

import io
import re
import sys
from contextlib import suppress
from types import ModuleType, SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from ep_hw.evaluation.progress import Pace, bar, lines, progress


@given(st.lists(st.floats(0.1, 200), min_size=1, max_size=30))
def test_a_line_comes_no_sooner_than_a_minute_after_the_last(capsys_free, waits):
    now, times = [0.0], []
    for said, line in capsys_free(now, waits):
        times += [said] * bool(line)
    assert all(later - sooner >= 60 for sooner, later in zip([0.0, *times], times))
    assert len(times) >= sum(waits) // 260   # a wait is 200 s at most


@pytest.fixture(scope="module")
def capsys_free():
    """Waits -> (time, what was written then), on a clock of its own."""
    def run(now, waits):
        written = io.StringIO()
        kept, sys.stderr = sys.stderr, written
        try:
            with lines("trying", clock=lambda: now[0]) as show:
                for number, wait in enumerate(waits, 1):
                    now[0] += wait
                    before = written.tell()
                    show("a cell", number, len(waits))
                    yield now[0], written.getvalue()[before:]
        finally:
            sys.stderr = kept
    return run


def test_a_line_says_how_far_it_has_come(capsys):
    now = [0.0]
    with lines("evaluating", clock=lambda: now[0]) as show:
        show("first", 1, 9)
        now[0] = 130.0
        show("loihi: \x1b[31mclean", 4, 9)
    assert capsys.readouterr().err == "evaluating: 4 of 9 after 2 min, about 3 min left; loihi: \\x1b[31mclean\n"


@given(st.floats(0.5, 5000), st.integers(0, 30), st.integers(2, 30), st.booleans())
def test_what_is_left_follows_from_the_pace_of_a_part(each_s, done, here, announced):
    """Whatever earlier runs did, and parts before it took."""
    now = [0.0]
    pace = Pace(lambda: now[0])
    for number in (1, 2):   # a part before, a hundred times as slow
        now[0] += 100 * each_s
        pace.left(number, 3)
    assert not announced or pace.left(0, 0) == ""
    for number in range(done + 1, done + here + 1):
        now[0] += each_s
        said = pace.left(number, done + here) if announced or done < 2 else ""
        rest = each_s * (done + here - number)
        if said:
            value, unit = re.fullmatch(r"about ([\d.]+) (s|min|h) left", said).groups()
            size = {"s": 1, "min": 60, "h": 3600}[unit]
            assert float(value) * size == pytest.approx(rest, abs=0.51 * (360 if unit == "h" else size))
    assert said == ""


def test_a_part_that_begins_is_announced_above_the_bar():
    terminal = io.StringIO()
    with bar("evaluating", Console(file=terminal, force_terminal=True, width=100)) as show:
        show("loihi: clean", 2, 2)
        show("now probes: [red]x", 0, 0)
        show("probe: loihi: pgd_linf@1.0", 1, 3)
    assert "now probes: [red]x\n" in terminal.getvalue()
    assert "probe: loihi: pgd_linf@1.0" in terminal.getvalue()


def test_a_bar_stays_unless_something_fails():
    ends = []
    for number in (1, 0):
        terminal = io.StringIO()
        with suppress(ZeroDivisionError), bar("x", Console(file=terminal, force_terminal=True, width=80)) as show:
            show("cell", 1, 2)
            1 / number
        ends.append(terminal.getvalue().rpartition("1/2")[2])
    assert "\x1b[2K" not in ends[0]
    assert "\x1b[2K" in ends[1]   # the line is erased


def test_a_notebook_has_a_bar_of_its_own(monkeypatch, capsys):
    shown = []
    handle = SimpleNamespace(update=shown.append)
    python = ModuleType("IPython")
    python.get_ipython = lambda: SimpleNamespace(kernel=object())
    python.display = ModuleType("IPython.display")
    python.display.HTML = str
    python.display.display = lambda html, display_id: shown.append(html) or handle
    for module in (python, python.display):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    with progress("evaluating") as show:
        show("<mine>: clean", 3, 8)
    assert len(shown) == 2
    assert '<progress value="3" max="8"></progress> 3 of 8' in shown[1]
    assert "&lt;mine&gt;: clean" in shown[1]
    assert capsys.readouterr() == ("", "")
