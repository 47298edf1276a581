"""Corruptions against Pillow, scipy and the standard library, against closed-form errors, and their laws."""

import colorsys
import io
import math
import os
from fractions import Fraction

import imagecorruptions
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from ep_hw.threats.corruptions import ALL, MAIN, corrupt, sampling
from ep_hw.threats.corruptions.digital import pixelate
from ep_hw.threats.corruptions.edges import canny, equalise
from ep_hw.threats.corruptions.photographs import SHA256, frost_photographs
from ep_hw.threats.corruptions.weather import _drops, plasma
from ep_hw.threats.definitions import Corruption
from ep_hw.threats.registry import CORRUPTIONS
from mapping import Refusal

WITHOUT_FILES = sorted(set(ALL) - {"frost"})
# stronger settings that need not differ more from the image: they trade one change for another
NOT_MONOTONE = {"saturate", "glass_blur", "spatter", "snow", "frost", "elastic_transform"}


def eight_bit_images(n=8, shape=(3, 32, 32), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape)).astype(np.float32) / 255


def mid_grey(n=64, low=0.45, high=0.55, seed=0):
    return np.random.default_rng(seed).uniform(low, high, (n, 3, 32, 32)).astype(np.float32)


def smooth_images(n=32, shape=(3, 32, 32), seed=0):
    """Fields with structure at several scales, as photographs have."""
    noise = np.random.default_rng(seed).normal(size=(n, *shape))
    fields = sum(sigma * ndimage.gaussian_filter(noise, (0, 0, sigma, sigma)) for sigma in (1, 2, 4))
    return (0.45 + 0.2 * fields / fields.std()).clip(0, 1).astype(np.float32)


def constants(name, severity):
    return CORRUPTIONS[name].constants[severity - 1]


def error(name, severity, images, seed=0):
    return ((corrupt(images, name, severity, np.random.default_rng(seed)).astype(float) - images) ** 2).mean()


@pytest.fixture
def photographs(cifar_root, monkeypatch):
    """The photographs, where they lie beside the data."""
    frost_photographs.cache_clear()
    monkeypatch.setenv("EP_HW_FROST", str(cifar_root / "frost"))
    yield frost_photographs
    frost_photographs.cache_clear()


@pytest.mark.parametrize(("shape", "mode"), [((3, 32, 32), "RGB"), ((1, 8, 8), "L")])
@pytest.mark.parametrize("severity", range(1, 6))
@pytest.mark.parametrize("name", ["jpeg_compression", "pixelate"])
def test_files_and_box_filters_are_pillows_bit_for_bit(name, shape, mode, severity):
    images = eight_bit_images(4, shape)
    got = corrupt(images, name, severity, None)
    for image, out in zip(images, got):
        picture = Image.fromarray(np.rint(image.transpose(1, 2, 0) * 255).astype(np.uint8).squeeze(), mode)
        if name == "pixelate":
            small = picture.resize([int(n * constants(name, severity)) for n in picture.size], Image.Resampling.BOX)
            expected = small.resize(picture.size, Image.Resampling.BOX)
        else:
            buffer = io.BytesIO()
            picture.save(buffer, "JPEG", quality=constants(name, severity))
            expected = Image.open(buffer)
        expected = np.asarray(expected).reshape(shape[1], shape[2], shape[0]).transpose(2, 0, 1)
        assert np.array_equal(np.rint(out * 255).astype(np.uint8), expected)


def in_hsv(image, change):
    """Apply a function of (h, s, v) to every pixel of (3, H, W) with the standard library."""
    pixels = [colorsys.hsv_to_rgb(*change(*colorsys.rgb_to_hsv(*pixel))) for pixel in image.reshape(3, -1).T]
    return np.array(pixels).T.reshape(image.shape)


