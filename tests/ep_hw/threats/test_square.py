"""The square attack: its moves, its questions, and what noise must not make it believe."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from linear import LinearMachine
from networks import random_images, seeded
from pyautoattack.square import SquareAttack

from ep_hw.threats.attacks.black_box import AHEAD, BlackBox
from ep_hw.threats.attacks.square import (
    Square,
    exchange,
    exchanging,
    piles,
    recolour,
    recolouring,
    tiles,
    window,
)

SHAPE = (2, 9, 7)


def linear(sigma=0.0, classes=10):
    weight = torch.randn(classes, 126, generator=seeded(1))
    return LinearMachine(weight, torch.zeros(classes), SHAPE, sigma)


def norms(x, dims=(1, 2, 3)):
    return x.square().sum(dims).sqrt()


@pytest.mark.parametrize("sigma", [0.0, 0.3])
@pytest.mark.parametrize("average", [1, 4])
def test_every_read_is_a_query_and_no_image_has_more_than_asked(sigma, average):
    machine, images, shown, relax = linear(sigma), 0.4 + 0.2 * random_images(12, SHAPE), [], LinearMachine.relax
    labels = linear().relax(images).prediction
    machine.relax = lambda x, *args, **kwargs: shown.append(len(x)) or relax(machine, x, *args, **kwargs)
    found = Square("l2", 0.01, 48, average, ahead=0, patience=1).run(machine, images, labels, seeded())
    assert found.queries.sum() == sum(shown)
    assert found.queries.max() <= 48
    assert found.queries.max() > 48 - 3 * average, "too small to break: asked to the end"


@pytest.mark.parametrize("average", [4, 25])
def test_averaging_divides_the_noise_of_an_answer_by_its_root(average):
    images = random_images(1, SHAPE).expand(4000, -1, -1, -1)
    labels, spread = torch.zeros(4000, dtype=torch.long), []
    for n in (1, average):
        device = BlackBox(linear(sigma=0.5, classes=2), labels, n, seeded())
        spread.append(float(device.ask(images, torch.arange(4000)).std()))
    assert spread[0] / spread[1] == pytest.approx(average**0.5, rel=0.06)


@given(seed=st.integers(0, 10**6), norm=st.sampled_from(["l2", "linf"]), ahead=st.sampled_from([8, 16, 100]),
       queries=st.integers(1, 90), average=st.integers(1, 2), strength=st.sampled_from([1.0, 4.0]))
@settings(max_examples=30)
def test_asking_ahead_finds_draws_and_counts_what_asking_one_by_one_does(seed, norm, ahead, queries, average, strength):
    """Images that fall early, late and never, or all of them; the generator goes on from the same place."""
    weight, images = torch.randn(3, 126, generator=seeded(seed)).double(), random_images(7, SHAPE, seed).double()
    machine, eps = LinearMachine(weight, torch.zeros(3), SHAPE, 0.0), strength * {"l2": 0.4, "linf": 0.05}[norm]
    labels, generators = machine.relax(images).prediction, (seeded(seed), seeded(seed))
    one, other = (Square(norm, eps, queries, average, n * images.numel()).run(machine, images, labels, generator)
                  for n, generator in zip((0, ahead), generators))
    assert torch.equal(one.images, other.images)
    assert torch.equal(one.queries, other.queries)
    assert torch.equal(*(generator.get_state() for generator in generators))


def test_a_machine_without_noise_is_asked_about_many_challengers_at_once():
    machine, images, shown, relax = linear(), 0.4 + 0.2 * random_images(4, SHAPE), [], LinearMachine.relax
    machine.relax = lambda x, *args, **kwargs: shown.append(len(x)) or relax(machine, x, *args, **kwargs)
    found = Square("linf", 1e-4, 400, patience=1).run(machine, images, linear().relax(images).prediction, seeded())
    assert found.queries.tolist() == [400] * 4
    assert len(shown) < 400 / 3
    assert max(shown) <= AHEAD // 126


def test_an_image_is_asked_about_no_longer_than_the_share_of_its_margin_that_it_has_lost():
    """The tenth that all have, where the ball is small; to the end where noise hides what a margin loses."""
    images = 0.4 + 0.2 * random_images(12, SHAPE)
    labels = linear().relax(images).prediction
    for norm, near, far in (("l2", 0.3, 1e-3), ("linf", 0.03, 1e-4)):
        without, noisy = (Square(norm, far, 200).run(linear(s), images, labels, seeded()).queries for s in (0.0, 0.3))
        assert without.tolist() == [20] * 12
        assert noisy.min() > 195
        some = Square(norm, near, 200).run(linear(), images, labels, seeded())
        margin = BlackBox(linear(), labels, 1, seeded()).look(some.images, torch.arange(12))
        assert ((margin < 0) | (some.queries >= 20)).all()
        assert ((margin < 0) | (some.queries < 200)).any()
        assert len(some.queries[margin >= 0].unique()) > 1


class Hard(LinearMachine):
    """Says a class and no more: margins are 1 until they are -1."""

    def relax(self, images, *args, **options):
        end = super().relax(images, *args, **options)
        return replace(end, logits=torch.nn.functional.one_hot(end.prediction, end.logits.shape[1]).float())


class Sharp(LinearMachine):
    """Says probabilities: margins stay near 1 until they fall ever faster."""

    def relax(self, images, *args, **options):
        end = super().relax(images, *args, **options)
        return replace(end, logits=end.logits.softmax(1))


@pytest.mark.parametrize(("norm", "eps"), [("l2", 0.5), ("linf", 0.04)])
def test_a_machine_that_says_probabilities_is_asked_to_the_end(norm, eps):
    plain, images = linear(), 0.4 + 0.2 * random_images(24, SHAPE)
    machine, labels = Sharp(plain.weight, plain.bias, SHAPE), plain.relax(images).prediction
    found = Square(norm, eps, 300).run(machine, images, labels, seeded())
    wrong = plain.relax(found.images).prediction != labels
    assert 4 < wrong.sum() < 24
    assert (found.queries[~wrong] == 300).all()


def test_a_machine_that_says_only_a_class_is_asked_to_the_end():
    plain, images = linear(), 0.4 + 0.2 * random_images(12, SHAPE)
    labels = plain.relax(images).prediction
    found = Square("linf", 0.004, 100).run(Hard(plain.weight, plain.bias, SHAPE), images, labels, seeded())
    wrong = plain.relax(found.images).prediction != labels
    assert (found.queries[~wrong] == 100).all()
    assert not wrong.all()


class Scripted(LinearMachine):
    """A noisy machine whose margins are the next of a list, the last one for ever."""

    def __init__(self, margins):
        super().__init__(torch.zeros(2, 126), torch.zeros(2), SHAPE, sigma=1.0)
        self.margins = margins

    def relax(self, images, *args, **kwargs):
        end = super().relax(images, *args, **kwargs)
        margin, *rest = self.margins
        self.margins = rest or [margin]
        end.logits[:] = torch.tensor([margin, 0.0])
        return end


@pytest.mark.parametrize(("margins", "queries"), [
    ([-1.0], 2),                        # broken, and again
    ([-1.0, 1.0], 29),                  # a lucky answer: not broken, the incumbent stands at 1 from then on
    ([1.0, 2.0, -1.0, -1.0], 4),        # start, the incumbent again, a challenger, that one again
    ([1.0, 0.2, 0.5, 0.7], 29)])
def test_an_image_is_broken_only_if_a_second_answer_agrees(margins, queries):
    image, label = random_images(1, SHAPE), torch.zeros(1, dtype=torch.long)
    found = Square("linf", 0.1, 30).run(Scripted(margins), image, label, seeded())
    assert found.queries.item() == pytest.approx(queries, abs=1 if queries > 20 else 0)


def test_a_lucky_incumbent_gives_way_to_a_better_challenger():
    """First answer .1 by luck, 1 when asked again; the challenger's .5 wins, which it would not against .1."""
    image, label = random_images(1, SHAPE), torch.zeros(1, dtype=torch.long)
    kept, moved = (Square("linf", 0.1, 4).run(Scripted(margins), image, label, seeded()).images
                   for margins in ([0.1, 0.1, 0.5], [0.1, 1.0, 0.5]))
    assert not torch.equal(kept, moved)


