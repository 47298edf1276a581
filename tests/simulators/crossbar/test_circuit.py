"""What the options of a crossbar's circuit do: arrays, terminals, stuck cells, leaky steps, averages, chips."""

import math
import stat
from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from chips import machine, reads
from networks import random_images, small_network
from processes import umask
from safetensors.numpy import load_file

import mapping
import simulators
from mapping.errors import Refusal
from mapping.sealed import open_sealed, seal
from simulators.crossbar.chip import CrossbarMachine
from simulators.crossbar.devices import Device
from simulators.crossbar.programmed import FORM, ProgrammedChip, program_chip
from simulators.crossbar.programming import stuck_cells
from simulators.reference import ReferenceMachine


@pytest.fixture(scope="module")
def images():
    return random_images(8)


def test_separate_arrays_have_errors_of_their_own_and_shared_ones_none(graph):
    shared, separate = (machine(graph, f"crossbar:pcm/programmed[arrays={how}]") for how in ("shared", "separate"))
    for one, two in zip(shared.projections, separate.projections):
        assert one.asymmetry == 0
        assert torch.equal(one.forward_weight, two.forward_weight)
        forward, backward, exact = two.forward_weight, two.backward_weight, machine(graph, "crossbar:ideal").projections
        right = next(a.forward_weight for a in exact if a.forward_weight.shape == forward.shape)
        errors = [forward - right, backward - right]
        assert abs(torch.corrcoef(torch.stack([e.flatten() for e in errors]))[0, 1]) < 5 / errors[0].numel() ** 0.5
        assert two.asymmetry == pytest.approx(2**0.5 * (errors[0].norm() / forward.norm()).item(), rel=0.35)


def test_feedback_reads_its_own_array(graph):
    m = machine(graph, "crossbar:pcm/programmed[arrays=separate]")
    projection = m.projections[-1]
    z = torch.eye(10).view(10, 10, 1, 1)
    assert torch.allclose(projection.backward(z, None), projection.backward_weight, atol=1e-6)
    assert not torch.allclose(projection.backward(z, None), projection.forward_weight, atol=1e-3)


def test_terminals_matter_only_with_wires_and_only_to_the_feedback(graph):
    same, other = (machine(graph, f"crossbar:pcm/wires[wire_ohm=50,terminals={ends}]") for ends in ("same", "opposite"))
    for a, b in zip(same.projections, other.projections):
        assert torch.equal(a.forward_weight, b.forward_weight)
        assert a.asymmetry == 0
        assert b.asymmetry > 1e-3


def test_wires_are_the_last_rung_of_the_same_chip(graph):
    without, perfect, poor = (machine(graph, t) for t in (
        "crossbar:pcm/converters", "crossbar:pcm/wires[wire_ohm=0.001]", "crossbar:pcm[wire_ohm=20]"))
    for a, b, c in zip(without.projections, perfect.projections, poor.projections):
        assert torch.allclose(a.forward_weight, b.forward_weight, atol=1e-4)
        assert c.forward_weight.abs().sum() < 0.999 * a.forward_weight.abs().sum()


@pytest.mark.parametrize(("rate", "held"), [("stuck_on", 25.0), ("stuck_off", 0.0)])
def test_stuck_cells_hold_their_end_of_the_range_at_the_rate_named_and_never_drift(rate, held):
    graph = small_network(5, channels=(16, 24)).lower()
    few, many, later = (machine(graph, t).arrays[1].conductance_us for t in (
        f"crossbar:pcm/programmed[{rate}=0.05]", f"crossbar:pcm/programmed[{rate}=0.2]",
        f"crossbar:pcm/aged[{rate}=0.2,age=1y,relaxation_time=1s]"))
    free = machine(graph, "crossbar:pcm/programmed").arrays[1].conductance_us
    stuck = [g != free for g in (few, many)]
    assert stuck[1].double().mean().item() == pytest.approx(0.2 * (free != held).double().mean().item(), abs=0.02)
    assert torch.all(stuck[1] | ~stuck[0])
    assert torch.all(many[stuck[1]] == held)
    assert (later[stuck[1]] - held).abs().mean() < 0.05 * 25


