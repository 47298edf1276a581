"""Learners: what one batch does to a network. One class a kind of recipe; everything else is shared (loop.py)."""

from abc import ABC, abstractmethod
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import singledispatch

import torch
import torch.nn.functional as F

from ep_hw.learning.training.contrast import Contrast
from ep_hw.learning.training.feedback import FeedbackLimit
from ep_hw.learning.training.recipe import AdversarialRecipe, BackpropRecipe, Recipe, TransformerRecipe
from ep_hw.networks.baselines import Baseline
from ep_hw.networks.checkpoint import load
from ep_hw.networks.network import EPNetwork, layer_shapes
from mapping.errors import Refusal
from mapping.sealed import Layout, Ranges, describe
from simulators.machine import Machine
from simulators.module import ModuleMachine
from simulators.reference import ReferenceMachine

LARGEST = 1e30
MOMENTS = {torch.optim.SGD: ("momentum_buffer",), torch.optim.AdamW: ("step", "exp_avg", "exp_avg_sq")}


class Learner(ABC):
    """A network being trained.

    Attributes:
        net: the network; its tensors are updated in place.
        optimiser: torch's.
        rates: initial learning rate of each of its groups.
    """

    net: EPNetwork | Baseline
    optimiser: torch.optim.Optimizer
    rates: tuple[float, ...]

    @abstractmethod
    def step(self, images, labels, generator):
        """Learn from one batch."""

    @abstractmethod
    def machine(self) -> Machine:
        """The network as it is now, to be asked."""

    @abstractmethod
    def finished(self, images) -> EPNetwork | Baseline:
        """The network, on the CPU, with some training images (N, C, H, W) where machines are sized by them."""

    def tensors(self) -> dict[str, torch.Tensor]:
        """Everything needed to go on: the network's tensors and the optimiser's."""
        state = self.optimiser.state_dict()["state"]
        moments = {f"optimiser.{n}.{key}": value for n, entry in state.items() for key, value in entry.items()}
        return {f"net.{key}": value for key, value in self.net.tensors().items()} | moments

    def layout(self, present: Container[str]) -> Layout:
        """Type and shape of each of them, with moments where the first's are among the names `present`."""
        found = {f"net.{key}": describe(value) for key, value in self.net.tensors().items()}
        learnt = [p for group in self.optimiser.param_groups for p in group["params"]]
        moments = [key for key in MOMENTS[type(self.optimiser)] if f"optimiser.0.{key}" in present]
        return found | {f"optimiser.{n}.{key}": describe(p if key != "step" else p.new_zeros(()))
                        for n, p in enumerate(learnt) for key in moments}

    def ranges(self, layout: Layout) -> Ranges:
        """Lowest and highest value of each of them: what a run that has diverged holds is nothing to go on with."""
        counts = ("step", "num_batches_tracked")
        return {name: (0, 2**40) if name.endswith(counts) else (0, LARGEST) if name.endswith("exp_avg_sq")
                else (-LARGEST, LARGEST) for name in layout}

    def restore(self, tensors: dict[str, torch.Tensor]):
        """Inverse of `tensors`."""
        state: dict[int, dict] = {}
        for key, value in tensors.items():
            if key.startswith("optimiser."):
                _, n, name = key.split(".")
                state.setdefault(int(n), {})[name] = value
        with torch.no_grad():
            for key, value in self.net.tensors().items():
                value.copy_(tensors[f"net.{key}"])
        self.optimiser.load_state_dict({"state": state, "param_groups": self.optimiser.state_dict()["param_groups"]})


class EPLearner(Learner):
    """Equilibrium propagation by the symmetric rule (ep_hw.learning.rule)."""

    def __init__(self, recipe: Recipe, net: EPNetwork, device: str):
        self.net = net = net.to(device)
        self.rates = recipe.rates
        groups = [{"params": [w, b], "lr": rate} for w, b, rate in zip(net.weights, net.biases, recipe.rates)]
        self.optimiser = torch.optim.SGD(groups, momentum=recipe.momentum, weight_decay=recipe.weight_decay)
        self._contrast, self._noise = Contrast(recipe, net.substrate()), recipe.weight_noise
        self._limit = FeedbackLimit(net, recipe.feedback_norm) if recipe.feedback_norm else None

    def step(self, images, labels, generator):
        with disturbed(self.net.weights, self._noise, generator):
            gradient = self._contrast(images, labels)
        for weight, bias, (weight_gradient, bias_gradient) in zip(self.net.weights, self.net.biases, gradient):
            weight.grad, bias.grad = weight_gradient, bias_gradient
        self.optimiser.step()
        if self._limit:
            self._limit.enforce()

    def machine(self):
        return ReferenceMachine(self.net.lower(), str(self.net.weights[0].device))

    def tensors(self):
        vectors = self._limit.vectors if self._limit else ()
        return super().tensors() | {f"limit.{n}": vector for n, vector in enumerate(vectors)}

    def layout(self, present):
        vectors = self._limit.vectors if self._limit else ()
        return super().layout(present) | {f"limit.{n}": describe(vector) for n, vector in enumerate(vectors)}

    def restore(self, tensors):
        super().restore(tensors)
        for n, vector in enumerate(self._limit.vectors if self._limit else ()):
            vector.copy_(tensors[f"limit.{n}"])

    def finished(self, images):
        return replace(self.net.to("cpu"), calibration=images.clone())


