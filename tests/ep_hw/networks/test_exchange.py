"""State dicts in and out: to the same network, by the dynamics that its key map states, and by no others."""

import argparse
import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from networks import random_images, saved, small_network
from torch import nn

import ep_hw
from ep_hw.data import DataSource
from ep_hw.networks.exchange import bring_in, export_checkpoint, import_checkpoint, load_map, trial
from ep_hw.networks.exchange.joined import network_of_map
from ep_hw.networks.exchange.keys import ASKED, PACKAGED, KeyMap
from ep_hw.networks.exchange.source import Source
from ep_hw.networks.network import EPNetwork, NetworkSpec
from mapping import Refusal
from simulators.reference import ReferenceMachine

DATA = {"name": "digits", "split_seed": 0, "train": 0, "test": 0}
STATED = {"loss": "cross-entropy", "readout": "outside", "pool": "max", "stride": 1, "slope": 0.5}
P_CNN = [name for name in PACKAGED if name != "scellier"]   # maps of its state dicts
PLAIN = {"data": "digits", "image_shape": (1, 8, 8), "loss": "cross-entropy", "readout": "outside", "pool": "max",
         "paddings": (1, 1), "strides": (1, 1), "pools": (2, 1), "slope": 0.7, "mean": (0.3,), "scale": (1.1,),
         "schedule": "synchronous", "steps": 20}
SHAPES = [(4, 1, 3, 3), (6, 4, 3, 3), (10, 96)]   # of the weights of a network of this map
KINDS = {   # fields of the map that are otherwise, and the shapes of its weights
    "squared error": ({"loss": "mse"}, SHAPES),
    "readout inside the energy": ({"readout": "inside"}, SHAPES),
    "squared error inside": ({"readout": "inside", "loss": "mse"}, SHAPES),
    "squared error inside, of a linear output": ({"readout": "inside", "loss": "mse", "output": "linear", "slope": 1.0},
                                                 SHAPES),
    "average pools": ({"pool": "average"}, SHAPES),
    "average pools that leave a rest": ({"pool": "average", "pools": (3, 2)}, [*SHAPES[:2], (10, 6)]),
    "pools of both kinds": ({"pool": ("max", "average"), "pools": (2, 2)}, [*SHAPES[:2], (10, 24)]),
    "strides": ({"strides": (2, 1), "pools": (1, 2)}, [*SHAPES[:2], (10, 24)]),
    "strides and average pools": ({"strides": (2, 1), "pool": "average", "pools": (2, 1)}, [*SHAPES[:2], (10, 24)]),
    "mixed kernels": ({}, [(4, 1, 5, 3), (6, 4, 2, 2), (10, 6 * 4 * 5)]),
    "hidden dense layers": ({"readout": "inside"}, [*SHAPES[:2], (7, 96), (5, 7), (10, 5)]),
    "dense layers alone": ({"paddings": (), "strides": (), "pools": ()}, [(12, 64), (9, 12), (10, 9)]),
}


@pytest.fixture
def exported(tmp_path):
    """A network's checkpoint loaded again, and the folder it was exported to."""
    net = small_network(paddings=(1, 0), pools=(2, 1), slope=0.7, schedule="synchronous")
    again = ep_hw.load(saved(net, tmp_path, "net", data=DATA))
    export_checkpoint(again, tmp_path / "out")
    return again, tmp_path / "out"


@pytest.fixture
def checkpoint(tmp_path):
    """Writes a file as `P_CNN` is saved: modules `synapses.N`, a dense readout, an optimiser beside the state dict."""
    def written(classes=10, **more):
        torch.manual_seed(0)
        layers = [nn.Conv2d(a, b, 3) for a, b in ((3, 4), (4, 5), (5, 6), (6, 7))]
        model = nn.Module()
        model.synapses = nn.ModuleList([*layers, nn.Linear(7, classes)])
        torch.save({"model_state_dict": model.state_dict(), "opt": {"state": {}, "param_groups": [{"lr": 0.25}]},
                    "train_acc": [10.0], "best": 1, "epoch": 3, "scheduler": None, **more}, tmp_path / "checkpoint.tar")
        return tmp_path / "checkpoint.tar", model
    return written
MAPS = Path(bring_in.__file__).parent


