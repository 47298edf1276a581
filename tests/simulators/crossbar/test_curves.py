"""Devices with curves: Kirchhoff's nodes at the operating point, the limits of straight devices and perfect wires."""

import numpy as np
import pytest
import torch
from chips import machine
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import random_images, small_network
from nodal import settled_currents
from registries import restored
from spice import currents, needs_ngspice, operating_point

import mapping
from mapping.crossbar.presets import PRESETS
from mapping.errors import Refusal
from simulators.crossbar.curves import Curve, backward_currents, forward_currents
from simulators.crossbar.netlist import tile_netlist
from simulators.crossbar.wires import transfer

OHM = st.floats(0.01, 100)
TILE = (st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 9), OHM, OHM)


@pytest.fixture(scope="module")
def graph():
    return small_network(5).lower()


def cells(seed, *shape, g_max=300.0):
    """Conductances with a fifth of the cells off, and drives of both signs for as many rows."""
    generator = torch.Generator().manual_seed(seed)
    g_us = g_max * torch.rand(*shape, generator=generator, dtype=torch.float64)
    g_us *= torch.rand(*shape, generator=generator) > 0.2
    return g_us, 2 * torch.rand(3, shape[-2], generator=generator, dtype=torch.float64) - 1


def off(found, expected, scale):
    return np.abs(np.asarray(found) - np.asarray(expected)).max() / max(scale, 1e-9)


@settings(max_examples=8)
@given(*TILE, st.floats(0.01, 10), st.booleans())
def test_any_small_tile_is_at_the_operating_point_of_kirchhoffs_nodes(seed, rows, columns, word, bit, a, opposite):
    """Both directions: backward, the oracle gets the grid with its lines exchanged, driven and sensed as ever."""
    g_us, drives = cells(seed, 2, rows, columns)
    size = float(g_us.max()) * max(rows, columns)
    found = forward_currents(g_us, drives, Curve(a, 1.0), (word, bit))
    for n, p in np.ndindex(3, 2):
        expected = settled_currents(g_us[p].numpy(), word, drives[n].numpy(), a, bit_ohm=bit)
        assert off(found[n, p], expected, size) < 1e-9
    columns_driven = cells(seed + 1, 2, columns, rows)[1]
    found = backward_currents(g_us, columns_driven, Curve(a, 1.0), (word, bit), opposite)
    exchanged = g_us.mT.numpy()   # driven at its first column, sensed in its last row: at opposite terminals
    drive = columns_driven.numpy()
    if not opposite:
        exchanged, drive = exchanged[:, ::-1, ::-1], drive[:, ::-1]
    for n, p in np.ndindex(3, 2):
        expected = settled_currents(exchanged[p], bit, drive[n], a, bit_ohm=word)
        assert off(found[n, p], expected if opposite else expected[::-1], size) < 1e-9


@settings(max_examples=20)
@given(*TILE)
def test_devices_all_but_straight_sense_what_t_does(seed, rows, columns, word, bit):
    g_us, drives = cells(seed, 2, rows, columns)
    expected = torch.einsum("nk,pkj->npj", drives, transfer(g_us, word, bit))
    assert off(forward_currents(g_us, drives, Curve(1e-5, 1.0), (word, bit)), expected, float(g_us.max())) < 1e-9


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 9), st.floats(0.01, 10), st.floats(0.1, 5))
def test_all_but_perfect_wires_sense_the_curve_of_the_drives(seed, rows, columns, a, full):
    g_us, drives = cells(seed, 2, rows, columns)
    curve = Curve(a, full)
    expected = torch.einsum("nk,pkj->npj", curve(full * drives), g_us)
    found = forward_currents(g_us, full * drives, curve, (1e-9, 1e-9))
    assert off(found, expected, full * float(g_us.max())) < 1e-8


@settings(max_examples=5)
@given(*TILE, st.floats(0.1, 10), st.booleans())
def test_pulses_gather_what_kirchhoffs_nodes_let_through_span_by_span(seed, rows, columns, word, bit, a, backward):
    """Of codes 0 to 3 of both signs: three spans of time, in each of which a code drives its line or not."""
    g_us, drives = cells(seed, 2, rows, columns)
    codes = (3 * drives[:1]).round()
    read, exchanged, ohm = forward_currents, g_us.numpy(), (word, bit)
    if backward:   # the same grid with its lines exchanged, driven and sensed at the ends as ever
        read, exchanged, ohm = backward_currents, g_us.mT.flip(-1, -2).numpy(), (bit, word)
        codes = (3 * cells(seed + 1, 2, columns, rows)[1][:1]).round()
    found = read(g_us, codes, Curve(a, 3.0, pulses=True), (word, bit))
    driven = codes.numpy()[0, ::-1 if backward else 1]
    for p in range(2):
        spans = [settled_currents(exchanged[p], ohm[0], np.sign(driven) * (np.abs(driven) > t), a, bit_ohm=ohm[1])
                 for t in range(3)]
        expected = sum(spans)[::-1 if backward else 1]
        assert off(found[0, p], expected, 3 * float(g_us.max()) * max(rows, columns)) < 1e-9


