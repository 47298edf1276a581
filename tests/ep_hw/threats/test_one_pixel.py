"""The one-pixel attack: what it may change, what it asks, and that it finds a pixel that decides."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from linear import LinearMachine
from networks import random_images

from ep_hw.threats.attacks import OnePixel, noise_like, perturbation
from ep_hw.threats.attacks.black_box import BlackBox
from ep_hw.threats.attacks.one_pixel import painted
from ep_hw.threats.threat import parse_threat
from mapping import Refusal

SHAPE = (2, 6, 5)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def decided_by(row, column, sigma=0.0):
    """Class 1 wins where the two channels of one pixel together pass 1; all other pixels count for nothing."""
    weight = torch.zeros(2, *SHAPE)
    weight[1, :, row, column] = 1.0
    return LinearMachine(weight.flatten(1), torch.tensor([1.0, 0.0]), SHAPE, sigma)


def test_it_finds_the_one_pixel_that_decides():
    machine, images = decided_by(4, 1), 0.4 * random_images(8, SHAPE)
    found = OnePixel(1, 1000).run(machine, images, torch.zeros(8, dtype=torch.long), seeded())
    assert (machine.relax(found.images).prediction == 1).all()
    changed = (found.images != images).any(1)
    assert changed[:, 4, 1].all()
    assert changed.sum((1, 2)).tolist() == [1] * 8
    assert (found.queries < 1000).all(), "it stops once an image is broken"


@given(pixels=st.integers(1, 5), queries=st.integers(1, 90), average=st.integers(1, 3),
       sigma=st.sampled_from([0.0, 0.3]), seed=st.integers(0, 99))
@settings(max_examples=25)
def test_no_more_pixels_change_and_no_more_is_asked_than_allowed(pixels, queries, average, sigma, seed):
    machine, images, shown, relax = decided_by(0, 0, sigma), 0.1 * random_images(3, SHAPE, seed=seed), [], \
        LinearMachine.relax
    machine.relax = lambda x, *args, **kwargs: shown.append(len(x)) or relax(machine, x, *args, **kwargs)
    found = OnePixel(pixels, queries, average).run(machine, images, torch.zeros(3, dtype=torch.long), seeded(seed))
    assert found.queries.sum() == sum(shown)
    assert found.queries.max() <= max(queries, 6 * average)
    assert perturbation(images, found.images, "l0").max() <= pixels
    assert found.images.min() >= 0
    assert found.images.max() <= 1


def test_an_image_does_not_depend_on_the_others_being_broken():
    machine, images, labels = decided_by(2, 2), 0.3 * random_images(2, SHAPE), torch.tensor([0, 0])
    together = OnePixel(1, 200).run(machine, images, labels, seeded())
    easy = images.clone()
    easy[0, :, 2, 2] = 1.0   # broken from the start
    beside = OnePixel(1, 200).run(machine, easy, labels, seeded())
    assert torch.equal(together.images[1], beside.images[1])


def test_noise_of_the_same_size_changes_as_many_pixels():
    images = random_images(50, SHAPE)
    pixels = torch.rand(50, 7, 4, generator=seeded())
    attacked = painted(images, pixels)
    count = perturbation(images, attacked, "l0")
    noisy = noise_like(images, attacked, "l0", seeded(1))
    assert torch.equal(perturbation(images, noisy, "l0"), count)
    assert 1 <= count.min() <= count.max() == 7


def test_threats_count_whole_pixels():
    assert parse_threat("one_pixel@3").strength == 3
    for text in ("one_pixel@0.5", "one_pixel@0", "one_pixel@2000"):
        with pytest.raises(Refusal, match="pixels changed"):
            parse_threat(text)


def test_a_machine_without_noise_meets_all_candidates_at_once_and_answers_the_same(monkeypatch):
    weight, images = torch.randn(3, 60, generator=seeded()).double(), random_images(6, SHAPE).double()
    machine, shown, relax = LinearMachine(weight, torch.zeros(3), SHAPE, 0.0), [], LinearMachine.relax
    machine.relax = lambda x, *args, **kwargs: shown.append(len(x)) or relax(machine, x, *args, **kwargs)
    labels = relax(machine, images).prediction
    found = OnePixel(2, 100).run(machine, images, labels, seeded())
    many, shown[:] = list(shown), []
    monkeypatch.setattr(BlackBox, "ahead", lambda *args: 1)
    one_by_one = OnePixel(2, 100).run(machine, images, labels, seeded())
    assert torch.equal(found.images, one_by_one.images)
    assert torch.equal(found.queries, one_by_one.queries)
    assert sum(many) == sum(shown) == found.queries.sum()
    assert len(shown) == 10 * len(many)