def test_stuck_cells_are_the_same_on_every_rung_above_and_alone_on_their_own():
    graph, options = small_network(5, channels=(16, 24)).lower(), "stuck_on=0.1,stuck_off=0.2"
    layer = mapping.compile(graph, "crossbar:pcm").layers[1]
    free, own, *above = (machine(graph, f"crossbar:pcm{rung}[{options}]", 3).arrays[1].conductance_us for rung in (
        "/levels", "/stuck", "/programmed", "/aged", "/read", ""))
    on, off = stuck_cells(layer, mapping.parse(f"crossbar:pcm[{options}]"), 3)
    assert torch.equal(free, torch.tensor(layer.stored.g_us))
    assert torch.equal(own, torch.where(on, 25.0, torch.where(off, 0.0, free)))
    assert torch.equal(above[0][on | off], own[on | off])
    for cells in above[1:]:
        assert (cells[on] > 20).all()   # at 25 uS but for slow noise
        assert (cells[off] == 0).all()
    quiet = machine(graph, f"crossbar:pcm/programmed[{options},without=stuck]", 3).arrays[1].conductance_us
    assert torch.equal(quiet, machine(graph, "crossbar:pcm/programmed", 3).arrays[1].conductance_us)


@pytest.mark.parametrize(("held", "words"), [(60, "below 60 steps"), (59, None)])
def test_pools_that_would_keep_their_winners_after_the_last_step_are_refused(graph, held, words):
    with pytest.raises(Refusal, match=words) if words else nullcontext():
        mapping.compile(graph, f"crossbar:pcm[winners_held={held}]")
    mapping.compile(graph, f"crossbar:pcm/programmed[winners_held={held}]")


@pytest.mark.parametrize("dt", [0.25, 0.5])
def test_a_leaky_step_keeps_the_fixed_point_and_shrinks_noise_by_the_known_factor(images, dt):
    """The reference's fixed point, the only one of a network this weak, is the machine's; around it white noise of the
    drive keeps dt / (2 - dt) of its variance, where neither clamps nor feedback reach."""
    graph = small_network(3, gain=1.0).lower()
    ideal = machine(graph, f"crossbar:ideal[dt={dt}]").relax(images, steps=400)
    exact = ReferenceMachine(graph).relax(images, steps=400)
    assert max((a - b).abs().max().item() for a, b in zip(ideal.states, exact.states)) < 1e-4
    substrate = machine(graph, f"crossbar:ideal[dt={dt}]").substrate
    noise, state, states = reads(1), torch.full((4000,), 0.5), []
    for _ in range(60):
        drive = 1 + 0.05 * torch.randn(4000, generator=noise)
        state = substrate.move(0, state, drive)
        states.append(state)
    slope = substrate.populations[0].slope
    settled = torch.stack(states[40:]).var()
    assert settled.item() == pytest.approx((slope * 0.05) ** 2 * dt / (2 - dt), rel=0.1)


@pytest.mark.parametrize("dt", [0.2, 1.0])
def test_neither_leaky_steps_nor_averages_undo_what_clamping_takes(graph, dt):
    """A neuron driven to its upper rail by noise of sd sigma rests at E[min(1, 1 + sigma n)] = 1 - sigma / sqrt(2 pi),
    and its variance about there falls as it does anywhere."""
    substrate, sigma, noise = machine(graph, f"crossbar:ideal[dt={dt}]").substrate, 0.1, reads(2)
    state, states = torch.full((20_000,), 1.0), []
    for _ in range(90):
        drive = (1 + sigma * torch.randn(20_000, generator=noise)) / substrate.populations[0].slope
        state = substrate.move(0, state, drive)
        states.append(state)
    settled = torch.stack(states[40:])
    lost, clamped = sigma / (2 * math.pi) ** 0.5, sigma**2 * (0.5 - 1 / (2 * math.pi))
    assert 1 - settled.mean().item() == pytest.approx(lost, rel=0.01)
    assert 1 - settled.mean(0).mean().item() == pytest.approx(lost, rel=0.01)
    assert settled.var(1).mean().item() == pytest.approx(clamped * dt / (2 - dt), rel=0.05)