def test_what_is_exported_is_imported_again_as_the_same_network(exported):
    net, folder = exported
    again, difference = import_checkpoint(folder / "net.pt", str(folder / "net.toml"), folder / "again.safetensors")
    assert again.spec == net.spec
    assert 0 < difference < 1e-12
    loaded = ep_hw.load(folder / "again.safetensors")
    assert torch.equal(loaded.machine().relax(random_images(5)).logits, net.machine().relax(random_images(5)).logits)
    assert loaded.provenance["recipe"]["imported"] == "net.pt"
    assert (folder / "net.safetensors").read_bytes() == (folder.parent / "net.safetensors").read_bytes()


@pytest.mark.parametrize("name", P_CNN)
def test_a_checkpoint_of_the_public_code_is_read_by_name_and_what_is_stated_of_it(name, checkpoint, tmp_path):
    path, model = checkpoint(100 if name.endswith("100") else 10)
    net, difference = import_checkpoint(path, name, tmp_path / "n.safetensors", **STATED)
    assert net.spec.channels == (4, 5, 6, 7)
    assert (net.spec.slope, net.spec.schedule, net.spec.steps) == (0.5, "synchronous", 250)
    assert difference < 1e-12
    assert torch.equal(net.weights[-1].flatten(1), model.synapses[-1].weight)
    for other in {PACKAGED[key] for key in P_CNN} - {PACKAGED[name]}:
        wrong = next(key for key, file in PACKAGED.items() if file == other)
        with pytest.raises(Refusal, match="other classes apart than its data"):
            import_checkpoint(path, wrong, tmp_path / "never.safetensors", **STATED)
        assert not (tmp_path / "never.safetensors").exists()


@pytest.mark.parametrize("name", P_CNN)
def test_maps_ask_for_everything_that_a_state_dict_does_not_say_and_packaged_ones_warn(name, tmp_path, caplog):
    packaged, mine = (MAPS / PACKAGED[name]).read_text(), tmp_path / "mine.toml"
    mine.write_text(packaged.partition("[assumed]")[0])
    for field in STATED:
        with pytest.raises(Refusal, match=rf"nothing on {field}.*--{field} .*--loss cel") as caught:
            load_map(str(mine), {**STATED, field: None})
        assert "\n" not in str(caught.value)
    with pytest.raises(Refusal, match=f"nothing on {', '.join(ASKED)}"):
        load_map(str(mine))
    assert not caplog.messages
    assert load_map(name) == load_map(name, STATED)
    assert f"is not stated; assumed is {load_map(name, STATED).sentence()}" in caplog.text
    assert all(asked in caplog.text for asked in ASKED.values())


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_ep_network_comes_in_as_what_it_is(name, tmp_path):
    """Against the same network in torch's own modules, on the machine that it is then evaluated on."""
    changes, shapes = KINDS[name]
    keys, layers = KeyMap(**PLAIN | changes), random_layers(shapes)
    state = {f"synapses.{n}.{kind}": t for n, layer in enumerate(layers) for kind, t in zip(("weight", "bias"), layer)}
    torch.save(state, tmp_path / "x.pt")
    fields = keys.model_dump(mode="json", exclude_none=True)
    (tmp_path / "map.toml").write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in fields.items()))
    net, difference = import_checkpoint(tmp_path / "x.pt", str(tmp_path / "map.toml"), tmp_path / "n.safetensors")
    images = random_images(3)
    own = ReferenceMachine(net.lower(), dtype=torch.float64).relax(images.double(), 20).logits
    theirs = Oracle([[t.double() for t in layer] for layer in layers], keys)(images.double(), 20)
    assert max(difference, (own - theirs).abs().max().item()) < 1e-5 * theirs.abs().max()


