"""Adversarial success: plain arithmetic, envelopes that never fall, and the same rows after an interruption."""

import csv
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from networks import saved, small_network

import simulators
from ep_hw import workflow
from ep_hw.evaluation.envelope import FOLDER, attacks_of, by_image, outcomes_of, running_largest
from ep_hw.evaluation.matched_noise import LEAST, MOST, SOURCES, TOLERANCE, matched, noises_of
from ep_hw.evaluation.suites import Envelope, Grid, Request, Suite
from ep_hw.networks.family import BP, EP, NOISE_TRAINED, Member, protocol_members
from ep_hw.threats.attacks import AttackSettings, perturbation
from ep_hw.threats.threat import CLEAN

GRIDS = (Grid("pgd_linf", (0.05, 0.3), (1, 3)), Grid("one_pixel", (2.0,), (5,)))
NOISY = "crossbar:generic[steps=4,additive=0.1,read_noise=1]"
TINY = Suite("for tests", (), AttackSettings(gradients=("bptt@3",), eot=1, votes=1), images=6, chips=2,
             machines=("digital", NOISY), envelope=Envelope(GRIDS, repeats=3, drops=()))
READS = arrays.arrays(bool, st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 6)))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(saved(small_network(5, steps=20), tmp_path_factory.mktemp("model"), recipe={"seed": 5}))


@pytest.fixture(scope="module")
def finished(model, tmp_path_factory):
    """Of grey images: no pixel has a colour that is painted on it, which would change nothing."""
    plan, folder = workflow.plan_evaluation(model, Request(suite=TINY)), tmp_path_factory.mktemp("run")
    plan = replace(plan, images=replace(plan.images, images=0.1 + 0.8 * plan.images.images))
    found = workflow.run(plan, folder, command="ep-hw evaluate", title="test")
    assert found.envelopes.rows["envelope"]
    return plan, folder


def rows_of(folder):
    return list(csv.DictReader((folder / "tables/envelope.csv").read_text().splitlines()))


def test_success_by_hand():
    """Of two reads of four images: 1 of 3 right ones falls, then 2 of 2; the wrong ones never count."""
    clean = np.array([[[1, 1, 1, 0], [1, 1, 0, 0]]], bool)
    attacked = np.array([[[1, 0, 1, 0], [0, 0, 1, 1]]], bool)
    assert by_image(clean, attacked).mean() == pytest.approx((1 / 3 + 2 / 2) / 2)


@given(clean=READS, data=st.data())
@settings(max_examples=60)
def test_success_is_counted_read_by_read(clean, data):
    attacked = data.draw(arrays.arrays(bool, clean.shape))
    shares = []
    for right, after in zip(clean.reshape(-1, clean.shape[-1]), attacked.reshape(-1, clean.shape[-1])):
        fallen = [r and not a for r, a in zip(right, after)]
        shares.append(sum(fallen) / sum(right) if sum(right) else 0.0)
    assert by_image(clean, attacked).mean() == pytest.approx(np.mean(shares))
    assert by_image(clean, clean).sum() == 0


@given(grid=arrays.arrays(float, st.tuples(st.integers(1, 4), st.integers(1, 4)), elements=st.floats(0, 1)))
@settings(max_examples=60)
def test_an_envelope_is_the_largest_so_far_in_both_directions(grid):
    largest = running_largest(grid)
    for e, s in np.ndindex(grid.shape):
        assert largest[e, s] == grid[:e + 1, :s + 1].max()
    assert (np.diff(largest, axis=0) >= 0).all()
    assert (np.diff(largest, axis=1) >= 0).all()


