"""Compiled noise and conversion: to the bit what torch does, and left out where it cannot be had.

The oracle is torch's own operations, written out here, with torch's own normals.
"""

import math
from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from networks import random_images, small_network

import mapping
import simulators
from mapping.graph import Window
from simulators.crossbar import kernels as compiled
from simulators.crossbar.array import normal_like
from simulators.crossbar.overlap import inside, overlap_add, padded_map, windows
from simulators.crossbar.periphery import Converter
from simulators.crossbar.products import TRIED, PackedLine, of_channels

needs_compiler = pytest.mark.skipif(compiled.kernels() is None, reason="no compiler, or another processor")
WITH_NOISE = "crossbar:pcm[steps=7]"
KINDS = (WITH_NOISE, "crossbar:pcm[steps=7,signed_drive=two_phase]", "crossbar:pcm[steps=7,encoding=offset]",
         "crossbar:generic[steps=7,output_noise=0.01,adc_bits=3]", "crossbar:pcm[without=read]")


@contextmanager
def torch_alone():
    """The kernels left out, as EP_HW_KERNELS=0 does."""
    with pytest.MonkeyPatch.context() as changed:
        changed.setenv(compiled.VARIABLE, "0")
        compiled.kernels.cache_clear()
        yield
    compiled.kernels.cache_clear()


def generators(seed: int, drawn: int) -> list[torch.Generator]:
    """Two of the same seed that have given so many numbers."""
    made = [torch.Generator().manual_seed(seed) for _ in range(2)]
    for one in made:
        torch.rand(drawn, generator=one)
    return made


