"""Ladder of the crossbar compiler: conductance pairs, cuts, converter ranges, refusals, programs on disk."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import small_network

import mapping
from mapping.crossbar.encoding import difference, store
from mapping.crossbar.program import cut, stored_weight
from mapping.crossbar.ranges import image_peak
from mapping.errors import Refusal

SOME = settings(max_examples=25)
seeds = st.integers(0, 10**6)


def with_weight(graph, n, weight):
    """The graph with another weight of the same shape in coupling n."""
    couplings = list(graph.couplings)
    couplings[n] = replace(couplings[n], weight=np.float32(weight))
    return replace(graph, couplings=tuple(couplings))


def any_weight(seed, size=1.0):
    return np.float32(size * np.random.default_rng(seed).standard_normal((5, 2, 3, 3)))


def target_of(device="pcm", levels=None, **options):
    return mapping.parse(f"crossbar:{device}/levels").having(levels=levels, **options)


@SOME
@given(seeds, st.floats(1e-3, 1e3), st.one_of(st.none(), st.integers(2, 300)),
       st.sampled_from(["pcm", "reram_milo", "reram_cmo"]))
def test_a_pair_holds_its_weight_on_one_side_to_half_a_level(seed, size, levels, device):
    weight, target = any_weight(seed, size), target_of(device, levels)
    stored = store(weight, target, ((0, 5),))
    low, high = target.g_min_us, target.g_max_us
    half_level = (high - low) / (levels - 1) / 2 if levels else 0.0
    assert stored.g_us.max() == pytest.approx(high, rel=1e-6)
    assert np.all(stored.g_us[0].min(0) == np.float32(low))
    error_us = np.abs(difference(stored.g_us, ((0, 5),))[0] - weight * stored.us_per_weight)
    assert error_us.max() <= half_level + high * 1e-6
    if levels:
        codes = (stored.g_us - low) / (high - low) * (levels - 1)
        assert np.abs(codes - codes.round()).max() < 1e-3


@SOME
@given(seeds, st.integers(2, 8), st.integers(2, 4))
def test_slices_hold_a_weight_to_half_a_unit_of_the_last_digit(seed, levels, slices):
    weight = any_weight(seed)
    stored = store(weight, target_of(levels=levels, encoding="slices", slices=slices), ((0, 5),))
    significance = stored.us_per_weight * float(levels) ** np.arange(slices)
    read = (difference(stored.g_us, ((0, 5),)) / significance[:, None, None, None, None]).sum(0)
    assert stored.g_us.shape[:3] == (slices, 2, 5)
    assert stored.g_us.max() == pytest.approx(25.0)
    assert np.abs(read - weight).max() <= np.abs(weight).max() / (levels**slices - 1) / 2 * (1 + 1e-3)


@SOME
@given(seeds, st.one_of(st.none(), st.integers(3, 300)), st.sampled_from(["pcm", "reram_milo"]))
def test_an_offset_column_stands_for_zero_and_is_subtracted_from_its_tiles_columns(seed, levels, device):
    weight, cuts, target = any_weight(seed), ((0, 3), (3, 5)), target_of(device, levels, encoding="offset")
    weight[1, 0] = 0
    stored = store(weight, target, cuts)
    half = (levels - 1) // 2 if levels else None
    assert stored.g_us.shape == (1, 1, 7, 2, 3, 3)
    assert target.g_min_us * 0.999 <= stored.g_us.min() <= stored.g_us.max() <= target.g_max_us * 1.001
    assert np.all(stored.g_us[0, 0, 1, 0] == stored.g_us[0, 0, 5, 0])
    tolerance = np.abs(weight).max() * (0.5 / half if half else 1e-5) * (1 + 1e-3)
    assert np.abs(difference(stored.g_us, cuts)[0] / stored.us_per_weight - weight).max() <= tolerance
    moved = stored.g_us.copy()
    moved[0, 0, 6] += 1
    changed = (difference(moved, cuts) - difference(stored.g_us, cuts))[0]
    assert np.all(changed[:3] == 0)
    assert np.allclose(changed[3:], -1, atol=1e-4)


@SOME
@given(seeds)
def test_column_scaling_fills_the_range_in_every_column(seed):
    weight = any_weight(seed) * np.float32([1, 0.1, 0.5, 0, 2])[:, None, None, None]
    stored = store(weight, target_of(scaling="column"), ((0, 5),))
    largest = stored.g_us.max((0, 1, 3, 4, 5))
    assert np.allclose(largest, [25, 25, 25, 0, 25])
    read = difference(stored.g_us, ((0, 5),))[0] / stored.us_per_weight * stored.column_scale[:, None, None, None]
    assert np.allclose(read, weight, rtol=1e-5, atol=1e-7)


def test_a_layer_of_zeros_is_stored_as_zeros():
    stored = store(np.zeros((2, 1, 3, 3), np.float32), target_of(), ((0, 2),))
    assert not stored.g_us.any()
    assert np.isfinite(stored.us_per_weight)


@SOME
@given(st.integers(1, 600), st.integers(1, 300))
def test_cuts_cover_everything_once_in_the_fewest_nearly_equal_parts(size, most):
    parts = cut(size, most)
    sizes = [last - first for first, last in parts]
    assert [n for first, last in parts for n in range(first, last)] == list(range(size))
    assert max(sizes) <= most
    assert len(parts) == -(-size // most)
    assert max(sizes) - min(sizes) <= 1


def test_tiles_are_cut_at_input_channels_and_hold_what_the_report_says(graph):
    program = mapping.compile(graph, "crossbar:ideal[tile=18]")
    conv2 = program.layers[1]
    assert conv2.row_cuts == ((0, 2), (2, 4))
    assert conv2.column_cuts == ((0, 6),)
    row = dict(zip(program.report().columns, program.report().rows[1]))
    assert (row["rows"], row["columns"], row["tiles"], row["largest tile"]) == (36, 6, "2 x 1", "18 x 6")
    assert (row["weights"], row["devices"]) == (216, 432)
    assert row["utilisation"] == f"{216 / (2 * 18 * 18):.1%}"


def test_a_channel_taller_than_a_tile_is_cut_at_its_rows():
    wide = small_network(0, channels=(4,), paddings=(1,), pools=(1,)).lower()
    *_, readout = mapping.compile(wide, "crossbar:ideal[tile=48]").layers
    assert wide.readout.weight.shape == (readout.stored.g_us.shape[2], 4, 8, 8)
    assert readout.stored.g_us.shape[3:] == (256, 1, 1)
    assert readout.row_cuts == ((0, 43), (43, 85), (85, 128), (128, 171), (171, 213), (213, 256))
    report = mapping.compile(wide, "crossbar:ideal[tile=48]").report()
    assert dict(zip(report.columns, report.rows[-1]))["largest tile"].startswith("43 x")


def test_converters_need_recorded_activity_and_the_other_rungs_do_not(graph):
    silent = replace(graph, activity=None)
    with pytest.raises(Refusal, match="calibration images"):
        mapping.compile(silent, "crossbar:pcm")
    assert all(layer.spans is None for layer in mapping.compile(silent, "crossbar:pcm/read").layers)


def test_adc_ranges_are_a_margin_above_what_calibration_images_cause(graph):
    """The sums once more, in torch: upwards before the bias, downwards at every position before overlap-add."""
    up, down = mapping.compile(graph, "crossbar:pcm").layers[1].spans
    weight, bias = torch.tensor(graph.couplings[1].weight), torch.tensor(graph.couplings[1].bias)
    below, above = map(torch.tensor, graph.activity.states)
    sums = F.conv2d(below, weight, padding=1)
    winners = F.max_pool2d(sums + bias.view(-1, 1, 1), 2, return_indices=True)[1]
    rows = torch.einsum("boyx,oikl->byxikl", F.max_unpool2d(above, winners, 2), weight)
    for adc, seen, bound in ((up.adc, sums, weight.abs().flatten(1).sum(1)), (down.adc, rows, weight.abs().sum(0))):
        assert adc.item() == pytest.approx(min(1.5 * np.percentile(seen.abs(), 99.9), bound.max()), rel=1e-4)


def test_ranges_of_an_empty_map_are_the_largest_possible_sums(graph):
    silence = tuple(np.zeros_like(s) for s in graph.activity.states)
    dead = replace(graph, activity=replace(graph.activity, states=silence))
    up, _ = mapping.compile(dead, "crossbar:pcm").layers[1].spans
    assert up.adc == pytest.approx(np.abs(graph.couplings[1].weight).reshape(6, -1).sum(1).max(), rel=1e-5)


def test_only_the_image_and_the_readout_error_are_signed(graph):
    spans = [layer.spans for layer in mapping.compile(graph, "crossbar:pcm").layers]
    assert [(up.signed, down.signed) for up, down in spans] == [(True, False), (False, False), (False, True)]
    assert spans[0][0].dac == pytest.approx(image_peak(graph))
    assert image_peak(graph) == pytest.approx(0.7 / 1.1)


@pytest.mark.parametrize("target", ["crossbar:ideal[tile=32]", "crossbar:pcm[age=1d,levels=64]"])
def test_a_saved_program_is_loaded_to_the_same_bytes(graph, tmp_path, target):
    program = mapping.compile(graph, target)
    program.save(tmp_path / "program")
    again = mapping.load_program(tmp_path / "program")
    assert again.digest() == program.digest()
    assert again.report() == program.report()
    other = mapping.compile(with_weight(graph, 0, graph.couplings[0].weight * 1.01), target)
    assert other.digest() != program.digest()


def test_levels_are_a_rung_of_their_own(graph):
    """/levels rounds when asked to; a machine without this cause never does."""
    coarse = mapping.compile(graph, "crossbar:pcm/levels[levels=2]").layers[0].stored.g_us
    assert set(np.unique(coarse)) <= {0.0, 25.0}
    exact = mapping.compile(graph, "crossbar:pcm/programmed[levels=2,without=levels]").layers[0]
    assert np.allclose(stored_weight(exact), graph.couplings[0].weight, rtol=1e-5, atol=1e-7)


def test_steps_are_the_checkpoints_where_states_rest_and_sixty_where_noise_moves_them(graph):
    assert mapping.compile(graph, "crossbar:pcm/aged").steps == graph.steps
    assert mapping.compile(graph, "crossbar:pcm/read").steps == 60
    assert mapping.compile(graph, "crossbar:pcm/read[steps=7]").steps == 7


def test_a_readout_is_averaged_over_steps_that_are_taken(graph):
    with pytest.raises(Refusal, match=r"readout_steps.*got 61.*1 to 60 steps"):
        mapping.compile(graph, "crossbar:pcm[readout_steps=61]")
    assert mapping.compile(graph, "crossbar:pcm[readout_steps=61,steps=61]").steps == 61