@pytest.mark.parametrize("severity", range(1, 6))
def test_brightness_and_saturation_are_those_of_hsv(severity):
    image = eight_bit_images(1, (3, 8, 8))
    image[0, :, 0, :4] = [[0], [0], [0]]   # black
    image[0, :, 1, :4] = [[0.4], [0.4], [0.4]]   # grey
    added, (scale, shift) = constants("brightness", severity), constants("saturate", severity)
    brighter = in_hsv(image[0].astype(float), lambda h, s, v: (h, s, min(v + added, 1)))
    stronger = in_hsv(image[0].astype(float), lambda h, s, v: (h, min(s * scale + shift, 1), v))
    for name, expected in (("brightness", brighter), ("saturate", stronger)):
        got = CORRUPTIONS[name].function(image.astype(float), constants(name, severity), None)[0]
        assert np.allclose(got, expected, atol=1e-9)


def test_a_blur_spreads_a_point_and_keeps_its_light():
    point = np.zeros((1, 1, 33, 33))
    point[0, 0, 16, 16] = 1
    for name in ("gaussian_blur", "defocus_blur", "motion_blur"):
        spread = CORRUPTIONS[name].function(point, constants(name, 5), np.random.default_rng(0))
        assert spread.sum() == pytest.approx(1, abs=1e-4)
        assert 0.03 < spread[0, 0, 16, 16] < 0.5


@given(st.integers(0, 99), st.integers(3, 12), st.integers(3, 12), st.sampled_from([1, 3, 5]))
@settings(max_examples=20)
def test_filters_are_scipys(seed, h, w, taps):
    rng = np.random.default_rng(seed)
    x, kernel = rng.random((2, 3, h, w)), rng.random((taps, taps))
    theirs = ndimage.correlate(x, kernel[None, None], mode="mirror")
    assert np.allclose(sampling.correlate(x, kernel), theirs, rtol=0, atol=1e-12)
    theirs = ndimage.gaussian_filter(x, (0, 0, taps / 4, taps / 4), mode="reflect", truncate=3)
    assert np.allclose(sampling.gaussian_filter(x, taps / 4, "reflect", 3), theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("degrees", [0.0, 30.0, -20.0, -90.0])
def test_motion_draws_a_gaussian_line_at_its_angle(degrees):
    point = np.zeros((1, 1, 41, 41))
    point[0, 0, 20, 20] = 1
    streak = sampling.motion_blur(point, 9, 3.0, np.array([degrees]))[0, 0]
    rows, columns = np.nonzero(streak)
    along = np.hypot(rows - 20, columns - 20)
    angle = np.deg2rad(degrees)
    assert np.allclose(rows - 20, -along * np.sin(angle), atol=0.75)
    assert np.allclose(columns - 20, -along * np.cos(angle), atol=0.75)
    nearest = np.argsort(along)
    assert np.all(np.diff(streak[rows, columns][nearest]) < 0)


def test_zooming_is_scipys():
    images = smooth_images(2).astype(float)
    for factor in (1.0, 1.07, 1.25, 2.25):
        kept = int(np.ceil(32 / factor))
        first = (32 - kept) // 2
        large = ndimage.zoom(images[:, :, first:first + kept, first:first + kept], (1, 1, factor, factor), order=1)
        cut = (large.shape[2] - 32) // 2
        assert np.allclose(sampling.centre_zoom(images, factor), large[:, :, cut:cut + 32, cut:cut + 32])


@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(2, 9))
@settings(max_examples=20)
def test_reading_between_pixels_is_scipys(seed, h, w):
    rng = np.random.default_rng(seed)
    x, (rows, columns) = rng.random((2, 3, h, w)), rng.uniform(-9, 18, (2, 2, 4, 5))
    got = sampling.bilinear(x, rows, columns)
    for i in range(2):
        for c in range(3):
            expected = ndimage.map_coordinates(x[i, c], (rows[i], columns[i]), order=1, mode="mirror")
            assert np.allclose(got[i, c], expected)


def test_an_elastic_map_without_movement_is_none():
    images = smooth_images(2).astype(float)
    function = CORRUPTIONS["elastic_transform"].function
    assert np.allclose(function(images, (0, 0, 0), np.random.default_rng(0)), images)
    assert not np.allclose(function(images, (0.1, 0.03, 0), np.random.default_rng(0)), images)


