"""Learning on a chip: against the reference's rule where the chip is ideal, then one imperfection after the other."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from networks import random_images, small_network
from safetensors.numpy import load_file

import ep_hw
import mapping
import simulators
from ep_hw.analysis.statistics import unpaired_interval, wilson
from ep_hw.data import Dataset, load_data
from ep_hw.data.registry import held_data
from ep_hw.diagnosis import explain
from ep_hw.evaluation.rungs import ladder
from ep_hw.learning.in_situ import TuningSettings, begin, tune_epoch
from ep_hw.learning.in_situ.comparison import costs, save_tuned, summarise, tuned_program
from ep_hw.learning.in_situ.course import FORM, Task, chip_accuracy, tune_chip
from ep_hw.learning.in_situ.tuner import chip_gradient, learn
from ep_hw.learning.rule import ep_gradient
from mapping import Refusal
from mapping.crossbar.writing import WRITINGS, parse_writing, writing_of
from mapping.sealed import open_sealed, seal
from simulators.crossbar.chip import CrossbarMachine
from simulators.crossbar.programming import stuck_cells

SHORT = TuningSettings(epochs=2, batch=20, free_steps=12, nudged_steps=6)
IMAGES, LABELS = random_images(12), torch.arange(12) % 10
NOISY = "crossbar:pcm[age=1d,steps=20]"


def random_numbers(seed=0):
    return torch.Generator().manual_seed(seed)


def small_program(target, seed=3):
    return mapping.compile(small_network(seed, gain=1.5).lower(), target)


def cosine(a, b):
    flat = [torch.cat([t.flatten().double() for pair in pairs for t in pair]) for pairs in (a, b)]
    return torch.cosine_similarity(*flat, dim=0).item()


@pytest.mark.parametrize("target", ["crossbar:ideal", "crossbar:ideal[tile=18]", "crossbar:generic[encoding=offset]"])
def test_the_gradient_of_an_ideal_chip_is_the_references(target):
    net = small_network(3, gain=1.5)
    expected, _ = ep_gradient(net.substrate(), IMAGES, LABELS, schedule="alternating", free_steps=12, nudged_steps=6,
                              beta=1.0)
    target = mapping.parse(target)
    if target.preset.name == "generic":   # its converters left out
        target = replace(target, name="crossbar:generic/read")
    program = mapping.compile(net.lower(), target)
    measured = chip_gradient(program, begin(program, 0).chip, IMAGES, LABELS, SHORT, random_numbers())
    assert cosine(measured, expected) >= 0.999
    for pair, wanted in zip(measured, expected):
        assert all(torch.allclose(a, b, atol=1e-4 * b.abs().max().item() + 1e-7) for a, b in zip(pair, wanted))


def test_images_that_are_held_as_stored_tune_a_chip_to_the_same_bytes(tmp_path):
    levels = np.random.default_rng(0).integers(0, 256, (60, 8, 8)).astype(np.uint8)
    data, program = Dataset(levels, np.arange(60) % 10), small_program(NOISY)
    watch, settings = load_data(data, "validation"), TuningSettings(epochs=1, batch=9, free_steps=6, nudged_steps=3)
    for read in (load_data, held_data):
        task = Task(program, read(data, "train"), watch, settings, writing_of("pcm"), 0)
        tune_chip(task, 0, tmp_path / f"{read.__name__}.safetensors")
    (floats, stored) = (tmp_path.joinpath(f"{read.__name__}.safetensors") for read in (load_data, held_data))
    assert floats.read_bytes() == stored.read_bytes()


@pytest.mark.parametrize("target", ["crossbar:ideal[scaling=column]", "crossbar:pcm/aged"])
def test_an_exact_update_is_a_step_down_the_gradient(target):
    """By a hundredth of each layer's largest weight at most, through column scales and drift compensation."""
    program = small_program(target)
    begun = begin(program, 0)
    gradient = chip_gradient(program, begun.chip, IMAGES, LABELS, SHORT, random_numbers())
    projections = CrossbarMachine(program, chip=begun.chip).projections
    rate = 0.01 * min(old.forward_weight.abs().max().item() / w.abs().max().item()
                      for old, (w, _) in zip(projections, gradient))
    learned = learn(program, begun, gradient, rate, WRITINGS["exact"], random_numbers())
    for layer, old, new, (weight, bias) in zip(program.layers, projections, CrossbarMachine(
            program, chip=learned.chip).projections, gradient):
        inside = torch.tensor(np.abs(layer.stored.g_us).max((0, 1)) < 0.8 * program.target.g_max_us)   # no end is met
        wanted = -rate * weight[inside]
        step = (new.forward_weight - old.forward_weight)[inside]
        assert torch.allclose(step, wanted, atol=1e-3 * wanted.abs().max().item())
        assert torch.allclose(new.bias - old.bias, -rate * bias.view(-1, 1, 1), atol=1e-6)
        assert inside.double().mean() > 0.3


