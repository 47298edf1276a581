"""The page of runs side by side: its sentence names what differs visibly, and nothing else."""

from ep_hw.report.compared import answer, story_of
from ep_hw.report.story import told
from mapping.program import Table


def paired(machine, difference, low, high):
    return {"machine_label": machine, "threat_label": "clean", "difference": difference, "ci_low": low, "ci_high": high}


def test_the_largest_visible_difference_is_named():
    rows = [paired("a", 0.5, -0.1, 0.9), paired("b", -0.2, -0.3, -0.1), paired("c", 0.1, 0.05, 0.15)]
    said = answer({"paired": rows})
    assert said.startswith("The second run differs visibly from the first in 2 of 3 cases, most on b under clean: ")
    assert said.endswith("\u221220.0 points [\u221230.0, \u221210.0].")
    assert "no difference in any of 1 cases" in answer({"paired": rows[:1]})


def test_means_over_runs_and_corruption_errors_have_sentences_of_their_own():
    over = [{"machine_label": name, "threat_label": "clean", "runs": 3, "mean": mean, "ci_low": mean - 0.2,
             "ci_high": mean + 0.2} for name, mean in (("a", 0.9), ("b", 0.5))]
    said = answer({"over_runs": over})
    assert "at best 90.0 % [70.0, 100.0], on a under clean, and at worst 50.0 % [30.0, 70.0], on b" in said
    errors = [{"mce": 0.7, "model": "net", "machine_label": "a"}, {"mce": 0.9, "model": "net", "machine_label": "b"}]
    assert answer({"corruptions": errors}) == "The least mCE is 0.700, of net on a."


def test_the_page_shows_every_table_and_escapes_names():
    numbers = {"paired": [paired("<b>", 0.1, 0.05, 0.15)]}
    page = told(story_of(numbers, [Table("one", ("a",), ((1,),)), Table("two", ("b",), ((2,),))], ["x", "y"], "ep-hw"))
    assert page.count("<table") == 2
    assert "<b>" not in page
    assert "x and y, side by side" in page
