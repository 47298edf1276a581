"""Training resumes to the same bytes; checkpoints are whole, checked and never unpickled."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from networks import saved, small_network
from recipe import SMALL
from safetensors.numpy import load_file, save

import ep_hw
from ep_hw.data import DataSource, load_data
from ep_hw.learning.rule import ep_gradient
from ep_hw.learning.training import augment, contrast, load_recipe, loop, parse_recipe, recipes, train
from ep_hw.learning.training.average import Average
from ep_hw.learning.training.learners import EPLearner, learner_of
from ep_hw.networks.accuracy import accuracy
from ep_hw.networks.checkpoint import packaged_models
from ep_hw.networks.seeds import named_networks
from mapping import Refusal
from mapping.sealed import open_sealed, seal

TINY = SMALL.model_copy(update={"epochs": 3, "affine": (10.0, 0.1, 0.5)})


class Stop(Exception):
    pass


def stop_after(epochs):
    def log(epoch):
        if epoch.number == epochs:
            raise Stop
    return log


def test_a_resumed_run_gives_the_same_bytes_as_an_uninterrupted_one(tmp_path):
    train(TINY, 1, tmp_path / "whole.safetensors", name="tiny")
    with pytest.raises(Stop):
        train(TINY, 1, tmp_path / "cut.safetensors", name="tiny", log=stop_after(2))
    assert not (tmp_path / "cut.safetensors").exists()
    seen = []
    train(TINY, 1, tmp_path / "cut.safetensors", name="tiny", log=lambda epoch: seen.append(epoch.number))
    assert seen == [3]
    assert (tmp_path / "cut.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cut.safetensors", "whole.safetensors"]


@pytest.mark.parametrize(("steps", "changes"), [(7, {}), (25, {}), (25, {"gain": 4.0, "feedback_norm": 2.0}),
                                              (25, {"optimiser": "adamw", "rates": (0.004,) * 3, "warm_up": 30,
                                                    "average": 0.9, "feedback_gain": 0.2}),
                                              (25, {"last_free_steps": 17}),
                                              (25, {"channels": (4, 6, 5), "paddings": (1, 1, 1), "pools": (2, 2, 1),
                                                    "rates": (0.1,) * 4, "feedback_gain": (1.0, 0.3, 0.6)}),
                                              (25, {"teacher": "digits-bp-s11", "strides": (2, 1), "pools": (1, 2)})])
def test_a_run_stopped_within_an_epoch_goes_on_at_its_last_save(tmp_path, monkeypatch, steps, changes):
    recipe = TINY.model_copy(update=changes)
    train(recipe, 1, tmp_path / "whole.safetensors", name="tiny")
    monkeypatch.setattr(loop, "SAVE_EVERY_S", 0)
    taken, step = [], EPLearner.step

    def dying(learner, *arguments):
        if len(taken) == steps:
            raise Stop
        taken.append(step(learner, *arguments))

    with monkeypatch.context() as patched:
        patched.setattr(EPLearner, "step", dying)
        with pytest.raises(Stop):
            train(recipe, 1, tmp_path / "cut.safetensors", name="tiny")
    monkeypatch.setattr(EPLearner, "step", lambda *arguments: taken.append(step(*arguments)))
    train(recipe, 1, tmp_path / "cut.safetensors", name="tiny")
    batches = -(-len(load_data("digits", "train")) // recipe.batch)
    assert len(taken) == recipe.epochs * batches
    assert (tmp_path / "cut.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()


def test_a_teacher_s_answers_take_the_place_of_the_labels():
    """A teacher that is sure of the labels teaches what they do, to the bit; the packaged one teaches otherwise."""
    split = load_data("digits", "train").take(slice(64))
    plain, taught = (learner_of(TINY.model_copy(update={"teacher": name}), TINY.spec(split), 0, "cpu")
                     for name in ("", "digits-bp-s11"))
    other = learner_of(TINY.model_copy(update={"teacher": "digits-bp-s11"}), TINY.spec(split), 0, "cpu")
    taught._teacher = SimpleNamespace(relax=lambda images: SimpleNamespace(
        logits=1000.0 * F.one_hot(split.labels, 10)))
    for learner in (plain, taught, other):
        learner.step(split.images, split.labels, torch.Generator())
    assert all(torch.equal(a, b) for a, b in zip(plain.net.weights, taught.net.weights))
    assert not torch.equal(plain.net.weights[0], other.net.weights[0])


def test_a_run_is_another_with_another_teacher(tmp_path):
    teacher = saved(small_network(4), tmp_path, "teacher")
    taught = TINY.model_copy(update={"teacher": str(teacher)})
    before = taught.fingerprint(1)
    assert before != TINY.fingerprint(1)
    assert before != TINY.model_copy(update={"start": str(teacher)}).fingerprint(1)
    teacher.unlink()
    saved(small_network(5), tmp_path, "teacher")
    assert taught.fingerprint(1) != before


def test_equal_feedback_gains_are_one_number_and_others_another_run():
    said = {**TINY.model_dump(mode="json", exclude_none=True), "channels": [4, 6, 5], "paddings": [1, 1, 1],
            "pools": [2, 2, 1], "rates": [0.1] * 4}
    one, equal, other = (parse_recipe({**said, "feedback_gain": gain}) for gain in (0.3, [0.3] * 3, [0.3, 0.3, 0.6]))
    assert one == equal
    assert one.fingerprint(1) == equal.fingerprint(1) != other.fingerprint(1)
    assert other.spec(load_data("digits", "train")).feedback_gain == (0.3, 0.3, 0.6)
    assert parse_recipe(other.model_dump(mode="json")) == other


def test_a_teacher_of_other_images_teaches_no_ep_network():
    recipe = TINY.model_copy(update={"teacher": "cifar10-small"})
    with pytest.raises(Refusal, match="teacher was trained for other images"):
        learner_of(recipe, TINY.spec(load_data("digits", "train")), 1, "cpu")


def test_an_average_is_the_weighted_sum_of_all_updates():
    """ep_hw.learning.training.average (1), by hand; the network itself stays what it is."""
    net = learner_of(TINY, TINY.spec(load_data("digits", "train")), 0, "cpu").net
    average, kept, seen = Average(net, 0.5), net.weights[0].clone(), []
    for k in range(12):
        net.weights[0].add_(0.1)
        seen.append(net.weights[0].clone())
        share = min(0.5, (1 + k) / (10 + k))
        kept = share * kept + (1 - share) * seen[-1]
        average.update()
    assert torch.allclose(average.network().weights[0], kept, atol=1e-6)
    assert torch.equal(net.weights[0], seen[-1])


def test_rates_rise_over_the_batches_of_a_warm_up_and_fall_after_it(tmp_path, monkeypatch):
    used, step = [], EPLearner.step

    def watching(learner, *arguments):
        used.append(learner.optimiser.param_groups[0]["lr"])
        step(learner, *arguments)

    monkeypatch.setattr(EPLearner, "step", watching)
    recipe = TINY.model_copy(update={"warm_up": 10, "epochs": 2})
    train(recipe, 1, tmp_path / "warm.safetensors", name="tiny")
    assert used[:10] == pytest.approx([0.025 * (k + 1) for k in range(10)])
    assert used[10] == 0.25 > used[-1]


def test_free_phases_take_the_steps_of_their_epoch(tmp_path, monkeypatch):
    used = []
    monkeypatch.setattr(contrast, "ep_gradient", lambda *batch, free_steps, **others: (
        used.append(free_steps), ep_gradient(*batch, free_steps=free_steps, **others))[1])
    recipe = TINY.model_copy(update={"free_steps": 4, "last_free_steps": 10, "nudged_steps": 2, "batch": 700})
    train(recipe, 1, tmp_path / "longer.safetensors", name="tiny")
    assert used == [4, 4, 7, 7, 10, 10]


@given(st.integers(1, 200), st.none() | st.integers(1, 200), st.integers(1, 100))
def test_steps_go_evenly_from_the_first_epoch_s_to_the_last_one_s(first, last, epochs):
    recipe = TINY.model_copy(update={"free_steps": first, "last_free_steps": last, "epochs": epochs})
    steps = [recipe.free_steps_at(epoch) for epoch in range(epochs)]
    assert steps[0] == first
    if last is None or epochs == 1:
        assert set(steps) == {first}
    else:
        assert steps[-1] == last
        even = (last - first) / (epochs - 1)
        assert all(abs(taken - (first + even * epoch)) <= 0.5 for epoch, taken in enumerate(steps))


def test_a_warm_restart_begins_from_the_weights_alone(tmp_path):
    recipe = TINY.model_copy(update={"decay_epochs": 2, "restart": 0.3})
    train(recipe, 1, tmp_path / "whole.safetensors", name="tiny")
    out, part = tmp_path / "cut.safetensors", tmp_path / "cut.safetensors.part"
    with pytest.raises(Stop):
        train(recipe, 1, out, name="tiny", log=stop_after(2))
    header, tensors = unsealed(part)
    assert any(key.startswith("optimiser.") for key in tensors)
    part.write_bytes(seal(loop.FORM, header, {key: v for key, v in tensors.items() if key.startswith("net.")}))
    train(recipe, 1, out, name="tiny")
    assert out.read_bytes() == (tmp_path / "whole.safetensors").read_bytes()


def test_another_seed_does_not_continue_an_unfinished_run(tmp_path):
    with pytest.raises(Stop):
        train(TINY, 1, tmp_path / "a.safetensors", name="tiny", log=stop_after(1))
    with pytest.raises(Refusal, match="another recipe, seed or data"):
        train(TINY, 2, tmp_path / "a.safetensors", name="tiny")


def unsealed(path):
    return open_sealed(path, loop.FORM, remedy="").header, load_file(path)


def test_a_damaged_unfinished_run_is_refused_and_left_as_it_is(tmp_path):
    train_split = load_data("digits", "train")
    learner, out = learner_of(TINY, TINY.spec(train_split), 1, "cpu"), tmp_path / "a.safetensors"
    learner.step(train_split.images[:8], train_split.labels[:8], None)
    part = Path(f"{out}.part")
    unfinished = loop._Part(part, learner, TINY.fingerprint(1))
    unfinished.save(loop._Place(1, 1, torch.Generator().get_state()))
    whole, (header, arrays) = part.read_bytes(), unsealed(part)
    generator = arrays["generator"]

    def sealed(changes=(), **others):
        return seal(loop.FORM, {**header, **dict(changes)}, {**arrays, **others})

    for blob, words in (
            (whole[:50], "not a readable unfinished training"), (whole[:-1], "not a readable unfinished training"),
            (whole[:-1] + bytes([whole[-1] ^ 1]), "the file is damaged"), (b"", "not a readable"),
            (save({"weight0": np.zeros(1)}), "no header of one"), (sealed({"epoch": -1}), "epoch"),
            (sealed({"epoch": 1.0}), "epoch"), (sealed({"batches": 2**33}), "batches"), (sealed({"more": 1}), "more"),
            (sealed({"batches": 0}), "generator: tensor"), (sealed(generator=generator[1:]), "generator: tensor"),
            (sealed(**{"net.weight0": arrays["net.weight0"] * np.float32("nan")}), "net.weight0: values out of range"),
            (sealed(generator=0 * generator), "generator: values out of range; got Invalid"),
            (sealed(**{"optimiser.0.step": np.zeros(1)}), "optimiser.0.step: tensor has the wrong"),
            (sealed(**{"net.weight0": arrays["net.weight0"][:1]}), "net.weight0: tensor has the wrong")):
        part.write_bytes(blob)
        with pytest.raises(Refusal, match=words) as caught:
            unfinished.resume()
        assert "remove it and train again" in str(caught.value)
    part.write_bytes(whole[:50])
    with pytest.raises(Refusal, match="not a readable unfinished training"):
        train(TINY, 1, out, name="tiny")
    assert part.read_bytes() == whole[:50]


@pytest.mark.slow
def test_a_killed_training_loses_at_most_an_epoch(tmp_path):
    recipe, out = tmp_path / "tiny.toml", tmp_path / "d.safetensors"
    endless = {**TINY.model_dump(mode="json", exclude_none=True), "epochs": 1000}
    recipe.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in endless.items()))
    command = [sys.executable, "-m", "ep_hw.cli", "train", str(recipe), "--seed", "3", "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    part, deadline = Path(f"{out}.part"), time.monotonic() + 120
    while not part.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    assert part.exists()
    assert not out.exists()
    seen = []
    with pytest.raises(Stop):
        train(load_recipe(recipe), 3, out, name="d", log=lambda e: (seen.append(e.number), stop_after(seen[0])(e)))
    assert seen[0] >= 2


@pytest.mark.parametrize("name", [name for name in packaged_models() if name.startswith("digits")])
def test_a_packaged_digits_model_is_what_its_header_says(name):
    net, test = ep_hw.load(name), load_data("digits", "test")
    made_by = dict(net.provenance["recipe"])
    seed, recipe = made_by.pop("seed"), load_recipe("digits" if _model(name) == "ep" else f"digits-{_model(name)}")
    assert name in ("digits", f"digits-{_model(name)}-s{seed}")
    assert accuracy(net.machine(), test) == pytest.approx(net.provenance["accuracy"]["test"], abs=1e-9)
    taught = {"teacher": f"digits-ep-s{seed}"} if _model(name) == "twin" else {}   # each by the EP network of its seed
    assert parse_recipe(made_by) == recipe.model_copy(update=taught)
    assert net.provenance["data"] == {"name": "digits", "split_seed": 0, "train": 1437, "test": 360}


@pytest.mark.parametrize("name", [name for name in packaged_models() if name.startswith("cifar10")])
def test_a_packaged_cifar_model_is_what_its_header_says(name, cifar_root):
    """Within four standard errors of its whole test's accuracy on the first images."""
    net, test = ep_hw.load(name), load_data("cifar10", "test", DataSource(cifar_root)).take(slice(300))
    made_by = dict(net.provenance["recipe"])
    of_recipe, _, seed = name.partition("-ep-s")   # cifar10-small-ep-s2: one more seed of cifar10-small
    assert made_by.pop("seed") in ([int(seed)] if seed else [1, 11])
    assert parse_recipe(made_by) == load_recipe(of_recipe)
    assert net.provenance["data"] == {"name": "cifar10", "split_seed": 0, "train": 45000, "test": 10000}
    stated = net.provenance["accuracy"]["test"]
    assert abs(accuracy(net.machine(), test) - stated) < 4 * (stated * (1 - stated) / len(test)) ** 0.5


