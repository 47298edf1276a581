"""Signed drives in two phases: what they change, and what they must not."""


import pytest
import torch
import torch.nn.functional as F
from chips import machine, reads
from networks import random_images

import mapping
from mapping.crossbar.ranges import image_peak
from simulators.crossbar.cost import relaxation_cost
from simulators.crossbar.periphery import Converter
from simulators.crossbar.projection import Periphery
from simulators.relaxation import Nudge


def both(graph, target, **options):
    named = {name: f"{target[:-1]},signed_drive={name}]" for name in ("bipolar", "two_phase")}
    return [machine(graph, target, **options) for target in named.values()]


@pytest.mark.parametrize("target", ["crossbar:pcm/aged[steps=12]", "crossbar:pcm/aged[steps=12,encoding=offset]"])
def test_without_noise_and_converters_two_reads_sum_to_one(graph, target):
    images = random_images(6)
    nudge = Nudge(torch.eye(10)[:6], 0.4)
    one, two = (m.relax(images, 12, nudge, schedule="synchronous") for m in both(graph, target))
    for a, b in zip((*one.states, one.logits), (*two.states, two.logits)):
        assert torch.allclose(a, b, atol=1e-5)


def test_two_phases_drive_one_bit_finer():
    """n bits for the magnitude alone are n + 1 bits with a sign."""
    scale, values = torch.tensor(1.3), torch.linspace(-1.5, 1.5, 1001)
    dac, finer = Converter(scale, 5, signed=False), Converter(scale, 6, signed=True)
    drives = Periphery(dac, (), two_phase=True).drives(values)
    assert [sign for sign, _ in drives] == [1, -1]
    assert all((drive >= 0).all() for _, drive in drives)
    assert torch.allclose(sum(sign * drive for sign, drive in drives), finer(values))


def test_converters_come_closer_to_the_unconverted_image(graph):
    image = (random_images(40) - 0.5) * 2 * image_peak(graph)
    errors = []
    for m in both(graph, "crossbar:pcm[without=programmed+aged+read,dac_bits=4,adc_bits=8,adc_margin=3]"):
        projection, coupling = m.projections[0], graph.couplings[0]
        exact = F.conv2d(image, projection.forward_weight, torch.tensor(coupling.bias), padding=coupling.padding)
        exact = F.max_pool2d(exact, coupling.pool)
        errors.append((projection.forward(image)[0] - exact).square().mean().sqrt().item())
    assert errors[1] < 0.7 * errors[0], "half the DAC's step, two ADC conversions in place of one"


@pytest.mark.slow
def test_noise_of_two_reads_has_the_variance_of_one(graph):
    image = random_images(1).expand(3000, -1, -1, -1)
    spread = []
    for m in both(graph, "crossbar:pcm/read[steps=2]"):
        values = m.projections[0].forward(m.substrate.encode(image), reads(1))[0]
        spread.append(values.var(0))
    assert (spread[0] > 0).all()
    assert (spread[1] / spread[0]).mean().item() == pytest.approx(1, abs=0.02)


def test_a_signed_error_is_driven_down_the_readout_in_two_phases(graph):
    error = torch.randn(5, 10, 1, 1, generator=reads(2))
    quiet = "crossbar:pcm[without=programmed+aged+read,dac_bits=10,adc_bits=12,adc_margin=5]"
    plain, phased = (m.projections[-1] for m in both(graph, quiet))
    assert phased.backward_periphery.two_phase
    assert not plain.backward_periphery.two_phase
    assert not phased.forward_periphery.two_phase
    exact = torch.einsum("bk,kchw->bchw", error[:, :, 0, 0].clamp(-1, 1), plain.backward_weight)
    for projection in (plain, phased):
        assert (projection.backward(error.clamp(-1, 1), None) - exact).abs().max() < 0.02 * exact.abs().max()


def test_the_image_is_read_twice_and_the_cost_says_so(graph):
    one, two, once = (relaxation_cost(mapping.compile(graph, f"crossbar:hermes_2[steps=6,{options}]")) for options in (
        "signed_drive=bipolar", "signed_drive=two_phase", "signed_drive=bipolar,input_read=once"))
    a_read_of_the_image = (one.energy_j - once.energy_j) / 2   # three reads against one
    assert two.energy_j - one.energy_j == pytest.approx(3 * a_read_of_the_image)
    assert two.latency_s - one.latency_s == pytest.approx(133e-9 * 3 * 64)
