"""docs/loihi.md says what the machine does: its code is run, its table compared."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from chains import random_activity, random_chain
from hypothesis import given, settings
from hypothesis import strategies as st

import mapping
from mapping.loihi.integers import quantise, round_half_up
from mapping.loihi.limits import LIMITS, LIMITS_VERSION
from mapping.loihi.placement import place
from simulators.loihi.arithmetic import arithmetic_of
from simulators.loihi.twin import open_twin

DOC = (Path(__file__).parents[3] / "docs" / "loihi.md").read_text()
SOME = settings(max_examples=25)


@pytest.fixture(scope="module")
def doc():
    """Names that the document's Python defines."""
    names = {}
    exec(re.search(r"```python\n(.*?)```", DOC, re.DOTALL).group(1), names)
    return names


@SOME
@given(seed=st.integers(0, 10**6), bits=st.integers(1, 8), exponent=st.integers(-3, 12))
def test_weights_round_as_documented(doc, seed, bits, exponent):
    weight = np.random.default_rng(seed).integers(-300, 300, (3, 2, 3, 3)) * 2.0**-exponent / 4   # many exact halves
    weight[0, 0, 0, 0] = 0
    assert np.array_equal(doc["round_half_up"](weight * 2.0**exponent), round_half_up(weight * 2.0**exponent))
    assert np.array_equal(doc["integer_weight"](weight, bits, exponent), quantise(weight, bits, exponent))


@SOME
@given(seed=st.integers(0, 10**6), bits=st.sampled_from([1, 4, 8]))
def test_images_and_states_round_as_documented_on_twin_and_lava(doc, seed, bits):
    graph = random_chain(seed, feedback="mixed", unusual=True)
    program = mapping.compile(replace(graph, activity=random_activity(graph, seed)), f"loihi[weight_bits={bits}]")
    graph, substrate, rng = program.graph, open_twin(program).substrate, np.random.default_rng(seed)
    image = rng.random((2, *graph.image_shape), np.float32)
    expected = doc["integer_image"](image, graph.mean[:, None, None], graph.scale[:, None, None], program.input_bits)
    assert np.array_equal(substrate.encode(torch.tensor(image)).numpy(), expected)
    for n, layer in enumerate(program.layers):
        room = max(0, layer.bound - int(np.abs(layer.bias).max()) - layer.half)
        drive = rng.integers(-room, room + 1, (2, *graph.populations[n].shape))
        drive[0] += layer.half - (drive[0] + layer.bias[:, None, None]) % (2 * layer.half or 1)   # exact halves
        expected = doc["integer_state"](drive, layer.bias[:, None, None], layer.shift, program.tops[n])
        assert np.array_equal(substrate.activate(n, torch.tensor(drive, dtype=torch.float32)).numpy(), expected)
        assert np.array_equal(arithmetic_of(program).activations[n](drive.astype(np.int32)), expected)


def test_the_table_of_limits_is_the_one_that_binds():
    assert f"Version {LIMITS_VERSION} of the limits" in DOC
    table = DOC[DOC.index("| limit | value"):].split("\n\n")[0]
    rows = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in table.splitlines()[2:]]
    assert rows == [(x.name, str(x.value), x.unit, x.source, x.confidence) for x in LIMITS.values()]


def test_the_paper_networks_cores_are_those_that_are_placed():
    from ep_hw.networks.network import EPNetwork
    from ep_hw.networks.random import PAPER

    graph = EPNetwork.initialise(PAPER, 0).lower()
    for way, said in (("shared", r"takes (\d+) cores of one chip"), ("unrolled", r"(\d+) cores on 15 chips")):
        cores = place(graph, mapping.parse(f"loihi[weights={way}]")).cores
        assert int(re.search(said, DOC).group(1)) == cores
