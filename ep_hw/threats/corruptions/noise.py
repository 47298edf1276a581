"""Noise: every pixel and channel draws for itself."""

import numpy as np


def gaussian_noise(x, sigma: float, rng):
    """x + N(0, sigma^2)."""
    return x + rng.normal(0.0, sigma, x.shape)


def shot_noise(x, photons: float, rng):
    """Poisson(photons x) / photons: `photons` arrive at a pixel of value 1."""
    return rng.poisson(x * photons) / photons


def impulse_noise(x, amount: float, rng):
    """Salt or pepper, equally likely, in a fraction `amount` of the pixels."""
    hit, salt = rng.random(x.shape) < amount, rng.random(x.shape) < 0.5
    return np.where(hit, salt, x)


def speckle_noise(x, sigma: float, rng):
    """x (1 + N(0, sigma^2))."""
    return x * (1 + rng.normal(0.0, sigma, x.shape))
