"""Networks on many cores, small as they are: `from cores import limits, spread_network`."""

from contextlib import contextmanager
from dataclasses import replace

import pytest
from networks import small_network

from mapping.graph import EPGraph
from mapping.loihi.limits import LIMITS


@contextmanager
def limits(**values: int):
    """Loihi with other limits in this process, so that small networks need several cores and chips."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            name = name.replace("_", " ")
            patch.setitem(LIMITS, name, replace(LIMITS[name], value=value))
        yield


def spread_network() -> EPGraph:
    """Of six cores: layer 1 on 0, halves of layer 2 on 1 and 2, the feedback on 3, logits 0 to 6 on 4, others on 5."""
    return small_network(1, image_shape=(1, 16, 16), channels=(4, 64), pools=(1, 1)).lower()