def test_a_machine_with_chips_is_three_platforms_and_any_other_one(finished):
    plan, folder = finished
    outcomes = outcomes_of(attacks_of(plan, folder))
    assert [(p.machine, p.role) for p in outcomes] == [
        ("reference", "itself"), ("digital", "itself"), (NOISY, "model"), (NOISY, "chip"),
        (NOISY, "chip itself")]
    places = {platform.role: met[0].clean.shape[0] for platform, met in outcomes.items()}
    assert places == {"itself": 1, "model": 1, "chip": 2, "chip itself": 2}
    for met in outcomes.values():
        assert {(m.threat.kind, m.threat.strength, m.effort) for m in met} == {
            ("pgd_linf", 0.05, 1), ("pgd_linf", 0.05, 3), ("pgd_linf", 0.3, 1), ("pgd_linf", 0.3, 3),
            ("one_pixel", 2.0, 5)}


def test_attacks_start_from_all_images_stay_in_their_ball_and_are_made_on_a_chip_of_their_own(finished):
    plan, folder = finished
    asked = attacks_of(plan, folder)
    for _, tries in asked:
        clean, *attacks = tries
        assert clean.threat == CLEAN
        for one in attacks:
            size = perturbation(plan.images.images, one.made(), one.threat.norm)
            assert (size <= one.threat.strength + 1e-6).all()
            assert (size > 0).all()
    (of_model,) = [tries for platforms, tries in asked if platforms[0].role == "model"]
    assert of_model[0].made_on.chip not in [place.chip for place in of_model[0].shown_to[1:]]


def test_without_noise_every_read_is_the_same_and_with_it_they_differ(finished):
    plan, folder = finished
    reads = {platform: np.concatenate([met.attacked for met in own])
             for platform, own in outcomes_of(attacks_of(plan, folder)).items()}
    for platform, right in reads.items():
        same = (right == right[:, :1]).all()
        assert same == (platform.role == "itself"), platform


def test_the_same_question_gives_the_same_rows_and_an_interrupted_run_goes_on(finished, tmp_path):
    plan, folder = finished
    kept = sorted((folder / FOLDER).iterdir())
    times = {path: path.stat().st_mtime_ns for path in kept}
    for path in kept[::2]:
        path.unlink()
    heard = []
    again = workflow.measure_envelopes(plan.showing(lambda what, *counts: heard.append(counts)), folder)
    assert heard == [(number, len(kept)) for number in range(len(kept[1::2]) + 1, len(kept) + 1)]
    assert [{**row, **{k: str(v) for k, v in row.items()}} for row in again.rows["envelope"]] == rows_of(folder)
    assert {path: path.stat().st_mtime_ns for path in kept[1::2]} == {path: times[path] for path in kept[1::2]}
    other = workflow.measure_envelopes(replace(plan, asked=replace(plan.asked, seed=1)), tmp_path)
    assert other.rows["envelope"] != again.rows["envelope"]


def test_a_damaged_file_is_measured_again(finished, caplog):
    plan, folder = finished
    *_, last = attacks_of(plan, folder)[0][1]
    before = last.arrays()["right"]
    last.path.write_bytes(last.path.read_bytes()[:-9])
    assert not last.done()
    assert "measured again" in caplog.text
    workflow.measure_envelopes(plan, folder)
    assert np.array_equal(last.arrays()["right"], before)


def test_the_page_answers_beside_what_is_printed(finished):
    _, folder = finished
    page = (folder / "report.html").read_text()
    assert "attacks succeed least on" in page
    assert "holding the chip gains" in page
    assert "84.31" in page
    for row in rows_of(folder):
        assert float(row["envelope"]) >= float(row["success"])
    drawn = [float(share) for share in re.findall(r'data-tip="[^"]*, all efforts, [^"]*: ([0-9.]+) % \[', page)]
    most = {row["attack"]: int(row["effort"]) for row in sorted(rows_of(folder), key=lambda row: int(row["effort"]))}
    assert sorted(drawn) == sorted(round(100 * float(row["envelope"]), 1) for row in rows_of(folder)
                                   if int(row["effort"]) == most[row["attack"]])


