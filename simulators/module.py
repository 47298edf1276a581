"""A feed-forward classifier as a machine: any torch.nn.Module joins every evaluation beside the EP networks.

    machine = ModuleMachine(module, image_shape=(3, 32, 32), classes=10)

It has no states and no time: one pass gives the logits, and backpropagation through it is exact.
"""

import hashlib
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import nn

from mapping.errors import Refusal
from mapping.program import Table
from mapping.targets import ReferenceTarget
from simulators.machine import ANY, BOX, Cost, Equilibrium, Machine, check_images


@dataclass(frozen=True)
class Interface:
    """What stands where a network's graph would: the images taken (C, H, W) and the number of classes."""

    image_shape: tuple[int, int, int]
    classes: int


class ModuleMachine(Machine):
    """Args: module: images (B, C, H, W) in [0, 1] to logits (B, K), normalisation included; used in evaluation mode."""

    has_feedback = False
    pixels = BOX

    def __init__(self, module: nn.Module, image_shape: tuple[int, int, int], classes: int, name: str = "reference",
                 device: str = "cpu"):
        self.module, self.name, self.device = module.to(device).eval(), name, torch.device(device)
        self.graph = Interface(tuple(image_shape), classes)

    def relax(self, images, steps=None, nudge=None, generator=None, *, states=None, schedule=None, trace=None):
        """One pass: see `Machine.relax`. `steps` and `schedule` do not matter to what has no time.

        Raises:
            Refusal: a nudge, states to start from, or a trace: a feed-forward network has nothing to nudge or watch.
        """
        for asked, name in ((nudge, "nudge"), (states, "states"), (trace, "trace")):
            if asked is not None:
                raise Refusal(f"a feed-forward network takes no {name}", where=self.name, got=name,
                              allowed="images alone", remedy="attack it with bptt@1; nudge an EP network")
        check_images(images, self.graph.image_shape, self.pixels)
        with torch.set_grad_enabled(torch.is_grad_enabled() and images.requires_grad):
            logits = self.module(images.to(self.device)).to(images.device)
        settled = torch.zeros(len(images), device=images.device)
        return Equilibrium((), logits, settled, settled == 0, settled.long() + 1)

    @property
    def unclipped(self):
        """See `Machine.unclipped`."""
        free = copy(self)
        free.pixels = ANY
        return free

    def cost(self):
        return Cost(float(_operations(self.module, self.graph.image_shape, self.device)), None, None,
                    "multiply-accumulates of the convolutions and dense layers for one image")


@dataclass(frozen=True, eq=False)
class ModuleProgram:
    """A module as a program of the target `reference`: it is run as it is, and can be mapped onto nothing."""

    module: nn.Module
    interface: Interface
    target: ReferenceTarget = field(default_factory=lambda: ReferenceTarget("reference"))

    def digest(self) -> str:
        """sha256 over the module's structure, all its tensors, and its answers to a few random images.

        By the answers it sees plain attributes and code, which no tensor holds.
        """
        return self._digest

    @cached_property
    def _digest(self) -> str:
        content = hashlib.sha256(repr(self.module).encode())
        images = torch.rand(2, *self.interface.image_shape, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            content.update(ModuleMachine(self.module, self.interface.image_shape, self.interface.classes)
                           .relax(images).logits.numpy().tobytes())
        for name, tensor in sorted({**dict(self.module.named_buffers()), **self.module.state_dict()}.items()):
            content.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            content.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return content.hexdigest()

    def chip_seeds(self, count: int) -> list[None]:
        """See `mapping.program.Program.chip_seeds`: a module has no chips."""
        return [None]

    def report(self) -> Table:
        """A row for every part that holds weights."""
        rows = tuple((name, type(part).__name__, sum(p.numel() for p in part.parameters(recurse=False)), 32)
                     for name, part in self.module.named_modules() if any(True for _ in part.parameters(recurse=False)))
        return Table(f"{self.target}: float, feed-forward", ("layer", "kind", "weights", "bits"), rows)


def _operations(module: nn.Module, image_shape, device) -> int:
    """Multiply-accumulates of one image, counted by watching a pass."""
    total = 0

    def count(part, inputs, output):
        nonlocal total
        total += part.weight[0].numel() * output[0].numel()

    hooks = [part.register_forward_hook(count) for part in module.modules() if isinstance(part, (nn.Conv2d, nn.Linear))]
    try:
        with torch.no_grad():
            module(torch.zeros(1, *image_shape, device=device))
    finally:
        for hook in hooks:
            hook.remove()
    return total
