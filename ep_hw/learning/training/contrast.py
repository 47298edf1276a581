"""The EP gradient of a batch as a recipe asks for it: precision, stopping, and on CUDA one captured graph a shape.

The products of the phases may be rounded; weights, states and the contrast, a small difference of large numbers, are
float32. See ep_hw.learning.rule for the rule.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor

from ep_hw.learning.rule import Gradient, ep_gradient
from ep_hw.learning.training.recipe import Recipe
from simulators.reference import FloatSubstrate
from simulators.relaxation import Residual

WARM_UP = 3   # passes before a capture, in which cuDNN chooses its algorithms
Key = tuple[torch.Size, int]   # of a graph: the shape of its images, and the steps of its free phase
Captured = tuple[torch.cuda.CUDAGraph, tuple[Tensor, Tensor], Gradient]   # a graph, its images and labels, its result


class Contrast:
    """Gradient pairs of a batch, on the substrate's device; the substrate's weights are read afresh each time."""

    def __init__(self, recipe: Recipe, substrate: FloatSubstrate):
        self.recipe, self.substrate, self.device = recipe, substrate, substrate.mean.device
        self._captured: dict[Key, Captured] = {}

    def __call__(self, images: Tensor, labels: Tensor, epoch: int = 0) -> Gradient:
        """(weight, bias) gradient pairs, readout last, of (B, C, H, W) images and their labels, see `ep_gradient`."""
        images, labels, steps = images.to(self.device), labels.to(self.device), self.recipe.free_steps_at(epoch)
        if self.device.type == "cuda" and self.recipe.free_tolerance is None:
            return self._replay(images, labels, steps)
        return self._gradient(images, labels, steps)

    def _gradient(self, images: Tensor, labels: Tensor, free_steps: int) -> Gradient:
        recipe, images = self.recipe, channels_last(images)
        exact = recipe.precision == "float32" and self.device.type == "cpu"
        stop = None if recipe.free_tolerance is None else Residual(recipe.free_tolerance)
        return ep_gradient(self.substrate, images, labels, schedule=recipe.schedule, free_steps=free_steps,
                           nudged_steps=recipe.nudged_steps, beta=recipe.beta, stop=stop,
                           phases=partial(rounded, recipe.precision, self.device.type), exact=exact)[0]

    def _replay(self, images: Tensor, labels: Tensor, free_steps: int) -> Gradient:
        """Every step of a batch launched at once: a sweep's kernels are too short to be launched one by one.

        Graphs of another number of steps are let go.
        """
        if (key := (images.shape, free_steps)) not in self._captured:
            self._captured = {known: own for known, own in self._captured.items() if known[1] == free_steps}
            self._captured[key] = self._capture(images.clone(), labels.clone(), free_steps)
        graph, inputs, gradient = self._captured[key]
        for held, new in zip(inputs, (images, labels)):
            held.copy_(new)
        graph.replay()
        return gradient

    def _capture(self, images: Tensor, labels: Tensor, free_steps: int) -> Captured:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                self._gradient(images, labels, free_steps)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            gradient = self._gradient(images, labels, free_steps)
        return graph, (images, labels), gradient


def channels_last(images: Tensor) -> Tensor:
    """The same images (B, C, H, W), channels last by their strides, also where there is one: torch goes by them, and
    pools and adds such maps faster.
    """
    return images.movedim(1, -1).clone(memory_format=torch.contiguous_format).movedim(-1, 1)


@contextmanager
def rounded(precision: str, device: str) -> Iterator[None]:
    """A context in which products of float32 numbers are rounded to a precision.

    Args:
        precision: "float32", "bfloat16", or "tf32", which is for CUDA alone.
        device: "cpu" or "cuda".
    """
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = precision == "tf32"
    try:
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16"):
            yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before
