"""Baselines: trained by the shared loop, kept in checkpoints, the convolutional ones lowered like any module."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import saved
from safetensors.numpy import load_file

import ep_hw
import mapping
import simulators
from ep_hw.data import DataSource, Split, load_data
from ep_hw.learning.training import load_recipe, parse_recipe, rate_at, recipes, train
from ep_hw.learning.training.learners import learner_of
from ep_hw.networks.accuracy import accuracy
from ep_hw.networks.baselines import Baseline, CNNSpec, ViTSpec
from ep_hw.networks.checkpoint import FORM
from mapping import Refusal
from mapping.registry import parse
from mapping.sealed import describe, open_sealed, seal
from simulators.module import ModuleProgram
from simulators.relaxation import Nudge

IMAGES = {"image_shape": (1, 8, 8), "classes": 10, "mean": (0.3,), "scale": (1.1,)}
CNN = CNNSpec(**IMAGES, channels=(4, 6), paddings=(1, 1), pools=(2, 1))
VIT = ViTSpec(**IMAGES, patch=2, layers=2, heads=2, dim=8, hidden=12)
COMMON = {"data": "digits", "batch": 64, "epochs": 3, "affine": (10, 0.1, 0.5)}
LAYERS = {"channels": (4, 6), "paddings": (1, 1), "pools": (2, 2)}
RECIPES = {"bp": {"kind": "bp", "rate": 0.05, **LAYERS, **COMMON},
           "adv": {"kind": "adv", "rate": 0.05, "eps": 0.5, "attack_steps": 2, **LAYERS, **COMMON},
           "vit": {"kind": "vit", "rate": 2e-3, "patch": 4, "layers": 1, "heads": 2, "dim": 8, "hidden": 16, **COMMON}}


class Stop(Exception):
    pass


@pytest.fixture(params=[CNN, VIT], ids=["cnn", "vit"])
def net(request):
    return replace(Baseline.initialise(request.param, 3), name="small")


def images(batch=5, seed=0):
    return torch.rand(batch, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def test_a_cnn_in_evaluation_is_convolution_running_norm_relu_and_pool():
    """Against torch's functions written out, with running statistics that differ from their start."""
    module = Baseline.initialise(CNN, 1).module
    module.train()
    module(images(64))
    module.eval()
    t = module.state_dict()
    first = F.conv2d((images() - 0.3) / 1.1, t["1.weight"], padding=1)
    s = F.max_pool2d(F.relu(_normed(first, t, 2)), 2)
    s = F.relu(_normed(F.conv2d(s, t["5.weight"], padding=1), t, 6))
    assert torch.allclose(module(images()), F.linear(s.flatten(1), t["9.weight"], t["9.bias"]), atol=1e-6)


def _normed(x, t, n):
    mean, var, weight, bias = (t[f"{n}.{k}"][:, None, None] for k in ("running_mean", "running_var", "weight", "bias"))
    return (x - mean) / (var + 1e-5).sqrt() * weight + bias


def test_attention_is_softmax_of_scaled_products_head_by_head():
    block = Baseline.initialise(VIT, 1).module.blocks[0]
    x = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(2))
    q, k, v = block.query_key_value(x).chunk(3, -1)
    heads = [F.softmax(a @ b.mT / 2, -1) @ c for a, b, c in zip(*(t.split(4, -1) for t in (q, k, v)))]
    assert torch.allclose(block._attend(x), block.mix(torch.cat(heads, -1)), atol=1e-6)


def test_a_transformer_without_its_positions_does_not_care_about_the_order_of_patches():
    module = Baseline.initialise(VIT, 1).module
    turned = images().roll(2, 3)   # whole patches move around
    assert not torch.allclose(module(images()), module(turned), atol=1e-6)
    with torch.no_grad():
        module.positions.zero_()
    assert torch.allclose(module(images()), module(turned), atol=1e-6)


