"""State dicts in and out: to the same network, by the energy's own dynamics, and nothing but tensors."""

import os

import pytest
import torch
from networks import random_images, small_network

import ep_hw
from ep_hw.checkpoint import save_checkpoint
from ep_hw.exchange import bring_in, export_checkpoint, import_checkpoint, load_map, trial
from ep_hw.exchange.keys import PACKAGED
from ep_hw.network import EPNetwork, NetworkSpec
from mapping import Refusal

DATA = {"name": "digits", "split_seed": 0, "train": 0, "test": 0}


@pytest.fixture
def exported(tmp_path):
    """A network's checkpoint loaded again, and the folder it was exported to."""
    net = small_network(paddings=(1, 0), pools=(2, 1), slope=0.7, schedule="synchronous")
    net.name = "net"
    save_checkpoint(net, tmp_path / "net.safetensors", recipe={}, data=DATA, accuracy={})
    export_checkpoint(ep_hw.load(tmp_path / "net.safetensors"), tmp_path / "out")
    return ep_hw.load(tmp_path / "net.safetensors"), tmp_path / "out"


def test_what_is_exported_is_imported_again_as_the_same_network(exported):
    net, folder = exported
    again, difference = import_checkpoint(folder / "net.pt", str(folder / "net.toml"), folder / "again.safetensors")
    assert again.spec == net.spec
    assert 0 < difference < 1e-12
    loaded = ep_hw.load(folder / "again.safetensors")
    assert torch.equal(loaded.machine().relax(random_images(5)).logits, net.machine().relax(random_images(5)).logits)
    assert loaded.provenance["recipe"]["imported"] == "net.pt"
    assert (folder / "net.safetensors").read_bytes() == (folder.parent / "net.safetensors").read_bytes()


@pytest.mark.parametrize("name", PACKAGED)
def test_a_checkpoint_of_the_public_code_is_read_by_name(name, tmp_path):
    """Written as `P_CNN` is saved there: modules `synapses.N`, a dense readout, an optimiser beside the state dict."""
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(a, b, 3) for a, b in ((3, 4), (4, 5), (5, 6), (6, 7))]
    model = torch.nn.Module()
    model.synapses = torch.nn.ModuleList([*layers, torch.nn.Linear(7, 100 if name.endswith("100") else 10)])
    content = {"model_state_dict": model.state_dict(), "opt": {"state": {}, "param_groups": [{"lr": 0.25}]},
               "train_acc": [10.0], "best": 1, "epoch": 3, "scheduler": None}
    torch.save(content, tmp_path / "checkpoint.tar")
    net, difference = import_checkpoint(tmp_path / "checkpoint.tar", name, tmp_path / "n.safetensors")
    assert net.spec.channels == (4, 5, 6, 7)
    assert (net.spec.slope, net.spec.schedule, net.spec.steps) == (0.5, "synchronous", 250)
    assert difference < 1e-12
    assert torch.equal(net.weights[-1].flatten(1), model.synapses[-1].weight)
    for other in set(PACKAGED.values()) - {PACKAGED[name]}:
        wrong = next(key for key, file in PACKAGED.items() if file == other)
        with pytest.raises(Refusal, match="other classes apart than its data"):
            import_checkpoint(tmp_path / "checkpoint.tar", wrong, tmp_path / "never.safetensors")
        assert not (tmp_path / "never.safetensors").exists()


def test_a_map_that_says_other_dynamics_shows_in_accuracy(tmp_path):
    """The forward check cannot see it: the energy is given the same slope."""
    export_checkpoint(ep_hw.load("digits"), tmp_path)
    keys = (tmp_path / "digits.toml").read_text()
    found = {}
    for slope in ("0.5", "0.1"):
        (tmp_path / "map.toml").write_text(keys.replace("slope = 0.5", f"slope = {slope}"))
        net, difference = import_checkpoint(tmp_path / "digits.pt", str(tmp_path / "map.toml"),
                                            tmp_path / "n.safetensors")
        assert net.spec.slope == float(slope)
        assert difference < 1e-12
        found[slope], n = trial(net)
    assert n == 100
    assert found["0.1"] < 30 < 95 < found["0.5"]
    nowhere = net.spec.model_copy(update={"image_shape": (3, 32, 32)})
    stranger = EPNetwork(nowhere, net.weights, net.biases, provenance={"data": {"name": "cifar10"}})
    assert trial(stranger, tmp_path) is None