def test_windows_shrink_as_published():
    """Shares p of a search of 10,000 queries on 100 x 100 pixels."""
    for done, halvings in ((0, 0), (11, 1), (51, 2), (201, 3), (501, 4), (1001, 5), (2001, 6), (4001, 7), (8001, 9)):
        assert window(done / 10_000, (100, 100)) == round((0.8 / 2**halvings) ** 0.5 * 100)
    assert window(0.99, (5, 5)) == 1
    assert window(0.0, (5, 9)) == 4


@pytest.mark.parametrize("side", [3, 4, 5, 8])
def test_a_pattern_is_two_opposite_piles_of_norm_one(side):
    pattern = piles(side, torch.zeros(1))
    assert pattern.norm().item() == pytest.approx(1)
    assert (pattern[:side // 2] > 0).all()
    assert (pattern[side // 2:] < 0).all()


@given(seed=st.integers(0, 10**6), norm=st.sampled_from(["l2", "linf"]))
@settings(max_examples=20)
def test_the_same_squares_break_a_linear_model_wherever_smaller_ones_did(seed, norm):
    """Its margin falls in proportion to eps, so that the search accepts the same moves, whoever fell beside it."""
    images, weight = 0.3 + 0.4 * random_images(40, SHAPE, seed), torch.randn(2, 126, generator=seeded(seed))
    machine = LinearMachine(weight, -weight @ images.mean(0).flatten(), SHAPE, 0.0)
    labels, broken = machine.relax(images).prediction, torch.zeros(40, dtype=torch.bool)
    for share in (0.25, 0.5, 0.75, 1.0):
        found = Square(norm, share * {"l2": 0.5, "linf": 0.06}[norm], 30).run(machine, images, labels, seeded(seed))
        before, broken = broken, machine.relax(found.images).prediction != labels
        assert broken[before].all()
    assert broken.any()


@given(seed=st.integers(0, 10**6), side=st.integers(1, 6))
@settings(max_examples=20)
def test_moves_keep_the_norm_and_touch_nothing_outside_their_windows(seed, side):
    images = random_images(5, SHAPE, seed).double()
    delta = tiles(images, 0.7, seeded(seed))
    assert torch.allclose(norms(delta), torch.full((5,), 0.7, dtype=torch.float64))
    moved = exchange(delta, 0.7, side, exchanging(images, side, seeded(seed + 1)))
    assert torch.allclose(norms(moved), torch.full((5,), 0.7, dtype=torch.float64))
    assert torch.allclose(norms(moved, (2, 3)), norms(delta, (2, 3))), "windows trade within a channel"
    odd = min(max(side | 1, 3), 6)
    changed = ((moved - delta).abs() > 1e-9).any(1)
    assert changed.flatten(1).sum(1).max() <= 2 * odd**2
    recoloured = recolour(delta, 0.3, side, recolouring(images, side, seeded(seed)))
    inside = recoloured != delta
    assert inside.any(1).flatten(1).sum(1).max() <= side**2
    assert (recoloured[inside].abs() == 0.3).all()


@pytest.mark.parametrize(("norm", "eps"), [("l2", 0.5), ("linf", 0.06)])
def test_it_breaks_as_many_images_as_the_published_search(norm, eps):
    """Over several searches: the published one moves all images of a batch alike, and so is lucky with all or none."""
    machine, images, standing = linear(), 0.3 + 0.4 * random_images(100, SHAPE), [[], []]
    labels = machine.relax(images).prediction
    for seed in range(4):
        ours = Square(norm, eps, 100).run(machine, images, labels, seeded(seed)).images
        theirs = SquareAttack(lambda x: machine.relax(x.clamp(0, 1)).logits, norm={"l2": "L2", "linf": "Linf"}[norm],
                              eps=eps, seed=seed, n_queries=100, device="cpu").perturb(images, labels).clamp(0, 1)
        for found, left in zip((ours, theirs), standing):
            left.append(float((machine.relax(found).prediction == labels).float().mean()))
    ours, theirs = (sum(left) / len(left) for left in standing)
    assert ours <= theirs + 0.01
    assert 0.1 < theirs < 0.9, "neither all nor none, so that the search matters"
