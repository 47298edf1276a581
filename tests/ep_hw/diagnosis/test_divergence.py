"""Where two machines diverge: equal machines never do; a planted difference is found at its own step and layer."""

from dataclasses import replace

import pytest
import torch
from networks import random_images, small_network

import mapping
import simulators
from ep_hw.diagnosis.contributions import Window, contributions, window_of
from ep_hw.diagnosis.divergence import compare
from ep_hw.evaluation.rungs import ladder, named, path, rungs_of
from simulators.reference import ReferenceMachine


def machine(dtype=torch.float64, slope=0.5):
    """The reference, its second layer of another slope."""
    graph = small_network(gain=2.0).lower()
    first, second = graph.populations
    return ReferenceMachine(replace(graph, populations=(first, replace(second, slope=slope))), dtype=dtype)


def test_equal_machines_never_diverge():
    divergence = compare(machine(), machine(), random_images(4, dtype=torch.float64), 12)
    assert divergence.place is None
    assert divergence.gaps.shape == (12, 2)
    assert divergence.gaps.max() == 0
    assert divergence.disagreements == divergence.logits_rmse == 0
    assert "agree" in divergence.sentence()


def test_a_fault_in_the_second_layer_is_found_when_that_layer_first_moves():
    """Alternating: layer 1 moves at step 1, layer 2 at step 2, and the fault feeds back into layer 1 at step 3."""
    faulty = machine(slope=0.45)
    divergence = compare(machine(), faulty, random_images(4, dtype=torch.float64), 12)
    assert divergence.place == (2, 1)
    assert "time step 2 in layer2" in divergence.sentence()
    assert (divergence.gaps[:2, 0] == 0).all()
    assert divergence.gaps[2, 0] > 0
    rows = {row[0]: row[1] for row in divergence.table().rows}
    assert rows == {"layer1": 3, "layer2": 2}


def test_gaps_within_the_tolerance_count_as_equal():
    faulty = machine(slope=0.5 + 1e-9)
    images = random_images(4, dtype=torch.float64)
    assert compare(machine(), faulty, images, 12).place is not None
    assert compare(machine(), faulty, images, 12, tolerance=1e-6).place is None


def test_noisy_machines_are_compared_with_the_same_noise():
    program = mapping.compile(small_network(3).lower(), "crossbar:pcm")
    images = random_images(4)
    pair = [simulators.open(program) for _ in range(2)]
    assert compare(*pair, images, 6).gaps.max() == 0
    ends = [m.relax(images, 6, generator=torch.Generator().manual_seed(i)).logits for i, m in enumerate(pair)]
    assert not torch.equal(*ends)


@pytest.mark.parametrize(("first", "second", "names"), [
    ("reference", "loihi", ["loihi:weights", "loihi"]),
    ("loihi", "reference", ["loihi:weights", "reference"]),
    ("loihi:weights", "lava", ["loihi", "lava"]),
    ("loihi[threshold=0.1]", "lava[threshold=0.1]", ["lava[threshold=0.1]"]),
    ("loihi:states", "crossbar:ideal", ["reference", "crossbar:ideal"]),
    ("loihi:weights[weight_bits=4]", "loihi:weights", ["reference", "loihi:weights"]),
    ("crossbar:pcm", "crossbar:pcm/programmed", ["crossbar:pcm/read", "crossbar:pcm/aged", "crossbar:pcm/programmed"]),
    ("lava:float", "lava:float", []),
])
def test_a_path_goes_down_to_the_last_common_rung_and_up_again(first, second, names):
    graph = small_network(3).lower()
    walk = path(*(ladder(mapping.compile(graph, name), graph) for name in (first, second)))
    assert [step.after.name for step in walk] == names
    for step in walk:
        assert {step.before.name, step.after.name} == {step.lower.name, step.upper.name}


def test_every_ladder_starts_at_the_reference_and_ends_at_its_target():
    damaged = ("loihi[dead=0.2,dead_seed=3]", "lava[threshold=0.1,dead=0.2,lost_core=1]", "loihi[weights=unrolled]")
    targets = {**{name: entry.target for name, entry in mapping.REGISTRY.items()},
               **{str(target): target for target in map(mapping.parse, damaged)}}
    for name, target in targets.items():
        names = [machine for machine, _ in named(rungs_of(target))]
        assert (names[0], names[-1]) == ("reference", name)
        assert len(set(names)) == len(names)


def test_the_shares_of_the_rungs_add_up_to_the_gap():
    graph, images = small_network(3).lower(), random_images(6)
    walk = path(*(ladder(mapping.compile(graph, name), graph) for name in ("loihi", "crossbar:pcm")))
    programs = [walk[0].before.program, *(step.after.program for step in walk)]
    machines = [simulators.open(program) for program in programs]
    divergence = compare(machines[0], machines[-1], images, 10)
    window = window_of(divergence, machines[0], images, 0)
    for layer in (0, 1):
        rows = contributions(walk, machines, images, window, layer, 0)
        assert sum(row.share for row in rows) == pytest.approx(1, abs=1e-5)


def test_the_rung_that_alone_is_changed_has_the_whole_share():
    """From the same states: the twin's integers against the reference, with a rung of no effect between."""
    graph, images = small_network(3).lower(), random_images(6)
    walk = path(*(ladder(mapping.compile(graph, name), graph) for name in ("crossbar:ideal", "loihi:weights")))
    reference = simulators.open(walk[0].after.program)
    machines = [reference, reference, simulators.open(walk[1].after.program)]
    rows = contributions(walk, machines, images, Window(0, 2, None), 0, 0)
    assert [row.share for row in rows] == [0, pytest.approx(1)]
    assert rows[0].gaps == (0, 0)
    assert rows[0].changed == 0
