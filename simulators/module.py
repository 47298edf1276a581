"""A feed-forward classifier as a machine: any torch.nn.Module joins every evaluation beside the EP networks.

    machine = ModuleMachine(module, image_shape=(3, 32, 32), classes=10)

It has no states and no time: one pass gives the logits, and backpropagation through it is exact.
"""

import hashlib
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from typing import TypeAlias

import torch
from torch import Tensor, nn

from mapping.errors import Refusal
from mapping.names import in_a_line
from mapping.program import Program, Table
from mapping.targets import ReferenceTarget, Target
from simulators.machine import ANY, BOX, Cost, Equilibrium, Machine, check_images
from simulators.relaxation import Nudge, States, Trace

_TRIED = 3        # images
_ALIKE = 1e-3     # relative difference of answers to one image in batches of different size
_SHOWN = 200      # characters of a foreign error


@dataclass(frozen=True)
class Interface:
    """What stands where a network's graph would: the images taken (C, H, W) and the number of classes."""

    image_shape: tuple[int, int, int]
    classes: int


class ModuleMachine(Machine):
    """Answers with a module's logits. The module is tried on a few images first: it must answer each for itself.

    Args:
        module: images (B, C, H, W) in [0, 1] to logits (B, K), normalisation included; used in evaluation mode. Images
            come in the type of its weights, whatever the type of those asked about.

    Attributes:
        differentiable: whether gradients come back to the images.

    Raises:
        Refusal: the module fails, answers with something else than finite logits, changes its images, or answers an
            image otherwise when it is asked again among others.
    """

    graph: Interface  # type: ignore[assignment]  # less than a network; who needs more asks `has_feedback` first
    has_feedback = False
    pixels = BOX

    def __init__(self, module: nn.Module, image_shape: tuple[int, int, int], classes: int, name: str = "reference",
                 device: str = "cpu"):
        if not isinstance(module, nn.Module):
            raise _refusal(name, "no module", type(module).__name__, "wrap it in a torch.nn.Module")
        self.module, self.name, self.device = module.to(device).eval(), name, torch.device(device)
        self.graph = Interface(image_shape, classes)
        weights = (t for t in (*module.parameters(), *module.buffers()) if t.is_floating_point())
        self.dtype = next((t.dtype for t in weights), torch.float32)
        self.differentiable = self._try()

    def relax(self, images: Tensor, steps: int | None = None, nudge: Nudge | None = None,
              generator: torch.Generator | None = None, *, states: States | None = None, schedule: str | None = None,
              trace: Trace | None = None) -> Equilibrium:
        """One pass: see `Machine.relax`. `steps` and `schedule` do not matter to what has no time.

        Raises:
            Refusal: a nudge, states to start from, or a trace: a feed-forward network has nothing to nudge or watch;
                an answer that is no finite logits.
        """
        for asked, name in ((nudge, "nudge"), (states, "states"), (trace, "trace")):
            if asked is not None:
                raise Refusal(f"a feed-forward network takes no {name}", where=self.name, got=name,
                              allowed="images alone", remedy="attack it with bptt@1; nudge an EP network")
        check_images(images, self.graph.image_shape, self.pixels)
        with torch.set_grad_enabled(torch.is_grad_enabled() and images.requires_grad):
            logits = self._answer(images.to(self.device, self.dtype), generator)
        settled = torch.zeros(len(images), device=images.device)
        logits = logits.to(images.device, torch.promote_types(images.dtype, torch.float32))
        return Equilibrium((), logits, settled, settled == 0, settled.long() + 1)

    def _answer(self, images: Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """The module's logits for images in its own type, once they are what logits must be; it draws nothing."""
        try:
            logits = self.module(images)
        except Exception as error:   # of any code
            raise _refusal(self.name, "the module fails", f"{type(error).__name__}: {str(error)[:_SHOWN]}",
                           "show it images (B, C, H, W) of this data set yourself") from error
        if not isinstance(logits, torch.Tensor) or logits.shape != (len(images), self.graph.classes):
            shown = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
            raise _refusal(self.name, "the module gives no logits", shown,
                           "return one tensor, a row an image, a column a class of this data set")
        if not logits.is_floating_point() or not logits.isfinite().all():
            raise _refusal(self.name, "the module's logits are not finite floats", logits.dtype,
                           "return plain scores; where a training diverged, lower its rate")
        return logits

    def _try(self) -> bool:
        """Ask about random images; whether gradients come back."""
        images = random_images(self.graph.image_shape)
        shown = images.to(self.device, self.dtype, copy=True)
        kept = shown.clone()
        with torch.no_grad():
            among, alone = self._answer(shown), self._answer(shown[:1])
        if not torch.equal(shown, kept):
            raise _refusal(self.name, "the module changes its images", "other pixels after a pass",
                           "let it work on a copy: x = x.clone()")
        if not torch.allclose(among[:1], alone, rtol=_ALIKE, atol=_ALIKE * float(alone.abs().max())):
            raise _refusal(self.name, "the module answers an image otherwise when it is asked again among others",
                           f"{float((among[:1] - alone).abs().max()):.2g} apart",
                           "leave randomness and statistics of the batch out of evaluation mode")
        return self._carries_gradients(kept.requires_grad_())

    def _carries_gradients(self, images: Tensor) -> bool:
        try:
            with torch.enable_grad():
                back = torch.autograd.grad(self._answer(images).sum(), images)[0]
        except Exception:   # of foreign code: it need not be differentiable
            return False
        return bool(back.isfinite().all())

    @property
    def unclipped(self) -> Machine:
        """See `Machine.unclipped`."""
        free = copy(self)
        free.pixels = ANY
        return free

    def cost(self) -> Cost:
        return Cost(float(operations(self)), None, None,
                    "multiply-accumulates of the convolutions and dense layers for one image")


def random_images(shape: tuple[int, int, int]) -> Tensor:
    """A few, to try a module on."""
    return torch.rand(_TRIED, *shape, generator=torch.Generator().manual_seed(0))


def _refusal(name: str, what: str, got: object, remedy: str) -> Refusal:
    return Refusal(what, where=name, got=got, allowed="a torch.nn.Module from images (B, C, H, W) in [0, 1] to finite "
                   "logits (B, classes), each image for itself", remedy=remedy)


@dataclass(frozen=True, eq=False)
class ModuleProgram:
    """A module as a program of the target `reference`: it is run as it is.

    `simulators.crossbar.tiled` puts its convolutions and dense layers on tiles.
    """

    module: nn.Module
    interface: Interface
    target: Target = field(default_factory=lambda: ReferenceTarget("reference"))

    def __repr__(self):
        return in_a_line(self, f"of a {type(self.module).__name__} for {self.target}: images of "
                               f"{'x'.join(map(str, self.interface.image_shape))}, {self.interface.classes} classes")

    def _repr_html_(self) -> str:
        """What notebooks show: its name and its table."""
        return f"<p>{escape(repr(self))}</p>{self.report()._repr_html_()}"

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

    def chip_seeds(self, count: int) -> list[int | None]:
        """See `mapping.program.Program.chip_seeds`: a module has no chips."""
        return [None]

    def report(self) -> Table:
        """A row for every part that holds weights."""
        rows = tuple((name, type(part).__name__, sum(p.numel() for p in part.parameters(recurse=False)), 32)
                     for name, part in self.module.named_modules() if any(True for _ in part.parameters(recurse=False)))
        return Table("float, feed-forward", ("layer", "kind", "weights", "bits"), rows)


AnyProgram: TypeAlias = Program | ModuleProgram   # of an EP network, or of any other


def operations(machine: ModuleMachine) -> int:
    """Multiply-accumulates of one image in torch's own convolutions and dense layers, counted by watching a pass."""
    total = 0

    def count(part: nn.Module, inputs: tuple[Tensor, ...], output: Tensor):
        nonlocal total
        if isinstance(part, nn.Conv2d | nn.Linear):
            total += part.weight[0].numel() * output[0].numel()

    hooks = [part.register_forward_hook(count) for part in machine.module.modules()]
    try:
        machine.relax(torch.zeros(1, *machine.graph.image_shape))
    finally:
        for hook in hooks:
            hook.remove()
    return total
