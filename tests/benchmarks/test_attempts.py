"""The order of attempts: most broken a second of what still stands."""

import torch

from benchmarks.attempts import Climb, greedy


def climbed(name, broken, seconds):
    return Climb((name,), torch.tensor([bit == "1" for bit in broken]), seconds)


def test_what_breaks_most_a_second_of_what_stands_is_next():
    """`twin` breaks as much a second as `slow`, but only what `quick` has broken already."""
    quick, twin, slow = climbed("quick", "11100", 1.0), climbed("twin", "11000", 2.0), climbed("slow", "00011", 4.0)
    for alone in ([quick, twin, slow], [slow, twin, quick]):
        assert greedy(alone) == ("quick", "slow", "twin")


def test_of_those_that_break_nothing_more_the_cheaper_is_next():
    assert greedy([climbed("dear", "10", 2.0), climbed("cheap", "10", 1.0), climbed("middle", "10", 1.5)]) == (
        "cheap", "middle", "dear")
