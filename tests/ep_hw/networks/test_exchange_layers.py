"""What a state dict and a key map say of a network's layers: the true reason where they make none, before any work."""

import re

import pytest
import torch
from torch import nn

from ep_hw.networks.exchange import import_checkpoint, load_map
from mapping import Refusal

MAP = """
data = "digits"
image_shape = [1, 8, 8]
loss = "cross-entropy"
readout = "outside"
paddings = [1, 1]
strides = [1, 1]
pool = "max"
pools = [2, 2]
slope = 0.5
mean = [0.3]
scale = [1.1]
schedule = "synchronous"
steps = 20
"""


def synapses(*modules) -> dict:
    return nn.ModuleList(modules).state_dict(prefix="synapses.")


def usual(**settings):
    return [nn.Conv2d(1, 4, 3, **settings), nn.Conv2d(4, 6, 3, **settings), nn.Linear(24, 10)]


first, second, readout = usual()
STATES = {
    "hidden dense layer of another map": (synapses(first, second, nn.Linear(54, 20), nn.Linear(20, 10)),
                                          r"synapses\.2\.weight: .*size \(20, 54\), above a map of \(6, 2, 2\)"),
    "dense below a convolution": (synapses(first, nn.Linear(64, 24), nn.Conv2d(6, 6, 2), readout), r"size \(24, 64\)"),
    "groups": (synapses(first, nn.Conv2d(4, 6, 3, groups=2), readout), "2 of 4 channels below: .* in 2 groups"),
    "depthwise": (synapses(first, nn.Conv2d(4, 4, 3, groups=4), nn.Linear(16, 10)), "in 4 groups"),
    "other channels": (synapses(first, nn.Conv2d(3, 6, 3), readout), "key map; got 3 channels to read; .* 4 of"),
    "no biases": (synapses(*usual(bias=False)),
                  r"no bias, as in 2 layers.*'synapses.0.bias'\] = torch.zeros\(len\(state\['synapses.0.weight'\]"),
    "a layer more": (synapses(first, second, nn.Conv2d(6, 6, 3), readout), "got 3 convolutions below.*allowed: 2: one"),
    "a layer less": (synapses(first, nn.Linear(64, 10)), "got 1 convolutions below the readout; allowed: 2"),
    "wrapped": (nn.DataParallel(nn.ModuleList(usual())).state_dict(), r"got 'module\.0\.weight', .*name the layers"),
    "normalised": ({**synapses(*usual()), "norm.running_mean": torch.zeros(4)}, "'norm.running_mean'.*normalisation"),
    "feedback": ({**synapses(*usual()), "B_syn.0.weight": torch.zeros(4)}, "got 'B_syn.0.weight'.*of feedback"),
    "readout of another map": (synapses(first, second, nn.Linear(54, 10)), r"a last map of \(6, 2, 2\).*dilation"),
    "convolution as readout": (synapses(first, second, nn.Conv2d(6, 10, 2)), r"a readout of size \(10, 6, 2, 2\)"),
    "bias of another layer": ({**synapses(*usual()), "synapses.0.bias": torch.zeros(6)}, r"bias of size \(6,\)"),
    "one dimension": (synapses(nn.Conv1d(1, 4, 3), second, readout), r"a weight of size \(4, 1, 3\)"),
    "other classes": (synapses(first, second, nn.Linear(24, 12)), "other classes apart than its data"),
    "empty": ({}, "got no 'synapses.0.weight', 'synapses.0.bias'"),
    "numbers": ({**synapses(*usual()), "n": 3}, "not a state dict"),
}


@pytest.mark.parametrize("name", STATES)
def test_layers_that_make_no_network_are_refused_with_the_true_reason(name, tmp_path):
    state, words = STATES[name]
    torch.save(state, tmp_path / "x.pt")
    (tmp_path / "map.toml").write_text(MAP)
    with pytest.raises(Refusal, match=words) as caught:
        import_checkpoint(tmp_path / "x.pt", str(tmp_path / "map.toml"), tmp_path / "never.safetensors")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "never.safetensors").exists()


def test_the_layers_of_these_tests_make_a_network(tmp_path):
    torch.save(synapses(*usual()), tmp_path / "x.pt")
    (tmp_path / "map.toml").write_text(MAP)
    net, _ = import_checkpoint(tmp_path / "x.pt", str(tmp_path / "map.toml"), tmp_path / "net.safetensors")
    assert net.spec.channels == (4, 6)