def test_tuning_never_asks_the_network_that_was_compiled():
    """Its weights are NaN from the moment the chip is programmed, and nothing changes."""
    data, learned = load_data("digits", "train").take(slice(40)), []
    for poison in (False, True):
        program = small_program(NOISY)
        begun = begin(program, 1)
        if poison:
            for coupling in (*program.graph.couplings, program.graph.readout):
                coupling.weight.setflags(write=True)
                coupling.weight.fill(np.nan)
                coupling.bias.setflags(write=True)
                coupling.bias.fill(np.nan)
        learned.append(tune_epoch(program, begun, data, SHORT, WRITINGS["pcm"], seed=0).chip.tensors())
    assert learned[0].keys() == learned[1].keys()
    assert all(torch.equal(learned[0][name], learned[1][name]) for name in learned[0])
    assert all(torch.isfinite(tensor).all() for tensor in learned[1].values())


def test_averaged_pairs_of_a_noisy_chip_point_closer_to_the_quiet_gradient():
    noisy, quiet = (small_program(f"crossbar:pcm/{rung}") for rung in ("read", "aged"))
    exact = chip_gradient(quiet, begin(quiet, 2).chip, IMAGES, LABELS, SHORT, random_numbers())
    chip = begin(noisy, 2).chip

    def mean_cosine(pairs):
        settings = SHORT.model_copy(update={"pairs": pairs})
        return np.mean([cosine(chip_gradient(noisy, chip, IMAGES, LABELS, settings, random_numbers(s)), exact)
                        for s in range(6)])

    assert mean_cosine(1) < mean_cosine(8)


def test_separate_arrays_learn_with_pulses_of_their_own_and_stuck_cells_stay():
    program = small_program("crossbar:reram_wan[arrays=separate,stuck_on=0.1,stuck_off=0.1]")
    begun = begin(program, 4)
    gradient = [(torch.full_like(w.forward_weight, -1.0), torch.zeros(len(w.bias))) for w in
                CrossbarMachine(program, chip=begun.chip).projections]
    learned = learn(program, begun, gradient, 0.5, WRITINGS["reram"], random_numbers())
    for layer, old, new, written in zip(program.layers, begun.chip.arrays, learned.chip.arrays, learned.written):
        assert torch.equal(written[0].pulses, written[1].pulses)
        assert not torch.equal(new[0].conductance_us - old[0].conductance_us,
                               new[1].conductance_us - old[1].conductance_us)
        for name, a, b in zip(("forward", "feedback"), old, new):
            stuck = torch.stack(stuck_cells(layer, program.target, 4, name)).any(0)
            assert stuck.any()
            assert torch.equal(a.conductance_us[stuck], b.conductance_us[stuck])


def test_biases_alone_learn_without_a_pulse():
    program, data = small_program(NOISY), load_data("digits", "train").take(slice(40))
    begun, settings = begin(program, 1), SHORT.model_copy(update={"biases_only": True, "rate": 3.0})
    learned = tune_epoch(program, begun, data, settings, WRITINGS["pcm"], seed=0)
    assert not learned.pulses.any()
    assert all(torch.equal(a.conductance_us, b.conductance_us)
               for (a, _), (b, _) in zip(begun.chip.arrays, learned.chip.arrays))
    assert not any(torch.equal(a, b) for a, b in zip(begun.chip.biases, learned.chip.biases))


def test_read_noise_follows_what_is_written():
    program = small_program(NOISY)
    begun = begin(program, 0)
    gradient = chip_gradient(program, begun.chip, IMAGES, LABELS, SHORT, random_numbers())
    learned = learn(program, begun, gradient, 5.0, WRITINGS["pcm"], random_numbers())
    for (old, _), (new, _) in zip(begun.chip.arrays, learned.chip.arrays):
        moved = old.conductance_us != new.conductance_us
        assert moved.any()
        assert torch.equal(old.fresh_us[~moved], new.fresh_us[~moved])
        assert not torch.equal(old.fresh_us[moved], new.fresh_us[moved])


@pytest.mark.parametrize("target", ["crossbar:pcm[age=1y,drift_compensation=off]",
                                    "crossbar:reram_wan[stuck_on=0.03,stuck_off=0.1]"])
