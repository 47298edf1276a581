"""Continuous time: the discrete fixed points, time constants from conductances, first-order convergence, scaling."""

import math
from itertools import pairwise

import pytest
import torch
from networks import random_images, small_network

import mapping
import simulators
from mapping.errors import Refusal
from simulators.crossbar.continuous import Circuit, conductances_us, settle


def machine(graph, target):
    return simulators.open(mapping.compile(graph, target))


@pytest.fixture(scope="module")
def weak():
    """Weights so weak, and no pool windows to win, that its fixed point is the only one."""
    return machine(small_network(3, gain=1.0, pools=(1, 1)).lower(), "crossbar:pcm/aged")


def gap(a, b):
    return max((s - t).abs().max().item() for s, t in zip(a, b))


@pytest.mark.parametrize("dt", [1.0, 0.5])
def test_it_settles_where_the_discrete_relaxation_does(weak, dt):
    m = machine(weak.graph, f"crossbar:pcm/aged[dt={dt}]") if dt < 1 else weak
    images = random_images(5)
    found, exact = settle(m, images, tolerance=1e-4), weak.relax(images, steps=400)
    assert found.converged.all()
    assert gap(found.states, exact.states) < 5e-4
    assert torch.allclose(found.logits, exact.logits, atol=5e-3)
    assert found.settling_s.min() > 0


def test_a_network_of_many_fixed_points_settles_in_one_of_them():
    m, images = machine(small_network(3).lower(), "crossbar:pcm/aged"), random_images(8)
    found = settle(m, images, tolerance=1e-4)
    again = m.relax(images, steps=2, states=found.states)
    assert gap(found.states, again.states) < 1e-3


def test_the_error_of_a_step_goes_with_the_step(weak):
    images = random_images(3)
    times = [settle(weak, images, step=step).settling_s for step in (2.0, 0.5, 0.25, 0.125)]
    errors = [(a - b).abs().max().item() for a, b in pairwise(times)]
    assert errors[0] > errors[2] >= 0
    assert errors[2] < 0.05 * times[-1].max()


def test_time_goes_with_capacitance_and_heat_with_the_square_of_the_voltage(weak):
    images = random_images(2)
    one, slow, strong = (settle(weak, images, c) for c in (
        Circuit(1e-12, 0.2), Circuit(3e-12, 0.2), Circuit(1e-12, 0.4)))
    assert torch.allclose(slow.settling_s, 3 * one.settling_s)
    assert torch.allclose(slow.energy_j, 3 * one.energy_j)
    assert torch.allclose(strong.energy_j, 4 * one.energy_j)
    assert torch.equal(strong.settling_s, one.settling_s)


def test_a_single_neuron_charges_by_the_exponential_of_its_time_constant():
    """One layer whose neurons hear nothing from above: s(t) = p (1 - exp(-t / tau)), until within the tolerance."""
    net = small_network(1, channels=(4,), paddings=(0,), pools=(1,))
    net.weights[-1].zero_()
    m, images = machine(net.lower(), "crossbar:ideal"), random_images(1)
    found = settle(m, images, step=0.01, tolerance=1e-3)
    g_us = m.arrays[0].conductance_us.sum((0, 1, 3, 4, 5)) + m.arrays[1].conductance_us.sum((0, 1, 2, 4, 5))
    tau = 1e-12 / (m.arrays[0].conductance_us.sum((0, 1, 3, 4, 5)) * 1e-6)
    assert not m.arrays[1].conductance_us.any()
    assert g_us.min() > 0
    top = m.relax(images).states[0]
    waits = tau[:, None, None] * (top[0] / 1e-3).clamp(min=1).log()
    assert found.settling_s.item() == pytest.approx(waits.max().item(), rel=0.02)
    assert found.tau_s == pytest.approx((tau.min().item(), tau.max().item()), rel=1e-5)
    assert math.isfinite(found.energy_j.item())


def test_time_constants_count_every_device_that_a_neuron_is_wired_to():
    """By hand, neuron by neuron: columns from the pixels in reach, means over pool windows; rows to all above."""
    m = machine(small_network(3).lower(), "crossbar:pcm/aged")
    first, second = (array.conductance_us.sum((0, 1)) for array in m.arrays[:2])   # (C_out, C_in, 3, 3) each

    def reach(kernel, i, j, side):
        """Devices of a 3 x 3 kernel centred at (i, j) that lie on a map of this side."""
        return sum(kernel[a, b].item() for a in range(3) for b in range(3)
                   if 0 <= i + a - 1 < side and 0 <= j + b - 1 < side)

    shortest, longest = math.inf, 0.0
    for c in range(4):
        for i in range(4):
            for j in range(4):
                window = [(2 * i + a, 2 * j + b) for a in (0, 1) for b in (0, 1)]
                column = sum(reach(first[c, 0], y, x, 8) for y, x in window) / 4
                row = sum(reach(second[o, c].flip(0, 1), i, j, 4) for o in range(6))
                tau = 1e-12 / ((column + row) * 1e-6)
                shortest, longest = min(shortest, tau), max(longest, tau)
    found = settle(m, random_images(1)).tau_s
    top = m.arrays[2].conductance_us.sum((0, 1, 2))
    assert found[0] <= shortest * (1 + 1e-5)
    nodes_us = conductances_us(m)[0]
    assert nodes_us[0].max().item() == pytest.approx(1e-6 / shortest, rel=1e-5)
    assert nodes_us[0].min().item() == pytest.approx(1e-6 / longest, rel=1e-5)
    assert torch.all(nodes_us[1] > top)


@pytest.mark.parametrize(("field", "value"), [("capacitance_f", 0.0), ("capacitance_f", -1e-12), ("read_v", math.nan)])
def test_what_is_no_circuit_is_refused(field, value):
    with pytest.raises(Refusal, match=f"{field}.*above 0"):
        Circuit(**{field: value})


def test_read_noise_is_refused(weak):
    with pytest.raises(Refusal, match="without=read"):
        settle(machine(weak.graph, "crossbar:pcm"), random_images(1))
