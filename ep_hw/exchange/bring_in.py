"""Importing: a state dict becomes a checkpoint, if its energy gives the same dynamics as ours.

The check runs the primitive function of EP-CNN code on the file's own tensors, with torch's convolution, pooling and
autograd and nothing of ours, and compares states and logits. It finds weights that were read wrongly, not a map that
says another slope or normalisation than they were trained with: that shows in accuracy alone (`trial`).

    Phi(s) = sum_n <s_n, maxpool(w_n * s_{n-1} + b_n)>,    s_n <- clamp(slope dPhi/ds_n, 0, 1)         (14)

Source: Ernoult et al. 2019 (equation 14, for convolutional networks).
"""

import pickle
from pathlib import Path

import torch
import torch.nn.functional as F
from pydantic import ValidationError

from ep_hw.calibration import calibrated
from ep_hw.checkpoint import load, save_checkpoint
from ep_hw.data import CLASSES, SPLIT_SEED, load_data
from ep_hw.exchange.keys import KeyMap, load_map
from ep_hw.network import EPNetwork, NetworkSpec
from ep_hw.training import accuracy
from mapping.errors import Refusal
from simulators.reference import ReferenceMachine

CHECKED_STEPS, CHECKED_IMAGES = 20, 4
CHECKED_TO = 1e-9   # float64; states are at most 1
TRIED_IMAGES = 100


def import_checkpoint(file: str | Path, keys: str, out: str | Path, root=None) -> tuple[EPNetwork, float]:
    """Turn a file of torch.save into a checkpoint, with calibration images of its data where these are there.

    Args:
        keys: "laborieux", "advep", or a TOML file of the fields of `KeyMap`.
        root: folder of the data, see `load_data`.

    Returns:
        The network, and the largest difference of states and logits from equation (14) on random images.

    Raises:
        Refusal: the file holds code instead of tensors, lacks a key, or its shapes do not chain; or the check fails.
    """
    key_map = load_map(keys)
    net = _network(key_map, layers_of(read_state_dict(file, key_map), key_map, file), file)
    net.name = Path(out).stem
    if (known := CLASSES.get(key_map.data, net.spec.classes)) != net.spec.classes:
        raise Refusal("the network tells other classes apart than its data", where=str(file),
                      got=f"{net.spec.classes} classes", allowed=f"the {known} of {key_map.data}",
                      remedy="choose the --map of the data that it was trained on")
    difference = compare(net)
    if not difference <= CHECKED_TO:
        raise Refusal("the imported network moves differently from its energy", where=str(file),
                      got=f"a difference of {difference:.1e}", allowed=f"up to {CHECKED_TO:g}",
                      remedy="report this: a file that was read rightly cannot do so")
    net.provenance = {"data": {"name": key_map.data, "split_seed": SPLIT_SEED, "train": 0, "test": 0}}
    save_checkpoint(calibrated(net, root), out, data=net.provenance["data"], accuracy={},
                    recipe={"imported": Path(file).name, "keys": key_map.model_dump(mode="json")})
    return load(out), difference


def trial(net: EPNetwork, root=None) -> tuple[int, int] | None:
    """Right answers on the first `TRIED_IMAGES` test images of the data that a key map named, and how many these are.

    Returns:
        None where the data are not there.
    """
    try:
        test = load_data(net.provenance["data"]["name"], "test", root).take(slice(TRIED_IMAGES))
    except Refusal:
        return None
    return round(accuracy(net, test) * len(test)), len(test)


def read_state_dict(file: str | Path, keys: KeyMap) -> dict:
    """The state dict in a file of torch.save, read without running code from it."""
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise Refusal("not a file of tensors", where=str(file), got=str(error).splitlines()[0],
                      allowed="a state dict of torch.save",
                      remedy="save model.state_dict() instead of the model itself") from None
    state = content.get(keys.state_dict, content) if isinstance(content, dict) else content
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise Refusal("not a state dict", where=str(file), got=type(state).__name__, allowed="names with their tensors",
                      remedy="save model.state_dict(), and name its entry in --map where it is one of several")
    return state


def layers_of(state: dict, keys: KeyMap, file) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """(weight, bias) of each layer, the readout last.

    Raises:
        Refusal: a key of the map is not there, or tensors are there that the map does not name.
    """
    wanted = [(keys.key("weight", n), keys.key("bias", n)) for n in range(len(keys.paddings) + 1)]
    named = {key for pair in wanted for key in pair}
    if named != set(state):
        raise Refusal("the state dict does not fit the key map", where=str(file),
                      got=", ".join(sorted(set(map(str, state)) ^ named)[:4]) + " on one side only",
                      allowed=", ".join(sorted(named)[:4]) + ", ...", remedy="name the layers in --map, a TOML file")
    return [(state[weight].float(), state[bias].float()) for weight, bias in wanted]


def _network(keys: KeyMap, layers, file) -> EPNetwork:
    *hidden, (readout, readout_bias) = layers
    settings = keys.model_dump(exclude={"data", "state_dict", "weight", "bias"})
    try:
        spec = NetworkSpec(**settings, channels=tuple(len(weight) for weight, _ in hidden), classes=len(readout),
                           kernel=hidden[0][0].shape[-1])
        readout = readout.view(spec.classes, *spec.geometry()[-1][2])
    except (ValidationError, RuntimeError) as error:
        raise Refusal("tensors do not make a network", where=str(file), got=str(error).splitlines()[-1],
                      allowed="one padding and pool a layer, a readout as wide as the last map",
                      remedy="correct paddings, pools and image_shape in --map") from None
    net = EPNetwork(spec, [*(weight for weight, _ in hidden), readout], [*(bias for _, bias in hidden), readout_bias])
    net.lower()
    return net


def compare(net: EPNetwork) -> float:
    """Largest difference between our reference's states and logits and those of equation (14), float64."""
    images = torch.rand((CHECKED_IMAGES, *net.spec.image_shape), dtype=torch.float64,
                        generator=torch.Generator().manual_seed(0))
    ours = ReferenceMachine(net.lower(), dtype=torch.float64).relax(images, CHECKED_STEPS, schedule="synchronous")
    states, logits = _by_energy(net, images)
    return max((a - b).abs().max().item() for a, b in zip((*ours.states, ours.logits), (*states, logits)))


def _by_energy(net: EPNetwork, images):
    """States and logits after `CHECKED_STEPS` steps of equation (14), by autograd."""
    spec = net.spec
    graph = net.lower()   # normalisation as rounded for every machine
    mean, scale = (torch.from_numpy(x).double().view(-1, 1, 1) for x in (graph.mean, graph.scale))
    weights, biases = ([t.double() for t in tensors] for tensors in (net.weights, net.biases))
    image = (images - mean) / scale
    states = [torch.zeros(len(images), *post, dtype=torch.float64) for *_, post in spec.geometry()]
    for _ in range(CHECKED_STEPS):
        states = [s.detach().requires_grad_() for s in states]
        drives = (F.max_pool2d(F.conv2d(pre, w, b, padding=padding), pool) for pre, w, b, padding, pool in
                  zip((image, *states), weights, biases, spec.paddings, spec.pools))
        phi = sum((s * drive).sum() for s, drive in zip(states, drives))
        states = [(spec.slope * g).clamp(0, 1) for g in torch.autograd.grad(phi, states)]
    return states, F.linear(states[-1].flatten(1), weights[-1].flatten(1), biases[-1])
