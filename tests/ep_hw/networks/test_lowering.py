"""Lowering: the graph of a chain of layers answers as its module does, and what is no chain is refused by its name."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from modules import random_module
from torch import nn
from torchvision.transforms import Normalize

import ep_hw
import mapping
import simulators
from ep_hw.networks.baselines.modules import Normalise
from ep_hw.threats.attacks.gradients import Unrolled, loss_of
from mapping import Refusal
from simulators.relaxation import Nudge, relax


def images(shape, batch: int = 4, seed: int = 0):
    return torch.rand(batch, *shape, generator=torch.Generator().manual_seed(seed))


def difference(graph, module, shown, target: str = "reference") -> float:
    """Of the logits of a graph on a machine from the module's own, relative to the largest of these."""
    with torch.no_grad():
        own = module(shown)
    logits = simulators.open(mapping.compile(graph, target)).relax(shown).logits
    return ((logits - own).abs().max() / own.abs().max()).item()


def lowered_difference(module, shape, target: str = "reference") -> float:
    module.eval()
    return difference(ep_hw.lower(module, images(shape)), module, images(shape, seed=1), target)


@pytest.mark.slow
@given(st.integers(0, 10**6), st.sampled_from(["reference", "crossbar:ideal", "crossbar:ideal[tile=16]"]))
@settings(max_examples=80)
def test_a_lowered_module_answers_as_the_module(seed, target):
    assert lowered_difference(*random_module(seed), target) < 1e-5


@pytest.mark.parametrize("model", ["digits-bp-s11", "digits-adv05-s13", "digits-adv10-s31"])
def test_packaged_networks_answer_as_their_modules(model):
    assert lowered_difference(ep_hw.load(model).module, (1, 8, 8)) < 1e-5


