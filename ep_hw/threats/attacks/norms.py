"""Perturbations and their norms: l2 over all pixels, linf the largest of them, l0 the number of pixels that changed."""

import torch
from torch import Tensor


def direction(gradient: Tensor, norm: str) -> Tensor:
    """Steepest ascent of unit norm; zero where the gradient is zero."""
    if norm == "linf":
        return gradient.sign()
    return gradient / size(gradient, "l2").clamp_min(torch.finfo(gradient.dtype).tiny)


def project(delta: Tensor, eps: float, norm: str) -> Tensor:
    """The nearest point to `delta` in the ball of radius eps."""
    if norm == "linf":
        return delta.clamp(-eps, eps)
    return delta * (eps / size(delta, "l2").clamp_min(torch.finfo(delta.dtype).tiny)).clamp_max(1)


def size(delta: Tensor, norm: str) -> Tensor:
    """(B, 1, 1, 1) norm of each perturbation."""
    if norm == "l0":
        return (delta != 0).any(1).flatten(1).sum(1).to(delta).view(-1, 1, 1, 1)
    flat = delta.flatten(1)
    norms = flat.norm(dim=1) if norm == "l2" else flat.abs().amax(1)
    return norms.view(-1, 1, 1, 1)


def perturbation(images: Tensor, adversarial: Tensor, norm: str) -> Tensor:
    """(B,) norm of what was done to each image."""
    return size(adversarial - images, norm).flatten()


def differing(images: Tensor, others: Tensor) -> Tensor:
    """(B,) which images differ in any pixel."""
    return (images != others).flatten(1).any(1)


def noise_like(images: Tensor, adversarial: Tensor, norm: str, generator: torch.Generator) -> Tensor:
    """Images moved in random directions as far as an attack moved them, in [0, 1]: what no attack may be weaker than.

    Directions are uniform on the sphere in l2, corners of the cube in linf. In l0 as many pixels get random values.
    """
    if norm == "l0":
        return _scattered(images, size(adversarial - images, norm), generator)
    away = torch.randn(images.shape, generator=generator).to(images)
    return (images + size(adversarial - images, norm) * direction(away, norm)).clamp(0, 1)


def _scattered(images: Tensor, count: Tensor, generator: torch.Generator) -> Tensor:
    """The images with `count` (B, 1, 1, 1) random pixels replaced by random ones."""
    places = torch.rand(images[:, :1].flatten(1).shape, generator=generator).to(images)
    chosen = places.argsort(1).argsort(1).view_as(images[:, :1]) < count
    return torch.where(chosen, torch.rand(images.shape, generator=generator).to(images), images)