def test_the_machine_answers_each_image_alone_and_carries_gradients(net):
    machine = net.machine()
    whole = machine.relax(images())
    alone = torch.cat([machine.relax(image[None]).logits for image in images()])
    assert torch.allclose(whole.logits, alone, atol=1e-6)
    assert whole.converged.all()
    shown = images().requires_grad_()
    gradient = torch.autograd.grad(machine.relax(shown, steps=9).logits[:, 0].sum(), shown)[0]
    moved = images().clone()
    moved[0, 0, 4, 4] += 1e-2
    rise = (machine.relax(moved).logits - whole.logits)[0, 0].item()
    assert rise == pytest.approx(1e-2 * gradient[0, 0, 4, 4].item(), rel=0.05, abs=1e-5)


def test_what_needs_a_fixed_point_is_refused_by_name(net):
    machine = net.machine()
    for what in ({"nudge": Nudge(torch.eye(10)[:5], 0.5)}, {"states": ()}, {"trace": print}):
        with pytest.raises(Refusal, match=f"takes no {next(iter(what))}"):
            machine.relax(images(), **what)
    assert machine.cost().operations > 0


def test_the_reference_is_the_module_and_every_other_machine_has_its_graph():
    net, shown = ep_hw.load("digits-bp-s11"), load_data("digits", "test").images[:20]
    programs = net.programs(map(parse, ["reference", "crossbar:pcm"]))
    assert isinstance(programs["reference"], ModuleProgram)
    assert programs["crossbar:pcm"].graph is net.lower()
    logits = [simulators.open(program).relax(shown).logits
              for program in (programs["reference"], mapping.compile(net.lower(), "reference"))]
    assert (logits[0] - logits[1]).abs().max() <= 1e-5 * logits[0].abs().max()
    assert np.array_equal(net.lower().activity.images, load_data("digits", "train").images[:256])


@pytest.mark.parametrize(("machine", "chips", "lost"), [("loihi", 1, 0.01), ("crossbar:pcm", 5, 0.03)])
def test_hardware_keeps_the_accuracy_of_a_network_without_feedback(machine, chips, lost):
    net, test = ep_hw.load("digits-bp-s13"), load_data("digits", "test")
    program = net.programs([parse(machine)])[machine]
    found = [accuracy(simulators.open(program, chip_seed=chip), test, generator=torch.Generator().manual_seed(chip))
             for chip in range(chips)]
    assert sum(found) / chips >= accuracy(net.machine(), test) - lost


def test_a_transformer_is_no_chain():
    net = ep_hw.load("digits-vit-s11")
    assert list(net.programs([parse("reference")])) == ["reference"]
    with pytest.raises(Refusal, match=r"^blocks\.0: not a chain of layers; got scaled_dot_product_attention"):
        net.programs([parse("reference"), parse("loihi")])


def test_hardware_is_sized_by_training_images_that_must_be_there(tmp_path, monkeypatch):
    monkeypatch.delenv("EP_HW_DATA", raising=False)
    net = ep_hw.load("cifar10-small-bp").calibrated(DataSource(tmp_path))
    with pytest.raises(Refusal, match="cifar") as caught:
        net.programs([parse("crossbar:pcm")])
    assert "--data-root or EP_HW_DATA" in str(caught.value)


def test_operations_are_those_of_convolutions_and_dense_layers():
    assert Baseline.initialise(CNN, 0).machine().cost().operations == 4 * 9 * 64 + 6 * 4 * 9 * 16 + 10 * 6 * 16


def test_checkpoints_come_back_bit_for_bit_and_damage_is_refused(net, tmp_path):
    path, bad = saved(net, tmp_path), tmp_path / "bad.safetensors"
    again = ep_hw.load(path)
    assert again.spec == net.spec
    assert all(torch.equal(a, again.tensors()[k]) for k, a in net.tensors().items())
    header, tensors = open_sealed(path, FORM, remedy="").header, load_file(path)
    name = next(k for k, v in tensors.items() if v.ndim > 1)
    wrong = "tensor has the wrong shape or type"
    for changes, words in (({name: tensors[name].astype(float)}, f"{name}: {wrong}"),
                           ({name: tensors[name][1:]}, f"{name}: {wrong}"),
                           ({"extra": np.zeros(1, np.float32)}, f"extra: {wrong}"),
                           ({name: tensors[name] * np.float32("nan")}, f"layer {name}: tensor is not finite")):
        bad.write_bytes(seal(FORM, header, {**tensors, **changes}))
        with pytest.raises(Refusal, match=words):
            ep_hw.load(bad)


