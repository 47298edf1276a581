"""Errors of outputs: their sizes, what stays the same on a chip, and none where there is no converter."""

import math

import pytest
import torch
from networks import random_images, seeded, small_network

import mapping
import simulators
from mapping.crossbar.target import OutputErrors
from simulators.crossbar.periphery import OutputNoise

N = 40_000
FRESH, FROZEN = ("output_noise", "gain_noise"), ("output_offset", "gain_error")


@pytest.fixture(scope="module")
def graph():
    return small_network(5).lower()


def opened(graph, options, chip=0, rung=""):
    return simulators.open(mapping.compile(graph, f"crossbar:generic{rung}[{options},steps=6]"), chip_seed=chip)


@pytest.mark.parametrize(("errors", "expected"), [
    (OutputErrors(noise=0.1), 0.1 * 2.0), (OutputErrors(gain_noise=0.1), 0.1 * 3.0),
    (OutputErrors(offset=0.1), 0.1 * 2.0), (OutputErrors(gain_error=0.1), 0.1 * 3.0),
    (OutputErrors(0.1, 0.2, 0.3, 0.4), math.hypot(0.1 * 2, 0.2 * 2, 0.3 * 3, 0.4 * 3))])
def test_an_output_of_3_of_a_full_scale_of_2_is_off_by_so_much(errors, expected):
    """Offsets and noise go with the full scale, gains with the output; all add up as variances."""
    sensed, scale = torch.full((1, N), 3.0), torch.full((N,), 2.0)
    off = OutputNoise.of(scale, errors, seeded(1))(sensed, seeded(2)) - sensed
    assert off.std().item() == pytest.approx(expected, rel=5 / math.sqrt(2 * N))
    assert abs(off.mean().item()) < 5 * expected / math.sqrt(N)


def test_gradients_pass_as_the_gain_has_it():
    noise = OutputNoise.of(torch.ones(4), OutputErrors(0.1, 0.1, 0.1, 0.1), seeded(0))
    sensed = torch.ones(2, 4, requires_grad=True)
    noise(sensed, seeded(1)).sum().backward()
    assert torch.equal(sensed.grad, noise.gain.expand(2, 4))


@pytest.mark.parametrize("option", [*FRESH, *FROZEN])
def test_what_is_fresh_differs_at_every_read_and_what_is_frozen_from_chip_to_chip(graph, option):
    images, target = random_images(4), mapping.parse(f"crossbar:generic[{option}=0.05]")
    assert mapping.parse(str(target)) == target
    assert (target.is_noisy, target.has_chips) == (option in FRESH, option in FROZEN)
    first, other = opened(graph, f"{option}=0.05"), opened(graph, f"{option}=0.05", chip=1)
    assert first.deterministic == (option in FROZEN)
    one, two, third = (machine.relax(images, generator=seeded(seed)).logits
                       for machine, seed in ((first, 0), (first, 1), (other, 0)))
    assert torch.equal(one, two) == (option in FROZEN)
    assert torch.equal(one, third) == (option in FRESH)
    assert not torch.equal(one, opened(graph, "adc_bits=8").relax(images).logits)


def test_the_backward_read_has_errors_of_its_own(graph):
    forward, backward = opened(graph, "gain_error=0.2").projections[1].forward_periphery, \
        opened(graph, "gain_error=0.2").projections[1].backward_periphery
    assert len(backward.noises) == len(backward.adcs) == 1
    assert forward.noises[0].gain.shape == forward.adcs[0].step.shape
    assert backward.noises[0].gain.shape == backward.adcs[0].step.shape
    assert not torch.equal(forward.noises[0].gain.flatten()[:4], backward.noises[0].gain[:4])


def test_without_converters_outputs_have_no_errors(graph):
    images = random_images(2)
    for rung, options in (("/read", "output_noise=0.5,output_offset=0.5"), ("", "gain_error=0.5,without=converters")):
        machine = opened(graph, options, rung=rung)
        assert machine.deterministic
        assert torch.equal(machine.relax(images).logits, opened(graph, "adc_bits=8", rung="/read").relax(images).logits)