def test_column_scaling_shrinks_errors_by_each_columns_own_factor():
    """Errors of a share of the device's range: in a column scaled by c they weigh c times as much."""
    graph = small_network(5, channels=(16, 24)).lower()
    quiet = graph.couplings[1].weight * np.linspace(0.1, 1, 24, dtype=np.float32)[:, None, None, None]
    graph = replace(graph, couplings=(graph.couplings[0], replace(graph.couplings[1], weight=quiet)))
    by_layer, by_column = (machine(graph, f"crossbar:generic/programmed[additive=0.02,scaling={how}]")
                           for how in ("layer", "column"))
    wrong = [(m.projections[1].forward_weight - torch.tensor(quiet)).flatten(1).std(1) for m in (by_layer, by_column)]
    scale = torch.tensor(by_column.program.layers[1].stored.column_scale)
    assert scale.min() < 0.2
    assert torch.allclose(wrong[1] / wrong[0], scale, rtol=0.15)


def test_an_averaged_readout_is_the_mean_of_the_last_reads(graph, images):
    """Without noise by hand from a trace; with noise, its variance over reads falls."""
    averaged, plain = (machine(graph, f"crossbar:pcm/programmed[steps=9,readout_steps={k}]") for k in (4, 1))
    logits = []
    plain.relax(images, steps=9, trace=lambda t, states: logits.append(plain.substrate.logits(states[-1])))
    assert torch.allclose(averaged.relax(images, steps=9).logits, torch.stack(logits[-4:]).mean(0), atol=1e-6)

    def spread(target):
        m = machine(graph, target)
        return torch.stack([m.relax(images, generator=reads(s)).logits for s in range(30)]).var(0).mean().item()

    assert spread("crossbar:pcm/read[steps=30,readout_steps=15]") < 0.85 * spread("crossbar:pcm/read[steps=30]")


def test_winners_flip_under_noise_and_not_once_they_are_held(graph, images):
    free, held = machine(graph, "crossbar:pcm[steps=20]"), machine(graph, "crossbar:pcm[steps=20,winners_held=4]")
    seen = []
    for m in (free, held):
        m.relax(images, generator=reads(0))
        seen.append([count.windows for count in m.substrate.flips])
    assert all(0 < rate < 1 for rate in free.flip_rates())
    assert all(few < many for few, many in zip(seen[1], seen[0]))
    still = machine(graph, "crossbar:pcm/programmed")
    still.relax(images, steps=200)
    moving = still.flip_rates()
    settled = still.relax(images, steps=200)
    before = [int(count.flips) for count in still.substrate.flips]
    still.relax(images, steps=4, states=settled.states)
    assert all(rate < 0.2 for rate in moving)
    assert [int(c.flips) - b for c, b in zip(still.substrate.flips, before)] == [0, 0]


def test_a_saved_chip_runs_to_the_same_bits(graph, images, tmp_path):
    program = mapping.compile(graph, "crossbar:pcm[arrays=separate,wire_ohm=1]")
    first = simulators.open(program, chip_seed=4)
    first.chip.save(tmp_path / "chip.safetensors")
    again = CrossbarMachine(program, chip=ProgrammedChip.load(tmp_path / "chip.safetensors", program))
    assert again.chip_seed == 4
    assert torch.equal(first.relax(images).logits, again.relax(images).logits)
    for a, b in zip(first.projections, again.projections):
        assert torch.equal(a.backward_weight, b.backward_weight)
    with pytest.raises(Refusal, match="another program"):
        ProgrammedChip.load(tmp_path / "chip.safetensors", mapping.compile(graph, "crossbar:pcm"))
    assert stat.S_IMODE((tmp_path / "chip.safetensors").stat().st_mode) == 0o666 & ~umask()
    (tmp_path / "text").write_text("no chip")
    with pytest.raises(Refusal, match="not a readable programmed chip"):
        ProgrammedChip.load(tmp_path / "text", program)