@pytest.mark.parametrize("spec", [CNN, VIT, CNN.model_copy(update={"pools": (1, 2), "kernel": 2})], ids=repr)
def test_the_layout_of_a_spec_is_that_of_its_module(spec):
    built = {name: describe(tensor.numpy()) for name, tensor in spec.build().state_dict().items()}
    assert spec.layout() == built


@pytest.mark.parametrize("kind", RECIPES)
def test_a_resumed_run_gives_the_same_bytes(kind, tmp_path):
    def stop(epoch):
        if epoch.number == 2:
            raise Stop

    recipe = parse_recipe(RECIPES[kind])
    net = train(recipe, 1, tmp_path / "a.safetensors", name="tiny")
    with pytest.raises(Stop):
        train(recipe, 1, tmp_path / "b.safetensors", name="tiny", log=stop)
    train(recipe, 1, tmp_path / "b.safetensors", name="tiny")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert net.provenance["accuracy"]["test"] == accuracy(net.machine(), load_data("digits", "test"))
    assert net.provenance["accuracy"]["validation"] == accuracy(net.machine(), load_data("digits", "validation"))
    assert parse_recipe({k: v for k, v in net.provenance["recipe"].items() if k != "seed"}) == recipe


def test_adversarial_training_learns_from_images_in_the_ball_that_fool_it_more(monkeypatch):
    recipe, split = parse_recipe(RECIPES["adv"]), load_data("digits", "train").take(slice(64))
    learner, seen = learner_of(recipe, recipe.spec(split), 0, "cpu"), []
    monkeypatch.setattr("ep_hw.learning.training.learners.BackpropLearner.step", lambda self, x, y, g: seen.append(x))
    learner.step(split.images, split.labels, torch.Generator())
    loss = [F.cross_entropy(learner.machine().relax(x).logits, split.labels) for x in (split.images, seen[0])]
    assert loss[1] > loss[0]
    assert 0.45 < (seen[0] - split.images).flatten(1).norm(dim=1).max() <= 0.5 + 1e-5


def test_every_packaged_recipe_is_read_and_makes_a_network_for_its_images():
    kinds = {name: load_recipe(name).kind for name in recipes()}
    assert set(kinds.values()) == {"ep", "ff", "bp", "adv", "vit"}
    table = load_recipe("cifar10-paper"), load_recipe("cifar100-paper")
    assert [r.channels for r in table] == [(128, 256, 512, 512), (128, 256, 512, 1024)]
    assert [r.beta for r in table] == [0.5, 1.0]
    for recipe in table:
        assert recipe.rates == (0.25, 0.15, 0.1, 0.08, 0.05)
        assert (recipe.free_steps, recipe.nudged_steps, recipe.batch, recipe.epochs) == (250, 30, 128, 120)
    for name in ("bp", "adv05", "adv10"):
        beside = load_recipe(f"cifar10-paper-{name}")
        assert [getattr(beside, k) == getattr(table[0], k) for k in ("channels", "paddings", "pools")] == 3 * [True]
    vit = load_recipe("cifar10-paper-vit")
    assert (vit.layers, vit.heads, vit.patch) == (7, 12, 4)
    images = Split("cifar10", torch.rand(2, 3, 32, 32), torch.tensor([0, 9]), torch.arange(2))
    with torch.device("meta"):
        assert vit.spec(images).build()(torch.empty(2, 3, 32, 32)).shape == (2, 10)