def test_a_protocol_brings_the_first_bp_network_and_those_trained_with_noise():
    names = ["x", "x-bp-noise-s3", "x-bp-s1", "x-bp-s2", "x-noise-s9", "x-vit-s1", "y-noise"]
    assert protocol_members("x", EP, names) == (
        Member("x-bp-s1", BP), Member("x-noise-s9", EP + NOISE_TRAINED), Member("x-bp-noise-s3", BP + NOISE_TRAINED))
    assert protocol_members("x", EP, names, alone=True) == (Member("x-noise-s9", EP + NOISE_TRAINED),)
    assert protocol_members("x-bp-s2", BP, names) == (Member("x-bp-noise-s3", BP + NOISE_TRAINED),)
    assert protocol_members("z", EP, names) == ()


def test_a_network_that_was_trained_again_is_attacked_in_floats_only(finished, tmp_path):
    plan, _ = finished
    retrained = replace(plan, asked=replace(plan.asked, retrained=True))
    assert [[p.machine for p in platforms] for platforms, _ in attacks_of(retrained, tmp_path)] == [["reference"]]


@given(at=st.floats(-3.5, -0.1), steep=st.floats(1, 8), wanted=st.floats(0.3, 0.95))
@settings(max_examples=60)
def test_noise_is_found_that_leaves_the_accuracy_wanted(at, steep, wanted):
    """Accuracies fall as a logistic function of log sigma; nothing is found where the largest sigma leaves more."""
    def accuracy(sigma):
        return 1 / (1 + math.exp(steep * (math.log10(sigma) - at)))

    sigma = matched(accuracy, wanted)
    assert (sigma is None) == (accuracy(MOST) > wanted + TOLERANCE)
    if sigma is not None and accuracy(LEAST) > wanted:
        assert accuracy(sigma) == pytest.approx(wanted, abs=TOLERANCE)


@pytest.fixture(scope="module")
def noises(finished, tmp_path_factory):
    plan, _ = finished
    asked = replace(plan.asked, machines=("reference",), envelope=replace(TINY.envelope, drops=(0.2,)))
    right = plan.programs["reference"], plan.images.images
    labels = simulators.open(right[0]).relax(right[1]).prediction   # so that there is accuracy to lose
    plan = replace(plan, images=replace(plan.images, labels=labels), asked=asked)
    folder = tmp_path_factory.mktemp("noises")
    return plan, folder, workflow.measure_envelopes(plan, folder)


def test_every_source_costs_what_was_asked_or_says_that_it_cannot(noises):
    plan, folder, _ = noises
    none, *others = [one.read() for one in noises_of(plan, folder)]
    assert (none.drop, none.sigma) == (0.0, 0.0)
    assert [other.source for other in others] == list(SOURCES)
    step = 1 / none.clean.size   # the least drop that so few reads can show
    for other in others:
        lost = none.clean.mean() - other.clean.mean()
        if other.sigma is None:
            assert lost < 0.2
        else:
            assert lost == pytest.approx(0.2, abs=2 * step)
            assert 0 < other.sigma <= MOST


def test_noise_stands_in_words_in_a_table_and_in_rows(noises):
    plan, _, shown = noises
    assert shown.tables[0].notes[-1] == f"Feedback gain (gamma, 1 in the paper): 1 of {plan.model}."
    table = shown.tables[1]
    assert [row[0] for row in table.rows] == ["none", *(f"\u221220 points: {name}" for name in SOURCES.values())]
    assert any("of clean accuracy: pgd_linf succeeds least under" in sentence for sentence in shown.answers)
    assert len(shown.rows["envelope-noise"]) == (1 + len(SOURCES)) * len(GRIDS[0].strengths)


def test_frozen_noise_is_drawn_ten_times_and_recurrent_noise_read_ten_times(noises):
    plan, folder, _ = noises
    for one in noises_of(plan, folder)[1:]:
        program = replace(one.program, target=one.program.target.having(**{one.source: 0.1}))
        frozen = "frozen" in SOURCES[one.source]
        assert (program.target.has_chips, program.target.is_noisy) == (frozen, not frozen)
