"""What a batch of Equilibrium Propagation takes beside its convolutions.

    python -m benchmarks.learning [RECIPE ...] [--repeats N]

A RECIPE is one of `ep-hw train`; those of the small EP-CNNs by default. One gradient of a batch, free and nudged phases
and contrast, takes turns with all its convolutions alone, on what they were given in it: medians of CPU seconds, on one
thread. Measured on a busy EPYC: 1.2 times the convolutions of the small CIFAR-10 network, 1.5 times those of digits'.
On an idle Xeon with AVX-512, whose convolutions are faster, 1.4 and 1.5 times.
"""

import argparse
from collections.abc import Callable
from functools import partial

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.turns import HEADER, Row, cpu_seconds
from ep_hw.learning.training.contrast import Contrast
from ep_hw.learning.training.recipe import Recipe, load_recipe
from ep_hw.networks.network import EPNetwork
from ep_hw.networks.shapes import ImageSpec
from simulators.heap import kept

RECIPES = "cifar10-small", "digits"
SHAPES = {"cifar10": (3, 32, 32), "digits": (1, 8, 8)}
GOAL = 1.3
CONVOLUTIONS = {torch.ops.aten.convolution.default, torch.ops.aten.convolution_backward.default}


class Recorded(TorchDispatchMode):
    """Keeps every convolution that is made, to be made once more."""

    def __init__(self):
        super().__init__()
        self.calls: list[Callable] = []

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        if function in CONVOLUTIONS:
            self.calls.append(partial(function, *arguments, **(named or {})))
        return function(*arguments, **(named or {}))

    @torch.no_grad()
    def again(self):
        """All of them, in their order."""
        for call in self.calls:
            call()


def batch_of(recipe: Recipe) -> Callable[[], object]:
    """The gradient of a batch of random images, by a network at its start."""
    shape = SHAPES[recipe.data]
    net = EPNetwork.initialise(recipe.network(ImageSpec(
        image_shape=shape, classes=10, mean=[0.5] * shape[0], scale=[0.25] * shape[0])), 0)
    images = torch.rand((recipe.batch, *shape), generator=torch.Generator().manual_seed(0))
    return partial(Contrast(recipe, net.substrate()), images, torch.arange(recipe.batch) % 10)


@kept()
def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", metavar="RECIPE", nargs="*", default=RECIPES)
    parser.add_argument("--repeats", type=int, default=9)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(HEADER)
    for name in asked.recipes:
        recipe = load_recipe(name)
        batch = batch_of(recipe)
        with Recorded() as recorded:
            batch()
        ours, theirs = cpu_seconds(asked.repeats, batch, recorded.again)
        print(Row(f"{name}, a batch of {recipe.batch} / its {len(recorded.calls)} convolutions", ours, theirs, GOAL),
              f" {recipe.batch / ours:.0f} images a second", flush=True)


if __name__ == "__main__":
    main()
