"""Corruptions against Pillow, against closed-form errors, and their laws."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ep_hw.corruptions import CORRUPTIONS, corrupt
from mapping import Refusal


def eight_bit_images(n=8, shape=(3, 32, 32), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape)).astype(np.float32) / 255


def mid_grey(n=64, low=0.45, high=0.55, seed=0):
    return np.random.default_rng(seed).uniform(low, high, (n, 3, 32, 32)).astype(np.float32)


@pytest.mark.parametrize(("shape", "mode"), [((3, 32, 32), "RGB"), ((1, 8, 8), "L")])
@pytest.mark.parametrize(("severity", "quality"), [(1, 80), (3, 58), (5, 40)])
def test_jpeg_is_pillows_bit_for_bit(shape, mode, severity, quality):
    images = eight_bit_images(4, shape)
    got = corrupt(images, "jpeg_compression", severity, np.random.default_rng(0))
    for image, out in zip(images, got):
        pixels = np.rint(image.transpose(1, 2, 0) * 255).astype(np.uint8).squeeze()
        buffer = io.BytesIO()
        Image.fromarray(pixels, mode).save(buffer, "JPEG", quality=quality)
        expected = np.asarray(Image.open(buffer)).reshape(shape[1], shape[2], shape[0]).transpose(2, 0, 1)
        assert np.array_equal(np.rint(out * 255).astype(np.uint8), expected)


@pytest.mark.parametrize("severity", range(1, 6))
def test_contrast_error_is_its_closed_form(severity):
    """MSE = (1 - c)^2 var before clipping and truncation."""
    images = mid_grey(low=0.3, high=0.7)
    factor = CORRUPTIONS["contrast"].constants[severity - 1]
    error = ((corrupt(images, "contrast", severity, None) - images) ** 2).mean()
    expected = (1 - factor) ** 2 * images.var((2, 3)).mean()
    assert error == pytest.approx(expected, rel=0.05, abs=2 / 255**2)


@pytest.mark.parametrize("severity", range(1, 6))
def test_gaussian_error_is_sigma_squared(severity):
    images = mid_grey()
    sigma = CORRUPTIONS["gaussian_noise"].constants[severity - 1]
    error = ((corrupt(images, "gaussian_noise", severity, np.random.default_rng(1)) - images) ** 2).mean()
    assert error == pytest.approx(sigma**2, rel=0.02)


@given(st.sampled_from(sorted(CORRUPTIONS)), st.integers(1, 5), st.integers(0, 10**6),
       st.sampled_from([(1, 8, 8), (3, 32, 32), (3, 17, 5)]))
@settings(max_examples=25, deadline=None)
def test_outputs_are_eight_bit_images_and_repeat_with_the_seed(name, severity, seed, shape):
    images = eight_bit_images(2, shape, seed)
    first, again = (corrupt(images, name, severity, np.random.default_rng(seed)) for _ in range(2))
    assert np.array_equal(first, again)
    assert first.shape == images.shape
    assert first.dtype == np.float32
    assert first.min() >= 0
    assert first.max() <= 1
    assert np.allclose(first * 255, np.rint(first * 255), atol=1e-3)


@pytest.mark.parametrize("name", sorted(CORRUPTIONS))
def test_severity_raises_the_error_and_randomness_is_as_declared(name):
    images = np.random.default_rng(0).normal(0.5, 0.15, (32, 3, 32, 32)).clip(0, 1).astype(np.float32)
    errors = [((corrupt(images, name, s, np.random.default_rng(0)) - images) ** 2).mean() for s in range(1, 6)]
    assert errors == sorted(errors)
    a, b = (corrupt(images, name, 3, np.random.default_rng(s)) for s in (1, 2))
    assert np.array_equal(a, b) is not CORRUPTIONS[name].random


def test_truncation_leaves_eight_bit_values_alone():
    images = np.arange(256, dtype=np.float32).reshape(1, 1, 16, 16) / 255
    changed = corrupt(images, "contrast", 1, None)
    mean = images.astype(np.float64).mean()
    assert np.array_equal(np.rint(changed * 255), np.floor((mean + 0.75 * (images.astype(np.float64) - mean)) * 255
                                                           + 1e-6))


@pytest.mark.parametrize(("name", "severity"), [("rain", 1), ("contrast", 0), ("contrast", 6)])
def test_unknown_corruptions_are_refused(name, severity):
    with pytest.raises(Refusal, match="severity 1 to 5"):
        corrupt(eight_bit_images(1), name, severity, None)