def test_an_affine_map_carries_its_three_points():
    """A ramp r + 100 c tells where each pixel came from."""
    ramp = (np.arange(32)[:, None] + 100.0 * np.arange(32))[None, None]
    bent = CORRUPTIONS["elastic_transform"].function(ramp, (0, 0, 0.08), np.random.default_rng(3))[0, 0]
    moved = np.random.default_rng(3).uniform(-2.56, 2.56, (1, 3, 2))[0]
    middle = [(16 + 10, 16 + 10), (16 - 10, 16 + 10), (16 - 10, 16 - 10)]
    for (r, c), shift in zip(middle, moved):
        value = ndimage.map_coordinates(bent, [[r + shift[0]], [c + shift[1]]], order=1)[0]
        assert value == pytest.approx(r + 100 * c, abs=0.5)


def test_glass_only_copies_from_near():
    """Without its blurs, every pixel's value is one of its neighbourhood."""
    x = np.arange(256, dtype=float).reshape(1, 1, 16, 16) / 255
    out = np.rint(CORRUPTIONS["glass_blur"].function(x, (1e-9, 1, 1), np.random.default_rng(0)) * 255)[0, 0].astype(int)
    rows, columns = out // 16, out % 16
    assert np.abs(rows - np.arange(16)[:, None]).max() == 1
    assert np.abs(columns - np.arange(16)).max() == 1
    assert (out != np.arange(256).reshape(16, 16)).mean() > 0.3


@pytest.mark.parametrize("severity", range(1, 6))
def test_errors_of_noise_and_contrast_are_their_closed_forms(severity):
    """gaussian sigma^2, speckle sigma^2 E[x^2], shot E[x] / photons, contrast (1 - c)^2 var; impulse by fraction."""
    images = mid_grey().astype(float)
    sigma, speckle = constants("gaussian_noise", severity), constants("speckle_noise", severity)
    assert error("gaussian_noise", severity, images) == pytest.approx(sigma**2, rel=0.02)
    assert error("speckle_noise", severity, images) == pytest.approx(speckle**2 * (images**2).mean(), rel=0.03)
    photons = constants("shot_noise", severity)
    assert error("shot_noise", severity, images) == pytest.approx(images.mean() / photons, rel=0.03)
    changed = np.abs(corrupt(images, "impulse_noise", severity, np.random.default_rng(1)) - images) > 0.3
    assert changed.mean() == pytest.approx(constants("impulse_noise", severity), rel=0.05)
    wide = mid_grey(low=0.3, high=0.7)
    expected = (1 - constants("contrast", severity)) ** 2 * wide.var((2, 3)).mean()
    assert error("contrast", severity, wide) == pytest.approx(expected, rel=0.05, abs=2 / 255**2)


def test_a_cloud_fills_the_unit_interval_and_roughness_decays():
    rng = np.random.default_rng(0)
    steps = []
    for decay in (3.0, 1.75):
        clouds = plasma(20, 32, decay, rng)
        assert np.array_equal(clouds.min((1, 2)), np.zeros(20))
        assert np.array_equal(clouds.max((1, 2)), np.ones(20))
        steps.append(np.abs(np.diff(clouds, axis=1)).mean())
    assert steps[0] < steps[1]


def test_fog_leaves_the_brightest_value_and_snow_whitens():
    images = smooth_images(8).astype(float)
    fogged = CORRUPTIONS["fog"].function(images, (1.5, 1.75), np.random.default_rng(0))
    assert np.all(fogged.max((1, 2, 3)) <= images.max((1, 2, 3)) + 1e-12)
    for severity in range(1, 6):
        snowed = corrupt(images, "snow", severity, np.random.default_rng(0))
        assert snowed.mean() > images.mean() + 0.01


def test_water_brightens_and_mud_browns():
    images = np.full((8, 3, 32, 32), 0.5)
    water = corrupt(images, "spatter", 3, np.random.default_rng(0)).astype(float)
    assert water.min() >= 0.5 - 1 / 255
    assert water[:, 2].mean() > water[:, 0].mean() > 0.5
    mud = corrupt(images, "spatter", 5, np.random.default_rng(0))
    covered = mud[:, 2] < 0.3
    assert 0.005 < covered.mean() < 0.5
    assert np.all(mud[:, 0][covered] > mud[:, 2][covered])


