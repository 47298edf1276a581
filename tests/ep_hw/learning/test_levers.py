"""The table of levers: each is a change of the recipe that it starts from, and stands on the page on training."""

import re
from pathlib import Path

import pytest

import ep_hw
from benchmarks.levers import FAMILIES, HEADER, LEVERS, Row, line, measured
from ep_hw.learning.training import load_recipe, parse_recipe

PAGE = (Path(__file__).parents[3] / "docs" / "training.md").read_text()


@pytest.mark.parametrize("lever", LEVERS)
def test_a_lever_changes_what_it_says_and_nothing_else(lever):
    before = load_recipe("digits").model_dump(mode="json")
    after = parse_recipe({**before, **LEVERS[lever]}).model_dump(mode="json")
    assert {name for name in {*before, *after} if before.get(name) != after.get(name)} == set(LEVERS[lever])


def test_the_page_has_a_line_for_every_lever_and_family():
    shown = [found[1] for found in re.finditer(r"^\| ([^|]+?) \| [\d.]+ \|", PAGE, re.MULTILINE)]
    assert shown == [*LEVERS, *FAMILIES]


def test_a_network_at_rest_is_as_accurate_as_its_checkpoint_says():
    net = ep_hw.load("digits-ep-s11")
    row = measured(net, "test", 2)
    assert row.right == pytest.approx(net.provenance["accuracy"]["test"])
    assert row.steps < 40
    assert row.residual < net.spec.tolerance
    assert row.robust[0] >= row.robust[1]


def test_a_line_has_the_means_of_its_rows():
    rows = [Row(0.5, (0.25, 0.0), 10, 1e-3, 4.0), Row(1.0, (0.75, 0.5), 30, 3e-3, 8.0)]
    assert line("x", rows) == "| x | 75.0 | 50.0 | 25.0 | 20 | 2.0e-03 | 6 |"
    assert line("x", rows).count("|") == HEADER.splitlines()[0].count("|")