def test_a_list_of_biases_and_weights_is_a_hopfield_network_of_linear_output(tmp_path, caplog):
    """As energy-based-learning saves it, by the energy written out: E = |s|^2/2 - sum <s_n, pool(w * s) + b>."""
    layers = random_layers([(4, 3, 3, 3), *[(4, 4, 3, 3)] * 3, (10, 16)])
    last = layers[-1][0].T.reshape(4, 2, 2, 10)
    torch.save([*(b for _, b in layers), *(w for w, _ in layers[:-1]), last], tmp_path / "x.pt")
    net, difference = import_checkpoint(tmp_path / "x.pt", "scellier", tmp_path / "n.safetensors")
    assert (net.spec.schedule, net.spec.steps, net.spec.channels) == ("alternating", 120, (4, 4, 4, 4, 20))
    assert "squared error" not in caplog.text
    assert "state --pool max or average, --slope" in caplog.text
    images = random_images(2, (3, 32, 32)).double()
    mean, scale = (torch.tensor(v).double()[:, None, None] for v in (net.spec.mean, net.spec.scale))
    states = [(images - mean) / scale, *(torch.zeros(2, 4, side, side).double() for side in (16, 8, 4, 2)),
              torch.zeros(2, 10).double()]
    for t in range(40):
        for n in range(1 + t % 2, 6, 2):
            states[n].requires_grad_()
            energy = sum(-(torch.tensordot(s, last.double(), 3) + b if w.ndim == 2 else F.max_pool2d(
                F.conv2d(s, w.double(), b.double(), padding=1), 2)).mul(above).sum()
                for (w, b), s, above in zip(layers, states, states[1:]))
            g = -torch.autograd.grad(energy, states[n])[0]
            states[n] = g if n == 5 else g.clamp(0, 1)
    ours = ReferenceMachine(net.lower(), dtype=torch.float64).relax(images, 40).logits
    assert max(difference, (ours - states[5]).abs().max().item()) < 1e-5 * states[5].abs().max()


def test_max_pools_of_other_sides_are_refused(tmp_path):
    with pytest.raises(ValueError, match="max pools of 4x4, where 2x2 are possible"):
        network_of_map(KeyMap(**PLAIN | {"pools": (4, 1)}), random_layers([*SHAPES[:2], (10, 24)]))


def test_a_map_and_the_command_line_do_not_contradict_each_other(exported, checkpoint):
    _, folder = exported
    assert load_map(str(folder / "net.toml"), {"slope": 0.7}).slope == 0.7
    with pytest.raises(Refusal, match=r"slope: two things are said of the network; got 0\.7 .* and 0\.5 "):
        load_map(str(folder / "net.toml"), {"slope": 0.5})
    for absurd in (float("nan"), float("inf"), -1.0, "steep"):
        with pytest.raises(Refusal, match="slope: Input should be"):
            load_map("laborieux", {**STATED, "slope": absurd})


def of_script(**changes):
    return {"loss": "cel", "softmax": True, "pools": "mmmm", "strides": [1, 1, 1, 1], "act": "my_hard_sig", **changes}


@pytest.mark.parametrize("kind", [dict, argparse.Namespace])
def test_arguments_that_a_file_records_are_believed_and_must_agree(kind, checkpoint, tmp_path):
    def bring(stated=None, **changes):
        path, _ = checkpoint(args=kind(**of_script(**changes)))
        (tmp_path / "n.safetensors").unlink(missing_ok=True)
        return import_checkpoint(path, "laborieux", tmp_path / "n.safetensors", **stated or {})[0]

    assert bring().spec.slope == 0.5
    assert bring(act="hard_sigmoid").spec.slope == 1
    assert bring(softmax=False).spec.channels == (4, 5, 6, 7, 20)
    assert bring(pools="amam").spec.strides == (2, 1, 2, 1)
    for changes, words in (({"loss": "mse"}, "loss"), ({"act": "mysig"}, "slope"), ({"pools": "mmma"}, "pool"),
                           ({"pools": "mmmi"}, "pools"), ({"paddings": [1, 1, 1, 1]}, "paddings")):
        with pytest.raises(Refusal, match=f"^{words}: two things are said of the network"):
            bring(STATED, **changes)


