"""A machine as a black box sees it: margins, and how many reads they cost."""

import torch
from torch import Generator, Tensor

from simulators.machine import Machine


class BlackBox:
    """Margins that a machine shows, and how often it was asked of each image.

    Attributes:
        spent: (B,) reads of each image.
        round: reads that one step of a search may take.
    """

    def __init__(self, machine: Machine, labels: Tensor, average: int, generator: Generator):
        self.machine, self.labels, self.average, self.generator = machine.deciding, labels, average, generator
        self.spent = torch.zeros_like(labels)
        self.round = average if machine.deterministic else 3 * average

    def ask(self, x: Tensor, index: Tensor) -> Tensor:
        """(N,) margins z_y - max_{j != y} z_j of images `x` that stand for the samples `index`."""
        if not len(index):
            return x.new_empty(0)
        self.spent[index] += self.average
        reads = (self.machine.relax(x, generator=self.generator).logits for _ in range(self.average))
        logits = sum(reads, start=torch.zeros(())) / self.average
        own = self.labels[index, None]
        return (logits.gather(1, own)[:, 0] - logits.scatter(1, own, -torch.inf).amax(1)).to(x)

    def ask_again(self, best: Tensor, margin: Tensor, index: Tensor):
        """New margins of the incumbents of samples `index`, where noise would make them differ."""
        if not self.machine.deterministic:
            margin[index] = self.ask(best[index], index)