@contextmanager
def disturbed(weights: Sequence[torch.Tensor], noise: float, generator) -> Iterator[None]:
    """Within, every weight w of a layer is w + noise max|w| n with its own standard normal n; afterwards, w again.

    Args:
        noise: standard deviation in units of the layer's largest weight; 0 draws nothing from the generator.
        generator: on the CPU, so that every device sees the same errors.

    Source: noise-aware training for analog memory, Joshi et al., Nat. Commun. 11, 2473 (2020).
    """
    if not noise:
        yield
        return
    before = [weight.clone() for weight in weights]
    for weight in weights:
        weight.add_(torch.randn(weight.shape, generator=generator).to(weight) * (noise * weight.abs().max()))
    try:
        yield
    finally:
        for weight, kept in zip(weights, before):
            weight.copy_(kept)


class BackpropLearner(Learner):
    """Backpropagation of the cross-entropy."""

    def __init__(self, net: Baseline, device: str, rate: float, optimiser, **settings):
        self.net, self.device, self.rates = net, device, (rate,)
        net.module.to(device)
        self.optimiser = optimiser(net.module.parameters(), lr=rate, **settings)

    def step(self, images, labels, generator):
        self.net.module.train()
        loss = F.cross_entropy(self.net.module(images.to(self.device)), labels.to(self.device))
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()

    def machine(self) -> ModuleMachine:
        return self.net.machine(self.device)

    def finished(self, images):
        self.net.module.to("cpu").eval()
        return self.net


class AdversarialLearner(BackpropLearner):
    """Backpropagation on what l2 PGD makes of each batch. Source: Madry et al. 2018."""

    def __init__(self, recipe: AdversarialRecipe, *arguments, **settings):
        from ep_hw.threats.attacks import PGD, Unrolled

        super().__init__(*arguments, **settings)
        self.attack = PGD("l2", recipe.eps, Unrolled(1), iterations=recipe.attack_steps)

    def step(self, images, labels, generator):
        images, labels = images.to(self.device), labels.to(self.device)
        found = self.attack.run(self.machine(), images, labels, generator)
        super().step(found.images, labels, generator)


@singledispatch
def learner_of(recipe, spec, seed: int, device: str) -> Learner:
    """A learner at its start, for a recipe of any kind: initial weights are drawn from `seed`."""
    raise TypeError(f"no learner follows a {type(recipe).__name__}")


@learner_of.register
def _(recipe: Recipe, spec, seed, device):
    net = _begun_at(recipe.start, spec) if recipe.start else EPNetwork.initialise(spec, seed)
    gains = recipe.gain if isinstance(recipe.gain, tuple) else (recipe.gain,) * len(recipe.channels)
    for weight, gain in zip(net.weights, gains):
        weight.mul_(gain)
    return EPLearner(recipe, net, device)


def _begun_at(start: str, spec) -> EPNetwork:
    """An EP-CNN of this spec with the weights of the network named.

    Raises:
        Refusal: no such network, or one of other shapes.
    """
    begun = load(start)
    shapes = [tuple(w.shape) for w in begun.weights] if isinstance(begun, EPNetwork) else type(begun).__name__
    if shapes != layer_shapes(spec):
        raise Refusal("training cannot start at this network", where="start", got=f"{start}, {shapes}",
                      allowed=f"an EP-CNN of layers {layer_shapes(spec)}", remedy="name one of the recipe's own shape")
    return EPNetwork(spec, begun.weights, begun.biases)


@learner_of.register
def _(recipe: BackpropRecipe, spec, seed, device):
    return BackpropLearner(Baseline.initialise(spec, seed), device, recipe.rate, torch.optim.SGD, **_momentum(recipe))


@learner_of.register
def _(recipe: AdversarialRecipe, spec, seed, device):
    return AdversarialLearner(recipe, Baseline.initialise(spec, seed), device, recipe.rate, torch.optim.SGD,
                              **_momentum(recipe))


@learner_of.register
def _(recipe: TransformerRecipe, spec, seed, device):
    return BackpropLearner(Baseline.initialise(spec, seed), device, recipe.rate, torch.optim.AdamW,
                           weight_decay=recipe.weight_decay)


def _momentum(recipe: BackpropRecipe) -> dict:
    return {"momentum": recipe.momentum, "nesterov": True, "weight_decay": recipe.weight_decay}