@settings(max_examples=20)
@given(st.integers(0, 119), st.floats(0.01, 1), st.integers(1, 120))
def test_rates_fall_along_half_a_cosine_to_the_last_rate_and_stay_there(epoch, rate, decay):
    """Against torch's own cosine annealing, stepped an epoch at a time."""
    parameter = torch.zeros(1, requires_grad=True)
    optimiser = torch.optim.SGD([parameter], lr=rate)
    annealing = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, decay, eta_min=1e-5)
    optimiser.step()
    for _ in range(min(epoch, decay)):
        annealing.step()
    recipe = load_recipe("cifar10-paper").model_copy(update={"decay_epochs": decay})
    assert rate_at(recipe, rate, epoch) == pytest.approx(optimiser.param_groups[0]["lr"], rel=1e-6, abs=1e-9)


@given(st.integers(0, 39), st.floats(0.01, 1), st.floats(0.01, 1), st.integers(1, 39))
def test_after_a_warm_restart_rates_fall_as_those_of_a_new_run_over_the_epochs_left(epoch, rate, restart, decay):
    paper = load_recipe("cifar10-paper")
    recipe = paper.model_copy(update={"epochs": 40, "decay_epochs": decay, "restart": restart})
    first = paper.model_copy(update={"epochs": decay, "decay_epochs": None})
    second = paper.model_copy(update={"epochs": 40 - decay, "decay_epochs": None})
    expected = rate_at(first, rate, epoch) if epoch < decay else rate_at(second, restart * rate, epoch - decay)
    assert rate_at(recipe, rate, epoch) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("change", "words"), [({"kind": "gan"}, "gan"), ({"rate": -1}, "rate"),
                                               ({"restart": 0.3}, "decay_epochs"),
                                               ({"pools": (2,)}, "one entry a layer"), ({"speed": 1}, "speed")])
def test_bad_recipes_are_refused_by_kind(change, words, tmp_path):
    path = tmp_path / "r.toml"
    path.write_text("".join(f"{k} = {json.dumps(v)}\n" for k, v in {**RECIPES["bp"], **change}.items()))
    with pytest.raises(Refusal, match=words):
        load_recipe(path)


def test_a_baseline_is_evaluated_like_any_model_and_fooled_by_one_backpropagation(tmp_path, ep_hw):
    train(parse_recipe(RECIPES["bp"]), 1, tmp_path / "tiny.safetensors", name="tiny")
    code, *_ = ep_hw("evaluate", "tiny.safetensors", "--attack", "pgd_l2@1", "--corruption", "contrast@3",
                         "--images", 40, "--jobs", 1, "--iterations", 3, "--out", "run")
    assert code == 0
    rows = {row["threat"]: row for row in json.loads((tmp_path / "run" / "summary.json").read_text())}
    assert set(rows) == {"clean", "pgd_l2", "contrast"}
    assert rows["pgd_l2"]["accuracy"] < rows["clean"]["accuracy"]
    assert {row["machine"] for row in rows.values()} == {"reference"}
    assert ep_hw("compile", "tiny.safetensors", "--on", "loihi", "--out", "compiled")[0] == 0
    code, *_ = ep_hw("evaluate", "tiny.safetensors", "--on", "compiled", "--images", 40, "--jobs", 1, "--out", "chip")
    assert code == 0
    rows = {row["machine"]: row for row in json.loads((tmp_path / "chip" / "summary.json").read_text())}
    assert rows["loihi"]["accuracy"] > 0.2
    code, _, err = ep_hw("evaluate", "tiny.safetensors", "--attack", "pgd_l2@1", "--gradient", "ep@0.5", "--jobs", 1,
                         "--out", "other")
    assert code == 2
    assert "ep@0.5" in err


def test_the_digest_of_a_packaged_transformer_is_made_with_the_names_of_its_classes():
    """Its cells have their keys and noise from it: a class that is called otherwise makes other outcomes."""
    assert "(0): Block(" in repr(ep_hw.load("digits-vit-s11").module)