@settings(max_examples=20)
@given(*TILE)
def test_pulses_of_straight_devices_sense_what_t_does(seed, rows, columns, word, bit):
    g_us, drives = cells(seed, 2, rows, columns)
    expected = torch.einsum("nk,pkj->npj", drives, transfer(g_us, word, bit))
    found = forward_currents(g_us, drives, Curve(1e-5, 1.0, pulses=True), (word, bit))
    assert off(found, expected, float(g_us.max())) < 1e-8


def test_the_gradient_of_pulses_is_that_of_what_they_gather():
    g_us, drives = cells(3, 2, 5, 4)
    drives.requires_grad_()
    curve = Curve(4.0, 1.0, pulses=True)
    assert torch.autograd.gradcheck(lambda x: forward_currents(g_us, x, curve, (50.0, 20.0)), drives, eps=1e-5,
                                    rtol=1e-4, atol=1e-3)
    rest = torch.zeros(1, 5, dtype=torch.float64, requires_grad=True)
    forward_currents(g_us, rest, curve, (50.0, 20.0)).sum().backward()
    assert (rest.grad > 0).all(), "a line that rests would add its current"


def test_the_gradient_is_that_of_the_operating_point():
    g_us, drives = cells(3, 2, 5, 4)
    drives.requires_grad_()
    for opposite in (False, True):
        assert torch.autograd.gradcheck(
            lambda x, o=opposite: backward_currents(g_us.mT, x, Curve(4.0, 1.0), (50.0, 20.0), o), drives,
            eps=1e-4, rtol=1e-3, atol=0.1)
    assert torch.autograd.gradcheck(lambda x: forward_currents(g_us, x, Curve(4.0, 1.0), (50.0, 20.0)), drives,
                                    eps=1e-4, rtol=1e-3, atol=0.1)


@pytest.mark.parametrize("options", ["", "tile=18", "tile=16", "terminals=opposite", "arrays=separate,tile=18x16",
                                     "levels=4,encoding=slices,slices=2,tile=20"])
def test_a_layer_of_all_but_straight_devices_is_the_one_of_straight_ones(graph, options):
    """Tile by tile, in both directions: what is unrolled, cut and put together again lies where it should."""
    images = random_images(2)
    first, second = (machine(graph, f"crossbar:reram_wan[without=converters+curves,wire_ohm=4,bit_ohm=9,{options}]"),
                     machine(graph, f"crossbar:reram_wan[sinh_v=100,wire_ohm=4,bit_ohm=9,{options}]"))
    state = first.substrate.encode(images)
    for n, (one, two) in enumerate(zip(first.projections, second.projections)):
        read = one.forward_array.forward_lines
        assert two.forward_array.curves
        for line in range(len(read)):
            expected, found = (p.forward_array.sense_forward(line, state, p.window)[0] for p in (one, two))
            assert torch.allclose(found, expected, atol=2e-5 * float(expected.abs().max()))
        above = torch.rand(2, *one.window.unpooled)
        for line in range(len(one.backward_array.backward_lines) if one.is_read_backward else 0):
            expected, found = (p.backward_array.sense_backward(line, above)[0] for p in (one, two))
            assert torch.allclose(found, expected, atol=2e-5 * float(expected.abs().max()))
        state = torch.rand(2, *first.projections[min(n + 1, len(first.projections) - 1)].window.pre)


def test_with_perfect_wires_a_read_is_the_straight_one_of_bent_drives(graph):
    """Noise, too: what a device adds goes with its current."""
    straight, bent = (machine(graph, f"crossbar:pcm[tile=18{more}]") for more in ("", ",sinh_v=0.05"))
    for one, two in zip(straight.projections, bent.projections):
        curve, drive = two.forward_array.curves[0], torch.rand(2, *one.window.pre)
        bent_drive = torch.sinh(drive * 4 / curve.full) * curve.full / np.sinh(4.0)
        expected, found = one.forward_array.sense_forward(0, bent_drive, one.window), two.forward_array.sense_forward(
            0, drive, two.window)
        assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(expected, found))
        above = torch.rand(2, *one.window.unpooled)
        curve = two.backward_array.curves[-1]
        bent_drive = torch.sinh(above * 4 / curve.full) * curve.full / np.sinh(4.0)
        expected, found = (one.backward_array.sense_backward(0, bent_drive),
                           two.backward_array.sense_backward(0, above))
        assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(expected, found))


