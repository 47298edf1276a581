"""Rows of a summary, held by columns."""

import pytest

from ep_hw.analysis.rows import Summary
from ep_hw.threats.threat import CLEAN, parse_threat

ROWS = [{"machine": "reference", "threat": CLEAN, "chip_seed": None, "n": 4, "accuracy": 0.1 + 0.2, "others": {}},
        {"machine": "crossbar:pcm", "threat": parse_threat("contrast@3"), "chip_seed": 7, "n": 2**40, "accuracy": 1.0,
         "others": {"loihi": [1, 2]}}]


def test_rows_come_out_as_they_went_in():
    held = Summary(ROWS[:1])
    held.extend(ROWS[1:])
    assert list(held) == ROWS
    assert [held[-1], *held[:1]] == [ROWS[1], ROWS[0]]
    assert [[type(value) for value in row.values()] for row in held] == [
        [type(value) for value in row.values()] for row in ROWS]
    with pytest.raises(IndexError):
        held[2]
