"""Any torch module on tiles: its convolutions and dense layers are read from arrays, all else stays digital torch.

    program = put_on_tiles(record(module, images, classes=10), "crossbar:pcm")
    with simulators.open(program, chip_seed=3) as machine:
        equilibrium = machine.relax(images)

A dense layer is a kernel of one pixel: of tokens (B, N, D) each is read for itself. A layer that is called twice is one
array that is read twice. Gradients go straight through noise and converters, as in all other crossbars.
"""

import copy
import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from mapping.crossbar.program import CrossbarLayer, tile_table
from mapping.crossbar.target import CrossbarTarget
from mapping.crossbar.tiles import Recorded, compile_tiles
from mapping.errors import Refusal
from mapping.graph import Coupling
from mapping.program import Table
from mapping.registry import parse
from mapping.targets import Target
from simulators.crossbar.chip import conversions, peripheries_of, read_noise
from simulators.crossbar.cost import pass_cost
from simulators.crossbar.periphery import Saturation
from simulators.crossbar.programmed import ProgrammedChip, program_chip
from simulators.crossbar.projection import CrossbarProjection
from simulators.machine import Cost, Machine
from simulators.module import Interface, ModuleMachine, ModuleProgram, operations, random_images

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
    machine = ModuleMachine(copy.deepcopy(module), interface.image_shape, classes)
    own = machine.module
    candidates = {name: part for name, part in own.named_modules() if _fits(part)}
    met: dict[str, list[Tensor]] = {name: [] for name in candidates}
    for name, part in candidates.items():
        part.register_forward_pre_hook(_listener(met[name], part), with_kwargs=True)
    machine.relax(images)
    layers = {name: _recorded(name, candidates[name], calls, len(images)) for name, calls in met.items() if calls}
    if not layers:
        raise Refusal("nothing of the module goes onto tiles", where=type(module).__name__,
                      got="no such layer is called", allowed=ON_TILES, remedy="evaluate it on the reference")
    digital = tuple((name, type(part).__name__) for name, part in own.named_modules() if name not in layers
                    and any(p.ndim > 1 for p in part.parameters(recurse=False)))
    return Recording(module, interface, layers, digital)


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
        calls.append(_maps((*inputs, *named.values())[0], isinstance(part, nn.Linear)).detach())

    return listen


def _maps(inputs: Tensor, dense: bool) -> Tensor:
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


@dataclass(frozen=True, eq=False, kw_only=True)
class TiledProgram(ModuleProgram):
    """A module whose convolutions and dense layers lie on tiles.

    Attributes:
        target: of the tiles.
        recorded: what they hold, in the order of the module.
        layers: the same as conductances.
        digital: see `Recording`.
    """

    target: CrossbarTarget
    recorded: tuple[Recorded, ...] = field(repr=False)
    layers: tuple[CrossbarLayer, ...] = field(repr=False)
    digital: tuple[tuple[str, str], ...] = ()

    @property
    def feeds_back(self) -> tuple[bool, ...]:
        """See `mapping.crossbar.program.OnTiles`."""
        return (False,) * len(self.layers)

    def digest(self) -> str:
        """sha256 over the module (see `ModuleProgram.digest`), the target and all that tiles and converters are."""
        return self._tiled_digest

    @cached_property
    def _tiled_digest(self) -> str:
        content = hashlib.sha256(f"{super().digest()} {self.target}".encode())
        for layer in self.layers:
            content.update(f"{layer.name} {layer.stored.g_us.shape} {layer.row_cuts} {layer.column_cuts}".encode())
            content.update(layer.stored.g_us.tobytes() + layer.stored.column_scale.tobytes())
            for span in layer.spans or ():
                content.update(f"{span.dac} {span.signed}".encode() + span.adc.tobytes())
        return content.hexdigest()

    def chip_seeds(self, count: int) -> list[int | None]:
        """See `mapping.program.Program.chip_seeds`."""
        return [*range(count)] if self.target.has_chips else [None]

    def report(self) -> Table:
        """A row for every layer on tiles; what else has weights stays digital."""
        others = ", ".join(f"{name or 'the module'} ({kind})" for name, kind in self.digital)
        return tile_table([one.coupling for one in self.recorded], self.layers, self.target, relaxes=False,
                          notes=[f"digital: {others or 'all parts without weights of two dimensions or more'}"])

    def save(self, folder: Path):
        """Refuse: the module is foreign code. Chips can be kept, and opened when the module has been recorded again."""
        raise Refusal("no file keeps a module, which is code of its own", where=str(folder), got=str(self.target),
                      allowed="programs of networks that ep_hw.lower takes",
                      remedy="keep its chips (machine.chip.save) and record the module again")


def put_on_tiles(recording: Recording, target: Target | str) -> TiledProgram:
    """Compile a module's layers for tiles.

    Args:
        recording: of `record`.
        target: a crossbar, or its name with options.

    Raises:
        Refusal: a machine that is no crossbar; see `mapping.crossbar.tiles.compile_tiles`.
    """
    target = parse(target) if isinstance(target, str) else target
    if not isinstance(target, CrossbarTarget):
        raise Refusal("the machine has no digital part for what is no chain of layers", where=str(target),
                      got=type(recording.module).__name__, allowed="crossbar:PRESET",
                      remedy="choose a crossbar; a chain of layers is lowered by ep_hw.lower")
    recorded = tuple(recording.layers.values())
    return TiledProgram(recording.module, recording.interface, target=target, recorded=recorded,
                        layers=compile_tiles(recorded, target), digital=recording.digital)


