"""The uncertainty exponent against boundaries whose dimension is known."""

import numpy as np
import pytest
import torch
from linear import LinearMachine

from ep_hw.data import Split
from ep_hw.measurements.uncertainty import exponent, measure_uncertainty
from mapping import Refusal

SHAPE = (1, 6, 6)
SIZES = tuple(np.geomspace(0.003, 0.3, 7))


class CantorMachine(LinearMachine):
    """Two classes of the projection t = w x: the parity of t's first ternary digit that is 1.

    Its boundary is the Cantor set, of dimension log 2 / log 3: alpha = 1 - log 2 / log 3 = .369.
    """

    def relax(self, images, steps=None, nudge=None, generator=None, **rest):
        end = super().relax(images)
        t, level, found = (end.logits[:, 0].double() % 1), torch.zeros(len(images)), torch.zeros(len(images)).bool()
        for depth in range(1, 30):
            t = 3 * t
            digit = t.floor()
            t = t - digit
            level[(digit == 1) & ~found] = depth
            found |= digit == 1
        end.logits.copy_(torch.stack([level % 2, 1 - level % 2], 1))
        return end


def images(n, seed=0):
    values = torch.rand((n, *SHAPE), generator=torch.Generator().manual_seed(seed)) * 0.4 + 0.3
    return Split("linear", values, torch.zeros(n).long(), torch.arange(n))


def weight(seed=0):
    w = torch.randn(2, 36, generator=torch.Generator().manual_seed(seed))
    return w / w.norm(dim=1, keepdim=True)


def test_a_plane_has_exponent_one():
    machine = LinearMachine(weight(), torch.zeros(2), SHAPE)
    split = images(4000)
    machine.bias = -machine.relax(split.images).logits.median(0).values
    found = measure_uncertainty(machine, split, SIZES, draws=4, seed=0)
    assert found.low < 1 < found.high
    assert found.high - found.low < 0.4


def test_a_cantor_set_has_its_own():
    machine = CantorMachine(6 * weight(), torch.zeros(2), SHAPE)
    found = measure_uncertainty(machine, images(3000), tuple(np.geomspace(1e-4, 3e-2, 7)), draws=4, seed=0)
    assert found.alpha == pytest.approx(1 - np.log(2) / np.log(3), abs=0.08)
    assert found.low < found.alpha < found.high < 0.6


def test_the_fit_finds_the_exponent_that_made_the_counts():
    rng = np.random.default_rng(0)
    sizes = np.geomspace(0.01, 0.3, 6)
    for alpha in (0.3, 1.0, 2.0):
        changed = rng.binomial(5, 0.8 * sizes**alpha, (3000, 6))
        found, low, high = exponent(sizes, changed, 5, rng)
        assert low < found < high
        assert abs(found - alpha) < high - low < 0.3 * alpha   # within twice the half width: a 95 % interval may miss


def test_too_few_changes_are_no_exponent():
    assert exponent(np.array([0.1, 1.0]), np.zeros((10, 2), int), 3, np.random.default_rng(0)) == (None, None, None)


def test_noisy_machines_and_sizes_of_nothing_are_refused():
    noisy = LinearMachine(weight(), torch.zeros(2), SHAPE, sigma=0.1)
    with pytest.raises(Refusal, match="without fresh noise"):
        measure_uncertainty(noisy, images(2), SIZES, 1, 0)
    with pytest.raises(Refusal, match="above 0"):
        measure_uncertainty(LinearMachine(weight(), torch.zeros(2), SHAPE), images(2), (0.0, 1.0), 1, 0)
