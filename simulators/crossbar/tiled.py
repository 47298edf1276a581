"""Any torch module on tiles: its convolutions and dense layers are read from arrays, all else stays digital torch.

    program = put_on_tiles(record(module, images, classes=10), "crossbar:pcm")
    with simulators.open(program, chip_seed=3) as machine:
        equilibrium = machine.relax(images)

A dense layer is a kernel of one pixel: of tokens (B, N, D) each is read for itself. A layer that is called twice is one
array that is read twice. Gradients go straight through noise and converters, as in all other crossbars.
"""

import copy
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from mapping.crossbar.program import CrossbarLayer, tile_table
from mapping.crossbar.target import CrossbarTarget
from mapping.crossbar.tiles import compile_tiles
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
from simulators.crossbar.quiet import QuietProjection
from simulators.crossbar.recording import Recording, maps_of
from simulators.machine import Cost, Machine
from simulators.module import ModuleMachine, ModuleProgram, operations, random_images


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class TiledProgram(ModuleProgram):
    """A module whose convolutions and dense layers lie on tiles.

    Attributes:
        target: of the tiles.
        couplings: what they hold, in the order of the module.
        layers: the same as conductances.
        positions: places of its kernel that an image takes of each, of all calls together.
        digital: see `Recording`.
    """

    target: CrossbarTarget
    couplings: tuple[Coupling, ...]
    layers: tuple[CrossbarLayer, ...]
    positions: tuple[int, ...]
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
        return tile_table(self.couplings, self.layers, self.target, relaxes=False,
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
    return TiledProgram(recording.module, recording.interface, target=target,
                        couplings=tuple(one.coupling for one in recorded), layers=compile_tiles(recorded, target),
                        positions=tuple(one.positions for one in recorded), digital=recording.digital)


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
        maps = maps_of(input, self.dense).to(self.projection.bias)
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

    program: TiledProgram
    chip_seed: int

    def __init__(self, program: TiledProgram, chip_seed: int = 0, device: str = "cpu",
                 chip: ProgrammedChip | None = None):
        self.program, self.chip = program, chip or program_chip(program, chip_seed, device)
        self.chip_seed, self._reads = self.chip.seed, Reads()
        self.projections = {layer.name: _projection(n, program, self.chip, device)
                            for n, layer in enumerate(program.layers)}
        self.deterministic = all(projection.is_quiet for projection in self.projections.values())
        super().__init__(_with_tiles(program.module, self.projections, self._reads), program.interface.image_shape,
                         program.interface.classes, program.target.shown, device)

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

    @cached_property
    def gradient_model(self) -> Machine:
        """See `simulators.crossbar.chip.CrossbarMachine.gradient_model`."""
        if self.deterministic or not all(projection.is_linear for projection in self.projections.values()):
            return self
        quiet = copy.copy(self)
        projections = {name: QuietProjection(projection) for name, projection in self.projections.items()}
        quiet.module = _with_tiles(self.program.module, projections, self._reads).to(self.device).eval()
        quiet.deterministic = True
        return quiet

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
        own = self.program
        reads = [n * own.target.converters.reads(layer.spans is not None and layer.spans[0].signed)
                 for n, layer in zip(own.positions, own.layers)]
        total = operations(self) + sum(n * c.weight.size for n, c in zip(own.positions, own.couplings))
        return pass_cost(own.layers, reads, float(total), own.target)


def _projection(n: int, program: TiledProgram, chip: ProgrammedChip, device: str) -> CrossbarProjection:
    layer, coupling, arrays = program.layers[n], program.couplings[n], chip.arrays[n]
    twice = _takes_two_phases(layer, program.target), False
    peripheries = peripheries_of(layer, program.target, arrays, twice, chip.seed, device)
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
