"""Waiting counts the time in which the one who waits could run."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.loihi.patience import Patience


class Hands:
    """A clock that shows what it is told to."""

    now = 0.0


@pytest.fixture(scope="module", autouse=True)
def hands():
    """Time is what `Hands.now` says."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: Hands.now)
        yield


@given(gaps=st.lists(st.floats(0, 100), max_size=20), seconds=st.floats(0.1, 50), slice_s=st.floats(0.1, 5))
def test_no_gap_counts_more_than_a_slice(gaps, seconds, slice_s):
    waiting, counted = Patience(seconds, slice_s), 0.0
    for gap in gaps:
        Hands.now += gap
        counted += min(gap, slice_s)
        over = waiting.is_over()
        assert over == (counted >= seconds) or counted == pytest.approx(seconds)


def test_shortening_never_lengthens():
    waiting = Patience(10, 1)
    waiting.shorten(20)
    assert waiting.left == 10
    waiting.shorten(0.5)
    Hands.now += 0.6
    assert waiting.is_over()
