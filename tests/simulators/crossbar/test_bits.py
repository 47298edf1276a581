"""Drives read bit by bit, and as pulses: what they sum to, what they see of a device's curve, and what they take."""

import pytest
import torch
from chips import machine, reads
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import random_images, small_network

import mapping
from mapping.errors import Refusal
from simulators.crossbar.cost import relaxation_cost
from simulators.crossbar.periphery import Converter
from simulators.crossbar.projection import Periphery

QUIET = "without=read,adc_bits=16,adc_margin=20"


@pytest.fixture(scope="module")
def graph():
    return small_network(5).lower()


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.integers(2, 12), st.booleans(), st.floats(0.1, 10))
def test_bits_shifted_and_added_are_the_code(seed, bits, signed, full):
    """With ADCs that pass everything on; two phases have a sign of their own, and their codes none."""
    generator = torch.Generator().manual_seed(seed)
    values, weight = (2 * torch.rand(size, generator=generator) - 1 for size in ((7, 5), (5, 3)))
    dac = Converter(torch.tensor(full), bits, signed)
    planes = dac.high.bit_length()
    one, by_bits = (Periphery(dac, (lambda x: x,), not signed, planes=n) for n in (1, planes))
    drives = by_bits.drives(full * values)
    assert len(drives) == by_bits.reads == planes * (1 + (not signed))
    for _, drive in drives:
        assert torch.isin((drive / full).abs().round(decimals=5), torch.tensor([0.0, 1.0])).all()
    exact, found = (p.sums(p.drives(full * values), lambda line, drive: (drive @ weight, None)) for p in (one, by_bits))
    assert torch.allclose(found, exact, atol=1e-5 * full)


def test_a_gradient_passes_as_through_the_code():
    dac, values = Converter(torch.tensor(1.0), 5, signed=True), torch.tensor([-2.0, -0.3, 0.4, 3.0], requires_grad=True)
    periphery = Periphery(dac, (lambda x: x,), planes=4)
    periphery.sums(periphery.drives(values), lambda line, drive: (2 * drive, None)).sum().backward()
    assert torch.allclose(values.grad, torch.tensor([0.0, 2.0, 2.0, 0.0]))


@pytest.mark.parametrize("options", ["", "signed_drive=two_phase", "encoding=offset", "tile=18,scaling=column"])
def test_fine_converters_answer_alike_however_lines_are_driven(graph, options):
    images = random_images(4)
    levels, bits = (machine(graph, f"crossbar:pcm[{QUIET},steps=12,inputs={kind},{options}]").relax(images)
                    for kind in ("levels", "bits"))
    assert torch.allclose(levels.logits, bits.logits, atol=0.01 * float(levels.logits.abs().max()))
    assert not torch.equal(levels.logits, bits.logits)


def test_ranges_of_bits_reach_what_bits_cause(graph):
    m = machine(graph, "crossbar:pcm[inputs=bits]")
    m.relax(random_images(8), 20, generator=reads(1))
    assert all(s.fraction < 0.02 for s in m.saturation() if s.converter == "adc")


def test_neither_bits_nor_pulses_see_a_curve(graph):
    images = random_images(3)
    straight, bent = (machine(graph, f"crossbar:pcm[{QUIET},steps=12,inputs=bits{more}]").relax(images)
                      for more in ("", ",sinh_v=0.05"))
    assert torch.allclose(straight.logits, bent.logits, atol=0.002 * float(straight.logits.abs().max()))
    levels, pulses, curved = (machine(graph, f"crossbar:pcm[{QUIET},steps=12{more}]").relax(images)
                              for more in ("", ",sinh_v=0.05,inputs=pulses", ",sinh_v=0.05"))
    assert torch.equal(levels.logits, pulses.logits)
    assert not torch.allclose(levels.logits, curved.logits, atol=0.01)


def test_each_bit_is_a_read(graph):
    """Of 5 bits for states, and 4 and a sign for the image."""
    levels, bits = (relaxation_cost(mapping.compile(graph, f"crossbar:hermes_2[dac_bits=5,inputs={kind},without=read]"))
                    for kind in ("levels", "bits"))
    assert 4 < bits.energy_j / levels.energy_j < 5
    assert 4 < bits.latency_s / levels.latency_s <= 5
    assert bits.area_mm2 == levels.area_mm2


@pytest.mark.parametrize(("asked", "words"), [
    ("crossbar:pcm[inputs=pulses]", "sense what levels do"), ("crossbar:ideal[inputs=bits]", "crossbar:generic"),
    ("crossbar:pcm[inputs=bit]", "levels, bits, pulses")])
def test_inputs_without_a_meaning_are_refused(asked, words):
    with pytest.raises(Refusal, match=words):
        mapping.parse(asked)
