"""Exporting: a model as safetensors, as a plain state dict, and as the key map that would bring it back."""

import json
import logging
from io import BytesIO
from pathlib import Path

import torch

from ep_hw.networks.baselines import Baseline
from ep_hw.networks.checkpoint import save_checkpoint
from ep_hw.networks.exchange.keys import KeyMap
from ep_hw.networks.gains import gain_text
from ep_hw.networks.images import data_named
from ep_hw.networks.network import EPNetwork
from mapping.files import check_new, check_writable, refusing, write_atomically


def export_checkpoint(net: EPNetwork | Baseline, folder: str | Path) -> list[Path]:
    """Write NAME.safetensors, NAME.pt (a state dict) and, for EP-CNNs, NAME.toml (its key map) into a folder.

    Key maps know neither feedback gains nor other ceilings than 1, so that a network with such brings none; a warning
    says so.

    Raises:
        Refusal: the folder cannot be written or holds one of them, or no key map describes the network: one of data
            that are not known here.
    """
    keymap = _keys_of(net)
    check_writable(folder)
    stem, header = Path(folder) / net.name, net.provenance
    whole, plain, keys = (stem.with_name(net.name + suffix) for suffix in (".safetensors", ".pt", ".toml"))
    for path in (whole, plain, keys):
        check_new(path)
    save_checkpoint(net, whole, recipe=header["recipe"], data=header["data"], accuracy=header["accuracy"])
    buffer = BytesIO()
    torch.save(state_dict(net), buffer)
    write_atomically(plain, buffer.getvalue())
    if keymap is None:
        return [whole, plain]
    write_atomically(keys, keymap)
    return [whole, plain, keys]


def state_dict(net: EPNetwork | Baseline) -> dict[str, torch.Tensor]:
    """A baseline's own state dict; an EP network's has names `synapses.N`, and a dense layer as its readout."""
    if isinstance(net, Baseline):
        return net.tensors()
    weights = [*net.weights[:-1], net.weights[-1].flatten(1)]
    layers = enumerate(zip(weights, net.biases))
    return {f"synapses.{n}.{kind}": tensor for n, pair in layers for kind, tensor in zip(("weight", "bias"), pair)}


def _keys_of(net: EPNetwork | Baseline) -> bytes | None:
    """A key map's file, None for what no map describes."""
    if isinstance(net, Baseline):
        return None
    if net.spec.feedback_gain == 1 and net.spec.ceilings is None:
        return _toml(key_map(net)).encode()
    logging.getLogger(__name__).warning(
        "%s: only its .safetensors is the whole network; key maps know no feedback gain of %s and no ceilings, and the "
        "state dict alone would come back with gains and ceilings of 1", net.name, gain_text(net.spec.feedback_gain))
    return None


def key_map(net: EPNetwork) -> KeyMap:
    """The map under which an EP network's exported state dict is imported again."""
    spec = net.spec
    with refusing("no key map describes the network", where=net.name, allowed="a network of known data",
                  remedy="copy its checkpoint as it is"):
        return KeyMap(data=data_named(net), image_shape=spec.image_shape, loss="cross-entropy", readout="outside",
                      paddings=spec.paddings, strides=spec.strides or (1,) * len(spec.paddings), pool="max",
                      pools=spec.pools, slope=spec.slope, mean=spec.mean, scale=spec.scale, schedule=spec.schedule,
                      steps=spec.steps, tolerance=spec.tolerance)


def _toml(keys: KeyMap) -> str:
    """A key map as TOML, in which numbers, strings and lists of them are written as in JSON."""
    fields = keys.model_dump(mode="json", exclude_none=True)
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in fields.items())