class Oracle(nn.Module):
    """The network of a map in torch's modules: neurons and their primitive function, as EP code has them."""

    def __init__(self, layers, keys):
        super().__init__()
        self.keys, self.inside = keys, keys.readout == "inside"
        self.synapses = nn.ModuleList()
        kinds = [nn.MaxPool2d if kind == "max" else nn.AvgPool2d for kind in keys.kinds]
        for (weight, bias), stride, padding, kind, pool in zip(layers, keys.strides, keys.paddings, kinds, keys.pools):
            convolution = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2:], stride, padding).double()
            convolution.load_state_dict({"weight": weight, "bias": bias})
            self.synapses.append(nn.Sequential(convolution, kind(pool)))
        for weight, bias in layers[len(kinds):]:
            dense = nn.Linear(*weight.T.shape).double()
            dense.load_state_dict({"weight": weight, "bias": bias})
            self.synapses.append(nn.Sequential(nn.Flatten(), dense))

    def forward(self, images, steps):
        image = (images - torch.tensor(self.keys.mean).double()) / torch.tensor(self.keys.scale).double()
        neurons, below = [], image
        for synapse in self.synapses if self.inside else self.synapses[:-1]:
            below = torch.zeros_like(synapse(below))
            neurons.append(below)
        for _ in range(steps):
            neurons = [s.detach().requires_grad_() for s in neurons]
            drives = (synapse(below) for synapse, below in zip(self.synapses, [image, *neurons]))
            phi = sum((drive * s).sum() for drive, s in zip(drives, neurons))
            drives = torch.autograd.grad(phi, neurons)
            neurons = [(self.keys.slope * g).clamp(min=0, max=1) for g in drives]
            if self.inside and (self.keys.loss == "cross-entropy" or self.keys.output == "linear"):
                neurons[-1] = drives[-1]
        return neurons[-1] if self.inside else self.synapses[-1](neurons[-1])


def random_layers(shapes):
    random = torch.Generator().manual_seed(0)
    return [(torch.randn(shape, generator=random) / 2, torch.randn(shape[0], generator=random)) for shape in shapes]


def layers_of(net):
    """As a state dict holds them: the readout is dense."""
    return [*zip(net.weights[:-1], net.biases), (net.weights[-1].flatten(1), net.biases[-1])]


@pytest.mark.parametrize(("loss", "readout", "pool", "stride"),
                         list(product(("cross-entropy", "mse"), ("outside", "inside"), ("max", "average"), (1, 2))))
