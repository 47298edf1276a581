"""Importing: a state dict becomes a checkpoint, if the dynamics that its key map states are ours.

The map says of the network what its tensors do not (`KeyMap`). Average pools fold into weights, and a readout inside
the energy is a layer of its own. The check then runs the stated dynamics on the file's own tensors (`Source`) and
compares states and logits. It finds weights that were read wrongly. It cannot find a map that states another slope or
normalisation than those of training: only accuracy shows that (`trial`).
"""

import os
from dataclasses import replace
from pathlib import Path

import torch

from ep_hw.data.registry import data_set
from ep_hw.data.source import DEFAULT_SOURCE, DataSource
from ep_hw.data.splits import Choose
from ep_hw.networks.accuracy import accuracy
from ep_hw.networks.checkpoint import load, save_checkpoint
from ep_hw.networks.exchange.archive import read_archive
from ep_hw.networks.exchange.joined import network_of_map
from ep_hw.networks.exchange.keys import KeyMap, load_map
from ep_hw.networks.exchange.layers import Layer, read_layers
from ep_hw.networks.exchange.recorded import recorded
from ep_hw.networks.exchange.source import Source
from ep_hw.networks.images import images_for
from ep_hw.networks.network import EPNetwork
from mapping.errors import Refusal
from mapping.files import refusing
from simulators.reference import FloatSubstrate
from simulators.relaxation import relax

CHECKED_STEPS, CHECKED_IMAGES = 20, 4
CHECKED_TO = 1e-9   # float64; states are at most 1
TRIED_IMAGES = 100


def import_checkpoint(file: str | Path, keys: str, out: str | Path, *,
                      data_source: DataSource = DEFAULT_SOURCE, **stated: object) -> tuple[EPNetwork, float]:
    """Turn a file of torch.save into a checkpoint, with calibration images of its data where these are there.

    Args:
        file: to import.
        keys: "laborieux", "advep", or a TOML file of the fields of `KeyMap`.
        out: the checkpoint to write.
        data_source: where its data lie, of which it keeps calibration images, or what takes their place.
        stated: fields that the map leaves open; `stride` is that of every convolution.

    Returns:
        The network, and the largest difference of states and logits from the stated dynamics on random images.

    Raises:
        Refusal: no such file, a network that is not described or cannot be represented, or the check fails.
    """
    for source in filter(os.path.exists, (file, keys)):
        if os.path.exists(out) and os.path.samefile(source, out):
            raise Refusal("the import would be written over its source", where=str(out), got="one file",
                          allowed="a file of its own", remedy="choose another --out")
    archive = read_archive(file)
    if other := data_source.data:
        stated["data"] = other.source or other.name
    key_map = load_map(keys, stated, recorded(archive.content))
    layers = read_layers(archive, key_map)
    _check_classes(key_map, layers, file)
    with refusing("the tensors make no network", where=file, allowed="a network that a checkpoint holds",
                  remedy="correct --map"):
        exact = replace(network_of_map(key_map, layers), name=Path(out).stem)
    stated_terms = Source(key_map, layers)
    if not (difference := compare(exact, stated_terms)) <= CHECKED_TO:
        raise Refusal("the imported network moves differently from its source", where=str(file),
                      got=f"a difference of {difference:.1e}", allowed=f"up to {CHECKED_TO:g}",
                      remedy="report this: a file that was read rightly cannot do so")
    net = exact.cast(torch.float32).calibrated(data_source)
    save_checkpoint(net, out, data=net.provenance["data"], accuracy={},
                    recipe={"imported": Path(file).name, "keys": key_map.model_dump(mode="json")})
    written = load(out)
    assert isinstance(written, EPNetwork)
    return written, compare(written, stated_terms)


def trial(net: EPNetwork, data_source: DataSource = DEFAULT_SOURCE) -> tuple[int, int] | None:
    """Try a network on the first `TRIED_IMAGES` test images of its data.

    Returns:
        How many answers are right, and of how many; None where the data are not there.
    """
    try:
        test = images_for(net, "test", data_source, Choose(TRIED_IMAGES))
    except Refusal:
        return None
    return round(accuracy(net.machine(), test) * len(test)), len(test)


def compare(net: EPNetwork, source: Source) -> float:
    """Largest difference between our reference's states and logits and those of the source, float64."""
    images = torch.rand((CHECKED_IMAGES, *net.spec.image_shape), dtype=torch.float64,
                        generator=torch.Generator().manual_seed(0))
    ours = _relax(net, images)
    states, logits = source.relax(images, CHECKED_STEPS)
    return max((a - b).abs().max().item() for a, b in ((own.flatten(1), theirs.flatten(1)) for own, theirs in
                                                       zip((*ours[:len(states)], ours[-1]), (*states, logits))))


def _relax(net: EPNetwork, images: torch.Tensor) -> list[torch.Tensor]:
    """States and logits of a network whose tensors are taken as they are, in float64."""
    own, as_lowered = net.cast(torch.float64).substrate(), FloatSubstrate.of(net.lower(), dtype=torch.float64)
    substrate = as_lowered.with_projections(own.projections)
    states = relax(substrate, images, schedule="synchronous", steps=CHECKED_STEPS).states
    return [*states, own.logits(states[-1])]


def _check_classes(keys: KeyMap, layers: list[Layer], file: str | Path):
    if (classes := len(layers[-1][0])) != (expected := data_set(keys.data).classes):
        raise Refusal("the network tells other classes apart than its data", where=str(file), got=f"{classes} classes",
                      allowed=f"the {expected} of {keys.data}",
                      remedy="choose the --map of the data that it was trained on")
