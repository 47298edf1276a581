"""Lowering: a torch module that is a chain of layers becomes an EPGraph without feedback, or an EPNetwork of it.

    graph = ep_hw.lower(module, images)
    program = mapping.compile(graph, "loihi")

Batch norms and average pools fold into weights (`lowering.layer`), max pools and activations are the graph's own.
"""

import copy
import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ep_hw.data.splits import SPLIT_SEED
from ep_hw.networks.lowering.chain import Chain
from ep_hw.networks.lowering.layer import Layer
from ep_hw.networks.lowering.tracing import ALLOWED, chain_of, refusal
from ep_hw.networks.network import EPNetwork, NetworkSpec
from ep_hw.networks.shapes import Shape
from ep_hw.threads import threads
from mapping.errors import Refusal
from mapping.files import refusing
from mapping.graph import EPGraph
from simulators.machine import check_images

COMPARED_IMAGES = 16
COMPARED_TO = 1e-3   # of the largest logit: rounding to float32 stays below it unless a network blows it up


def lower(module: nn.Module, example: Tensor) -> EPGraph:
    """The graph of a trained module in evaluation mode; the module itself is left as it is.

    Args:
        module: images (B, C, H, W) in [0, 1] to logits (B, K), normalisation included.
        example: (N, C, H, W) images in [0, 1], of those it was trained on: they say what shape images have, and size
            converters and integer ranges of hardware.

    Raises:
        Refusal: a part of the module that is no part of a chain of layers, by its qualified name.
    """
    return network_of(module, example).lower()


@threads(1)
@torch.no_grad()
def network_of(module: nn.Module, example: Tensor, name: str = "network", data: str = "none") -> EPNetwork:
    """Like `lower`, but the network that has this graph: `ep_hw.save_checkpoint` keeps it for the command line.

    Args:
        module: see `lower`.
        example: see `lower`; kept as its calibration images.
        name: of the network.
        data: name of the data set that it was trained on.
    """
    where = type(module).__name__
    shape, example = _images(example)
    own = _copied(module, where)
    logits = _answers(own, example[:COMPARED_IMAGES], where)
    chain = chain_of(own, shape)
    with refusing("not a chain of layers", where=where, allowed=ALLOWED, remedy="end it in weights"):
        net = network(chain, slope=1.0, feedback_gain=0.0).cast(torch.float32)
    net = replace(net, calibration=example, name=name, provenance=unseen(data))
    _compare(net, example[:COMPARED_IMAGES], logits, where)
    return net


def unseen(data: str, source: str = "") -> dict[str, Any]:
    """The provenance of a network that was trained elsewhere, on data of that name, in that file or folder."""
    known = {"name": data, "split_seed": SPLIT_SEED, "train": 0, "test": 0}
    return {"data": {**known, "source": source} if source else known}


def _images(example: Tensor) -> tuple[Shape, Tensor]:
    """The shape of the example's images, and the example as float32 on the CPU, once it is one."""
    if not (isinstance(example, Tensor) and example.ndim == 4 and len(example)):
        raise Refusal("no images to size hardware by", where="example", got=type(example).__name__,
                      allowed="a tensor (N, C, H, W) of one image or more", remedy="give some training images")
    _, channels, height, width = example.shape
    check_images(example, (channels, height, width))
    return (channels, height, width), example.detach().cpu().float()


def _copied(module: nn.Module, where: str) -> nn.Module:
    """A copy in evaluation mode and float64."""
    try:
        return copy.deepcopy(module).cpu().double().eval()
    except Exception as error:   # of foreign code, or of a tensor that remembers how it was made
        raise refusal(where, f"a module that cannot be copied: {error}") from error


def _answers(module: nn.Module, images: Tensor, where: str) -> Tensor:
    """The module's own logits."""
    try:
        logits = module(images.double())
    except Exception as error:   # of any code
        raise refusal(where, f"a module that fails on the example: {type(error).__name__}: {error}") from error
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(images):
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise refusal(where, f"an answer {shape} to {len(images)} images, no row of logits for each")
    return logits


def network(chain: Chain, **dynamics: object) -> EPNetwork:
    """The network of a whole chain, its tensors in float64.

    Args:
        chain: layers, then a readout.
        dynamics: fields of `NetworkSpec` that a chain does not say, its normalisation among them where it has another.

    Raises:
        ValueError: it does not end in weights alone, has nothing below them, or is larger than any checkpoint.
    """
    if not chain.is_open or chain.layers[-1].unpooled[1:] != (1, 1):
        raise ValueError("an end that is no dense readout")
    if len(chain.layers) < 2:
        raise ValueError("a readout of the image itself, without a layer below it")
    *layers, readout = chain.layers
    normalisation = chain.normalisation.of(chain.image_shape[0])
    fields = {"image_shape": chain.image_shape, "classes": len(readout.bias),
              "mean": _floats(-normalisation.shift / normalisation.scale), "scale": _floats(1 / normalisation.scale)}
    spec = NetworkSpec.model_validate({**fields, **_layers(layers), **dynamics})
    return EPNetwork(spec, [*(layer.weight for layer in layers), readout.whole().weight],
                     [layer.bias for layer in chain.layers])


def _layers(layers: list[Layer]) -> dict[str, object]:
    """The fields of a spec that have an entry a layer; where all are usual, they say so in a word."""
    kernels = [(layer.weight.shape[2], layer.weight.shape[3]) for layer in layers]
    strides, ceilings = tuple(layer.stride for layer in layers), tuple(map(_ceiling, layers))
    return {"channels": tuple(len(layer.bias) for layer in layers),
            "paddings": tuple(layer.padding for layer in layers), "pools": tuple(layer.pool for layer in layers),
            "kernel": kernels[0][0] if set(kernels) == {(kernels[0][0],) * 2} else tuple(kernels),
            "strides": None if set(strides) == {1} else strides,
            "ceilings": None if set(ceilings) == {1.0} else ceilings}


def _ceiling(layer: Layer) -> float | None:
    return None if layer.ceiling == math.inf else layer.ceiling


def _floats(values: Tensor) -> tuple[float, ...]:
    """Numbers that float32 holds, so that a checkpoint gives them back as they are."""
    return tuple(values.float().tolist())


def _compare(net: EPNetwork, images: Tensor, logits: Tensor, where: str):
    """Refuse a module whose answers do not follow from the layers that its Python names."""
    difference = (net.machine().relax(images).logits - logits).abs().max() / logits.abs().max()
    if not difference <= COMPARED_TO:
        raise refusal(where, f"answers that its layers do not give: {difference:.1g} of the largest logit apart")
