"""Laws of the energy: one array read both ways never raises it; feedback of its own does, and may never rest."""

import pytest
import torch
from chips import machine
from networks import random_images

from mapping.errors import Refusal
from simulators.crossbar.stability import LONGEST_CYCLE, measure_stability
from simulators.reference import energy


@pytest.fixture(scope="module")
def images():
    return random_images(12)


@pytest.mark.parametrize("target", ["crossbar:pcm/aged", "crossbar:pcm[without=read+converters,wire_ohm=20]",
                                    "crossbar:reram_cmo/programmed"])
def test_shared_arrays_never_raise_the_energy_and_come_to_rest(graph, images, target):
    found = measure_stability(machine(graph, target), images)
    assert found.asymmetry == 0
    assert not found.rises().any()
    assert found.rest.all()
    assert not found.period.any()
    assert torch.all(found.energy[-1] < found.energy[0])


def test_arrays_of_their_own_raise_it_the_more_the_less_they_agree(graph, images):
    gaps, rises, moving = [], [], []
    for error in (0.02, 0.1, 0.5):
        target = f"crossbar:generic/programmed[additive={error},arrays=separate]"
        found = measure_stability(machine(graph, target), images)
        gaps.append(found.asymmetry)
        rises.append(found.largest_rise.max().item())
        moving.append(1 - found.rest.double().mean().item())
    assert gaps == sorted(gaps)
    assert rises[0] < rises[1] < rises[2]
    assert moving[2] > 0


def test_the_energy_is_that_of_the_equation(graph, images):
    """Against a sum over neurons, with weights as the machine reads them."""
    m = machine(graph, "crossbar:pcm/aged")
    states = [torch.rand(2, *p.shape, generator=torch.Generator().manual_seed(1)) for p in graph.populations]
    image, expected = m.substrate.encode(images[:2]), torch.zeros(2, dtype=torch.float64)
    for coupling, projection, below, state in zip(graph.couplings, m.projections, (image, states[0]), states):
        weight, bias = projection.forward_weight, torch.tensor(coupling.bias)
        drive = torch.nn.functional.conv2d(below, weight, bias, padding=coupling.padding)
        drive = torch.nn.functional.max_pool2d(drive, coupling.pool)
        expected += (state.double() ** 2 - state * drive.double()).sum((1, 2, 3))   # slope 1/2
    assert torch.allclose(energy(m.substrate, image, states), expected, rtol=1e-5)


def test_a_cycle_is_told_from_rest(graph, images, monkeypatch):
    """States that swing between two values, planted in the last layer: period 2, never at rest."""
    m = machine(graph, "crossbar:ideal")
    plain, turn = m.substrate.activate, []

    def swing(n, drive):
        if n != 1:
            return plain(n, drive)
        turn.append(1)
        return torch.full_like(plain(n, drive), 0.2 + 0.5 * (len(turn) % 2))

    monkeypatch.setattr(m.substrate, "activate", swing)
    found = measure_stability(m, images, sweeps=LONGEST_CYCLE + 20)
    assert not found.rest.any()
    assert torch.all(found.period == 2)


def test_noise_that_would_hide_cycles_is_refused(graph, images):
    with pytest.raises(Refusal, match="without=read"):
        measure_stability(machine(graph, "crossbar:pcm"), images)
