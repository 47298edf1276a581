"""Learners: how one batch changes a network. One class a kind of recipe; everything else is shared (loop.py)."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Container
from dataclasses import replace
from functools import singledispatch
from itertools import repeat
from typing import Any, Generic, TypeVar

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from ep_hw.learning.training.average import Average
from ep_hw.learning.training.contrast import Contrast
from ep_hw.learning.training.feedback import FeedbackLimit
from ep_hw.learning.training.hardware_aware import as_on_hardware
from ep_hw.learning.training.recipe import (
    AdversarialRecipe,
    BackpropRecipe,
    BaseRecipe,
    ConvolutionalRecipe,
    FeedforwardRecipe,
    Recipe,
    TransformerRecipe,
)
from ep_hw.networks.baselines import Baseline, CNNSpec, ViTSpec
from ep_hw.networks.checkpoint import load
from ep_hw.networks.network import EPNetwork, NetworkSpec, layer_shapes
from ep_hw.networks.shapes import ImageSpec
from mapping.errors import Refusal
from mapping.graph import SEQUENTIAL
from mapping.sealed import Layout, Ranges, describe
from simulators.machine import Machine
from simulators.module import ModuleMachine
from simulators.reference import ReferenceMachine
from simulators.relaxation import relax

LARGEST = 1e30   # value that a run can go on with
Net = TypeVar("Net", EPNetwork, Baseline)
MOMENTS = {torch.optim.SGD: ("momentum_buffer",), torch.optim.AdamW: ("step", "exp_avg", "exp_avg_sq")}


class Learner(ABC, Generic[Net]):
    """A network being trained.

    Attributes:
        net: the network; its tensors are updated in place.
        optimiser: torch's.
        rates: initial learning rate of each of its groups.
        epoch: which one, counted from 0, its batches belong to; the loop sets it.
    """

    net: Net
    optimiser: torch.optim.Optimizer
    rates: tuple[float, ...]
    epoch: int = 0

    @abstractmethod
    def step(self, images: Tensor, labels: Tensor, generator: Generator):
        """Learn from one batch."""

    @abstractmethod
    def machine(self) -> Machine:
        """A machine of the network as it is now."""

    @abstractmethod
    def finished(self, images: Tensor) -> Net:
        """The trained network, on the CPU.

        Args:
            images: (N, C, H, W) training images, for networks that size machines by them.
        """

    def tensors(self) -> dict[str, Tensor]:
        """Everything needed to go on: the network's tensors and the optimiser's."""
        state = self.optimiser.state_dict()["state"]
        moments = {f"optimiser.{n}.{key}": value for n, entry in state.items() for key, value in entry.items()}
        return {f"net.{key}": value for key, value in self.net.tensors().items()} | moments

    def layout(self, present: Container[str]) -> Layout:
        """Type and shape of each of them.

        Args:
            present: names in a file, which has moments once the optimiser has taken a step.
        """
        layout: Layout = {f"net.{key}": describe(value) for key, value in self.net.tensors().items()}
        learnt = [p for group in self.optimiser.param_groups for p in group["params"]]
        moments = [key for key in MOMENTS[type(self.optimiser)] if f"optimiser.0.{key}" in present]
        return layout | {f"optimiser.{n}.{key}": describe(p if key != "step" else p.new_zeros(()))
                         for n, p in enumerate(learnt) for key in moments}

    def ranges(self, layout: Layout) -> Ranges:
        """Lowest and highest value of each of them; a run that has diverged cannot be resumed."""
        counts = ("step", "num_batches_tracked", "updates")
        return {name: (0, 2**40) if name.endswith(counts) else (0, LARGEST) if name.endswith("exp_avg_sq")
                else (-LARGEST, LARGEST) for name in layout}

    def restore(self, tensors: dict[str, Tensor]):
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


class EPLearner(Learner[EPNetwork]):
    """Equilibrium propagation by the symmetric rule (ep_hw.learning.rule)."""

    def __init__(self, recipe: Recipe, net: EPNetwork, device: str):
        self.net = net = net.to(device)
        self.rates = recipe.rates
        groups = [{"params": [w, b], "lr": rate} for w, b, rate in zip(net.weights, net.biases, recipe.rates)]
        if recipe.optimiser == "adamw":
            self.optimiser = torch.optim.AdamW(groups, weight_decay=recipe.weight_decay)
        else:
            self.optimiser = torch.optim.SGD(groups, momentum=recipe.momentum, weight_decay=recipe.weight_decay)
        self._average = Average(net, recipe.average) if recipe.average else None
        self._recipe, self._contrast = recipe, Contrast(recipe, net.substrate())
        self._limit = FeedbackLimit(net, recipe.feedback_norm) if recipe.feedback_norm else None
        self._teacher = _teacher(recipe.teacher, net.spec, device)

    def step(self, images: Tensor, labels: Tensor, generator: Generator):
        images = images.to(self.net.weights[0].device)
        target = _answers(self._teacher, images) if self._teacher else labels
        with as_on_hardware(self.net.weights, self._recipe, generator):
            gradient = self._contrast(images, target, self.epoch)
        for weight, bias, (weight_gradient, bias_gradient) in zip(self.net.weights, self.net.biases, gradient):
            weight.grad, bias.grad = weight_gradient, bias_gradient
        self.optimiser.step()
        if self._limit:
            self._limit.enforce()
        if self._average:
            self._average.update()

    def machine(self) -> ReferenceMachine:
        return self._kept.machine(str(self.net.weights[0].device))

    @property
    def _kept(self) -> EPNetwork:
        return self._average.network() if self._average else self.net

    def _run_tensors(self) -> dict[str, Tensor]:
        """What a run holds beside the network and the optimiser."""
        vectors = self._limit.vectors if self._limit else ()
        average = self._average.tensors() if self._average else {}
        return {f"limit.{n}": vector for n, vector in enumerate(vectors)} | average

    def tensors(self) -> dict[str, Tensor]:
        return super().tensors() | self._run_tensors()

    def layout(self, present: Container[str]) -> Layout:
        return super().layout(present) | {name: describe(tensor) for name, tensor in self._run_tensors().items()}

    def restore(self, tensors: dict[str, Tensor]):
        super().restore(tensors)
        for name, tensor in self._run_tensors().items():
            tensor.copy_(tensors[name])

    def finished(self, images: Tensor) -> EPNetwork:
        return replace(self._kept.to("cpu"), calibration=images.clone())


class FeedforwardLearner(Learner[EPNetwork]):
    """Backpropagation through a network without feedback, towards the labels or a teacher's answers."""

    def __init__(self, recipe: FeedforwardRecipe, net: EPNetwork, device: str):
        self.net = net = net.to(device)
        self.rates, self._recipe, self._substrate = (recipe.rate,), recipe, net.substrate()
        learnt = [p.requires_grad_() for p in (*net.weights, *net.biases)]
        self.optimiser = torch.optim.AdamW(learnt, lr=recipe.rate, weight_decay=recipe.weight_decay)
        self._teacher = _teacher(recipe.teacher, net.spec, device)

    def step(self, images: Tensor, labels: Tensor, generator: Generator):
        images, target = images.to(self._substrate.mean.device), labels.to(self._substrate.mean.device)
        if self._teacher:
            target = _answers(self._teacher, images)
        self.optimiser.zero_grad()
        with as_on_hardware(self.net.weights, self._recipe, generator):
            end = relax(self._substrate, images, schedule=SEQUENTIAL, steps=len(self._substrate.projections))
            F.cross_entropy(self._substrate.logits(end.states[-1]), target).backward()
        self.optimiser.step()

    def machine(self) -> ReferenceMachine:
        return self.net.machine(str(self.net.weights[0].device))

    def finished(self, images: Tensor) -> EPNetwork:
        net = self.net.to("cpu")
        return replace(net, weights=[w.detach() for w in net.weights], biases=[b.detach() for b in net.biases],
                       calibration=images.clone())


