"""Tuning on Loihi from the command's plan to its files: Lava's bits are the twin's, and what is done is kept."""

import json

import pytest

from ep_hw.learning.in_situ.on_loihi import learn, off_chip, run_on_loihi
from ep_hw.learning.in_situ.run import Lesson, plan_tuning
from ep_hw.learning.in_situ.settings import TuningSettings
from ep_hw.networks.accuracy import accuracy
from mapping.errors import Refusal
from mapping.loading import load_program
from simulators.loihi.twin import open_twin

SETTINGS = TuningSettings(epochs=2, batch=20, beta=0.5)


def plan(machine="loihi[dead=0.2]", settings=SETTINGS, chips=(0,), learn=60, **asked):
    return plan_tuning("digits", machine, chips, settings, Lesson(learn=learn, images=40, **asked))


def integers(program):
    return [array.tolist() for layer in (*program.layers, program.readout) for array in (layer.weight, layer.bias)]


def silent(variant, chip, watched):
    assert len(watched) > 1


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """(tuning, folder, table) of a finished one."""
    tuning, folder = plan(chips=(0, 1)), tmp_path_factory.mktemp("tuned")
    return tuning, folder, run_on_loihi(tuning, folder, silent)


def test_every_variant_has_a_row_a_chip(tuned):
    _, folder, table = tuned
    rows = json.loads((folder / "tuning.json").read_text())["rows"]
    assert [(row["variant"], row["chip"]) for row in rows] == [("digital", None), *(
        (variant, chip) for variant in ("mapped", "off-chip", "readout", "tuned") for chip in (0, 1))]
    assert [line[0] for line in table.rows] == ["digital", "mapped", "readout", "off-chip", "tuned"]
    assert (folder / "report.html").exists()
    steps = {row["time_steps"] for row in rows if row["variant"] == "tuned"}
    assert steps == {2 * 60 * (SETTINGS.free_steps + 2 * SETTINGS.nudged_steps + 2)}


def test_what_a_chip_learned_runs_as_any_program(tuned):
    tuning, folder, _ = tuned
    rows = json.loads((folder / "tuning.json").read_text())["rows"]
    for row in rows[-2:]:
        program = load_program(folder / f"tuned-chip-{row['chip']}")
        assert accuracy(open_twin(program), tuning.test) == row["accuracy"]
        assert program.target.dead_seed == row["chip"]
        assert integers(program) != integers(tuning.on(row["chip"]))


def test_the_readout_alone_leaves_all_else(tuned):
    tuning, folder, _ = tuned
    before, after = tuning.on(0), load_program(folder / "readout-chip-0")
    assert integers(after)[:-2] == integers(before)[:-2]
    assert integers(after)[-2] != integers(before)[-2]


def test_what_is_done_is_not_done_again_and_gives_the_same_bytes(tuned, tmp_path):
    tuning, folder, _ = tuned
    spoken = []
    before = (folder / "tuning.json").read_bytes()
    (folder / "tuned-chip-1.json").unlink()   # as if killed before the last chip was done
    run_on_loihi(tuning, folder, lambda variant, chip, watched: spoken.append((variant, chip)))
    assert spoken == [("tuned", 1)] * SETTINGS.epochs
    assert (folder / "tuning.json").read_bytes() == before


def test_a_chip_of_another_tuning_is_refused(tuned):
    _, folder, _ = tuned
    with pytest.raises(Refusal, match="a tuned chip cannot be read; got it is of another tuning"):
        learn(plan(seed=1), 0, "tuned", folder, silent)


def test_lava_learns_what_the_twin_learns(tmp_path):
    made = []
    for machine in ("loihi[dead=0.1]", "lava[dead=0.1]"):
        tuning = plan(machine, SETTINGS.model_copy(update={"epochs": 1}), learn=40, world="contrast@3")
        made.append(learn(tuning, 0, "tuned", tmp_path / machine, silent))
    (twin, its_course), (lava, course) = made
    assert integers(lava) == integers(twin)
    assert (course.watched, course.writes) == (its_course.watched, its_course.writes)
    assert course.writes > 0


def test_learning_off_the_chip_knows_nothing_of_its_damage():
    """It gives the same integers whichever neurons are dead."""
    tuning = plan(chips=(0,))
    other = plan("loihi", chips=(0,))
    assert integers(off_chip(tuning, 0)) == integers(off_chip(other, 0))


@pytest.mark.parametrize(("asked", "words"), [
    ({"settings": TuningSettings(pairs=2)}, "this tuning is for crossbars"),
    ({"machine": "loihi:weights"}, "this tuning is for crossbars"), ({"write": "exact"}, "only programmed chips"),
    ({"learn": 10}, "fewer images than a batch"), ({"world": "pgd_l2@0.5"}, "a world is a corruption"),
    ({"settings": TuningSettings(beta=1e5, batch=20)}, "nudge strength out of range")])
def test_what_cannot_be_tuned_is_refused(asked, words):
    with pytest.raises(Refusal, match=words):
        plan(**asked)