def test_a_spoiled_chip_of_digits_wins_back_accuracy(target):
    """On test images, after 240 training images seen once: above the interval of what it had before."""
    program = mapping.compile(ep_hw.load("digits").lower(), target)
    train, test = load_data("digits", "train").take(slice(240)), load_data("digits", "test").take(slice(60))
    begun = begin(program, 0)
    before = chip_accuracy(program, begun.chip, test, 0)
    learned = tune_epoch(program, begun, train, TuningSettings(epochs=1), writing_of(program.target.preset.name), 0)
    after = chip_accuracy(program, learned.chip, test, 0)
    assert before < 0.7
    assert after > wilson(round(before * len(test)), len(test)).high


class Stop(Exception):
    pass


def stop(chip, course):
    raise Stop


def small_task(target=NOISY, **changes):
    train, watch = load_data("digits", "train").take(slice(40)), load_data("digits", "validation").take(slice(20))
    settings = {"program": small_program(target), "train": train, "watch": watch, "settings": SHORT,
                "writing": WRITINGS["pcm"], "seed": 0}
    return Task(**{**settings, **changes})


def test_a_tuning_cut_short_goes_on_to_the_same_bytes(tmp_path):
    whole = tune_chip(small_task(), 3, tmp_path / "whole")
    with pytest.raises(Stop):
        tune_chip(small_task(), 3, tmp_path / "cut", stop)
    seen = []
    again = tune_chip(small_task(), 3, tmp_path / "cut", lambda chip, course: seen.append(course.progress.epochs))
    assert seen == [2]
    assert again.watched == whole.watched
    assert (tmp_path / "cut").read_bytes() == (tmp_path / "whole").read_bytes()
    assert tune_chip(small_task(), 3, tmp_path / "cut", stop).watched == whole.watched   # finished: nothing left to do
    other = tune_chip(small_task(seed=1), 3, tmp_path / "other")
    assert not torch.equal(other.progress.chip.biases[0], whole.progress.chip.biases[0])


@pytest.mark.parametrize("changes", [{"seed": 1}, {"writing": parse_writing("pcm[noise=0]")},
                                     {"settings": SHORT.model_copy(update={"rate": 0.2})}])
def test_another_tuning_does_not_continue_this_one(tmp_path, changes):
    tune_chip(small_task(settings=SHORT.model_copy(update={"epochs": 1})), 3, tmp_path / "chip")
    with pytest.raises(Refusal, match="another tuning is in the way"):
        tune_chip(small_task(**changes), 3, tmp_path / "chip")


@pytest.mark.parametrize(("changes", "words"), [
    (lambda h, a: h.update(watched=[0.5, 1.5]), "watched.1"), (lambda h, a: h.update(watched=[0.5]), "watched"),
    (lambda h, a: h.update(watched=["1", 1]), "watched.0"), (lambda h, a: h.update(fingerprint=3), "fingerprint"),
    (lambda h, a: a["0.forward.pulses"].fill(-1), "0.forward.pulses: values out of range"),
    (lambda h, a: a["1.forward.owed_us"].fill(np.nan), "1.forward.owed_us: values out of range"),
    (lambda h, a: a["0.forward.conductance_us"].fill(-1), "0.forward.conductance_us: values out of range"),
    (lambda h, a: [a.pop(f"{n}.bias") for n in range(3)], "0.bias: tensor has the wrong"),
    (lambda h, a: a.update({"0.feedback.pulses": a["0.forward.pulses"]}), "0.feedback.pulses: tensor has the wrong")])
def test_a_damaged_unfinished_tuning_is_refused_and_left_as_it_is(tmp_path, changes, words):
    task, path = small_task(settings=SHORT.model_copy(update={"epochs": 1})), tmp_path / "chip"
    tune_chip(task, 3, path)
    whole, header, arrays = path.read_bytes(), open_sealed(path, FORM, remedy="").header, load_file(path)
    changes(header, arrays)
    for blob, said in ((whole[:100], "not a readable unfinished tuning"), (seal(FORM, header, arrays), words),
                       (whole[:-1] + bytes([whole[-1] ^ 1]), "the file is damaged")):
        path.write_bytes(blob)
        with pytest.raises(Refusal, match=said) as caught:
            tune_chip(task, 3, path)
        assert "remove it and tune again" in str(caught.value)
        assert path.read_bytes() == blob