class BackpropLearner(Learner[Baseline]):
    """Backpropagation of the cross-entropy."""

    def __init__(self, recipe: ConvolutionalRecipe | TransformerRecipe, net: Baseline, device: str,
                 optimiser: Callable[..., torch.optim.Optimizer], **settings):
        self.net, self.device, self.rates, self._recipe = net, device, (recipe.rate,), recipe
        net.module.to(device)
        self._weights = [part.weight for part in net.module.modules() if isinstance(part, nn.Conv2d | nn.Linear)]
        self.optimiser = optimiser(net.module.parameters(), lr=recipe.rate, **settings)

    def step(self, images: Tensor, labels: Tensor, generator: Generator):
        self.net.module.train()
        self.optimiser.zero_grad()
        with as_on_hardware(self._weights, self._recipe, generator):
            F.cross_entropy(self.net.module(images.to(self.device)), labels.to(self.device)).backward()
        self.optimiser.step()

    def machine(self) -> ModuleMachine:
        return self.net.machine(self.device)

    def finished(self, images: Tensor) -> Baseline:
        return replace(self.net, module=self.net.module.to("cpu").eval())


class AdversarialLearner(BackpropLearner):
    """Backpropagation on each batch as l2 PGD perturbs it. Source: Madry et al. 2018."""

    def __init__(self, recipe: AdversarialRecipe, *arguments, **settings):
        from ep_hw.threats.attacks import PGD, Unrolled

        super().__init__(recipe, *arguments, **settings)
        self.attack = PGD("l2", recipe.eps, Unrolled(1), iterations=recipe.attack_steps)

    def step(self, images: Tensor, labels: Tensor, generator: Generator):
        images, labels = images.to(self.device), labels.to(self.device)
        attacked = self.attack.run(self.machine(), images, labels, generator)
        super().step(attacked.images, labels, generator)


