"""docs/doors.md names readers that exist, and the limits that they have."""

import math
import pkgutil
import re
from pathlib import Path

import pytest

from ep_hw.networks import checkpoint
from ep_hw.studies import study
from mapping import fields, files, sealed

DOC = " ".join((Path(__file__).parents[1] / "docs" / "doors.md").read_text().split())
READERS = re.findall(r"\| `((?:mapping|simulators|ep_hw)[\w.]+)` \|", DOC)


@pytest.mark.parametrize("reader", READERS)
def test_a_door_has_the_reader_that_is_named(reader):
    assert pkgutil.resolve_name(reader).__doc__


def test_the_limits_are_those_of_the_code():
    assert len(READERS) > 15
    assert f"{fields.DEEPEST} layers, {fields.MOST:,} channels" in DOC
    assert f"2^{math.log2(fields.LARGEST_WEIGHTS):g} weights and 2^{math.log2(fields.LARGEST_UNITS):g} values" in DOC
    assert f"{fields.MOST_STEPS:,} steps" in DOC
    assert f"1 to {fields.LONGEST_NAME} printable" in DOC
    assert f"{files.DEEPEST} brackets" in DOC
    assert f"{checkpoint.MOST_IMAGES:,} calibration images" in DOC
    assert f"{study.MOST_POINTS:,} machines" in DOC
    assert (files.TEXT_LIMIT, sealed.HEADER_LIMIT) == (2**20, 4 * 2**20)
