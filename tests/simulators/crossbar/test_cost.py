"""Energy, latency and area of a crossbar against sums by hand."""

import pytest
from networks import small_network

import mapping
from mapping.crossbar.presets import ISAAC_SHARE, PRESETS
from simulators.crossbar.cost import relaxation_cost

REST, CONVERSION = (1 - ISAAC_SHARE) * 13.4e-9, ISAAC_SHARE * 13.4e-9 / 256


def cost(graph, target):
    return relaxation_cost(mapping.compile(graph, target))


def test_every_read_and_every_conversion_is_counted(graph):
    """1x8x8 -> 4 -> 6 channels, one tile a layer, alternating. Three sweeps: the image 64 times, conv2 16 times each
    way (6 columns, 36 rows); then the readout once (10 columns).
    """
    seen = cost(graph, "crossbar:hermes_2[steps=6]")
    assert seen.energy_j == pytest.approx(REST * (3 * (64 + 2 * 16) + 1) + CONVERSION * (
        3 * (64 * 4 + 16 * 6 + 16 * 36) + 10))
    assert seen.latency_s == pytest.approx(133e-9 * (3 * 64 + 1))
    once = cost(graph, "crossbar:hermes_2[steps=6,input_read=once]")
    assert once.energy_j == pytest.approx(REST * (64 + 3 * 2 * 16 + 1) + CONVERSION * (
        64 * 4 + 3 * 16 * (6 + 36) + 10))


def test_the_range_is_between_one_phase_and_four(graph):
    seen = cost(graph, "crossbar:hermes_2")
    assert seen.energy_range_j[1] / seen.energy_range_j[0] == pytest.approx(52.9 / 13.4)
    assert seen.latency_range_s[1] / seen.latency_range_s[0] == pytest.approx(521 / 133)
    assert seen.area_range_mm2 == pytest.approx((3 * 0.6198, 3 * 0.6289), rel=1e-3)
    assert (seen.energy_j, seen.area_mm2) == (seen.energy_range_j[0], seen.area_range_mm2[0])


def test_converters_of_more_bits_count_longer_and_a_full_read_is_hermes_own(graph):
    """A layer that fills its tile reads at the published energy; 10 bits add 768 codes of 0.3 ns to every read."""
    wide = small_network(0, image_shape=(64, 4, 4), channels=(64,), paddings=(0,), pools=(1,), mean=(0.0,) * 64,
                         scale=(1.0,) * 64).lower()
    program = mapping.compile(wide, "crossbar:hermes_2[steps=1]")
    assert [layer.rows for layer in program.layers] == [576, 256]
    eight, ten = (cost(graph, f"crossbar:hermes_2[steps=6,adc_bits={bits}]") for bits in (8, 10))
    assert ten.latency_s - eight.latency_s == pytest.approx(768 * 0.3e-9 * (3 * 64 + 1))
    assert ten.energy_j > 2 * eight.energy_j - REST * (3 * 96 + 1)
    assert pytest.approx(13.4e-9) == REST + 256 * CONVERSION


def test_slices_convert_more_and_separate_arrays_take_twice_the_area_and_read_both_ways_at_once(graph):
    plain = cost(graph, "crossbar:hermes_2[levels=16,steps=6,input_read=once]")
    sliced = cost(graph, "crossbar:hermes_2[encoding=slices,levels=4,slices=4,steps=6,input_read=once]")
    apart = cost(graph, "crossbar:hermes_2[levels=16,steps=6,input_read=once,arrays=separate]")
    reads = REST * (64 + 3 * 2 * 16 + 1)
    assert sliced.energy_j - reads == pytest.approx(4 * (plain.energy_j - reads))
    assert apart.energy_j == plain.energy_j
    assert apart.area_mm2 == 2 * plain.area_mm2
    assert plain.latency_s - apart.latency_s == pytest.approx(133e-9 * 2 * 16)


@pytest.mark.parametrize("name", PRESETS)
def test_a_device_without_a_published_read_has_no_figure_and_says_so(graph, name):
    seen = cost(graph, f"crossbar:{name}[steps=6]")
    figures = (seen.energy_j, seen.latency_s, seen.area_mm2, seen.energy_range_j, seen.latency_range_s,
               seen.area_range_mm2)
    if name.startswith("hermes"):
        assert None not in figures
        assert "9.76 TOPS/W" in seen.source
    else:
        assert figures == (None,) * 6
        assert "are unknown" in seen.source
    assert seen.operations > 0


def test_the_published_reads_are_the_chips_throughput_and_efficiency():
    """64 cores of 256 x 256 cells, two operations a cell: 63.1 and 16.1 TOPS, 9.76 and 2.48 TOPS/W, 1.59 and 0.4
    TOPS/mm2.
    """
    for read, tops, per_watt in zip(PRESETS["hermes_2"].reads, (63.1, 16.1), (9.76, 2.48)):
        operations = 2 * read.cells**2
        assert 64 * operations / read.time_s == pytest.approx(tops * 1e12, rel=2e-3)
        assert operations / read.energy_j == pytest.approx(per_watt * 1e12, rel=3e-3)   # of three digits
    assert [2 * r.cells**2 / r.time_s / r.area_mm2 for r in PRESETS["hermes_2"].reads] == pytest.approx(
        [1.59e12, 0.4e12], rel=1e-3)
    assert PRESETS["hermes_1"].read == PRESETS["hermes_2"].read
