"""A linear classifier as a machine: its robustness is known in closed form."""

import torch

from mapping.graph import Population
from simulators.machine import Cost, Equilibrium, Machine


class LinearGraph:
    """Just enough of a graph for an attack: shapes and the number of classes; every gradient may be tried on it."""

    has_feedback = True

    def __init__(self, shape, classes):
        self.image_shape, self.classes, self.populations = shape, classes, (Population("x", shape, 0.5),)


class LinearMachine(Machine):
    """logits = W x + b + noise N(0, sigma^2); W (K, D) on flattened images."""

    def __init__(self, weight, bias, shape, sigma: float = 0.0):
        self.weight, self.bias, self.sigma = weight, bias, sigma
        self.graph, self.name = LinearGraph(shape, len(weight)), "linear"
        self.deterministic = sigma == 0

    def relax(self, images, steps=None, nudge=None, generator=None, *, states=None, schedule=None, trace=None):
        logits = images.flatten(1) @ self.weight.T + self.bias
        if self.sigma:
            logits = logits + self.sigma * torch.randn(logits.shape, generator=generator, dtype=logits.dtype)
        zero = torch.zeros(len(images))
        return Equilibrium((images,), logits, zero, zero == 0, zero + 1)

    def cost(self):
        return Cost(float(self.weight.numel()), None, None, "closed form")