class Written(nn.Module):
    """A network in torch's functions, with arithmetic for its normalisation."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.4, 0.5])[:, None, None])
        self.scale = nn.Parameter(torch.tensor(0.7))
        self.first, self.hidden = nn.Conv2d(2, 5, 3, padding="same"), nn.Linear(5 * 3 * 3, 8)
        self.kernel, self.readout = nn.Parameter(torch.randn(5, 5, 2, 2)), nn.Linear(8, 3)
        self.register_buffer("running", torch.rand(2, 5) + 0.5)

    def forward(self, x):
        x = 2 * (x - self.mean) / self.scale
        x = F.batch_norm(self.first(x), self.running[0], self.running[1], training=self.training)
        x = F.max_pool2d(F.relu6(x), 2)
        x = torch.relu(F.conv2d(x, self.kernel, stride=1))
        x = F.avg_pool2d(F.dropout(x, 0.5, self.training), 1).view(x.size(0), -1)
        return self.readout(self.hidden(x).clamp(min=0, max=0.5).reshape(x.shape[0], 8)) / 3


class Averaged(nn.Module):
    """A network without dense layers: the mean over the last maps is its answer."""

    def __init__(self):
        super().__init__()
        self.convolutions = nn.ModuleList([nn.Conv2d(2, 4, 3, 2, 1), nn.Conv2d(4, 3, 1)])

    def forward(self, x):
        for convolution in self.convolutions:
            x = convolution(F.hardtanh(x, 0, 2) if convolution is self.convolutions[1] else x - 0.5)
        return x.mean((2, 3))


def with_readout(*layers, shape=(2, 8, 8)):
    """Layers with a dense readout above them."""
    features = nn.Sequential(*layers, nn.Flatten()).eval()(torch.zeros(2, *shape)).shape[1]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(features, 3))


def negative_norm(channels: int):
    norm = nn.BatchNorm2d(channels)
    nn.init.constant_(norm.weight, -1.5)
    nn.init.constant_(norm.bias, 0.3)
    return norm


CONV, RELU, FLATTEN = partial(nn.Conv2d, 2, 4), nn.ReLU, nn.Flatten
EXACT = {
    "functions": Written,
    "a mean over the last maps": Averaged,
    "one of unpadded maps, of images turned negative": lambda: nn.Sequential(
        negative_norm(2), nn.Conv2d(2, 5, 3), RELU(), nn.Conv2d(5, 4, 3), nn.AdaptiveAvgPool2d(1), FLATTEN()),
    "torchvision's normalisation": lambda: with_readout(Normalize((0.4, 0.5), (0.2, 0.3)), CONV(3), RELU()),
    "a negative batch norm below a max pool": lambda: with_readout(CONV(3), negative_norm(4), nn.MaxPool2d(2), RELU()),
    "a negative batch norm above an activation": lambda: with_readout(CONV(3), RELU(), negative_norm(4),
                                                                      nn.Conv2d(4, 3, 3), RELU()),
    "padding above an average pool that leaves no rest": lambda: with_readout(
        CONV(3, padding=1), RELU(), nn.AvgPool2d(2), nn.AvgPool2d(2), nn.Conv2d(4, 5, 3, 2, 2), RELU()),
    "averages over parts": lambda: with_readout(CONV((3, 2)), RELU(), nn.AdaptiveAvgPool2d((3, None))),
    "an average pool of the image": lambda: with_readout(Normalise((0.2, 0.3), (1.0, 2.0)), nn.AvgPool2d(2),
                                                         CONV(3, padding=1), RELU()),
    "strides that leave a rest": lambda: with_readout(CONV(3, 2), RELU(), nn.Conv2d(4, 5, 2, 2), RELU()),
    "a readout that is a padded convolution": lambda: nn.Sequential(
        CONV(3, 2, 1), RELU(), nn.Conv2d(4, 3, 5, 3, 1), FLATTEN()),
    "a map that is no square, averaged whole": lambda: with_readout(CONV((3, 2)), RELU(), nn.AvgPool2d((6, 7))),
    "a batch norm of the logits": lambda: nn.Sequential(FLATTEN(), nn.Linear(128, 4), RELU(), nn.Linear(4, 3),
                                                      nn.BatchNorm1d(3)),
}


@pytest.mark.parametrize("kind", EXACT)
@pytest.mark.parametrize("target", ["reference", "crossbar:ideal"])
def test_what_folds_folds_exactly(kind, target):
    torch.manual_seed(3)
    assert lowered_difference(EXACT[kind](), (2, 8, 8), target) < 1e-5


def test_a_checkpoint_keeps_a_lowered_module(tmp_path):
    module, shape = random_module(29)
    net = ep_hw.network_of(module, images(shape), name="mine", data="my-images")
    ep_hw.save_checkpoint(net, tmp_path / "mine.safetensors", recipe={}, data=net.provenance["data"], accuracy={})
    graph, again = ep_hw.lower(module, images(shape)), ep_hw.load(tmp_path / "mine.safetensors").lower()
    for own, kept in zip((*graph.couplings, graph.readout), (*again.couplings, again.readout)):
        assert (own.window, own.name) == (kept.window, kept.name)
        assert np.array_equal(own.weight, kept.weight)
        assert np.array_equal(own.bias, kept.bias)
    assert graph.populations == again.populations
    for name in ("mean", "scale"):
        assert np.array_equal(getattr(graph, name), getattr(again, name))
    assert [np.array_equal(*pair) for pair in zip(graph.activity.states, again.activity.states)] == [
        True] * len(graph.populations)


def test_the_examples_size_machines_and_the_module_is_left_as_it_was():
    module, shape = random_module(3)
    module[1].train()
    before, shown = copy.deepcopy(module), images(shape)
    graph = ep_hw.lower(module, shown.double().requires_grad_())
    assert [m.training for m in module.modules()] == [m.training for m in before.modules()]
    assert all(torch.equal(a, b) for a, b in zip(module.state_dict().values(), before.state_dict().values()))
    assert not ep_hw.network_of(module, shown).weights[0].requires_grad
    assert np.array_equal(graph.activity.images, shown)
    states = simulators.open(mapping.compile(graph, "reference")).relax(shown).states
    assert [np.allclose(kept, state) for kept, state in zip(graph.activity.states, states)] == [True] * len(states)


@given(st.integers(0, 10**6))
@settings(max_examples=20)
def test_as_many_synchronous_steps_as_layers_are_one_pass(seed):
    module, shape = random_module(seed)
    machine = simulators.open(mapping.compile(ep_hw.lower(module, images(shape)), "reference"))
    passed, stepped = (relax(machine.substrate, images(shape), schedule=schedule, steps=machine.steps)
                       for schedule in ("sequential", "synchronous"))
    assert [torch.equal(a, b) for a, b in zip(passed.states, stepped.states)] == [True] * machine.steps
    assert (passed.change == 0).all()


def test_what_has_no_feedback_is_not_nudged():
    module, shape = random_module(4)
    machine = simulators.open(mapping.compile(ep_hw.lower(module, images(shape)), "reference"))
    with pytest.raises(Refusal, match="a feed-forward network is neither nudged") as caught:
        machine.relax(images(shape), nudge=Nudge(torch.eye(4), 0.1))
    assert "\n" not in str(caught.value)


@given(st.integers(0, 10**6))
@settings(max_examples=20)
def test_attacks_take_the_gradient_of_backpropagation(seed):
    module, shape = random_module(seed)
    shown, labels = images(shape).requires_grad_(), torch.arange(4)
    machine = simulators.open(mapping.compile(ep_hw.lower(module, images(shape)), "reference"))
    loss_of(module(shown), labels, "cross_entropy").sum().backward()
    gradient = Unrolled(1)(machine, shown, labels, None)
    assert (gradient - shown.grad).abs().max() <= 1e-5 * shown.grad.abs().max()


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, x):
        return x + self.body(x)


class Deciding(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class Joined(nn.Module):
    def forward(self, x):
        return torch.cat([x, x], 1)


def hooked():
    layer = CONV(3)
    layer.register_forward_hook(lambda module, inputs, output: 2 * output)
    return layer


def hidden():
    """Torch's convolution with a pass of its own, which no trace looks into."""
    layer = CONV(3)
    layer.forward = lambda x: x[:, [0, 0, 1, 1], 1:-1, 1:-1]
    return layer