@pytest.mark.parametrize("factor", [0.3, 0.2, 0.65])
def test_box_filters_over_several_pixels_are_pillow_s_to_the_bit(factor):
    """Below half the side a window holds three pixels and more, whose weights are no whole parts of two."""
    for image in eight_bit_images(4, (3, 31, 32)):
        picture = Image.fromarray(np.rint(image * 255).astype(np.uint8).transpose(1, 2, 0))
        small = picture.resize([int(side * factor) for side in picture.size], Image.Resampling.BOX)
        wanted = np.asarray(small.resize(picture.size, Image.Resampling.BOX)).transpose(2, 0, 1)
        assert np.array_equal(pixelate(image[None].astype(float), factor, None)[0], wanted)


def test_edges_of_a_square_are_its_outline():
    image = np.zeros((16, 16))
    image[4:12, 4:12] = 200
    edges = canny(image[None], 50, 150)[0]
    assert edges.any()
    inside, outside = np.zeros_like(edges), np.ones_like(edges)
    inside[6:10, 6:10] = True
    outside[2:14, 2:14] = False
    assert not edges[inside | outside].any()
    assert not canny(image[None] / 100, 50, 150).any()


def test_no_image_sees_another_s_edges_or_levels():
    """Batches: an image without edges among others, each as it is alone."""
    rng = np.random.default_rng(0)
    images = np.stack([np.zeros((12, 12)), *(200 * (ndimage.gaussian_filter(rng.random((3, 12, 12)), 1) > 0.5))])
    together = canny(images, 50, 150)
    assert together[1:].any((1, 2)).all()
    assert not together[0].any()
    assert np.array_equal(together, np.concatenate([canny(image[None], 50, 150) for image in images]))
    faint, bold = np.zeros((2, 12, 12))
    faint[4:9, 4:9], bold[4:9, 4:9] = 20, 200   # above `low` only, and above `high`, in the same place
    assert canny(np.stack([faint, bold]), 50, 150).any((1, 2)).tolist() == [False, True]
    levels = images.astype(np.uint8) // 3
    assert np.array_equal(equalise(levels), np.concatenate([equalise(image[None]) for image in levels]))
    drops = _drops(images)
    assert np.array_equal(drops, np.concatenate([_drops(image[None]) for image in images]))


def test_equalising_spreads_the_levels():
    image = np.repeat(np.arange(100, 104, dtype=np.uint8), 4).reshape(4, 4)
    assert sorted(set(equalise(image[None]).ravel())) == [0, 85, 170, 255]
    assert np.array_equal(equalise(np.full((1, 3, 3), 7, np.uint8)), np.full((1, 3, 3), 7))


def test_frost_is_a_crop_of_a_photograph(photographs):
    grey = np.zeros((6, 3, 32, 32))
    ice = CORRUPTIONS["frost"].function(grey, (1, 0.4), np.random.default_rng(0)) / 0.4
    reduced = [photograph[:, 2::5, 2::5] for photograph in photographs()]   # a reduction by 5 picks pixels' middles
    rng = np.random.default_rng(0)
    for patch, which in zip(ice, rng.integers(0, 5, 6)):
        windows = np.lib.stride_tricks.sliding_window_view(reduced[which], (32, 32), (1, 2))
        r, c = np.argwhere(np.isclose(windows[0], patch[0]).all((2, 3)))[0]
        assert np.allclose(windows[:, r, c], patch)
    coloured = corrupt(np.full((2, 1, 8, 8), 0.5, np.float32), "frost", 3, np.random.default_rng(0))
    assert coloured.shape == (2, 1, 8, 8)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 64, 64), (2, 13, 9)])
def test_frost_falls_on_images_of_any_size(photographs, shape):
    images = eight_bit_images(3, shape)
    frosted = corrupt(images, "frost", 3, np.random.default_rng(0))
    assert frosted.shape == images.shape
    assert 0 <= frosted.min() < frosted.max() <= 1
    assert (frosted != images).any((1, 2, 3)).all()


