"""A machine as a black box sees it: margins, and how many reads they cost."""

import torch
from torch import Generator, Tensor

from ep_hw.threats.attacks.attempt import look
from simulators.machine import Machine

AHEAD = 8192   # pixels of a batch: 128 images of digits, in five times the seconds of 8; two of CIFAR


class BlackBox:
    """Margins that a machine shows, and how often it was asked of each image.

    Attributes:
        spent: (B,) reads of each image.
        round: reads that one step of a search may take.
        probable: whether all answers so far were probabilities: margins of these stay near 1 and then fall ever faster.
    """

    def __init__(self, machine: Machine, labels: Tensor, average: int, generator: Generator):
        self.machine, self.labels, self.average, self.generator = machine, labels, average, generator
        self.spent = torch.zeros_like(labels)
        self.round = average if machine.deterministic else 3 * average
        self.probable = True

    def ask(self, x: Tensor, index: Tensor) -> Tensor:
        """(N,) margins z_y - max_{j != y} z_j of images `x` that stand for the samples `index`."""
        self.spent[index] += self.average
        return self.look(x, index)

    def look(self, x: Tensor, index: Tensor) -> Tensor:
        """The same of samples that may stand in `index` more than once; the reads are not counted."""
        if not len(index):
            return x.new_empty(0)
        labels = self.labels[index]
        reads = (look(self.machine, x, labels, self.generator) for _ in range(self.average))
        logits, own = sum(reads, start=torch.zeros(())) / self.average, labels[:, None]
        self.probable &= bool((logits >= 0).all() and ((logits.sum(1) - 1).abs() < 1e-3).all())
        return (logits.gather(1, own)[:, 0] - logits.scatter(1, own, -torch.inf).amax(1)).to(x)

    def ahead(self, images: Tensor, pixels: int = AHEAD) -> int:
        """How many questions about each image make a batch, at least one: so many where nothing is noisy."""
        return max(pixels // max(images.numel(), 1), 1) if self.machine.deterministic else 1

    def ask_again(self, best: Tensor, margin: Tensor, index: Tensor):
        """New margins of the incumbents of samples `index`, where noise would make them differ."""
        if not self.machine.deterministic:
            margin[index] = self.ask(best[index], index)
