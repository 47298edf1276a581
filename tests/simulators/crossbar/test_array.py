"""Laws of the array: one set of cells, two adjoint directions, noise as if drawn device by device, converters."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mapping.crossbar.encoding import difference, store
from mapping.crossbar.program import cut
from mapping.graph import Window
from mapping.registry import parse
from simulators.crossbar.array import Array, Cells
from simulators.crossbar.overlap import overlap_add
from simulators.crossbar.periphery import Converter
from simulators.crossbar.projection import CrossbarProjection, Periphery
from simulators.crossbar.wires import transfer
from simulators.reference import FloatProjection, pool

SOME = settings(max_examples=25)


def wire(values):
    return values


def random_array(generator, c_out, c_in, kernel, rows=2, columns=2, noise=0.0, target="crossbar:ideal"):
    weight = torch.randn(c_out, c_in, kernel, kernel, generator=generator, dtype=torch.float64)
    column_cuts = cut(c_out, columns)
    stored = store(weight.numpy(), parse(target), column_cuts)
    g_us = torch.tensor(stored.g_us, dtype=torch.float64)
    fresh = noise * torch.rand(g_us.shape, generator=generator, dtype=torch.float64) if noise else None
    return Array(Cells(g_us, cut(c_in, rows), column_cuts), fresh, stored.us_per_weight, 1.0, stored.base), weight


def with_cells(array, **changes):
    return replace(array, cells=replace(array.cells, **changes))


def random_projection(array, padding, side, pool=1, forward=None, backward=None, bias=None, stride=1):
    c_out, (c_in, *kernel) = array.column_cuts[-1][1], array.conductance_us.shape[3:]
    out = (side + 2 * padding - kernel[0]) // stride + 1
    window = Window(tuple(kernel), padding, stride, pool, (c_in, side, side), (c_out, out, out))
    forward = forward or Periphery(wire, (wire,) * len(array.forward_lines))
    backward = backward or Periphery(wire, (wire,) * len(array.backward_lines))
    bias = torch.zeros(c_out, dtype=torch.float64) if bias is None else bias
    return CrossbarProjection((array, array), (forward, backward), bias, torch.ones_like(bias), window)


def plain(array):
    """The window of a layer without padding, stride or pool."""
    return Window(tuple(array.conductance_us.shape[4:]), 0, 1, 1, (1, 1, 1), (1, 1, 1))


geometry = st.tuples(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 5), st.sampled_from([1, 3]),
                     st.integers(0, 1), st.integers(3, 6), st.integers(1, 5), st.integers(1, 5), st.integers(1, 3))


ENCODINGS = ["crossbar:ideal", "crossbar:ideal[encoding=offset]",
             "crossbar:pcm/levels[encoding=slices,levels=64,slices=4]"]


@pytest.mark.parametrize("target", ENCODINGS)
@SOME
@given(geometry)
def test_both_directions_equal_the_reference_however_weights_are_stored_and_cut(target, case):
    seed, c_out, c_in, kernel, padding, side, rows, columns, stride = case
    generator = torch.Generator().manual_seed(seed)
    array, weight = random_array(generator, c_out, c_in, kernel, rows, columns, target=target)
    bias = torch.randn(c_out, generator=generator, dtype=torch.float64)
    projection = random_projection(array, padding, side, pool=2, bias=bias, stride=stride)
    reference = FloatProjection(weight, bias, projection.window)
    x = torch.rand(2, c_in, side, side, generator=generator, dtype=torch.float64)
    assume(min(projection.window.unpooled[1:]) > 1)
    (u, winners), (u_ref, winners_ref) = projection.forward(x), reference.forward(x)
    assert torch.allclose(u, u_ref, atol=1e-5)
    assert torch.equal(winners, winners_ref)
    held = winners.flip(0)
    u_held, kept = projection.forward_at(x, held)
    exact = F.conv2d(x, weight, bias, stride, padding)
    assert kept is held
    assert torch.allclose(u_held, exact.flatten(2).gather(2, held.flatten(2)).view_as(held), atol=1e-5)
    assert torch.allclose(projection.backward(u, winners), reference.backward(u, winners), atol=1e-5)


@pytest.mark.parametrize("wire_ohm", [None, (100.0, 30.0)])
@pytest.mark.parametrize("target", ENCODINGS)
@SOME
@given(geometry)
def test_the_two_directions_are_adjoint_on_non_square_layers(target, wire_ohm, case):
    """Through wires too, at the same terminals."""
    seed, c_out, c_in, kernel, padding, side, rows, columns, stride = case
    generator = torch.Generator().manual_seed(seed)
    array = random_array(generator, c_out, c_in, kernel, rows, columns, target=target)[0]
    projection = random_projection(with_cells(array, wire_ohm=wire_ohm), padding, side, stride=stride)
    x = torch.randn(2, c_in, side, side, generator=generator, dtype=torch.float64)
    z = torch.randn(2, *projection.window.unpooled, generator=generator, dtype=torch.float64)
    up, down = projection.forward(x)[0], projection.backward(z, None)
    assert torch.allclose((up * z).sum(), (x * down).sum(), rtol=1e-10, atol=1e-10)


def test_one_device_that_changes_changes_both_directions_alike():
    generator = torch.Generator().manual_seed(0)
    array, _ = random_array(generator, 4, 3, 3)
    g_us = array.conductance_us.clone()
    g_us[0, 0, 2, 1, 0, 2] += 5.0
    touched = with_cells(array, conductance_us=g_us)
    x, z = torch.zeros(1, 3, 3, 3, dtype=torch.float64), torch.zeros(1, 4, 1, 1, dtype=torch.float64)
    x[0, 1, 0, 2], z[0, 2] = 1.0, 1.0
    up = [random_projection(a, 0, 3).forward(x)[0][0, 2, 0, 0] for a in (array, touched)]
    down = [random_projection(a, 0, 3).backward(z, None)[0, 1, 0, 2] for a in (array, touched)]
    assert (up[1] - up[0]).item() == pytest.approx(5.0 / array.us_per_weight)
    assert (down[1] - down[0]).item() == pytest.approx(5.0 / array.us_per_weight)


@SOME
@given(seed=st.integers(0, 10**6), side=st.integers(4, 9), of_pool=st.integers(1, 3), noise=st.sampled_from((0.0, 0.2)))
def test_a_drive_is_that_of_a_forward_read_to_the_bit(seed, side, of_pool, noise):
    """Also where pools leave rows over, and with the gradient of the read."""
    generator = torch.Generator().manual_seed(seed)
    array, _ = random_array(generator, 3, 4, 3, noise=noise)
    projection = random_projection(array, 1, side, of_pool, bias=torch.randn(3, generator=generator).double())
    x = torch.rand(2, 4, side, side, generator=generator, dtype=torch.float64)
    for differentiated in (False, True):
        x.requires_grad_(differentiated)
        drive, read = (way(x, torch.Generator().manual_seed(1)) for way in (projection.drive, projection.forward))
        assert torch.equal(drive, read[0])
    assert torch.equal(*(torch.autograd.grad(found.square().sum(), x)[0] for found in (drive, read[0])))


def test_overlap_add_equals_fold():
    rows = torch.randn(2, 3, 4, 3 * 3 * 5, generator=torch.Generator().manual_seed(1))
    blocks = rows.view(2, 12, 9, 5).permute(0, 3, 2, 1).reshape(2, 45, 12)
    window = Window((3, 3), 1, 1, 1, (5, 3, 4), (1, 3, 4))
    assert torch.allclose(overlap_add(rows, window), F.fold(blocks, (3, 4), 3, padding=1), atol=1e-6)


@pytest.mark.parametrize("target", ["crossbar:ideal", "crossbar:ideal[encoding=offset]",
                                    "crossbar:pcm/levels[encoding=slices,levels=8]"])
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_output_referred_noise_equals_noise_on_every_device(direction, target):
    """Mean and covariance of 1e5 reads; the oracle draws each device's conductance anew for every position."""
    generator = torch.Generator().manual_seed(5)
    array, _ = random_array(generator, 3, 4, 2, noise=6.0, target=target)
    drive = torch.rand(3 if direction == "backward" else 4, generator=generator, dtype=torch.float64)
    draws, parts = 100_000, 10
    seen, oracle = (torch.cat([look(array, drive, direction, draws // parts, generator) for _ in range(parts)])
                    for look in (reads_of, devices_read))
    spread = oracle.std(0)
    assert torch.all((seen.mean(0) - oracle.mean(0)).abs() < 5 * spread * (2 / draws) ** 0.5)
    assert torch.all((seen.std(0) / spread - 1).abs() < 5 / draws**0.5)
    assert (torch.corrcoef(seen.T) - torch.corrcoef(oracle.T)).abs().max() < 6 * (2 / draws) ** 0.5


def reads_of(array, drive, direction, draws, generator):
    """(draws, outputs) that independent reads of the array sense."""
    if direction == "forward":
        image = drive.view(1, 4, 1, 1).expand(draws, 4, 2, 2)
        window, lines = plain(array), range(len(array.forward_lines))
        return sum(array.read_forward(line, image, window, generator) for line in lines)[:, :, 0, 0]
    above = drive.view(1, 3, 1, 1).expand(draws, 3, 1, 1)
    return sum(array.read_backward(i, above, generator) for i in range(len(array.backward_lines)))[:, 0, 0]


def devices_read(array, drive, direction, draws, generator):
    """The same, with every device's conductance drawn anew for each read."""
    sampled = array.conductance_us + array.fresh_us * torch.randn(draws, *array.fresh_us.shape, generator=generator,
                                                                  dtype=torch.float64)
    unit = array.us_per_weight * float(array.base) ** torch.arange(len(array.conductance_us))
    devices = sum(difference(sampled[:, s], array.column_cuts) / u for s, u in enumerate(unit))
    if direction == "forward":
        return torch.einsum("noikl,i->no", devices, drive)
    return torch.einsum("noikl,o->nkli", devices, drive).flatten(1)


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_fresh_noise_through_wires_is_damped_nearly_as_the_nodes_say(direction):
    """Against tiles solved anew for every draw of their devices. Wires so poor that they halve the noise: neighbours
    share the loss of a changed device, which leaves up to a quarter more than (T / g)^2 says."""
    generator, ohm, draws = torch.Generator().manual_seed(9), 1000.0, 2000
    array, _ = random_array(generator, 12, 14, 1, rows=14, columns=12)
    free = replace(array, fresh_us=0.05 * array.conductance_us)
    drive = torch.rand(12 if direction == "backward" else 14, generator=generator, dtype=torch.float64)

    def spread(array):
        x = drive.view(1, -1, 1, 1).expand(draws, -1, 1, 1)
        if direction == "forward":
            return array.read_forward(0, x, plain(array), generator).flatten(1).std(0)
        return array.read_backward(0, x, generator).flatten(1).std(0)

    noise = torch.randn(draws, *array.conductance_us.shape, generator=generator, dtype=torch.float64)
    drawn = (array.conductance_us + free.fresh_us * noise)[:, 0, :, :, :, 0, 0]
    seen = transfer(drawn.mT, ohm).mT / array.us_per_weight
    exact = torch.einsum("noi,i->no" if direction == "forward" else "noi,o->ni", seen[:, 0] - seen[:, 1], drive).std(0)
    ratio = spread(with_cells(free, wire_ohm=(ohm, ohm))) / exact
    assert 0.7 < ratio.min() < ratio.max() < 1.05
    assert (spread(free) / exact).min() > 1.15


@pytest.mark.slow
@pytest.mark.parametrize("wire_ohm", [None, (300.0, 100.0)])
@pytest.mark.parametrize("target", ENCODINGS)
def test_both_directions_are_differentiable_in_drives_and_conductances(target, wire_ohm):
    generator = torch.Generator().manual_seed(10)
    array, _ = random_array(generator, 2, 2, 2, target=target)
    x, z = (torch.rand(1, 2, side, side, generator=generator, dtype=torch.float64) for side in (3, 2))
    cells = (array.conductance_us + 1).requires_grad_()

    def through(cells, x, z):
        projection = random_projection(with_cells(array, conductance_us=cells, wire_ohm=wire_ohm), 0, 3)
        return projection.forward(x)[0], projection.backward(z, None)

    assert torch.autograd.gradcheck(through, (cells, x.requires_grad_(), z.requires_grad_()))


def test_reads_are_independent_between_positions_and_repeatable_by_generator():
    array, _ = random_array(torch.Generator().manual_seed(6), 2, 2, 1, noise=3.0)
    x = torch.ones(1, 2, 50, 50, dtype=torch.float64)
    noise = array.read_forward(0, x, plain(array), torch.Generator().manual_seed(1))[0, 0]
    noise = (noise - noise.mean()) / noise.std()
    assert abs((noise[:, 1:] * noise[:, :-1]).mean()) < 5 / 50
    assert abs((noise[1:] * noise[:-1]).mean()) < 5 / 50
    again = [array.read_forward(0, x, plain(array), torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(again[0], again[1])
    assert not torch.equal(again[0], again[2])


def test_a_noisy_read_without_a_generator_is_an_error_and_a_quiet_one_draws_nothing():
    noisy, _ = random_array(torch.Generator().manual_seed(7), 2, 2, 1, noise=1.0)
    quiet, _ = random_array(torch.Generator().manual_seed(7), 2, 2, 1)
    x, generator = torch.ones(1, 2, 2, 2, dtype=torch.float64), torch.Generator().manual_seed(8)
    with pytest.raises(ValueError, match="needs a generator"):
        noisy.read_forward(0, x, plain(noisy))
    before = generator.get_state()
    quiet.read_forward(0, x, plain(quiet), generator)
    assert torch.equal(generator.get_state(), before)


@SOME
@given(st.integers(2, 12), st.booleans(), st.integers(0, 10**6))
def test_a_converter_rounds_to_half_a_step_and_counts_what_it_clips(bits, signed, seed):
    values = 3 * torch.randn(500, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    converter = Converter(torch.tensor(2.0, dtype=torch.float64), bits, signed)
    out = converter(values)
    low = -2.0 if signed else 0.0
    assert out.min() >= low
    assert out.max() <= 2.0
    assert len(out.unique()) <= 2**bits
    assert torch.all((out - values.clamp(low, 2.0)).abs() <= converter.step / 2 + 1e-12)
    beyond = (values > 2.0 + converter.step / 2) | (values < low - converter.step / 2)
    assert converter.clipped.item() == beyond.sum()
    assert converter.conversions == 500


@SOME
@given(st.integers(2, 12), st.booleans(), st.integers(0, 10**6), st.sampled_from([torch.float32, torch.float64]))
def test_a_flooring_converter_gives_the_code_below(bits, signed, seed, dtype):
    """By plain Python; half a step lower on average than one that rounds; clipped where it reads beyond its codes."""
    values = 3 * torch.randn(300, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    floor, nearest = (Converter(torch.tensor(2.0, dtype=dtype), bits, signed, floor=f) for f in (True, False))
    out, high = floor(values), 2 ** (bits - signed) - 1
    low = -high if signed else 0
    codes = [math.floor(v) for v in (values * (1 / floor.step)).tolist()]
    assert (out / floor.step).round().tolist() == [max(low, min(high, code)) for code in codes]
    assert floor.clipped.item() == sum(not low <= code <= high for code in codes)
    inside = (values.abs() < 2 - floor.step) & (values > low * floor.step + floor.step)
    assert torch.all((values - out)[inside] >= -1e-6)
    assert torch.all((values - out)[inside] <= floor.step + 1e-6)
    assert torch.equal(nearest(values + floor.step / 2 - 1e-9)[inside] >= out[inside], inside[inside])


def test_a_converters_gradient_is_one_inside_its_range_and_zero_outside():
    values = torch.tensor([-3.0, -0.4, 0.0, 0.7, 3.0], requires_grad=True)
    Converter(torch.tensor(1.0), 8, signed=True)(values).sum().backward()
    assert values.grad.tolist() == [0, 1, 1, 1, 0]


@pytest.mark.parametrize(("values", "codes", "clipped"), [
    ([0.2, 0.9], [1, 6], 0), ([0.2, 1.5], [1, 7], 1), ([-1.5, 0.2], [-7, 1], 1), ([], [], 0)])
def test_a_value_beyond_either_end_is_clipped_though_all_others_lie_within(values, codes, clipped):
    converter = Converter(torch.tensor(1.0), 4, signed=True)
    x = torch.tensor(values, requires_grad=True)
    out = converter(x)
    out.sum().backward()
    assert torch.allclose(out.detach() / converter.step, torch.tensor(codes, dtype=torch.float32))
    assert converter.clipped.item() == clipped == (x.grad == 0).sum()


def test_rows_are_converted_before_they_overlap():
    """Rows of 0.3 steps convert to nothing; one conversion after overlap-add would see nine of them, 2.7 steps."""
    g_us = torch.zeros(1, 2, 1, 1, 3, 3, dtype=torch.float64)
    g_us[0, 0] = 25.0
    array = Array(Cells(g_us, ((0, 1),), ((0, 1),)), None, 25.0, 1.0)
    adc = Converter(torch.tensor(1.0, dtype=torch.float64), 4, signed=True)
    z = torch.full((1, 1, 4, 4), 0.3 * adc.step.item(), dtype=torch.float64)
    assert not random_projection(array, 1, 4, backward=Periphery(wire, (adc,))).backward(z, None).any()
    after = adc(random_projection(array, 1, 4).backward(z, None))
    assert after[0, 0, 1, 1].item() == pytest.approx(3 * adc.step.item())


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_every_tile_has_its_own_converter(direction):
    """Two tiles whose sums cancel: each clips at its own range before the digital sum."""
    g_us = torch.tensor([[25.0, 0.0], [0.0, 25.0]], dtype=torch.float64)
    adcs = tuple(Converter(torch.tensor(scale, dtype=torch.float64), 8, signed=True) for scale in (0.5, 1.0))
    one, two, ones = ((0, 1),), ((0, 1), (1, 2)), torch.ones(1, 2, 1, 1, dtype=torch.float64)
    if direction == "forward":
        array = Array(Cells(g_us.view(1, 2, 1, 2, 1, 1), two, one), None, 25.0, 1.0)
        out = random_projection(array, 0, 1, forward=Periphery(wire, adcs)).forward(ones)[0]
    else:
        array = Array(Cells(g_us.view(1, 2, 2, 1, 1, 1), one, two), None, 25.0, 1.0)
        out = random_projection(array, 0, 1, backward=Periphery(wire, adcs)).backward(ones, None)
    assert out.item() == pytest.approx(-0.5)
    assert [adc.clipped.item() for adc in adcs] == [1, 0]


def test_pooling_is_digital_and_keeps_the_first_of_equal_codes():
    g_us = torch.tensor([25.0, 0.0]).view(1, 2, 1, 1, 1, 1)
    array = Array(Cells(g_us, ((0, 1),), ((0, 1),)), None, 25.0, 1.0)
    coarse = Converter(torch.tensor(1.0), 2, signed=True)
    projection = random_projection(array, 0, 2, pool=2, forward=Periphery(wire, (coarse,)), bias=torch.zeros(1))
    x = torch.tensor([[[[0.6, 0.7], [0.9, 0.8]]]])
    value, winner = projection.forward(x)
    assert (value.item(), winner.item()) == (1.0, 0)
    assert pool(x, 2)[1].item() == 2