def test_frost_without_its_photographs_is_refused(monkeypatch, tmp_path):
    frost_photographs.cache_clear()
    monkeypatch.delenv("EP_HW_DATA", raising=False)
    monkeypatch.setenv("EP_HW_FROST", str(tmp_path))
    monkeypatch.setattr("ep_hw.threats.corruptions.photographs.find_spec", lambda name: None)
    with pytest.raises(Refusal, match="imagecorruptions-imaug"):
        corrupt(eight_bit_images(1), "frost", 1, np.random.default_rng(0))
    for name in SHA256:
        (tmp_path / name).write_bytes(os.urandom(8))
    with pytest.raises(Refusal, match="not the published photograph"):
        corrupt(eight_bit_images(1), "frost", 1, np.random.default_rng(0))
    os.truncate(tmp_path / next(iter(SHA256)), 2**40)
    with pytest.raises(Refusal, match="bytes"):
        corrupt(eight_bit_images(1), "frost", 1, np.random.default_rng(0))


@given(st.sampled_from(WITHOUT_FILES), st.integers(1, 5), st.integers(0, 10**6),
       st.sampled_from([(1, 8, 8), (3, 32, 32), (3, 17, 6), (3, 48, 40), (1, 28, 28), (3, 64, 64), (2, 13, 9),
                        (1, 1, 7)]))
@settings(max_examples=120)
def test_outputs_are_eight_bit_images_and_repeat_with_the_seed(name, severity, seed, shape):
    images = eight_bit_images(2, shape, seed)
    first, again = (corrupt(images, name, severity, np.random.default_rng(seed)) for _ in range(2))
    assert np.array_equal(first, again)
    assert first.shape == images.shape
    assert first.dtype == np.float32
    assert first.min() >= 0
    assert first.max() <= 1
    assert np.allclose(first * 255, np.rint(first * 255), atol=1e-3)


@pytest.mark.parametrize("name", WITHOUT_FILES)
def test_severity_raises_the_error_and_randomness_is_as_declared(name):
    images = smooth_images()
    errors = [error(name, severity, images) for severity in range(1, 6)]
    assert min(errors) > 0
    if name not in NOT_MONOTONE:
        assert np.all(np.diff(errors) > -1e-4)
        assert errors[-1] > errors[0]
    a, b = (corrupt(images, name, 3, np.random.default_rng(s)) for s in (1, 2))
    assert np.array_equal(a, b) is not CORRUPTIONS[name].random


@pytest.mark.parametrize("name", [n for n in WITHOUT_FILES if not CORRUPTIONS[n].random])
def test_an_image_is_changed_without_regard_to_its_batch(name):
    images = smooth_images(70)   # more than are changed at a time
    whole = corrupt(images, name, 4, None)
    assert all(np.array_equal(whole[k:k + 1], corrupt(images[k:k + 1], name, 4, None)) for k in (2, 69))


def test_images_of_one_batch_draw_their_own_numbers():
    images = np.repeat(smooth_images(1), 2, 0)
    for name in WITHOUT_FILES:
        if CORRUPTIONS[name].random:
            first, second = corrupt(images, name, 4, np.random.default_rng(0))
            assert not np.array_equal(first, second), name


def test_there_are_fifteen_and_four():
    assert len(MAIN) == 15
    assert len(ALL) == 19
    assert set(ALL) == set(CORRUPTIONS)


def test_truncation_leaves_eight_bit_values_alone():
    images = np.arange(256, dtype=np.float32).reshape(1, 1, 16, 16) / 255
    changed = corrupt(images, "contrast", 1, None)
    mean = images.astype(np.float64).mean()
    assert np.array_equal(np.rint(changed * 255), np.floor((mean + 0.75 * (images.astype(np.float64) - mean)) * 255
                                                           + 1e-6))


@given(st.sampled_from(WITHOUT_FILES), st.integers(1, 5), st.integers(0, 10**6),
       st.sampled_from([np.float32, np.float64]))