@pytest.mark.parametrize("changes", [{"slope": 0.6}, {"mean": (0.31,)}])
def test_the_forward_check_sees_other_dynamics(exported, monkeypatch, changes):
    """Our reference is given another slope or normalisation than the energy."""
    net, _ = exported
    other = EPNetwork(net.spec.model_copy(update=changes), net.weights, net.biases)
    monkeypatch.setattr(bring_in, "_by_energy", lambda _, images, energy=bring_in._by_energy: energy(other, images))
    assert bring_in.compare(net) > 1e-3


def test_files_of_code_and_wrong_keys_or_shapes_are_refused_in_one_line(exported, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, folder = exported
    keys, out = str(folder / "net.toml"), tmp_path / "never.safetensors"

    def refused(content, words, keys=keys):
        torch.save(content, tmp_path / "bad.pt")
        with pytest.raises(Refusal, match=words) as caught:
            import_checkpoint(tmp_path / "bad.pt", keys, out)
        assert "\n" not in str(caught.value)
        assert not out.exists()

    state = torch.load(folder / "net.pt", weights_only=True)
    refused(Dangerous(), "not a file of tensors")
    assert not (tmp_path / "planted").exists()
    refused({}, "does not fit the key map")
    refused([state], "not a state dict")
    refused({**state, "synapses.0.bias": 3}, "not a state dict")
    for was, planted in (("pools = [2, 1]", "pools = [0, 1]"), ("paddings = [1, 0]", "paddings = []")):
        (tmp_path / "bad.toml").write_text((folder / "net.toml").read_text().replace(was, planted))
        refused(state, "no readable key map", keys=str(tmp_path / "bad.toml"))
    refused({**state, "more": torch.zeros(1)}, "more on one side only")
    refused({**state, "synapses.2.weight": torch.zeros(10, 7)}, "tensors do not make a network")
    refused({**state, "synapses.1.bias": torch.full((6,), float("nan"))}, "layer conv2: bias is not finite")
    refused(state, "does not fit the key map", keys="advep")
    refused(state, "no readable key map", keys="nothing.toml")
    with pytest.raises(Refusal, match="not a file of tensors"):
        import_checkpoint(tmp_path / "missing.pt", keys, out)


class Dangerous:
    def __reduce__(self):
        return os.mkdir, ("planted",)


def test_key_maps_name_any_layer():
    keys = load_map("laborieux").model_copy(update={"weight": "layers.{n}.w"})
    assert keys.key("weight", 3) == "layers.3.w"
    assert keys.key("bias", 0) == "synapses.0.bias"
    assert NetworkSpec.model_fields["slope"].default == keys.slope


def test_baselines_are_exported_as_their_own_state_dict(tmp_path):
    from ep_hw.baselines import Baseline, CNNSpec
    spec = CNNSpec(image_shape=(1, 8, 8), classes=10, mean=(0.3,), scale=(1.1,), channels=(4,), paddings=(1,),
                   pools=(2,))
    net = Baseline.initialise(spec, 0)
    net.name = "base"
    save_checkpoint(net, tmp_path / "base.safetensors", recipe={}, data=DATA, accuracy={})
    files = export_checkpoint(ep_hw.load(tmp_path / "base.safetensors"), tmp_path / "out")
    assert [f.name for f in files] == ["base.safetensors", "base.pt"]
    again = spec.build()
    again.load_state_dict(torch.load(files[1], weights_only=True))
    shown = random_images(3)
    assert torch.equal(again.eval()(shown), net.module.eval()(shown))