def test_a_machine_with_curves_and_wires_relaxes_and_carries_gradients(graph):
    m = machine(graph, "crossbar:pcm[sinh_v=0.1,wire_ohm=5,without=read,steps=4]")
    images = random_images(2).requires_grad_()
    end = m.relax(images)
    end.logits.sum().backward()
    assert images.grad.abs().max() > 0
    straight = machine(graph, "crossbar:pcm[wire_ohm=5,without=read,steps=4]").relax(images.detach())
    assert not torch.allclose(end.logits.detach(), straight.logits, atol=1e-3)


def test_a_machine_of_pulses_sees_its_curves_through_wires_alone(graph):
    images = random_images(1)
    ends = {more: machine(graph, f"crossbar:pcm[without=read,tile=18,steps=3,{more}]").relax(images).logits
            for more in ("wire_ohm=100", "wire_ohm=100,sinh_v=0.1", "wire_ohm=100,sinh_v=0.1,inputs=pulses",
                         "wire_ohm=100,sinh_v=100,inputs=pulses")}
    straight, bent, pulsed, all_but_straight = ends.values()
    assert torch.allclose(straight, all_but_straight, atol=0.01)
    assert (straight - pulsed).abs().max() > 0.02
    assert (bent - pulsed).abs().max() > 0.02


@needs_ngspice
@pytest.mark.parametrize("target", ["crossbar:pcm[sinh_v=0.05,wire_ohm=20,bit_ohm=5,tile=18]",
                                    "crossbar:pcm[sinh_v=0.1,wire_ohm=20,tile=18,terminals=opposite]",
                                    "crossbar:pcm[sinh_v=0.1,tile=18]"])
def test_ngspice_finds_a_tiles_operating_points(graph, tmp_path, target):
    m = machine(graph, target)
    array = m.chip.arrays[1][0]
    g_us = array._tile(0, 0, 0).double()
    rng = np.random.default_rng(1)
    rows_v, columns_v = (rng.uniform(-0.2, 0.2, size) for size in g_us.shape[1:])
    found = operating_point(tile_netlist(m.program, m.chip, "conv2", (0, 0), rows_v, columns_v), tmp_path)
    wires, curve = array.cells.wire_ohm or (1e-9, 1e-9), Curve(array.curves[0].steepness, 0.2)
    ours = {"vf_s0p{}_c": forward_currents(g_us, torch.tensor(rows_v[None]), curve, wires)[0],
            "vb_s0p{}_r": backward_currents(g_us, torch.tensor(columns_v[None]), curve, wires, array.cells.opposite)[0]}
    for source, planes in ours.items():
        for p, expected in enumerate(planes.numpy()):
            theirs = currents(found, source.format(p))
            assert np.abs(theirs - 1e-6 * expected).max() < 1e-6 * 1e-6 * np.abs(planes.numpy()).max()


def test_a_device_file_brings_curves_and_a_rung_of_their_own(graph):
    text = '[bent_test]\ntitle = "t"\nsource = "s"\ng_max_us = 20\nage_domain_s = [0, 1]\nsinh_v = 0.1\n'
    with restored(mapping.REGISTRY, PRESETS):
        mapping.register_devices(text)
        target = mapping.parse("crossbar:bent_test")
        assert (target.rung, target.rungs) == ("curves", ("converters", "curves"))
        assert mapping.parse("crossbar:bent_test[without=curves]").rungs == ("converters",)
        assert machine(graph, "crossbar:bent_test").arrays[0].curves
        assert not machine(graph, "crossbar:bent_test/converters").arrays[0].curves
    with pytest.raises(Refusal, match="sinh_v"):
        mapping.register_devices(text.replace("bent_test", "worse_test").replace("0.1\n", "0.001\n"))


@pytest.mark.parametrize(("asked", "words"), [
    ("crossbar:pcm[sinh_v=0.1,without=converters]", r"without=converters\+curves"),
    ("crossbar:pcm[sinh_v=0.1,encoding=offset]", "offset column"),
    ("crossbar:ideal[sinh_v=0.1]", "crossbar:generic"), ("crossbar:pcm[sinh_v=0.01]", "0.02 to 100 V")])
def test_curves_without_a_meaning_are_refused(asked, words):
    with pytest.raises(Refusal, match=words):
        mapping.parse(asked)


def test_no_one_time_constant(graph):
    from simulators.crossbar.continuous import settle
    m = machine(graph, "crossbar:pcm[sinh_v=0.1,without=read]")
    with pytest.raises(Refusal, match="no one time constant"):
        settle(m, random_images(1))


def test_a_tile_that_does_not_settle_is_said(monkeypatch):
    monkeypatch.setattr("simulators.crossbar.curves.MOST_STEPS", 1)
    g_us, drives = cells(1, 2, 4, 4)
    with pytest.raises(Refusal, match="without an operating point"):
        forward_currents(g_us, drives, Curve(5.0, 1.0), (100.0, 100.0))