NO_CHAIN = {   # what stands at place 1 of a module, and the words of its refusal
    "a residual sum": (Residual, "add: two values|add of 2 values"),
    "a decision": (Deciding, "Python that needs the values"),
    "a concatenation": (Joined, "cat"),
    "groups": (lambda: nn.Conv2d(2, 4, 3, groups=2), "groups of channels"),
    "dilation": (lambda: CONV(3, dilation=2), "a dilation"),
    "asymmetric padding": (lambda: CONV(3, padding=(1, 0)), "asymmetric padding"),
    "an even kernel of the same size": (lambda: CONV(2, padding="same"), "asymmetric padding"),
    "padding that reflects": (lambda: CONV(3, padding=1, padding_mode="reflect"), "something else than zeros"),
    "two strides": (lambda: CONV(3, (1, 2)), "strides of 1 and 2"),
    "a sigmoid": (nn.Sigmoid, "no layer of a chain"),
    "an activation of the image": (RELU, "an activation of the image itself"),
    "a max pool of the image": (lambda: nn.MaxPool2d(2), "a max pool of the image itself"),
    "a hook": (hooked, "hooks on its forward pass"),
}
ABOVE = {   # likewise, above a convolution and its activation
    "overlapping max pools": (lambda: nn.MaxPool2d(3, 2), "windows of 2 by 2"),
    "two max pools": (lambda: nn.Sequential(nn.MaxPool2d(2), nn.MaxPool2d(2)), "above another pool"),
    "a pool that keeps the rest": (lambda: nn.MaxPool2d(2, ceil_mode=True), "the rest at the edge"),
    "an average pool with padding": (lambda: nn.AvgPool2d(2, padding=1), "an average pool with padding"),
    "unequal averages": (lambda: nn.AdaptiveAvgPool2d(4), "a map of 6x6 averaged to 4x4 places"),
    "two activations": (RELU, "an activation above another one"),
    "a clamp from below 0": (lambda: nn.Sequential(nn.Conv2d(4, 2, 1), nn.Hardtanh()), "clamped to -1"),
    "weights upon weights": (lambda: nn.Sequential(nn.Conv2d(4, 2, 1), nn.Conv2d(2, 2, 1)), "directly above weights"),
    "padding above a rest": (lambda: nn.Sequential(nn.AvgPool2d(4), nn.Conv2d(4, 2, 1, padding=1)), "leave a rest"),
    "padding above a norm": (lambda: nn.Sequential(negative_norm(4), nn.Conv2d(4, 2, 3, padding=1)), "a shift of"),
    "winners turned over": (lambda: nn.Sequential(negative_norm(4), nn.MaxPool2d(2)), "negative factors"),
    "winners turned over below": (lambda: nn.Sequential(nn.Conv2d(4, 4, 1), nn.MaxPool2d(2), negative_norm(4)),
                                  "negative factors"),
}


@pytest.mark.parametrize(("part", "words"), [*NO_CHAIN.values(), *ABOVE.values()], ids=[*NO_CHAIN, *ABOVE])
def test_what_is_no_chain_is_refused_by_its_name(part, words):
    lowest = [nn.Identity()] if (part, words) in NO_CHAIN.values() else [CONV(3), RELU()]
    module = with_readout(*lowest, nn.Sequential(part()), shape=(2, 8, 8))
    with pytest.raises(Refusal, match=words) as caught:
        ep_hw.lower(module, images((2, 8, 8)))
    assert caught.value.where.startswith(f"{len(lowest)}.0")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("module", "words"), [
    (lambda: nn.Sequential(CONV(3), RELU(), FLATTEN()), "an end that is no dense readout"),
    (lambda: nn.Sequential(FLATTEN(), nn.Linear(128, 3)), "without a layer below it"),
    (lambda: nn.Sequential(CONV(3), RELU()), "no row of logits"),
    (lambda: nn.Sequential(CONV(9), RELU()), "fails on the example: RuntimeError"),
    (lambda: with_readout(hidden(), RELU()), "answers that its layers do not give"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_a_module_that_ends_or_answers_otherwise_is_refused(module, words):
    with pytest.raises(Refusal, match=f"^Sequential: not a chain of layers; got [^;]*{words}"):
        ep_hw.lower(module(), images((2, 8, 8)))


@pytest.mark.parametrize(("example", "words"), [(torch.rand(2, 8, 8), "no images"),
                                                (torch.rand(0, 2, 8, 8), "no images"), ([0.5], "no images"),
                                                (2 + torch.rand(1, 2, 8, 8), "out of range")])
def test_examples_are_images(example, words):
    with pytest.raises(Refusal, match=words):
        ep_hw.lower(with_readout(CONV(3), RELU()), example)