@settings(max_examples=60)
def test_images_are_taken_as_their_nearest_eight_bits(name, severity, seed, dtype):
    """Float32 pixels, which miss k/255 by 1e-5 levels, and any pixels less than half a level away."""
    rng = np.random.default_rng(seed)
    levels = rng.integers(0, 256, (4, 3, 32, 32))
    exact = corrupt(levels / 255, name, severity, np.random.default_rng(seed))
    near = (levels + rng.uniform(-0.49, 0.49, levels.shape) * (seed % 2)) / 255
    got = corrupt(near.clip(0, 1).astype(dtype), name, severity, np.random.default_rng(seed))
    assert np.array_equal(got, exact)


def test_digits_are_corrupted_as_their_eight_bit_files_would_be():
    sixteenths = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4) / 16
    written = np.array(Image.fromarray(np.rint(sixteenths[0, 0] * 255).astype(np.uint8)))
    value = written / 255
    assert np.array_equal(np.rint(corrupt(sixteenths, "contrast", 3, None)[0, 0] * 255),
                          np.floor((value.mean() + 0.4 * (value - value.mean())) * 255 + 1e-6))


@pytest.mark.parametrize("severity", range(1, 6))
def test_saturation_is_that_of_exact_arithmetic(severity):
    """V - scale (V - x) - shift V (V - x) / (V - min), in fractions, rounded down; greys are left out."""
    levels = np.random.default_rng(severity).integers(0, 256, (1, 3, 12, 12))
    got = np.rint(corrupt(np.float32(levels / 255), "saturate", severity, None) * 255)
    scale, shift = (Fraction(str(c)) for c in constants("saturate", severity))
    for pixel, out in zip(levels.reshape(3, -1).T.tolist(), got.reshape(3, -1).T):
        value, least = max(pixel), min(pixel)
        if value > least:
            saturation = min(scale * Fraction(value - least, value) + shift, 1)
            exact = [value * (1 - Fraction(value - x, value - least) * saturation) for x in pixel]
            assert out.tolist() == [math.floor(x) for x in exact]


@pytest.mark.parametrize(("name", "severity", "theirs"), [
    ("saturate", 1, 1), ("saturate", 2, 2), ("brightness", 2, 1), ("brightness", 4, 2), ("brightness", 5, 3),
    ("contrast", 3, 1), ("contrast", 4, 2)])
def test_the_published_functions_agree_where_constants_do(name, severity, theirs):
    """To the level, but where their rounding noise lies below a whole number, which they then lose."""
    images = np.random.default_rng(severity).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    published = np.stack([getattr(imagecorruptions.corruptions, name)(image, theirs) for image in images])
    got = np.rint(corrupt(np.float32(images.transpose(0, 3, 1, 2)) / 255, name, severity, None) * 255)
    assert np.array_equal(got.transpose(0, 2, 3, 1), np.floor(published + 1e-6))


@pytest.mark.parametrize(("name", "severity"), [("rain", 1), ("contrast", 0), ("contrast", 6)])
def test_unknown_corruptions_are_refused(name, severity):
    with pytest.raises(Refusal, match="severity 1 to 5"):
        corrupt(eight_bit_images(1), name, severity, None)


FAULTS = {
    "other images than it was given; got float64 .2, 1, 4, 8.": lambda x: x[:, :, :4],
    "other images than it was given; got NoneType": lambda x: None,
    "other images than it was given; got int64": lambda x: (255 * x).astype(np.int64),
    "pixels that are no numbers": lambda x: np.where(x > 0.5, np.nan, x),
    "fails; got ZeroDivisionError: division by zero, line [0-9]+ of test_corruptions.py": lambda x: x * (1 / 0),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_corruption_of_a_user_that_makes_no_images_is_refused_under_its_name(fault, monkeypatch):
    monkeypatch.setitem(CORRUPTIONS, "broken", Corruption("broken", lambda x, constant, rng: FAULTS[fault](x),
                                                          (1, 2, 3, 4, 5), False, "broken", 1))
    with pytest.raises(Refusal, match=f"broken@2: .*{fault}"):
        corrupt(eight_bit_images(2, (1, 8, 8)), "broken", 2, np.random.default_rng(0))
