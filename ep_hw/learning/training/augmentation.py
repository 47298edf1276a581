"""Random variants of training images: shifted, mirrored, turned, as a recipe says."""

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ep_hw.learning.training.recipe import BaseRecipe


def augment(images: Tensor, recipe: BaseRecipe, generator: Generator) -> Tensor:
    """Random variants (B, C, H, W) of training images; see `BaseRecipe` in ep_hw.learning.training.recipe."""
    if any(recipe.affine):
        images = _warp(images, recipe.affine, generator)
    if recipe.shift:
        images = _translate(images, recipe.shift, generator)
    if recipe.flip:
        mirrored = torch.rand(len(images), generator=generator) < 0.5
        images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
    return images


def _translate(images: Tensor, shift: int, generator: Generator) -> Tensor:
    b, _, h, w = images.shape
    padded = F.pad(images, (shift,) * 4, mode="replicate")
    dy, dx = torch.randint(0, 2 * shift + 1, (2, b, 1, 1), generator=generator)
    rows, columns = dy + torch.arange(h)[:, None], dx + torch.arange(w)
    return padded[torch.arange(b)[:, None, None], :, rows, columns].permute(0, 3, 1, 2).contiguous()


def _warp(images: Tensor, affine: tuple[float, float, float], generator: Generator) -> Tensor:
    b, _, h, w = images.shape
    turn, zoom, dy, dx = torch.rand(4, b, generator=generator) * 2 - 1
    angle, zoom = turn * math.radians(affine[0]), 1 + zoom * affine[1]
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    rows = [torch.stack([cos, -sin, dx * affine[2] * 2 / w], 1), torch.stack([sin, cos, dy * affine[2] * 2 / h], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)
