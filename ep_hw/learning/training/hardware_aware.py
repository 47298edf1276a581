"""Training for hardware: batches meet the weights as a chip has them, gradients go to the weights themselves."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Generator, Tensor

from ep_hw.learning.training.recipe import BaseRecipe


@contextmanager
@torch.no_grad()
def as_on_hardware(weights: Sequence[Tensor], recipe: BaseRecipe, generator: Generator) -> Iterator[None]:
    """A context in which every layer's weights w are, by what the recipe says,

        rounded to `weight_bits`, as mapping.digital (1) has it, one grid an output channel
        w + weight_noise max|w| n, with a standard normal n of each weight                                    (1)

    Args:
        weights: (C_out, ...) of all layers; they are changed in place, and are what they were when the context ends.
        recipe: without both, nothing happens and no numbers are taken from the generator.
        generator: on the CPU, so that every device sees the same errors.

    Source: noise-aware training for analog memory, Joshi et al., Nat. Commun. 11, 2473 (2020); straight-through
    gradients of rounded weights, Jacob et al., CVPR 2018.
    """
    if not (recipe.weight_noise or recipe.weight_bits):
        yield
        return
    before = [weight.clone() for weight in weights]
    for weight in weights:
        if recipe.weight_bits:
            weight.copy_(rounded(weight, recipe.weight_bits))
        if recipe.weight_noise:
            noise = torch.randn(weight.shape, generator=generator).to(weight)
            weight.add_(noise * (recipe.weight_noise * weight.abs().max()))
    try:
        yield
    finally:
        for weight, kept in zip(weights, before):
            weight.copy_(kept)


def rounded(weight: Tensor, bits: int) -> Tensor:
    """`mapping.digital (1)`: what the integers stand for."""
    top = 2 ** (bits - 1) - 1
    largest = weight.abs().amax(tuple(range(1, weight.ndim)), keepdim=True)
    step = torch.where(largest > 0, largest / top, torch.ones_like(largest))
    return (weight / step).round().clamp(-top, top) * step
