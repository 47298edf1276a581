"""Training for hardware: what is disturbed, that it comes back, and that recipes without noise are what they were."""

import pytest
import torch
from networks import random_images, small_spec
from recipe import SMALL

from ep_hw.data import load_data
from ep_hw.learning.training import load_recipe, parse_recipe
from ep_hw.learning.training.hardware_aware import as_on_hardware, rounded
from ep_hw.learning.training.learners import learner_of
from mapping.digital import on_grid

PLAIN = SMALL.model_copy(update={"batch": 12})


def noisy(share):
    return PLAIN.model_copy(update={"weight_noise": share})


NOISY = noisy(0.05)


def random_numbers():
    return torch.Generator().manual_seed(0)


def test_each_layer_is_disturbed_by_a_share_of_its_largest_weight_for_one_batch():
    weights = [torch.linspace(-1, 3, 40_000), torch.full((40_000,), 0.2)]
    before = [w.clone() for w in weights]
    with as_on_hardware(weights, noisy(0.1), random_numbers()):
        errors = [w - kept for w, kept in zip(weights, before)]
    assert all(torch.equal(w, kept) for w, kept in zip(weights, before))
    for error, largest in zip(errors, (3.0, 0.2)):
        assert error.std().item() == pytest.approx(0.1 * largest, rel=5 / (2 * 40_000) ** 0.5)
    assert abs(torch.corrcoef(torch.stack(errors))[0, 1]) < 5 / 40_000**0.5


def test_without_noise_no_random_number_is_taken():
    generator, weights = random_numbers(), [torch.ones(3)]
    with as_on_hardware(weights, PLAIN, generator):
        assert torch.equal(weights[0], torch.ones(3))
    assert torch.equal(generator.get_state(), random_numbers().get_state())


def test_weights_come_back_even_where_a_batch_fails():
    weights = [torch.ones(3)]
    with pytest.raises(ZeroDivisionError), as_on_hardware(weights, noisy(0.5), random_numbers()):
        raise ZeroDivisionError
    assert torch.equal(weights[0], torch.ones(3))


def test_a_learner_takes_the_gradient_of_the_disturbed_weights_and_updates_its_own():
    learners = [learner_of(recipe, small_spec(), 1, "cpu") for recipe in (PLAIN, NOISY)]
    start = [w.clone() for w in learners[0].net.weights]
    with as_on_hardware(learners[0].net.weights, NOISY, random_numbers()):
        expected = learners[0]._contrast(random_images(12), torch.arange(12) % 10)
    learners[1].step(random_images(12), torch.arange(12) % 10, random_numbers())
    for weight, before, (gradient, _), rate in zip(learners[1].net.weights, start, expected, PLAIN.rates):
        step = gradient + PLAIN.weight_decay * before
        assert torch.allclose(weight, before - rate * step, atol=1e-6)


def test_recipes_without_noise_are_what_they_were_before_there_was_any():
    """The fingerprint of runs begun by an earlier version; their checkpoints' headers are made of the same content."""
    before = load_recipe("digits").model_copy(update={"feedback_norm": 0.0})
    assert before.fingerprint(11).startswith("d99dc23e8f49652a2cab59d1bd46d200")
    assert "weight_noise" not in PLAIN.model_dump(mode="json")
    assert parse_recipe(NOISY.model_dump(mode="json")) == NOISY
    assert NOISY.fingerprint(1) != PLAIN.fingerprint(1)


@pytest.mark.parametrize("kind", ["ep", "ff", "bp"])
def test_learners_of_every_kind_meet_rounded_weights_and_keep_their_own(kind):
    """The gradient is that of the rounded weights: the same as of a network that has them from the start."""
    recipe = {"ep": PLAIN, "ff": load_recipe("digits-gain0"), "bp": load_recipe("digits-bp")}[kind]
    recipe = recipe.model_copy(update={"channels": (4, 6), "weight_bits": 3, "weight_decay": 0.0})
    spec = recipe.spec(load_data("digits", "train"))
    learner, other = (learner_of(recipe, spec, 1, "cpu") for _ in range(2))
    own, there = (getattr(x, "_weights", None) or x.net.weights for x in (learner, other))
    before = [w.detach().clone() for w in own]
    with torch.no_grad():
        for weight in there:
            weight.copy_(rounded(weight, 3))
    for x in (learner, other):
        x.step(random_images(12), torch.arange(12) % 10, random_numbers())
    for mine, start, its, kept in zip(own, before, there, (rounded(w, 3) for w in before)):
        assert torch.allclose(mine - start, its - kept, atol=1e-6)
        assert len((rounded(start, 3)[0] / rounded(start, 3)[0].abs().max()).unique()) <= 7


def test_a_grid_is_what_the_digital_machine_has():
    weight = torch.randn(5, 3, 2, 2, generator=random_numbers())
    weight[2] = 0
    for bits in (2, 4, 8):
        integers, steps = on_grid(weight.numpy(), bits)
        assert torch.equal(rounded(weight, bits), torch.from_numpy(integers * steps[:, None, None, None]))
