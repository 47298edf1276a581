"""Runs side by side, and corruption errors: against numbers worked out by hand."""

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ep_hw.analysis.comparison import FinishedRun, feedback_gains, networks_of, over_runs, over_runs_table, paired
from ep_hw.analysis.corruption_error import corruption_error, mce, mean_corruption_error
from ep_hw.analysis.results import write_results
from ep_hw.analysis.rows import spelled
from ep_hw.networks.gains import gain_text, gains_said
from ep_hw.threats.corruptions import ALL, MAIN
from ep_hw.threats.threat import CLEAN, Threat
from mapping import Refusal

CASES = (("reference", CLEAN, None), ("crossbar:pcm", Threat("fog", 3.0), 0), ("crossbar:pcm", Threat("fog", 3.0), 1))


def write_run(folder, correct, ids=None, model="small", pixels="a"):
    """A run of `CASES` from correctness (cases, images)."""
    correct = np.asarray(correct, bool)
    ids = np.arange(correct.shape[1]) if ids is None else ids
    folder.mkdir()
    rows, summary = [], []
    for (machine, threat, chip), right in zip(CASES, correct):
        case = {"machine": machine, "chip_seed": chip}
        rows += [{**case, **spelled(threat), "image_id": int(i), "pixels": f"{pixels}{i}", "label": 1,
                  "prediction": int(r)} for i, r in zip(ids, right)]
        summary.append({**case, "threat": threat, "model": model, "n": len(ids), "accuracy": float(right.mean())})
    table = pa.Table.from_pylist(rows)
    write_results(folder, table.schema, [(table, summary)])
    return folder


def carded(folder, place=None, model="small", **said):
    """The run in `folder`, whose card in `place` says this of its network."""
    place = (place or folder) / "cards"
    place.mkdir()
    (place / f"{model}-reference.json").write_text(json.dumps({"model": model, **said}))
    return FinishedRun.of(folder)


def draws(seed, n=40):
    return np.random.default_rng(seed).random((3, n)) < [[0.9], [0.6], [0.5]]


def test_the_mean_over_seeds_has_its_student_interval(tmp_path):
    drawn = [draws(seed) for seed in range(5)]
    rows = over_runs([FinishedRun.of(write_run(tmp_path / str(n), d)) for n, d in enumerate(drawn)])
    values = np.array([(d[0].mean(), d[1:].mean()) for d in drawn]).T
    for row, found in zip(rows, values):
        half = stats.t.ppf(0.975, 4) * found.std(ddof=1) / np.sqrt(5)
        assert (row["mean"], row["ci_low"], row["ci_high"]) == pytest.approx(
            (found.mean(), found.mean() - half, found.mean() + half))
    assert [(row["machine"], row["threat"]) for row in rows] == [("reference", "clean"), ("crossbar:pcm", "fog")]


@settings(max_examples=8)
@given(seed=st.integers(0, 10**6))
def test_two_runs_are_paired_by_image_whatever_their_order(tmp_path_factory, seed):
    folder, rng = tmp_path_factory.mktemp("runs"), np.random.default_rng(seed)
    a, b, order = draws(seed), draws(seed + 1), rng.permutation(40)
    first = FinishedRun.of(write_run(folder / "a", a))
    second = FinishedRun.of(write_run(folder / "b", b[:, order], ids=order))
    clean = paired(first, second)[0]
    only = int((a[0] & ~b[0]).sum()), int((b[0] & ~a[0]).sum())
    assert clean["difference"] == pytest.approx(b[0].mean() - a[0].mean())
    assert clean["mcnemar"] == pytest.approx(stats.binomtest(only[0], sum(only)).pvalue if sum(only) else 1)
    assert clean["ci_low"] <= clean["difference"] <= clean["ci_high"]
    noisy = paired(first, second)[1]
    assert noisy["difference"] == pytest.approx(b[1:].mean() - a[1:].mean())


@settings(max_examples=8)
@given(seed=st.integers(0, 10**6), shift=st.integers(0, 39))
def test_what_one_run_alone_saw_is_left_out_and_counted(tmp_path_factory, seed, shift):
    """Runs on images 0 to 39 and shift to 39 + shift are compared as runs on shift to 39 are."""
    folder, a, b = tmp_path_factory.mktemp("runs"), draws(seed), draws(seed + 1)
    first, second, ours, theirs = (FinishedRun.of(write_run(folder / name, correct, ids=np.arange(*ids)))
                                   for name, correct, ids in (
        ("a", a, (0, 40)), ("b", b, (shift, 40 + shift)), ("c", a[:, shift:], (shift, 40)),
        ("d", b[:, :40 - shift], (shift, 40))))
    for row, alone in zip(paired(first, second), paired(ours, theirs), strict=True):
        assert row == {**alone, "left_out": 2 * shift}
        assert row["images"] == 40 - shift


def test_runs_that_cannot_be_compared_are_refused(tmp_path):
    one = write_run(tmp_path / "a", draws(0))
    other = write_run(tmp_path / "b", draws(0), ids=np.arange(40) + 40)
    recoloured = write_run(tmp_path / "c", draws(0), pixels="b")
    for different in (other, recoloured):
        with pytest.raises(Refusal, match="no image in common"):
            paired(FinishedRun.of(one), FinishedRun.of(different))
    with pytest.raises(Refusal, match="nothing to compare"):
        over_runs([FinishedRun.of(one)])
    with pytest.raises(Refusal, match="not a finished evaluation"):
        FinishedRun.of(tmp_path)


