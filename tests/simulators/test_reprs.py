"""What programs, machines, networks and plans show of themselves: a line that names them, and a page in notebooks."""

import re
from dataclasses import dataclass
from html import escape

import pytest
import torch
from networks import saved, small_network

import ep_hw
import mapping
import simulators
from ep_hw.evaluation.suites import Request
from ep_hw.threats import parse_threat
from ep_hw.workflow import plan_evaluation
from mapping.names import LINE, in_a_line
from mapping.program import FloatProgram, Program, Table
from simulators.module import Interface, ModuleProgram


@pytest.fixture
def at_rest(monkeypatch):
    """Machines that refuse to relax."""
    def refuse(*asked, **settings):
        raise AssertionError("a repr relaxes")

    return lambda machine: monkeypatch.setattr(type(machine), "relax", refuse)


def line(thing, *names):
    """A repr: one short line with its class and what names it."""
    shown = repr(thing)
    assert "\n" not in shown
    assert len(shown) <= LINE
    assert shown.startswith(f"<{type(thing).__name__} ")
    assert shown.endswith(">")
    assert all(name in shown for name in names), shown
    return shown


@pytest.mark.parametrize("target", mapping.REGISTRY)
def test_a_program_and_its_machine_show_their_target_in_a_line(graph, target, at_rest):
    program = mapping.compile(graph, target)
    line(program, f"of 3 layers for {target}: ")
    page = program._repr_html_()
    assert page.startswith(f"<p>{escape(repr(program))}</p><table>")
    assert all(escape(table.title) in page for table in program.tables())
    assert page.count("<tr>") == sum(1 + len(table.rows) for table in program.tables())
    if not target.startswith("lava"):
        with simulators.open(program, chip_seed=3) as machine:
            at_rest(machine)
            line(machine, target, *["chip 3"] * program.target.has_chips)
            assert machine._repr_html_().startswith(f"<p>{escape(repr(machine))}</p>")
            assert ("<table>" in machine._repr_html_()) == (target != "reference")


def test_a_line_counts_what_is_there(graph):
    program = mapping.compile(graph, "crossbar:pcm[tile=18]")
    tiles = sum(len(layer.row_cuts) * len(layer.column_cuts) for layer in program.layers)
    assert repr(program) == f"<CrossbarProgram of 3 layers for crossbar:pcm[tile=18]: {tiles} tiles, 60 steps>"
    weights = sum(c.weight.size for c in (*graph.couplings, graph.readout))
    assert f"of 3 layers: {weights} weights, images of 1x8x8, 10 classes" in line(graph)


def test_networks_modules_and_plans_show_their_names(tmp_path):
    line(small_network(), "network of", "images of 1x8x8, 10 classes")
    line(ep_hw.load("digits-bp-s11"), "digits-bp-s11 (cnn)")
    transformer = ep_hw.load("digits-vit-s11")
    line(transformer, "digits-vit-s11 (vit)")
    for target, program in transformer.programs([mapping.parse("reference"), mapping.parse("crossbar:ideal")]).items():
        line(program, "VisionTransformer", f"for {target}")
        assert "<table>" in program._repr_html_()
        with simulators.open(program) as machine:
            line(machine, target)
    plan = plan_evaluation(str(saved(small_network(), tmp_path)), Request(["loihi"], [parse_threat("fog@3")], images=5))
    line(plan, "of small on reference, loihi under clean, fog@3: 5 images, up to 5 chips")


def test_a_program_of_a_users_own_shows_itself_without_more_ado(graph, monkeypatch):
    monkeypatch.setattr(Program, "kinds", dict(Program.kinds))

    @dataclass(frozen=True, eq=False)
    class OwnProgram(FloatProgram):
        kind = "own, of test_reprs"
        more: torch.Tensor = None

    line(OwnProgram(mapping.parse("reference"), graph, torch.zeros(500)), "for reference")


def test_names_of_any_length_and_kind_stay_in_the_line():
    class Deep(torch.nn.Sequential):
        pass

    Deep.__name__ = "D" * 300
    shown = repr(ModuleProgram(Deep(), Interface((1, 2, 2), 2)))
    assert len(shown) == LINE
    assert re.fullmatch(r"<ModuleProgram of a D+ \.\.\. D+ for reference: images of 1x2x2, 2 classes>", shown)
    assert in_a_line(0, "two\nlines") == "<int two\\nlines>"


def test_a_table_in_a_notebook_is_text_whatever_it_holds():
    page = Table("<b>", ("a&b", "n"), (("<script>", 0.123456),), ("x < y",))._repr_html_()
    assert page == ("<table><caption>&lt;b&gt;</caption><tr><th>a&amp;b</th><th>n</th></tr>"
                    "<tr><td>&lt;script&gt;</td><td>0.1235</td></tr></table><p>x &lt; y</p>")