@pytest.mark.parametrize("name", named_networks("seeds:cifar10-small"))
def test_every_seed_of_the_small_cifar_network_is_at_rest(name, cifar_root):
    """So that attacks and machines that take every step need few of them."""
    residual, agreeing = _rest(name, cifar_root)
    assert residual < 1e-3
    assert agreeing >= 49


def test_a_network_that_answers_before_it_is_at_rest_would_be_seen(cifar_root):
    residual, agreeing = _rest("cifar10-small-start", cifar_root)
    assert residual > 1e-3
    assert agreeing < 49


def _rest(name: str, root: Path) -> tuple[float, int]:
    """Of 50 images: mean residual after 40 synchronous steps, and how many are answered after 250 as by its own."""
    machine = ep_hw.load(name).machine()
    images = load_data("cifar10", "test", DataSource(root)).take(slice(50)).images
    early, late = (machine.relax(images, steps=steps, schedule="synchronous") for steps in (40, 250))
    return float(early.residual.mean()), int((late.prediction == machine.relax(images).prediction).sum())


def _model(name: str) -> str:
    """Which of the digits recipes: "bp-noise" of digits-bp-noise-s11."""
    return "ep" if name == "digits" else name.removeprefix("digits-").rpartition("-")[0]


def test_packaged_ep_networks_reach_their_goal_and_all_weights_are_small():
    headers = {name: ep_hw.load(name).provenance for name in packaged_models()}
    seeds = [h["accuracy"]["test"] for name, h in headers.items() if name.startswith("digits-ep-s")]
    assert len(seeds) == 5
    assert sum(seeds) / 5 >= 0.985
    assert all(headers[name]["accuracy"]["test"] >= 0.82 for name in named_networks("seeds:cifar10-small"))
    assert sum(path.stat().st_size for path in packaged_models().values()) < 20e6