@pytest.mark.parametrize("name", ["results.parquet", "summary.json", "SHA256SUMS"])
@pytest.mark.parametrize("damage", [lambda blob: b"", lambda blob: blob[:len(blob) // 2], lambda blob: blob + b"\n",
                                    lambda blob: blob[:40] + bytes([blob[40] ^ 1]) + blob[41:]])
def test_an_altered_run_is_refused(tmp_path, name, damage):
    file = write_run(tmp_path / "run", draws(0)) / name
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(Refusal, match="an evaluation cannot be read"):
        FinishedRun.of(tmp_path / "run")


def corrupted(errors, machine="reference"):
    """Accuracies with the given error for every corruption, at all severities."""
    return {(machine, Threat(name, float(s))): 1 - error * s / 3 for name, error in errors.items() for s in range(1, 6)}


def test_corruption_errors_are_means_over_severities():
    errors = {name: 0.1 + 0.01 * n for n, name in enumerate(ALL)}
    rows, base = corrupted(errors), corrupted(dict.fromkeys(ALL, 0.2), "digits-bp")
    for name, error in errors.items():
        assert corruption_error(rows, "reference", name) == pytest.approx(error)
    for names in (MAIN, ALL):
        mean = np.mean([errors[name] for name in names])
        assert mean_corruption_error(rows, "reference", names) == pytest.approx(mean)
        assert mce(rows, "reference", base, "digits-bp", names) == pytest.approx(mean / 0.2)
    assert mce(rows, "reference", rows, "reference") == pytest.approx(1)


@given(gains=st.lists(st.none() | st.floats(0, 1000) | st.lists(st.floats(0, 1000), min_size=1, max_size=4),
                      min_size=1, max_size=5))
def test_every_gain_is_said_beside_its_network(gains):
    """Networks of one gain share a place; those without are not named."""
    said = gains_said({f"n{n}": gain for n, gain in enumerate(gains)})
    shown = {f"n{n}": gain_text(gain) for n, gain in enumerate(gains) if gain is not None}
    assert len(said) == bool(shown)
    told = [part.split(" of ") for sentence in said for part in sentence.partition(": ")[2].rstrip(".").split("; ")]
    assert {name: text for text, names in told for name in names.split(", ")} == shown
    assert len({text for text, _ in told}) == len(told)


def test_runs_know_how_their_networks_were_made_by_their_cards(tmp_path):
    made = {"recipe": {"data": "digits", "epochs": 3, "seed": 1}, "trained_on": {"name": "digits"}}
    plain = FinishedRun.of(write_run(tmp_path / "plain", draws(0)))
    uniform = carded(write_run(tmp_path / "uniform", draws(0)), architecture={"feedback_gain": 0.3, "steps": 9}, **made)
    (tmp_path / "run/family").mkdir(parents=True)
    layered = carded(write_run(tmp_path / "run/family/small", draws(0)), tmp_path / "run",
                     architecture={"feedback_gain": [1, 0.5]})
    cnn = carded(write_run(tmp_path / "cnn", draws(0)), architecture={"architecture": "cnn"})
    networks = networks_of([plain, uniform, layered, cnn])
    assert [row["feedback_gain"] for row in networks] == [None, 0.3, [1.0, 0.5], None]
    assert feedback_gains(networks) == (f"Feedback gain (gamma, 1 in the paper): 0.3 of {uniform.folder} (small); "
                                        f"(1, 0.5) of {layered.folder} (small).",)
    again = carded(write_run(tmp_path / "again", draws(1)), **{**made, "recipe": {**made["recipe"], "seed": 2}})
    longer = carded(write_run(tmp_path / "longer", draws(1)), **{**made, "recipe": {**made["recipe"], "epochs": 4}})
    for other, notes in ((again, 0), (longer, 1), (plain, 0)):
        runs = [uniform, other]
        assert len(over_runs_table(over_runs(runs), runs).notes) == notes


@pytest.mark.parametrize("content", ["", "[]", '{"architecture": {"feedback_gain": -1}}', '{"recipe": []}',
                                     '{"architecture": {"feedback_gain": [1, "x"]}}'])
def test_a_card_that_is_none_is_refused(tmp_path, content):
    run = carded(write_run(tmp_path / "run", draws(0)))
    (tmp_path / "run/cards/small-reference.json").write_text(content)
    with pytest.raises(Refusal, match="a card cannot be read"):
        networks_of([run])


def test_an_incomplete_set_is_refused_by_name():
    rows = corrupted(dict.fromkeys(ALL, 0.2))
    short = {case: rows[case] for case in rows if case[1] not in (Threat("fog", 2.0), Threat("fog", 5.0))}
    with pytest.raises(Refusal, match="no fog@2, fog@5"):
        mean_corruption_error(short, "reference", MAIN)
    with pytest.raises(Refusal, match="no error"):
        mce(rows, "reference", dict.fromkeys(rows, 1.0), "reference")


def test_the_command_prints_both_tables_and_keeps_the_numbers(ep_hw, refused, tmp_path):
    for n in range(2):
        carded(write_run(tmp_path / f"s{n}", draws(n)), architecture={"feedback_gain": 0.3})
    code, out, err = ep_hw("compare", "s0", "s1", "--out", "numbers.json")
    assert code == 0, err
    assert "McNemar p" in out
    assert "accuracy over 2 runs" in out
    assert "Feedback gain (gamma, 1 in the paper): 0.3 of s0 (small), s1 (small)." in out
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    assert [row["images"] for row in numbers["paired"]] == [40, 40]
    assert [row["runs"] for row in numbers["over_runs"]] == [2, 2]
    page = (tmp_path / "numbers.html").read_text()
    assert "s0 and s1, side by side" in page
    assert page.count("<table") == 2
    assert page.count("0.3 of s0") == 1
    assert ">0.3, 0.3<" in page
    assert [row["feedback_gain"] for row in numbers["networks"]] == [0.3, 0.3]
    assert "no gaussian_noise@1" in refused("compare", "s0", "--baseline", "s1")
