"""What attackers differentiate of a noisy chip: the chip itself, without what is new at every read."""

import pytest
import torch
import torch.nn.functional as F
from chips import machine, reads
from networks import random_images, small_network
from torch import nn

import simulators
from ep_hw.threats.attacks import Averaged, Unrolled, parse_gradient
from simulators.crossbar.recording import record
from simulators.crossbar.tiled import put_on_tiles
from simulators.relaxation import Nudge

LABELS = torch.arange(6)
LINEAR = "", "[arrays=separate]", "[tile=18,wire_ohm=2]", "[tile=18,encoding=offset,drift_compensation=column]"


@pytest.fixture(scope="module")
def graph():
    return small_network(3, gain=1.5).lower()


def separate(options, *more):
    """Options of a chip, with some more."""
    return f"[{','.join(filter(None, [options.strip('[]'), *more]))}]"


@pytest.mark.parametrize("options", LINEAR)
@pytest.mark.parametrize("more", ["without=read+converters", "without=read+converters,dt=0.5,winners_held=4"])
def test_of_a_chip_without_noise_and_converters_it_is_the_chip(graph, options, more):
    """Weights of both directions, drift and wires, feedback of a nudge: all but the memory order of sums."""
    exact, images = machine(graph, f"crossbar:pcm{separate(options, more)}", 2), random_images(6)
    quiet = exact.with_substrate(exact.substrate.quiet())
    nudge = Nudge(F.one_hot(LABELS, 10).float(), 0.5)
    for settings in ({"steps": 12}, {"steps": 9, "nudge": nudge}):
        ends = exact.relax(images, **settings), quiet.relax(images, **settings)
        assert torch.allclose(*(end.logits for end in ends), rtol=1e-4, atol=1e-5)
        assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(*(end.states for end in ends)))


@pytest.mark.parametrize("options", LINEAR)
def test_its_gradient_points_where_the_mean_of_many_noisy_ones_does(graph, options):
    chip, images = machine(graph, f"crossbar:pcm{options}", 1), random_images(6)
    own = Unrolled(12, "margin")(chip, images, LABELS, None)
    mean = Averaged(12, "margin")(chip, images, LABELS, reads(0), 64)
    few = Averaged(12, "margin")(chip, images, LABELS, reads(1), 1)

    def aim(gradient):
        return F.cosine_similarity(gradient.flatten(1), mean.flatten(1)).median()

    assert aim(own) > 0.9
    assert aim(own) > aim(few) - 0.05


def test_it_is_asked_of_noisy_chips_alone_whose_lines_sense_products(graph):
    for target in ("crossbar:ideal", "crossbar:pcm[without=read]", "crossbar:pcm[sinh_v=0.1]",
                   "crossbar:generic[output_noise=0.01]"):
        chip = machine(graph, target)
        assert chip.gradient_model is chip, target
    chip = machine(graph, "crossbar:pcm")
    assert chip.gradient_model.deterministic
    assert chip.gradient_model is chip.gradient_model
    assert not chip.deterministic


def test_what_an_attacker_differentiates_is_not_counted_as_the_chip_s_own_reads(graph):
    chip = machine(graph, "crossbar:pcm")
    before = chip.counts()
    Unrolled(12)(chip, random_images(6), LABELS, None)
    assert chip.counts() == before


def test_noisy_gradients_are_asked_for_by_name(graph):
    chip, images = machine(graph, "crossbar:pcm"), random_images(6)
    for name, noisy in (("bptt@5:margin", False), ("apgd@5", False), ("eot@5:margin", True)):
        ways = [parse_gradient(name)(chip, images, LABELS, reads(seed), 2) for seed in (0, 1)]
        assert torch.equal(*ways) is not noisy, name
        assert str(parse_gradient(name)) == name


def test_modules_on_tiles_are_differentiated_alike():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, 4))
    recording, images = record(module, random_images(16), 4), random_images(6)
    quiet, exact = (simulators.open(put_on_tiles(recording, f"crossbar:pcm{o}"), chip_seed=1)
                    for o in ("", "[without=read+converters]"))
    assert quiet.gradient_model.deterministic
    assert torch.allclose(quiet.gradient_model.relax(images).logits, exact.relax(images).logits, rtol=1e-4, atol=1e-5)
    assert exact.gradient_model is exact
