"""What a module's layers meet on calibration images: which of them tiles can hold, and what drives these."""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from mapping.crossbar.tiles import Recorded
from mapping.errors import Refusal
from mapping.graph import Coupling
from simulators.module import Interface, ModuleMachine

ON_TILES = "Conv2d of one group, without dilation, with equal zeros on all sides, and Linear"


@dataclass(frozen=True, eq=False)
class Recording:
    """A module, and what its layers met on calibration images.

    Attributes:
        module: images (B, C, H, W) in [0, 1] to logits (B, K).
        interface: its images and classes.
        layers: qualified name -> layer, of those that tiles can hold and that were called.
        digital: (qualified name, kind) of the other parts with weights of two dimensions or more.
    """

    module: nn.Module
    interface: Interface
    layers: Mapping[str, Recorded]
    digital: tuple[tuple[str, str], ...]


def record(module: nn.Module, images: Tensor, classes: int) -> Recording:
    """Watch a module answer calibration images.

    Args:
        module: images (B, C, H, W) in [0, 1] to logits (B, K), normalisation included.
        images: (N, C, H, W) in [0, 1], of those that it was trained on.
        classes: K.

    Raises:
        Refusal: it is no module that can be a machine (see `ModuleMachine`), or calls nothing that tiles can hold.
    """
    _, channels, height, width = images.shape
    interface = Interface((channels, height, width), classes)
    own = ModuleMachine(copy.deepcopy(module), interface.image_shape, classes)
    parts = dict(own.module.named_modules())
    layers = {name: _recorded(name, parts[name], calls, len(images)) for name, calls in _calls(own, images).items()}
    if not layers:
        raise Refusal("nothing of the module goes onto tiles", where=type(module).__name__,
                      got="no such layer is called", allowed=ON_TILES, remedy="evaluate it on the reference")
    digital = tuple((name, type(part).__name__) for name, part in parts.items() if name not in layers
                    and any(p.ndim > 1 for p in part.parameters(recurse=False)))
    return Recording(module, interface, layers, digital)


def _calls(machine: ModuleMachine, images: Tensor) -> dict[str, list[Tensor]]:
    """Qualified name -> what drove each call, of the layers that tiles can hold and that are called; hooks stay."""
    met: dict[str, list[Tensor]] = {}
    for name, part in machine.module.named_modules():
        if _fits(part):
            part.register_forward_pre_hook(_listener(met.setdefault(name, []), part), with_kwargs=True)
    machine.relax(images)
    return {name: calls for name, calls in met.items() if calls}


def _fits(part: nn.Module) -> bool:
    """Whether tiles can hold a part of a module; what inherits from these types may do something else."""
    if type(part) is nn.Conv2d:
        (left, right), stride = _padding(part), set(part.stride)
        return part.groups == 1 and set(part.dilation) == {1} and left == right and len(stride) == 1 and (
            part.padding_mode == "zeros" or left == 0)
    return type(part) is nn.Linear


def _padding(part: nn.Conv2d) -> tuple[int, int]:
    """Zeros (above, to the left); (0, 1), which no tile takes, where they are not equal on both sides."""
    if part.padding == "same":
        places = {k - 1 for k in part.kernel_size}
        return (0, 1) if len(places) > 1 or (side := places.pop()) % 2 else (side // 2,) * 2
    return (0, 0) if isinstance(part.padding, str) else (part.padding[0], part.padding[1])


def _listener(calls: list[Tensor], part: nn.Module) -> Callable[[nn.Module, tuple, dict], None]:
    def listen(module: nn.Module, inputs: tuple, named: dict):
        calls.append(maps_of((*inputs, *named.values())[0], isinstance(part, nn.Linear)).detach())

    return listen


def maps_of(inputs: Tensor, dense: bool) -> Tensor:
    """What drives a layer as maps (N, C, H, W): of a dense layer, maps of one pixel."""
    if dense:
        return inputs.reshape(-1, inputs.shape[-1], 1, 1)
    return inputs if inputs.ndim == 4 else inputs[None]


def _recorded(name: str, part: nn.Module, calls: list[Tensor], images: int) -> Recorded:
    assert isinstance(part, nn.Conv2d | nn.Linear), "what fits onto tiles"
    (padding, _), stride = (_padding(part), part.stride[0]) if isinstance(part, nn.Conv2d) else ((0, 0), 1)
    weight = part.weight.detach().float()
    bias = weight.new_zeros(len(weight)) if part.bias is None else part.bias.detach().float()
    _, channels, height, width = calls[0].shape
    kernel = weight.reshape(*weight.shape, *(1,) * (4 - weight.ndim))
    coupling = Coupling(name, kernel.numpy(), bias.numpy(), padding, 1, (channels, height, width), stride)
    alike = [x for x in calls if x.shape[1:] == calls[0].shape[1:]]   # maps of another size calibrate nothing
    return Recorded(coupling, torch.cat(alike).float().numpy(), -(-sum(_places(coupling, x) for x in calls) // images))


def _places(coupling: Coupling, maps: Tensor) -> int:
    """Places of a kernel on all maps (N, C, H, W) together."""
    n, channels, height, width = maps.shape
    return n * math.prod(replace(coupling, pre=(channels, height, width)).unpooled[1:])