def test_augmentation_repeats_with_its_generator_and_moves_images_by_whole_pixels():
    images = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    whole = TINY.model_copy(update={"affine": (0.0, 0.0, 0.0), "shift": 1, "flip": True})
    a, b = (augment(images, whole, torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(a, b)
    inside = {float(v) for v in a[:, :, 2:-2, 2:-2].flatten()}
    assert inside <= {float(v) for v in images.flatten()}
    assert not torch.equal(a, images)


def test_bad_recipes_are_refused(tmp_path):
    with pytest.raises(Refusal, match="no readable recipe"):
        load_recipe("nothing")
    path = tmp_path / "r.toml"
    path.write_text(load_recipe_text().replace("beta = 0.5", "beta = -1"))
    with pytest.raises(Refusal, match="beta"):
        load_recipe(path)
    path.write_text(load_recipe_text() + "\nspeed = 3\n")
    with pytest.raises(Refusal, match="speed"):
        load_recipe(path)
    for field, words in (("rates = [0.25, 0.15, 0.1]", "rates = [0.1]"), ('"alternating"', '"random"')):
        path.write_text(load_recipe_text().replace(field, words))
        with pytest.raises(Refusal):
            load_recipe(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(Refusal, match="no readable recipe"):
        load_recipe(path)


@pytest.mark.parametrize(("was", "written"), [
    *[("epochs = 40", f"epochs = {text}") for text in ("0", "1e400", "1000000000000", "40.0", "true", '"40"')],
    *[("beta = 0.5", f"beta = {text}") for text in ("inf", "nan", "1e30", "-1", "'0.5'")],
    *[("beta = 0.5", f"beta = 0.5\nfeedback_gain = {text}") for text in ("0", "[0.3, 0]", "[0.3]", "[]", "'1'")],
    *[("[0.25, 0.15, 0.1]", text) for text in ("[0.25, inf, 0.1]", "[0.25, -1, 0.1]", "0.25")],
    *[("[10.0, 0.1, 0.5]", text) for text in ("[nan, 0.1, 0.5]", "[1e9, 0.1, 0.5]", "[10.0, 1.0, 0.5]", "[10.0]")],
    *[("channels = [32, 64]", f"channels = {text}") for text in ("[1000000000000, 64]", "[60000, 60000]", "[]")],
    *[("pools = [2, 2]", f"pools = {text}") for text in ("[2, 8]", "[0, 2]", "[4, 4]")],
    *[("batch = 64", text) for text in (
        "batch = -1", f"threads = {10**20}\nbatch = 64", "batch = 64\nbatch = 64", "shift = 100000\nbatch = 64",
        "x = " + "[" * 10_000, "batch = 64\nkind = []", "batch = 64\nrestart = 0.5")],
    ("paddings = [1, 1]", "paddings = [99, 1]"), ("steps = 200", "steps = 200000"), ("= 1e-3", "= 0"),
    ('data = "digits"', 'data = "mnist"'), ('data = "digits"', "data = 1979-05-27")])
def test_absurd_recipes_are_refused_before_any_work(tmp_path, was, written):
    text = load_recipe_text()
    assert was in text
    (tmp_path / "r.toml").write_text(text.replace(was, written, 1))
    with pytest.raises(Refusal) as caught:
        load_recipe(tmp_path / "r.toml")
    assert len(str(caught.value)) < 1500
    assert not list(tmp_path.glob("*.safetensors*"))


def load_recipe_text() -> str:
    return recipes()["digits"].read_text()
