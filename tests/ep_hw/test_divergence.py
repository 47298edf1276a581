"""`why`: equal machines never part; a planted difference is found at its own step and layer."""

import torch
from networks import random_images, small_network

from ep_hw.divergence import compare
from simulators.reference import ReferenceMachine


def machine(dtype=torch.float64):
    return ReferenceMachine(small_network(gain=2.0).lower(), dtype=dtype)


def test_equal_machines_never_part():
    found = compare(machine(), machine(), random_images(4, dtype=torch.float64), 12)
    assert found.parting is None
    assert found.gaps.shape == (12, 2)
    assert found.gaps.max() == 0
    assert found.disagreements == found.logits_rmse == 0
    assert "agree" in found.sentence()


def test_a_fault_in_the_second_layer_is_found_when_that_layer_first_moves():
    """Alternating: layer 1 moves at step 1, layer 2 at step 2, and the fault feeds back into layer 1 at step 3."""
    faulty = machine()
    faulty.substrate.slopes = (0.5, 0.45)
    found = compare(machine(), faulty, random_images(4, dtype=torch.float64), 12)
    assert found.parting == (2, "layer2")
    assert (found.gaps[:2, 0] == 0).all()
    assert found.gaps[2, 0] > 0
    rows = {row[0]: row[1] for row in found.table().rows}
    assert rows == {"layer1": 3, "layer2": 2}


def test_gaps_within_the_tolerance_count_as_equal():
    faulty = machine()
    faulty.substrate.slopes = (0.5, 0.5 + 1e-9)
    images = random_images(4, dtype=torch.float64)
    assert compare(machine(), faulty, images, 12).parting is not None
    assert compare(machine(), faulty, images, 12, tolerance=1e-6).parting is None
