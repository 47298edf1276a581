"""Modules of a user as models: any torch.nn.Module from images in [0, 1] to logits, by name or as it is.

    @register_module(image_shape=(1, 28, 28), classes=5)
    def tiny(): return torch.nn.Sequential(...)

is the model `plugin:tiny` from then on. Its data are named with --data.
"""

from collections.abc import Callable
from copy import deepcopy
from typing import TypeVar

import torch
from torch import nn

from ep_hw.networks.baselines import Baseline
from ep_hw.networks.baselines.network import ModuleSpec
from ep_hw.networks.lowering.lower import unseen
from mapping.errors import Refusal, running
from mapping.fields import check_named
from mapping.files import refusing
from mapping.names import suggesting

PREFIX = "plugin:"   # before the name of a module, where models are named
MODULES: dict[str, Callable[[], Baseline]] = {}
F = TypeVar("F", bound=Callable[[], nn.Module])


def network_of_module(module: nn.Module, image_shape: tuple[int, int, int], classes: int, *, name: str = "module",
                      data: str = "none") -> Baseline:
    """A copy of a module as a model: what becomes of the module afterwards, or in training mode, changes nothing.

    Args:
        module: images (B, C, H, W) in [0, 1] to logits (B, K). A chain of layers runs on every machine
            (`ep_hw.lower`), any other on crossbars, its layers on tiles.
        image_shape: (C, H, W).
        classes: K.
        name: of the model.
        data: name of the data set that it was trained on.

    Raises:
        Refusal: no module, or a shape, number or name that is none.
    """
    check_named(name, "module")
    if not isinstance(module, nn.Module):
        raise Refusal("not a module", where=name, got=type(module).__name__, allowed="a torch.nn.Module",
                      remedy="return one")
    channels = image_shape[0]
    with refusing("not the shape of images", where=name, allowed="(C, H, W), and 2 classes or more",
                  remedy="correct image_shape or classes"):
        spec = ModuleSpec(image_shape=image_shape, classes=classes, mean=(0.0,) * channels, scale=(1.0,) * channels)
    with running("the module cannot be copied", where=name):
        own = deepcopy(module).eval()
    return Baseline(spec, own, name, {"name": name, "recipe": {"kind": "module"}, **unseen(data)})


def register_module(image_shape: tuple[int, int, int], classes: int, data: str = "none") -> Callable[[F], F]:
    """Let commands name what the decorated function makes as the model `plugin:NAME`.

    Weights that it draws from torch's own generator are the same each time.

    Args:
        image_shape: (C, H, W) of the images in [0, 1] that it takes.
        classes: of its logits.
        data: name of the data set that it was trained on; where there is none, commands are told by --data.

    Raises:
        Refusal: a name that is none.
    """
    def register(function: F) -> F:
        name = function.__name__
        check_named(name, "module")
        MODULES[name] = lambda: network_of_module(_made(function), image_shape, classes, name=name, data=data)
        return function

    return register


def _made(function: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=()), running("the module cannot be made", where=f"{PREFIX}{function.__name__}"):
        torch.manual_seed(0)
        return function()


def registered(model: str) -> Baseline:
    """The model of a name that begins with `PREFIX`.

    Raises:
        Refusal: nobody registered it.
    """
    name = model.removeprefix(PREFIX)
    if name not in MODULES:
        raise Refusal("no such module", where="model", got=model, **suggesting(
            model, [PREFIX + known for known in MODULES],
            remedy="register it with ep_hw.register_module, and name its file with --plugin",
            allowed=None if MODULES else "none without --plugin FILE.py"))
    return MODULES[name]()