class Reads:
    """Where the layers of a module on tiles find the generator of their read noise while it answers."""

    generator: torch.Generator | None = None


class TiledLayer(nn.Module):
    """A layer of a module on tiles. It has no weights for others to use: what uses them would bypass the tiles.

    Args:
        part: that it takes the place of.
        projection: the tiles.
        reads: where the generator of read noise is found.
    """

    def __init__(self, part: nn.Module, projection: CrossbarProjection, reads: Reads):
        super().__init__()
        self.dense, self.projection, self.reads = isinstance(part, nn.Linear), projection, reads

    def forward(self, input: Tensor) -> Tensor:
        maps = _maps(input, self.dense).to(self.projection.bias)
        drive = self.projection.forward(maps, self.reads.generator)[0].to(input.dtype)
        if self.dense:
            return drive.reshape(*input.shape[:-1], -1)
        return drive if input.ndim == 4 else drive[0]


class TiledMachine(ModuleMachine):
    """A module on one analog chip: it answers in one pass, in which each call of a layer reads its array once.

    Read noise comes as in `simulators.crossbar.chip.CrossbarMachine`.

    Args:
        program: what to run.
        chip_seed: which chip was programmed.
        device: "cpu" or "cuda".
        chip: already programmed with this program, in place of `chip_seed`; see `program_chip`.
    """

    def __init__(self, program: TiledProgram, chip_seed: int = 0, device: str = "cpu",
                 chip: ProgrammedChip | None = None):
        self.program, self.chip = program, chip or program_chip(program, chip_seed, device)
        self.chip_seed, self._reads = self.chip.seed, Reads()
        self.projections = {layer.name: _projection(n, program, self.chip, device)
                            for n, layer in enumerate(program.layers)}
        self.deterministic = all(p.forward_array.fresh_us is None for p in self.projections.values())
        super().__init__(_with_tiles(program.module, self.projections, self._reads), program.interface.image_shape,
                         program.interface.classes, str(program.target), device)

    def _answer(self, images: Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        if not self.deterministic:
            self._reads.generator = read_noise(generator, self.chip_seed, self.device)
        return super()._answer(images)

    def _try(self) -> bool:
        """Whether gradients come back; what it is without tiles was tried when it was recorded."""
        images = random_images(self.graph.image_shape).to(self.device, self.dtype)
        with torch.no_grad():
            self._answer(images)
        return self._carries_gradients(images.requires_grad_())

    @property
    def unclipped(self) -> Machine:
        """See `Machine.unclipped`: tiles stand for hardware."""
        return super(ModuleMachine, self).unclipped

    def saturation(self) -> tuple[Saturation, ...]:
        """Clipped conversions since the machine was opened; empty without converters."""
        return tuple(row for layer in self.program.layers if layer.spans
                     for row in conversions(layer.name, "forward", self.projections[layer.name].forward_periphery))

    def counts(self) -> dict[str, tuple[int, int]]:
        """See `Machine.counts`: clipped conversions."""
        clipped = self.saturation()
        return {"saturation": (sum(s.clipped for s in clipped), sum(s.conversions for s in clipped))}

    def report(self) -> Table:
        """Layer by layer, how many conversions clipped since the machine was opened."""
        shares: dict[str, list[str]] = {}
        for s in self.saturation():
            shares.setdefault(s.layer, []).append(f"{s.fraction:.2%}")
        rows = tuple((layer.name, *shares.get(layer.name, ["none"] * 2)) for layer in self.program.layers)
        return Table(f"{self.name}, chip {self.chip_seed}", ("layer", "DAC clipped", "ADC clipped"), rows)

    def cost(self) -> Cost:
        """See `Machine.cost`: of the tiles, and the multiply-accumulates of all convolutions and dense layers."""
        recorded, layers = self.program.recorded, self.program.layers
        reads = [one.positions * (1 + _takes_two_phases(layer, self.program.target))
                 for one, layer in zip(recorded, layers)]
        total = operations(self) + sum(one.positions * one.coupling.weight.size for one in recorded)
        return pass_cost(layers, reads, float(total), self.program.target)


def _projection(n: int, program: TiledProgram, chip: ProgrammedChip, device: str) -> CrossbarProjection:
    layer, coupling, arrays = program.layers[n], program.recorded[n].coupling, chip.arrays[n]
    twice = _takes_two_phases(layer, program.target), False
    peripheries = peripheries_of(coupling, layer, program.target, arrays, twice, device)
    return CrossbarProjection(arrays, peripheries, torch.tensor(coupling.bias, device=device),
                              torch.tensor(layer.stored.column_scale, device=device), coupling.window)


def _takes_two_phases(layer: CrossbarLayer, target: CrossbarTarget) -> bool:
    return target.converters.two_phase and layer.spans is not None and layer.spans[0].signed


def _with_tiles(module: nn.Module, projections: Mapping[str, CrossbarProjection], reads: Reads) -> nn.Module:
    """A copy of a module whose layers of these names are read from tiles, wherever it holds them."""
    own = copy.deepcopy(module)
    parts = dict(own.named_modules())
    tiled = {id(parts[name]): TiledLayer(parts[name], tiles, reads) for name, tiles in projections.items()}
    for part in list(own.modules()):
        for name, child in part._modules.items():   # `named_children` names a child that is there twice once
            part._modules[name] = tiled.get(id(child), child)
    return tiled.get(id(own), own)
