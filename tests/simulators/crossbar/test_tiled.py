"""Modules on tiles: without errors they are the module; chips, drift and converters are those of crossbars."""

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from chips import reads
from networks import random_images
from torch import nn

import ep_hw
import mapping
import simulators
from ep_hw.data import load_data
from mapping.errors import Refusal
from simulators.crossbar.programmed import ProgrammedChip
from simulators.crossbar.recording import record
from simulators.crossbar.tiled import TiledMachine, put_on_tiles
from simulators.module import ModuleMachine

SHAPE = (2, 9, 9)


class Residual(nn.Module):
    """Two convolutions beside a strided one, each with batch norm, then a dense layer of the mean."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(2, 6, 3, 2, 1, bias=False), nn.BatchNorm2d(6), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(6, 6, 3, padding="same"), nn.BatchNorm2d(6))
        self.beside, self.readout = nn.Conv2d(2, 6, 1, 2), nn.Linear(6, 4)

    def forward(self, x):
        return self.readout((self.second(self.first(x - 0.5)) + self.beside(x)).relu().mean((2, 3)))


class Attention(nn.Module):
    """Attention over the pixels, whose queries, keys and values are three calls of one layer and two of their own."""

    def __init__(self):
        super().__init__()
        self.embed, self.twice, self.value = nn.Conv2d(2, 8, 3, 3), nn.Linear(8, 8), nn.Linear(8, 8, bias=False)
        self.readout = nn.Linear(8, 4)

    def forward(self, x):
        tokens = self.embed(x - 0.5).flatten(2).transpose(1, 2)
        weights = (self.twice(tokens) @ self.twice(tokens.flip(1)).transpose(1, 2)).softmax(-1)
        return self.readout((weights @ self.value(tokens)).mean(1))


def module_of(kind, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = kind()
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.normal_(0, 0.2)
                part.running_var.uniform_(0.5, 2)
    return module.eval()


def recording_of(kind):
    return record(module_of(kind), random_images(16, SHAPE, seed=1), 4)


def opened(kind, target, chip=0):
    return simulators.open(put_on_tiles(recording_of(kind), target), chip_seed=chip)


KINDS = [Residual, Attention]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("target", ["crossbar:ideal", "crossbar:ideal[tile=16,scaling=column]",
                                    "crossbar:ideal[encoding=offset]",
                                    "crossbar:pcm[without=programmed+aged+read+converters]"])
def test_without_errors_it_is_the_module_and_has_its_gradients(kind, target):
    images, m = random_images(5, SHAPE), opened(kind, target)
    answers, gradients = [], []
    for one in (ModuleMachine(module_of(kind), SHAPE, 4), m):
        shown = images.clone().requires_grad_()
        logits = one.relax(shown).logits
        gradients.append(torch.autograd.grad(logits.square().sum(), shown)[0])
        answers.append(logits.detach())
    assert (answers[0] - answers[1]).abs().max() < 1e-5 * answers[0].abs().max().clamp(min=1)
    assert (gradients[0] - gradients[1]).abs().max() < 1e-5 * gradients[0].abs().max().clamp(min=1)
    assert m.deterministic
    assert m.differentiable
    assert torch.equal(m.relax(images.double()).prediction, answers[0].argmax(1))


@pytest.fixture(scope="module")
def transformer():
    return ep_hw.load("digits-vit-s11"), load_data("digits", "test").take(slice(60))


def test_the_packaged_transformer_runs_on_tiles(transformer):
    net, test = transformer
    targets = ["reference", "crossbar:ideal", "crossbar:pcm"]
    reference, ideal, pcm = (simulators.open(p) for p in net.programs(map(mapping.parse, targets)).values())
    expected = reference.relax(test.images).logits
    assert (ideal.relax(test.images).logits - expected).abs().max() < 1e-5 * expected.abs().max()
    assert (pcm.relax(test.images).prediction == test.labels).float().mean() > 0.9
    assert pcm.program.report().notes[0] == "digital: the module (VisionTransformer)"
    assert len(pcm.program.layers) == 2 + 4 * 4
    assert pcm.cost().operations == reference.cost().operations
    shares = [s.fraction for s in pcm.saturation()]
    assert max(shares) < 0.01


def test_drift_lowers_its_accuracy(transformer):
    net, test = transformer
    targets = [f"crossbar:pcm/aged[age={age},drift_compensation=off]" for age in ("25s", "1y")]
    accuracies = [(simulators.open(p, chip_seed=1).relax(test.images).prediction == test.labels).float().mean().item()
                  for p in net.programs(map(mapping.parse, targets)).values()]
    assert accuracies[0] > accuracies[1] + 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_chips_differ_by_seed_and_noise_by_generator(kind):
    images, m = random_images(5, SHAPE), opened(kind, "crossbar:pcm")

    def logits(machine, seed=None):
        return machine.relax(images, generator=None if seed is None else reads(seed)).logits

    again, other = opened(kind, "crossbar:pcm"), opened(kind, "crossbar:pcm", 1)
    assert torch.equal(logits(m, 3), logits(again, 3))
    assert not torch.equal(logits(m, 3), logits(m, 4))
    assert torch.equal(logits(m), logits(m))
    assert not torch.equal(logits(m), logits(other))
    assert not m.deterministic
    assert m.program.chip_seeds(3) == [0, 1, 2]
    quiet = [opened(kind, "crossbar:pcm/aged", chip) for chip in (0, 0, 1)]
    assert torch.equal(logits(quiet[0]), logits(quiet[1]))
    assert not torch.equal(logits(quiet[0]), logits(quiet[2]))


def test_a_layer_that_is_called_twice_is_one_array_that_is_read_twice():
    m = opened(Attention, "crossbar:pcm")
    assert list(m.projections) == ["embed", "twice", "value", "readout"]
    m = opened(Attention, "crossbar:pcm")
    before = {(s.layer, s.converter): s.conversions for s in m.saturation()}
    m.relax(random_images(5, SHAPE))
    read = {(s.layer, s.converter): s.conversions - before[s.layer, s.converter] for s in m.saturation()}
    assert read["value", "dac"] == 5 * 9 * 8
    assert read["twice", "dac"] == 2 * read["value", "dac"]
    assert read["embed", "adc"] == 5 * 9 * 8
    shared = nn.Linear(8, 8)
    rows = nn.Sequential(nn.Flatten(), nn.Linear(162, 8), shared, nn.ReLU(), shared, nn.Linear(8, 4))
    recording = record(rows, random_images(4, SHAPE), 4)
    tiles = put_on_tiles(recording, "crossbar:ideal")
    assert [len(one.inputs) for one in recording.layers.values()] == [4, 8, 4]
    assert [layer.name for layer in tiles.layers] == ["1", "2", "5"]
    expected = rows(random_images(3, SHAPE))
    assert torch.allclose(simulators.open(tiles).relax(random_images(3, SHAPE)).logits, expected, atol=1e-5)
    assert simulators.open(tiles).cost().operations == 162 * 8 + 2 * 64 + 32


@pytest.mark.parametrize("how", ["bipolar", "two_phase"])
def test_converters_span_what_drives_a_layer_on_calibration_images(how):
    recording = recording_of(Residual)
    fine = f"crossbar:pcm[without=programmed+aged+read,adc_bits=16,dac_bits=16,adc_margin=10,signed_drive={how}]"
    program = put_on_tiles(recording, fine)
    for layer, one in zip(program.layers, recording.layers.values()):
        span, = layer.spans
        assert span.dac == pytest.approx(10 * np.percentile(np.abs(one.inputs), 99.9))
        assert span.signed == bool((one.inputs < 0).any())
    assert [layer.spans[0].signed for layer in program.layers] == [True, False, False, False]
    images, exact = random_images(5, SHAPE), ModuleMachine(module_of(Residual), SHAPE, 4)
    gap = simulators.open(program).relax(images).logits - exact.relax(images).logits
    assert gap.abs().max() < 1e-2
    coarse = simulators.open(put_on_tiles(recording, fine.replace("adc_bits=16", "adc_bits=6")))
    assert (coarse.relax(images).logits - exact.relax(images).logits).abs().max() > 3 * gap.abs().max()


def test_two_phases_are_two_reads_of_a_layer_with_signed_inputs():
    costs = [opened(Residual, f"crossbar:hermes_2[signed_drive={how}]").cost() for how in ("bipolar", "two_phase")]
    assert costs[1].latency_s - costs[0].latency_s == pytest.approx(133e-9 * 25)   # the first convolution's positions
    assert costs[0].latency_s == pytest.approx(133e-9 * (25 + 25 + 25 + 1))
    assert costs[0].area_mm2 == pytest.approx(4 * 0.6198, rel=1e-3)
    assert costs[0].operations == costs[1].operations == 25 * (108 + 324 + 12) + 24


def test_a_chip_is_kept_and_its_program_travels(tmp_path):
    m, images = opened(Attention, "crossbar:pcm", 2), random_images(5, SHAPE)
    m.chip.save(tmp_path / "chip")
    with pytest.raises(Refusal, match="no file keeps a module"):
        m.program.save(tmp_path / "program")
    program = pickle.loads(pickle.dumps(m.program))
    assert program.digest() == m.program.digest()
    again = TiledMachine(program, chip=ProgrammedChip.load(tmp_path / "chip", program))
    assert torch.equal(again.relax(images).logits, m.relax(images).logits)
    others = [put_on_tiles(recording_of(Attention), "crossbar:pcm[age=1d]"),
              put_on_tiles(record(module_of(Attention, 1), random_images(16, SHAPE, seed=1), 4), "crossbar:pcm")]
    others.append(put_on_tiles(record(module_of(Attention), random_images(16, SHAPE, seed=2), 4), "crossbar:pcm"))
    layers = [replace(layer, stored=replace(layer.stored, g_us=layer.stored.g_us[:, ::-1])) for layer in program.layers]
    others.append(replace(program, layers=tuple(layers)))
    assert len({p.digest() for p in (m.program, *others)}) == 5
    with pytest.raises(Refusal, match="another program"):
        ProgrammedChip.load(tmp_path / "chip", others[0])


class Grouped(nn.Module):
    """Layers that tiles do not hold, and one that is never called, beside one that is on tiles."""

    def __init__(self):
        super().__init__()
        self.grouped, self.dilated = nn.Conv2d(2, 4, 3, groups=2), nn.Conv2d(4, 4, 3, dilation=2)
        self.wide, self.idle = nn.Conv2d(4, 4, 3, padding=(0, 1)), nn.Linear(3, 3)
        self.readout = nn.Linear(4, 4)

    def forward(self, x):
        return self.readout(self.wide(self.dilated(self.grouped(x))).mean((2, 3)))


def test_what_tiles_do_not_hold_stays_digital_and_is_named():
    images, m = random_images(5, SHAPE), opened(Grouped, "crossbar:ideal")
    note = m.program.report().notes[0]
    assert list(m.projections) == ["readout"]
    assert note == "digital: grouped (Conv2d), dilated (Conv2d), wide (Conv2d), idle (Linear)"
    assert torch.allclose(m.relax(images).logits, module_of(Grouped)(images), atol=1e-5)
    plain = ModuleMachine(module_of(Grouped), SHAPE, 4)
    assert m.cost().operations == plain.cost().operations


class Bypass(nn.Module):
    """Calls a layer and also uses its weights by itself."""

    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(162, 4)

    def forward(self, x):
        return self.dense(x.flatten(1)) + nn.functional.linear(x.flatten(1), self.dense.weight)


def test_what_cannot_lie_on_tiles_is_refused():
    recording = recording_of(Residual)
    with pytest.raises(Refusal, match=r"loihi: the machine has no digital part.*Residual.*ep_hw\.lower"):
        put_on_tiles(recording, "loihi")
    with pytest.raises(Refusal, match=r"reads each layer once.*dt=0\.5"):
        put_on_tiles(recording, "crossbar:pcm[dt=0.5]")
    with pytest.raises(Refusal, match="tuned while it runs"):
        put_on_tiles(recording, "crossbar:pcm[tuned=on]")
    with pytest.raises(Refusal, match="nothing of the module goes onto tiles"):
        record(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.ConstantPad1d((0, 2), 0.0)),
               random_images(4, SHAPE), 4)
    with pytest.raises(Refusal, match=r"the module fails.*weight"):
        opened(Bypass, "crossbar:ideal")
    with pytest.raises(Refusal, match="gives no logits"):
        record(module_of(Residual), random_images(4, SHAPE), 10)
    with pytest.raises(Refusal, match="pixels outside"):
        opened(Residual, "crossbar:ideal").unclipped  # noqa: B018 - a property that refuses


def test_the_module_itself_is_left_as_it_is():
    module = module_of(Attention)
    before = copy.deepcopy(module.state_dict())
    m = simulators.open(put_on_tiles(record(module, random_images(8, SHAPE), 4), "crossbar:pcm"))
    m.relax(random_images(3, SHAPE))
    assert all(torch.equal(value, module.state_dict()[name]) for name, value in before.items())
    assert not any(part._forward_pre_hooks for part in module.modules())
    assert isinstance(module.embed, nn.Conv2d)