MAPS = {
    "a key twice": ("steps = 20", "steps = 20\nsteps = 30", "overwrite|twice"), "nan": ("0.3", "nan", "finite"),
    "1e400": ("0.5", "1e400", "finite"), "infinite": ("1.1", "inf", "finite"),
    "huge": ("steps = 20", f"steps = {10**30}", "64 bits"), "thousands of digits": ("20", "9" * 5000, "digits"),
    "deep": ("[0.3]", "[" * 200 + "]" * 200, "within each other|deeply nested"),
    "date": ("20", "2020-01-01", "a date or time"),
    "no number in a name": ("data", 'weight = "w"\ndata', "must hold {n} once"),
    "two numbers in a name": ("data", 'bias = "b{n}{n}"\ndata', "must hold {n} once"),
    "another placeholder": ("data", 'weight = "{layer}.{n}"\ndata', "no other braces"),
    "one name for both": ("data", 'weight = "w{n}"\nbias = "w{n}"\ndata', "one name"),
    "control characters": ("data", r'weight = "\u001b[31m{n}"' + "\ndata", "must hold {n} once"),
    "unknown field": ("data", "dilations = [1, 1]\ndata", "dilations"),
    "no data set": ("digits", "mnist", "known data sets are digits, cifar10, cifar100"),
    "other images": ("[1, 8, 8]", "[1, 28, 28]", "images of digits"),
    "no layers": ("paddings = [1, 1]", "paddings = []", "paddings"),
    "too many layers": ("[2, 2]", str([1] * 10**4), "pools"),
    "one entry less": ("pools = [2, 2]", "pools = [2]", "one entry"),
    "wide padding": ("paddings = [1, 1]", f"paddings = [1, {10**9}]", "paddings.1"),
    "no pool": ("pools = [2, 2]", "pools = [0, 2]", "pools.0"), "a text": ("steps = 20", 'steps = "20"', "steps"),
    "a fraction": ("steps = 20", "steps = 20.5", "steps"), "no steps": ("steps = 20", "steps = 0", "steps"),
    "no scale": ("1.1", "0", "scale.0"), "two means": ("[0.3]", "[0.3, 0.3]", "one entry per image channel"),
    "another kind of pool": ('"max"', '"stochastic"', "pool.*max.*average"), "no TOML": ("data", "[data", "line 2"),
    "a stated stride": ("strides = [1, 1]", "", "nothing on strides"),
}


@pytest.mark.parametrize("name", MAPS)
def test_a_map_that_no_one_should_have_written_gets_one_line(name, tmp_path):
    old, new, words = MAPS[name]
    assert MAP.count(old) >= 1
    (tmp_path / "map.toml").write_text(MAP.replace(old, new, 1))
    with pytest.raises(Refusal, match=words) as caught:
        load_map(str(tmp_path / "map.toml"))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1500


@pytest.mark.parametrize(("old", "new", "kernel", "layer"), [("pools = [2, 2]", "pools = [2, 5]", 3, 1),
                                                            ("pools = [2, 2]", "pools = [9, 1]", 3, 0),
                                                            ("paddings = [1, 1]", "paddings = [0, 0]", 5, 1)])
def test_maps_of_no_size_are_refused_by_layer(old, new, kernel, layer, tmp_path):
    (tmp_path / "map.toml").write_text(MAP.replace(old, new))
    torch.save(synapses(nn.Conv2d(1, 4, kernel), nn.Conv2d(4, 6, kernel), readout), tmp_path / "x.pt")
    with pytest.raises(Refusal, match=rf"synapses\.{layer}\.weight: .*nothing left of a map of"):
        import_checkpoint(tmp_path / "x.pt", str(tmp_path / "map.toml"), tmp_path / "never.safetensors")


def test_the_file_that_is_imported_is_not_written_over(tmp_path):
    torch.save(synapses(*usual()), tmp_path / "x.pt")
    before = (tmp_path / "x.pt").read_bytes()
    (tmp_path / "map.toml").write_text(MAP)
    for out in (tmp_path / "x.pt", tmp_path / "map.toml"):
        with pytest.raises(Refusal, match=re.escape(str(out))):
            import_checkpoint(tmp_path / "x.pt", str(tmp_path / "map.toml"), out)
    assert ((tmp_path / "x.pt").read_bytes(), (tmp_path / "map.toml").read_text()) == (before, MAP)