def _teacher(name: str, spec: NetworkSpec, device: str) -> Machine | None:
    """The teacher of a network of this spec; None where none is named.

    Raises:
        Refusal: no such network, or one for other images or classes.
    """
    if not name:
        return None
    teacher = load(name)
    theirs, own = ((one.image_shape, one.classes) for one in (teacher.spec, spec))
    if theirs != own:
        raise Refusal("the teacher was trained for other images or classes", where="teacher", got=f"{name}, {theirs}",
                      allowed=own, remedy="name a network of the same data")
    return teacher.machine(device)


def _answers(teacher: Machine, images: Tensor) -> Tensor:
    """(B, K) the teacher's distribution over the classes of each image."""
    return teacher.relax(images).logits.softmax(1)


@singledispatch
def learner_of(recipe: BaseRecipe, spec: ImageSpec, seed: int, device: str) -> Learner[Any]:
    """A learner at its start, for a recipe of any kind.

    Args:
        recipe: to learn by.
        spec: of the network, see `BaseRecipe.spec`.
        seed: of the initial weights.
        device: "cpu" or "cuda".
    """
    raise TypeError(f"no learner follows a {type(recipe).__name__}")


@learner_of.register
def _(recipe: Recipe, spec: NetworkSpec, seed: int, device: str) -> EPLearner:
    net = _begun_at(recipe, spec) if recipe.start else EPNetwork.initialise(spec, seed)
    return EPLearner(recipe, _scaled(net, recipe.gain), device)


@learner_of.register
def _(recipe: FeedforwardRecipe, spec: NetworkSpec, seed: int, device: str) -> FeedforwardLearner:
    return FeedforwardLearner(recipe, _scaled(EPNetwork.initialise(spec, seed), recipe.gain), device)


def _scaled(net: EPNetwork, gain: float | tuple[float, ...]) -> EPNetwork:
    """The network, its weights below the readout multiplied in place."""
    for weight, own in zip(net.weights[:-1], gain if isinstance(gain, tuple) else repeat(gain)):
        weight.mul_(own)
    return net


def _begun_at(recipe: Recipe, spec: NetworkSpec) -> EPNetwork:
    """An EP-CNN of this spec with the weights of the network that its recipe starts from.

    Raises:
        Refusal: no such network, one of other shapes, or, unless the recipe is a hybrid, one of another rule.
    """
    begun, start = load(recipe.start), recipe.start
    shapes = [tuple(w.shape) for w in begun.weights] if isinstance(begun, EPNetwork) else type(begun).__name__
    if not isinstance(begun, EPNetwork) or shapes != layer_shapes(spec):
        raise Refusal("training cannot start at this network", where="start", got=f"{start}, {shapes}",
                      allowed=f"an EP-CNN of layers {layer_shapes(spec)}", remedy="name one of the recipe's own shape")
    if recipe.kind == "ep" and (rule := _other_rule(begun.provenance["recipe"])):
        raise Refusal("these weights were not learnt by equilibrium propagation", where="start", got=f"{start}, {rule}",
                      allowed="a network of a recipe of kind ep, or an untrained one",
                      remedy='write kind = "hybrid" in the recipe')
    return EPNetwork(spec, begun.weights, begun.biases)


def _other_rule(recipe: dict[str, Any]) -> str:
    """By what else than the EP rule weights were learnt, as a checkpoint's recipe says; empty where by nothing else."""
    kind = recipe.get("kind", "ep")
    return "imported" if "imported" in recipe else "" if kind == "ep" else f"of kind {kind}"


@learner_of.register
def _(recipe: BackpropRecipe, spec: CNNSpec, seed: int, device: str) -> BackpropLearner:
    return BackpropLearner(recipe, Baseline.initialise(spec, seed), device, torch.optim.SGD, **_momentum(recipe))


@learner_of.register
def _(recipe: AdversarialRecipe, spec: CNNSpec, seed: int, device: str) -> AdversarialLearner:
    return AdversarialLearner(recipe, Baseline.initialise(spec, seed), device, torch.optim.SGD, **_momentum(recipe))


@learner_of.register
def _(recipe: TransformerRecipe, spec: ViTSpec, seed: int, device: str) -> BackpropLearner:
    return BackpropLearner(recipe, Baseline.initialise(spec, seed), device, torch.optim.AdamW,
                           weight_decay=recipe.weight_decay)


def _momentum(recipe: ConvolutionalRecipe) -> dict[str, Any]:
    return {"momentum": recipe.momentum, "nesterov": True, "weight_decay": recipe.weight_decay}
