"""Noise: every pixel and channel draws for itself."""

import numpy as np
from numpy.random import Generator

from ep_hw.threats.corruptions.packaged import packaged
from ep_hw.threats.definitions import Images


@packaged((0.04, 0.06, 0.08, 0.09, 0.10), random=True)
def gaussian_noise(x: Images, sigma: float, rng: Generator) -> Images:
    """x + N(0, sigma^2)."""
    return x + rng.normal(0.0, sigma, x.shape)


@packaged((500, 250, 100, 75, 50), random=True)
def shot_noise(x: Images, photons: float, rng: Generator) -> Images:
    """Poisson(photons x) / photons: `photons` arrive at a pixel of value 1."""
    return rng.poisson(x * photons) / photons


@packaged((0.01, 0.02, 0.03, 0.05, 0.07), random=True)
def impulse_noise(x: Images, amount: float, rng: Generator) -> Images:
    """Salt or pepper, equally likely, in a fraction `amount` of the pixels."""
    hit, salt = rng.random(x.shape) < amount, rng.random(x.shape) < 0.5
    return np.where(hit, salt, x)


@packaged((0.06, 0.1, 0.12, 0.16, 0.2), random=True)
def speckle_noise(x: Images, sigma: float, rng: Generator) -> Images:
    """x (1 + N(0, sigma^2))."""
    return x * (1 + rng.normal(0.0, sigma, x.shape))
