"""The benchmark of large studies: a study of as many cells as asked, and goals that are met or missed."""

import pytest

from benchmarks.scale import LINES, Cost, draw, write_study
from ep_hw.studies.study import load_study, swept_machines

COST = Cost(cells=100_001, plan_s=1, fresh_clock_s=12, fresh_s=9, stored_clock_s=10, stored_s=8, collect_s=59.5,
            memory_gb=0.97)


@pytest.mark.parametrize("cells", [1, 500, 10_000, 30_000, 100_000])
def test_a_study_has_about_as_many_cells_as_asked(cells, tmp_path):
    write_study(cells, tmp_path / "scale.toml")
    study = load_study(tmp_path / "scale.toml")
    made = len(swept_machines(study)) * study.chips * (1 + len(study.threats))
    assert abs(made - max(cells, 500)) <= 250


def test_each_goal_is_met_or_missed():
    said = list(COST.verdicts())
    assert [line.rpartition(", ")[2] for line in said] == ["MISSED", "MISSED", "met", "met"]
    assert "12 of 10 s" in said[1]


def test_a_row_says_all_of_it():
    assert str(COST).split() == ["100001", "1.0s", "12.0s", "9.0s", "10.0s", "8.0s", "59.5s", "0.97", "GB"]


def test_the_figure_draws_every_line_beside_the_goals(tmp_path):
    draw([COST, COST], str(tmp_path / "scale.svg"))
    drawn = (tmp_path / "scale.svg").read_text()
    for text in (*LINES.values(), "goal 60", "goal 10", "goal 1", "100,001", "cells"):
        assert f"<!-- {text} -->" in drawn