def lines(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Channels-last maps, some of which no converter reaches."""
    maps = 2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return maps.contiguous(memory_format=torch.channels_last)


def converted(sensed: torch.Tensor, converter: Converter) -> tuple[torch.Tensor, torch.Tensor]:
    """Values, and which were clipped."""
    codes = torch.round(sensed * (1 / converter.step))
    return codes.clamp(converter.low, converter.high) * converter.step, (codes < converter.low) | (
        codes > converter.high)


@needs_compiler
@given(count=st.integers(1, 5000), seed=st.integers(0, 2**60), drawn=st.integers(0, 1300))
@settings(max_examples=60, deadline=None)
def test_normals_are_those_of_torch_and_leave_its_generator_where_it_would(count, seed, drawn):
    ours, theirs = generators(seed, drawn)
    assert torch.equal(normal_like(torch.empty(count), ours), torch.randn(count, generator=theirs))
    assert torch.equal(ours.get_state(), theirs.get_state())


shapes = st.tuples(st.integers(1, 4), st.sampled_from((1, 3, 10, 32, 300)), st.integers(1, 6), st.integers(1, 6))


@needs_compiler
@given(shape=shapes, bits=st.integers(2, 9), signed=st.booleans(), each=st.booleans(), noisy=st.booleans(),
       added=st.booleans(), seed=st.integers(0, 2**30))
@settings(max_examples=80, deadline=None)
def test_a_conversion_is_that_of_torch(shape, bits, signed, each, noisy, added, seed):
    """Values, clipped codes, the sum over lines, the generator and the gradient, with noise and without."""
    scale = 1 + torch.rand((shape[1], 1, 1) if each else (), generator=torch.Generator().manual_seed(seed))
    converter, sensed, total = Converter(scale, bits, signed), lines(shape, seed), lines(shape, seed + 1)
    variance = lines(shape, seed + 2) if noisy else None   # rounding leaves some below 0
    ours, theirs = generators(seed, seed % 700)
    noise = normal_like(sensed, theirs) * variance.clamp(min=0).sqrt() if noisy else 0.0
    wanted, outside = converted(sensed + noise, converter)
    read = sensed.clone().requires_grad_()
    found = converter.add(None, (read, None if variance is None else variance.clone()), ours)
    assert torch.equal(found, wanted)
    assert (int(converter.clipped), converter.conversions) == (int(outside.sum()), sensed.numel())
    assert torch.equal(ours.get_state(), theirs.get_state())
    assert torch.equal(torch.autograd.grad(found.sum(), read)[0], (~outside).float())
    again = generators(seed, seed % 700)[0]
    before = total.clone() if added else None
    assert torch.equal(converter.add(before, (sensed.clone(), variance), again), wanted + total if added else wanted)
    assert int(converter.clipped) == 2 * int(outside.sum())


@needs_compiler
def test_infinities_are_clipped_and_what_is_no_number_stays_so():
    sensed, converter = lines((2, 32, 3, 3), 0), Converter(torch.tensor(9.0), 5, signed=True)
    sensed[0, :3, 0, 0] = torch.tensor([math.nan, math.inf, -math.inf])
    wanted, outside = converted(sensed, converter)
    assert torch.equal(converter(sensed).nan_to_num(99.0), wanted.nan_to_num(99.0))
    assert int(converter.clipped) == int(outside.sum()) == 2


geometry = st.tuples(st.integers(1, 3), st.sampled_from((1, 3, 8, 70)), st.integers(1, 3), st.integers(1, 3),
                     st.integers(1, 5), st.integers(1, 5), st.integers(1, 3), st.integers(0, 1))


@needs_compiler
@given(geometry=geometry, noisy=st.booleans(), each=st.booleans(), seed=st.integers(0, 2**30))
@settings(max_examples=60, deadline=None)
def test_rows_converted_and_overlapped_are_those_of_torch(geometry, noisy, each, seed):
    """The map, clipped codes and the generator: convert all rows, then add them where they overlap."""
    window = window_of(*geometry[1:])
    rows = torch.randn(geometry[0], *window.unpooled[1:], math.prod(window.kernel) * window.pre[0],
                       generator=torch.Generator().manual_seed(seed))
    scale = 1 + torch.rand(rows.shape[-1:] if each else (), generator=torch.Generator().manual_seed(seed))
    converter, variance = Converter(scale, 5, signed=True), rows.roll(1, -1) if noisy else None
    ours, theirs = generators(seed, seed % 700)
    noise = normal_like(rows, theirs) * variance.clamp(min=0).sqrt() if noisy else 0.0
    wanted, outside = converted(rows + noise, converter)
    assume(not noisy or rows.numel() >= compiled.GROUP)
    out = padded_map(rows, window)
    assert converter.overlap((rows, variance), windows(window), out, ours)
    assert torch.equal(inside(out, window), overlap_add(wanted, window))
    assert (int(converter.clipped), converter.conversions) == (int(outside.sum()), rows.numel())
    assert torch.equal(ours.get_state(), theirs.get_state())


batches = st.tuples(st.integers(1, 70), st.sampled_from((1, 3, 21, 64)), st.integers(1, 3),
                     st.integers(1, 3), st.integers(1, 5), st.integers(1, 5), st.integers(1, 2), st.integers(0, 1))


@needs_compiler
@given(geometry=batches, lines=st.sampled_from((1, 7, 16, 48, 100)), noisy=st.booleans(), each=st.booleans(),
       added=st.booleans(), seed=st.integers(0, 2**30))
@example(geometry=(50, 3, 1, 1, 1, 1, 1, 0), lines=7, noisy=True, each=True, added=False, seed=0)   # 2 rows over 48
@settings(max_examples=60, deadline=None)
def test_what_lines_sense_is_that_of_torch_where_a_line_agreed(geometry, lines, noisy, each, added, seed):
    """Sums, and their conversion with noise: the product left to kernels beside torch's convolutions."""
    window = of_channels(window_of(*geometry[1:]), geometry[1], lines)
    weight, own, drive = drawn(seed, (lines, geometry[1], *window.kernel), geometry[0], window)
    line = PackedLine(compiled.kernels(), weight, own if noisy else None, window)
    assume(line.agrees(compiled.kernels(), len(drive)))
    product = line.product(drive, maps=True)

    def convolved(x, w):
        x = x.contiguous(memory_format=torch.channels_last)
        return F.conv2d(x, w, None, window.stride, window.padding).contiguous(memory_format=torch.channels_last)

    sensed = convolved(drive, weight)
    assert torch.equal(compiled.kernels().sums(product), sensed.permute(0, 2, 3, 1))
    variance = convolved(drive.square(), own) if noisy else None
    ours, theirs = generators(seed, seed % 700)
    scale = 1 + torch.rand((lines, 1, 1) if each else (), generator=torch.Generator().manual_seed(seed))
    fused, apart = Converter(scale, 5, True), Converter(scale, 5, True)
    assume(fused.takes(product, ours))
    total = sensed.sin().contiguous(memory_format=torch.channels_last) if added else None
    wanted = apart.add(None if total is None else total.clone(), (sensed, variance), theirs)
    assert torch.equal(fused.read(product, ours, product.room if total is None else total, total), wanted)
    assert (fused.clipped, fused.conversions) == (apart.clipped, apart.conversions)
    assert torch.equal(ours.get_state(), theirs.get_state())


def drawn(seed: int, shape: tuple[int, ...], images: int, window: Window) -> tuple[torch.Tensor, ...]:
    """Weights, their variances and drives, which are channels of a map that has more of them on either side."""
    generator = torch.Generator().manual_seed(seed)
    weight, own = (torch.randn(shape, generator=generator) for _ in range(2))
    channels, *sides = window.pre
    before, after = seed % 3, seed % 4
    drive = torch.rand(images, before + channels + after, *sides, generator=generator)
    drive = drive.contiguous(memory_format=torch.channels_last)[:, before:before + channels]
    return weight, own.square(), drive


@needs_compiler
@given(geometry=batches, lines=st.sampled_from((1, 7, 16, 48, 100)), seed=st.integers(0, 2**30))
@settings(max_examples=60, deadline=None)
def test_sums_are_those_of_products_rounded_one_by_one(geometry, lines, seed):
    """Of any line, whether it agrees with torch or not: each of K sums is off by 2^-24 of what was added till then."""
    window = of_channels(window_of(*geometry[1:]), geometry[1], lines)
    weight, _, drive = drawn(seed, (lines, geometry[1], *window.kernel), geometry[0], window)
    own = compiled.kernels()
    found = own.sums(PackedLine(own, weight, None, window).product(drive, maps=False))
    exact, most = (F.conv2d(drive.double(), w.double(), None, window.stride, window.padding).permute(0, 2, 3, 1)
                   for w in (weight, weight.abs()))
    assert ((found - exact).abs() <= weight[0].numel() * 2**-24 * most).all()


@needs_compiler
@pytest.mark.parametrize("channels", [2, 3, 21, 64])
@pytest.mark.parametrize("images", [1, 2, 5])
def test_a_line_of_few_sums_agrees_for_every_drive_where_it_agreed(channels, images):
    """Torch adds up the products of a single position in other orders: some sums are the same even so."""
    own, generator = compiled.kernels(), torch.Generator().manual_seed(channels)
    window = Window((1, 1), 0, 1, 1, (channels, 1, 1), (1, 1, 1))
    for _ in range(10):
        weight = torch.randn(1, channels, 1, 1, generator=generator)
        line = PackedLine(own, weight, None, window)
        drives = torch.rand(20, images, *window.pre, generator=generator) if line.agrees(own, images) else ()
        for drive in drives:
            theirs = F.conv2d(drive.contiguous(memory_format=torch.channels_last), weight)
            assert torch.equal(own.sums(line.product(drive, maps=False)), theirs.permute(0, 2, 3, 1))


@needs_compiler
def test_a_line_that_would_round_otherwise_is_left_to_torch(monkeypatch):
    """Of so many images: those of another number are tried by themselves."""
    machine, images = machine_of(WITH_NOISE), random_images(TRIED)
    found, sums = [], compiled.Kernels.sums
    for off in (0, 2**-23):
        monkeypatch.setattr(compiled.Kernels, "sums", lambda own, product, off=off: sums(own, product) * (1 + off))
        array, drive = machine.projections[1].forward_array, torch.rand(TRIED, *machine.projections[1].window.pre)
        found += [array.forward_product(0, drive[:n], machine.projections[1].window) is None for n in (TRIED, 3)]
        array._packed.clear()
    assert found == [False, False, True, True]
    assert machine.relax(images, generator=torch.Generator().manual_seed(2)).logits.isfinite().all()


@needs_compiler
def test_lines_are_left_to_kernels_both_ways():
    """All that are not the image's, whose currents are kept, nor the readout's, which nothing is fed back from."""
    machine, found, read = machine_of(WITH_NOISE), [], Converter.read

    def noted(own, *given, **named):
        found.append(own)
        return read(own, *given, **named)

    with pytest.MonkeyPatch.context() as changed:
        changed.setattr(Converter, "read", noted)
        machine.relax(random_images(TRIED), generator=torch.Generator().manual_seed(2))
    assert set(found) >= {adc for projection in machine.substrate.projections[1:] for _, periphery in projection.sides
                          for adc in periphery.adcs}


def window_of(channels: int, k_h: int, k_w: int, h: int, w: int, stride: int, padding: int) -> Window:
    """Of a map just as large as h x w positions need, with padding taken off."""
    sides = (stride * (n - 1) + k for n, k in ((h, k_h), (w, k_w)))
    below = tuple(side - 2 * padding for side in sides)
    assume(min(below) > 0)
    return Window((k_h, k_w), padding, stride, 1, (channels, *below), (1, h, w))


@needs_compiler
@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("images", [5, 40])
def test_a_machine_answers_to_the_bit_as_with_torch_alone(name, images):
    found = [answers(name, images)]
    with torch_alone():
        assert compiled.kernels() is None
        found.append(answers(name, images))
    assert all(torch.equal(one, other) for one, other in zip(*found))


def answers(name: str, batch: int = 5) -> list[torch.Tensor]:
    """Logits, gradients, counts of converters, and where a generator was left."""
    machine, generator = machine_of(name), torch.Generator().manual_seed(2)
    images = random_images(batch)
    end = machine.relax(images, generator=generator)
    images.requires_grad_()
    with torch.enable_grad():
        logits = machine.relax(images, 4, generator=generator, schedule="synchronous").logits
    gradient = torch.autograd.grad(logits.square().sum(), images)[0]
    counts = torch.tensor([*machine.counts().values()])
    return [end.logits, *end.states, logits.detach(), gradient, counts, generator.get_state()]


def machine_of(name: str):
    return simulators.open(mapping.compile(small_network(5).lower(), name), chip_seed=1)


@pytest.mark.parametrize("name", KINDS[:4])
def test_an_image_whose_currents_are_kept_is_read_as_if_it_were_sensed_each_time(name):
    """Drives, noise and counts of several reads, also where the images go in parts."""
    drives, clipped = [], []
    for keeps in (False, True):
        machine, generator = machine_of(name), torch.Generator().manual_seed(3)
        image = machine.substrate.encode(random_images(5))
        first = machine.projections[0]
        assert not keeps or (first.driven_by(image) is first) == ("offset" in name)
        reader = first.driven_by(image) if keeps else first
        drives.append(torch.stack([reader.forward(image, generator)[0] for _ in range(4)]))
        clipped.append(machine.counts()["saturation"])
    assert torch.equal(*drives)
    assert clipped[0] == clipped[1]


def test_without_a_compiler_torch_does_the_work(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CC", str(tmp_path / "none"))
    compiled.kernels.cache_clear()
    try:
        assert compiled.kernels() is None
        assert answers(WITH_NOISE)[0].isfinite().all()
    finally:
        compiled.kernels.cache_clear()


@needs_compiler
def test_kernels_are_compiled_once(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for _ in range(2):
        compiled.kernels.cache_clear()
        assert compiled.kernels() is not None
        kept, = (tmp_path / "ep-hw").iterdir()
        monkeypatch.setattr("simulators.crossbar.kernels.PATIENCE_S", 0)   # nothing is compiled any more
    assert kept.suffix == ".so"
    compiled.kernels.cache_clear()