def test_the_source_relaxes_as_its_map_states(exported, loss, readout, pool, stride):
    keys = load_map(str(exported[1] / "net.toml")).model_copy(update={
        "loss": loss, "readout": readout, "pool": pool, "strides": (stride, 1), "paddings": (1, 1)})
    random = torch.Generator().manual_seed(0)
    shapes = [(4, 1, 3, 3), (6, 4, 3, 3), (10, 6 * (4 // stride) ** 2)]
    layers = [(torch.randn(shape, generator=random), torch.randn(shape[0], generator=random)) for shape in shapes]
    images = random_images(3, dtype=torch.float64)
    _, logits = Source(keys, layers).relax(images, 15)
    assert (logits - Oracle(layers, keys)(images, 15)).abs().max() < 1e-12


@pytest.mark.parametrize("changes", [{"slope": 0.6}, {"mean": (0.31,)}, {"readout": "inside"}, {"pool": "average"},
                                     {"readout": "inside", "loss": "mse"}])
def test_the_check_sees_other_dynamics_than_ours(exported, changes):
    net, folder = exported
    keys = load_map(str(folder / "net.toml"))
    assert bring_in.compare(net, Source(keys, layers_of(net))) < 1e-12
    assert bring_in.compare(net, Source(keys.model_copy(update=changes), layers_of(net))) > 1e-3


def test_a_map_that_says_other_dynamics_shows_in_accuracy(tmp_path):
    """The check cannot see it: the source is given the same slope."""
    export_checkpoint(ep_hw.load("digits"), tmp_path)
    keys = (tmp_path / "digits.toml").read_text()
    right = {}
    for slope in ("0.5", "0.1"):
        (tmp_path / "map.toml").write_text(keys.replace("slope = 0.5", f"slope = {slope}"))
        net, difference = import_checkpoint(tmp_path / "digits.pt", str(tmp_path / "map.toml"),
                                            tmp_path / f"n{slope}.safetensors")
        assert net.spec.slope == float(slope)
        assert difference < 1e-12
        right[slope], n = trial(net)
    assert n == 100
    assert right["0.1"] < 30 < 95 < right["0.5"]
    nowhere = net.spec.model_copy(update={"image_shape": (3, 32, 32)})
    stranger = EPNetwork(nowhere, net.weights, net.biases, provenance={"data": {"name": "cifar10"}})
    assert trial(stranger, DataSource(tmp_path)) is None


def test_the_command_says_what_it_assumes_and_asks_a_map_of_ones_own(ep_hw, checkpoint, monkeypatch, caplog, tmp_path):
    monkeypatch.delenv("EP_HW_DATA", raising=False)
    path, _ = checkpoint()
    code, *_ = ep_hw("import", str(path), "--map", "laborieux", "--out", "assumed.safetensors")
    assert code == 0
    assert "not stated; assumed is cross-entropy on a readout outside the energy, max pools" in caplog.text
    assert "state --loss cross-entropy or mse, --readout" in caplog.text
    packaged = (MAPS / "laborieux.toml").read_text()
    (tmp_path / "mine.toml").write_text(packaged.partition("[assumed]")[0])
    code, _, err = ep_hw("import", str(path), "--map", "mine.toml", "--out", "n.safetensors")
    assert (code, err.count("\n")) == (2, 1)
    assert "--loss cross-entropy or mse" in err
    (tmp_path / "mine.toml").write_text(packaged)
    assert ep_hw("import", str(path), "--map", "mine.toml", "--out", "n.safetensors")[0] == 2, "only ours may assume"
    caplog.clear()
    code, out, _ = ep_hw("import", str(path), "--map", "laborieux", "--out", "n.safetensors", "--loss", "cross-entropy",
                         "--readout", "outside", "--pool", "max", "--stride", "1", "--slope", "0.5")
    assert code == 0
    assert "cross-entropy on a readout outside the energy, max pools, strides 1, 1, 1, 1, activation clamp(0.5" in out
    assert not caplog.messages, "nothing is assumed where all is stated"


def test_a_network_of_unknown_data_is_not_exported_by_halves(exported, tmp_path):
    net, _ = exported
    net = replace(net, provenance={**net.provenance, "data": {**DATA, "name": "mine"}})
    with pytest.raises(Refusal, match=r"no key map describes the network; got data: .*'mine'"):
        export_checkpoint(net, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_key_maps_name_any_layer():
    keys = load_map("laborieux", STATED).model_copy(update={"weight": "layers.{n}.w"})
    assert keys.key("weight", 3) == "layers.3.w"
    assert keys.key("bias", 0) == "synapses.0.bias"
    assert NetworkSpec.model_fields["slope"].default == keys.slope


@pytest.mark.parametrize("changes", [{"feedback_gain": 0.3}, {"ceilings": (None, 6.0)}])
def test_what_no_key_map_describes_is_exported_without_one_and_said(exported, tmp_path, caplog, changes):
    net, _ = exported
    net = replace(net, spec=net.spec.model_copy(update=changes))
    files = export_checkpoint(net, tmp_path / "new")
    assert [f.suffix for f in files] == [".safetensors", ".pt"]
    assert "only its .safetensors is the whole network" in caplog.text
    assert ep_hw.load(files[0]).spec == net.spec


def test_a_gain_a_layer_is_said_where_no_key_map_has_it(tmp_path, caplog):
    net = small_network(channels=(3, 4, 5), paddings=(1, 1, 1), pools=(2, 2, 1), feedback_gain=(1.0, 0.3, 0.25))
    files = export_checkpoint(ep_hw.load(saved(net, tmp_path)), tmp_path / "new")
    assert "no feedback gain of (1, 0.3, 0.25)" in caplog.text
    assert ep_hw.load(files[0]).spec == net.spec


def test_baselines_are_exported_as_their_own_state_dict(tmp_path):
    from ep_hw.networks.baselines import Baseline, CNNSpec
    spec = CNNSpec(image_shape=(1, 8, 8), classes=10, mean=(0.3,), scale=(1.1,), channels=(4,), paddings=(1,),
                   pools=(2,))
    net = ep_hw.load(saved(Baseline.initialise(spec, 0), tmp_path, "base"))
    files = export_checkpoint(net, tmp_path / "out")
    assert [f.name for f in files] == ["base.safetensors", "base.pt"]
    again = spec.build()
    again.load_state_dict(torch.load(files[1], weights_only=True))
    shown = random_images(3)
    assert torch.equal(again.eval()(shown), net.module.eval()(shown))