CHANGED_CHIPS = [
    ("0.forward.conductance_us", lambda g: g * np.float32("nan"), "values out of range"),
    ("0.forward.conductance_us", lambda g: -g, "values out of range"),
    ("0.forward.conductance_us", lambda g: g + 1e9, "values out of range"),
    ("0.forward.conductance_us", lambda g: g.astype(float), "wrong shape or type"),
    ("1.forward.conductance_us", lambda g: g[..., :-1], "wrong shape or type"),
    ("2.feedback.fresh_us", lambda g: g + np.float32("inf"), "values out of range"),
    ("0.feedback.compensation", lambda c: c * np.nan, "values out of range"),
    ("0.feedback.compensation", lambda c: np.repeat(c, 2), "wrong shape or type"),
    ("0.bias", lambda _: np.zeros(4, np.float32), "1.bias: tensor has the wrong shape or type; got nothing"),
    ("more", lambda _: np.zeros(1), "more: tensor has the wrong shape or type")]


@pytest.mark.parametrize(("name", "change", "words"), CHANGED_CHIPS)
def test_a_changed_chip_is_refused(graph, tmp_path, name, change, words):
    """First a bit of the file, then what a forger would have sealed anew."""
    program = mapping.compile(graph, "crossbar:pcm[arrays=separate]")
    path = tmp_path / "chip"
    program_chip(program, 4).save(path)
    whole, header, arrays = path.read_bytes(), open_sealed(path, FORM, remedy="").header, load_file(path)

    def refused(blob, words):
        path.write_bytes(blob)
        with pytest.raises(Refusal, match=words):
            ProgrammedChip.load(path, program)

    refused(whole[:-9] + bytes([whole[-9] ^ 4]) + whole[-8:], "damaged")
    refused(whole.replace(b'\\"seed\\": 4', b'\\"seed\\": 5'), "a header that was changed")
    refused(seal(FORM, {**header, "seed": -1}, arrays), "seed")
    refused(seal(FORM, {**header, "seed": True}, arrays), "seed")
    refused(seal(FORM, header, {**arrays, name: change(arrays.get(name))}), words)


@dataclass(frozen=True)
class Flash(Device):
    g_max_us: float = 10.0
    relative: float = 0.5

    def programming_sigma_us(self, target_us):
        return self.relative * target_us


def test_a_device_of_ones_own_is_programmed_in_place_of_a_preset(graph):
    program = mapping.compile(graph, "crossbar:generic/programmed[g_max_us=10]")
    for relative in (0.0, 0.5):
        chip = program_chip(program, 0, model=Flash(relative=relative))
        error = chip.arrays[0][0].conductance_us - torch.tensor(program.layers[0].stored.g_us)
        assert bool(error.any()) == (relative > 0)
    with pytest.raises(Refusal, match=r"Flash.*25 uS.*10 uS"):
        program_chip(mapping.compile(graph, "crossbar:generic"), 0, model=Flash())


@pytest.mark.parametrize("method", ["program", "drift", "slow_sigma_us", "fresh_sigma_us"])
@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_a_device_of_ones_own_that_is_not_physical_is_refused_by_its_method(graph, method, value):
    broken = type("Broken", (Flash,), {method: lambda self, g_us, *rest: torch.full_like(g_us, value)})()
    with pytest.raises(Refusal, match=rf"Broken.{method}.*uS.*0 uS or more"):
        program_chip(mapping.compile(graph, "crossbar:generic[g_max_us=10]"), 0, model=broken)


def test_the_report_names_every_layer_and_what_its_converters_clipped(graph, images):
    m = machine(graph, "crossbar:pcm[arrays=separate]")
    m.relax(images)
    table = m.report()
    assert [row[0] for row in table.rows] == [layer.name for layer in m.program.layers]
    assert all(len(row) == len(table.columns) for row in (*table.rows, *machine(graph, "crossbar:ideal").report().rows))
    assert table.rows[0][1] == f"{m.projections[0].asymmetry:.2%}"