def test_tuned_chips_come_with_their_program_bit_for_bit(tmp_path):
    task = small_task()
    courses = [tune_chip(task, chip, tmp_path / f"{chip}") for chip in (5, 2)]
    save_tuned(tuned_program(task.program, courses), tmp_path)
    program = mapping.load_program(tmp_path)
    assert program.chip_seeds(9) == [5, 2]
    assert str(program.target) == "crossbar:pcm[age=1d,steps=20,tuned=on]"
    for course in courses:
        kept = simulators.open(program, chip_seed=course.progress.chip.seed).relax(IMAGES, generator=random_numbers())
        now = CrossbarMachine(task.program, chip=course.progress.chip).relax(IMAGES, generator=random_numbers())
        assert torch.equal(kept.logits, now.logits)
        assert not torch.equal(kept.logits, CrossbarMachine(task.program, course.progress.chip.seed).relax(
            IMAGES, generator=random_numbers()).logits)
    with pytest.raises(Refusal, match="not tuned"):
        simulators.open(program, chip_seed=0)


def test_a_tuned_chip_stands_on_the_rungs_of_the_programmed_one(tmp_path):
    """Each holds the program's arrays on its own chip; tuning comes last, and what it did is no fault."""
    task = small_task("crossbar:pcm/aged")
    program = tuned_program(task.program, [tune_chip(task, 0, tmp_path / "chip")])
    rungs = ladder(program, program.graph)
    assert [rung.name for rung in rungs][-2:] == ["crossbar:pcm/aged", "crossbar:pcm/aged[tuned=on]"]
    ends = [simulators.open(rung.program).relax(IMAGES).logits for rung in rungs[-2:]]
    assert torch.equal(ends[0], simulators.open(task.program).relax(IMAGES).logits)
    assert not torch.equal(*ends)
    explanation = explain(program.graph, rungs[0].program, program, IMAGES[:2], steps=4, tolerance=1e-5, chip=0, seed=0)
    assert explanation.contributions[-1].cause == "tuning in situ"
    assert not explanation.faults


def test_costs_add_up(tmp_path):
    task = small_task(settings=SHORT.model_copy(update={"rate": 3.0}))
    costs_of, course = {}, tune_chip(task, 3, tmp_path / "chip")
    for writing in ("pcm", "linear", "pcm[pulse_energy_j=4.5e-12]"):
        costs_of[writing] = costs(replace(task, writing=parse_writing(writing)), course)
    pulses = torch.cat([record.pulses.flatten() for arrays in course.progress.written for record in arrays])
    assert costs_of["pcm"]["pulses"] == pulses.sum() > 0
    told = costs_of["pcm[pulse_energy_j=4.5e-12]"]
    assert told["write_energy_j"] == pytest.approx(pulses.sum().item() * 4.5e-12)
    assert costs_of["pcm"]["endurance_used"] == pytest.approx(pulses.max().item() / 1e6)
    assert costs_of["pcm"]["write_energy_j"] is costs_of["linear"]["write_energy_j"] is None
    steps = SHORT.free_steps + 2 * SHORT.nudged_steps
    assert (costs_of["pcm"]["read_energy_j"], costs_of["pcm"]["image_energy_j"]) == (None, None)
    hermes = replace(task, program=mapping.compile(task.program.graph, "crossbar:hermes_2[steps=20]"))
    read = costs(hermes, course)
    share = read["read_energy_j"] / read["image_energy_j"] / (2 * 40)
    assert share == pytest.approx(steps / 20, rel=0.05)   # reads go with the steps


def test_gains_are_paired_by_chip():
    rows = [{"variant": v, "chip": chip, "accuracy": a, "images": 10**9}
            for v, values in (("digital", [0.9]), ("mapped", [0.2, 0.4, 0.6]), ("tuned", [0.51, 0.7, 0.89]))
            for chip, a in enumerate(values)]
    rows[0]["chip"] = None
    digital, mapped, tuned = summarise(rows)
    assert (digital.low, digital.high) == pytest.approx(wilson(9 * 10**8, 10**9))
    assert digital.gain_low is None
    assert mapped.gain == 0
    assert tuned.gain == pytest.approx(0.3)
    assert tuned.gain_high - tuned.gain_low == pytest.approx(2 * 4.303 * 0.01 / 3**0.5, rel=1e-3)
    assert tuned.high - tuned.low > 0.5


def test_chips_that_agree_say_nothing_of_other_images():
    rows = [{"variant": v, "chip": chip, "accuracy": a, "images": 100} for v, a in (("mapped", 0.4), ("tuned", 0.9))
            for chip in range(3)]
    tuned = summarise(rows)[-1]
    assert (tuned.low, tuned.high) == pytest.approx(wilson(90, 100))
    assert (tuned.gain_low, tuned.gain_high) == pytest.approx(unpaired_interval(40, 100, 90, 100))