@pytest.mark.parametrize(("target", "words"), [
    ("crossbar:reram_wan[age=1y]", "age.*1y.*1 to 172800 s"), ("crossbar:sonos[age=10d]", "age.*10d"),
    ("crossbar:reram_milo[age=1h]", "age.*allowed: 0 s"), ("crossbar:pcm[wire_ohm=-1]", "wire_ohm.*ohm"),
    ("crossbar:pcm[wire_ohm=0]", "wire_ohm"), ("crossbar:pcm[adc_bits=0]", "adc_bits.*got 0.*bits"),
    ("crossbar:pcm[tile=8x64]", "tile"), ("crossbar:pcm[tile=2000]", "tile"), ("crossbar:pcm[tile=a]", "tile"),
    ("crossbar:pcm[tile=256x]", "tile"), ("crossbar:pcm[terminals=opposite]", "wire_ohm"),
    ("crossbar:ideal[wire_ohm=1]", "wire_ohm=1.*crossbar:generic"), ("crossbar:ideal[adc_bits=4]", "adc_bits=4"),
    ("crossbar:pcm[age]", "age.*got nothing"), ("crossbar:reram_milo/read", "reram_milo/programmed"),
    ("crossbar:reram_milo[on_off=100]", "on_off.*at most 4.5"), ("crossbar:pcm[stuck_on=0.9]", "stuck_on"),
    ("crossbar:pcm[encoding=slices]", "levels"), ("crossbar:pcm[encoding=slices,levels=64,slices=5]", "2\\^24"),
    ("crossbar:pcm[encoding=offset,levels=2]", "3 or more"), ("crossbar:pcm[slices=3]", "encoding=slices"),
    ("crossbar:generic[g_max_us=0]", "g_max_us.*uS"), ("crossbar:pcm[dt=0]", "dt"),
    ("crossbar:pcm[age=-1]", "age.*got -1s.*0 s or more"),
    ("crossbar:pcm[relaxation_time=2s]", "relaxation_time.*got 2s.*1us to 1s")])
def test_what_is_not_physical_is_refused_by_name_value_and_range(target, words):
    with pytest.raises(Refusal, match=words):
        mapping.parse(target)


@pytest.mark.parametrize("preset", [name for name in mapping.REGISTRY if name.startswith("crossbar:")])
def test_every_machine_of_the_registry_runs(graph, images, preset):
    m = machine(graph, preset)
    end = m.relax(images[:2], steps=3)
    assert torch.isfinite(end.logits).all()
    assert m.deterministic == (not m.program.target.is_noisy)
    assert mapping.parse(str(m.program.target)) == m.program.target
    quiet = m.program.target.having(age=m.program.target.preset.age_domain_s[1])
    assert mapping.parse(str(quiet)) == quiet


@pytest.mark.parametrize(("asked", "words"), [
    ("crossbar:pcm[adc_bits=0]", r"adc_bits.*without=converters"), ("crossbar:pcm[dac_bits=1]", r"without=converters"),
    ("crossbar:pcm[bit_ohm=1]", "bit_ohm=1.*with wire_ohm"), ("crossbar:ideal[adc_rounding=floor]", "crossbar:generic"),
    ("crossbar:pcm[adc_rounding=ceil]", "nearest, floor")])
def test_an_option_that_does_nothing_is_answered_with_what_does(asked, words):
    with pytest.raises(Refusal, match=words):
        mapping.parse(asked)


def test_bit_lines_as_resistive_as_word_lines_change_no_bit_and_others_do(graph):
    """And at opposite terminals too, where both are met the other way round."""
    same, own, other = (machine(graph, f"crossbar:pcm/wires[wire_ohm=5{more},terminals=opposite]")
                        for more in ("", ",bit_ohm=5", ",bit_ohm=2"))
    for one, two, three in zip(same.projections, own.projections, other.projections):
        assert torch.equal(one.forward_weight, two.forward_weight)
        assert torch.equal(one.forward_array.cells.backward_us, two.forward_array.cells.backward_us)
        assert not torch.equal(one.forward_weight, three.forward_weight)


def test_flooring_converters_lower_every_output_by_half_a_step_on_average(graph):
    """Of quiet machines that read the same lines: the mean of what one direction loses, in steps of its ADC."""
    images = random_images(16)
    nearest, floor = (machine(graph, f"crossbar:pcm[without=read{more}]") for more in ("", ",adc_rounding=floor"))
    driven = nearest.substrate.encode(images)
    lost = (nearest.projections[0].forward_array, nearest.projections[0].forward(driven)[0],
            floor.projections[0].forward(driven)[0])
    array, rounded, floored = lost
    steps = sum(adc.step for adc in floor.projections[0].forward_periphery.adcs).mean() * array.compensation
    assert (rounded - floored).mean() == pytest.approx(steps.item() / 2, rel=0.2)
