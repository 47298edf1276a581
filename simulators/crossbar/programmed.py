"""A programmed chip: the arrays that one chip seed made of a program, to keep and to run again to the same bits.

    chip = program_chip(program, chip_seed=3)
    chip.save("chip3.safetensors")
    machine = CrossbarMachine(program, chip=ProgrammedChip.load("chip3.safetensors", program))
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mapping.crossbar.chips import ARRAYS, arrays_of, chip_layout, chip_ranges
from mapping.crossbar.places import devices_of
from mapping.crossbar.program import CrossbarLayer, CrossbarProgram, OnTiles, devices
from mapping.crossbar.tuned import TunedProgram
from mapping.errors import Refusal
from mapping.fields import Seed, Sha256, Stated
from mapping.files import write_atomically
from mapping.sealed import open_sealed, seal
from simulators.crossbar.array import Array
from simulators.crossbar.devices import Device
from simulators.crossbar.models import model_of
from simulators.crossbar.programming import array_of, program_array

FORM = "ep-hw programmed chip 2"
SEEDS, DIGITS = 2**32, 10   # how many there are, and digits of the last


class _Header(Stated):
    """Which chip it is, and the digest of the program that it holds."""

    seed: Seed
    program: Sha256


@dataclass(frozen=True, eq=False)
class ProgrammedChip:
    """Every layer's arrays, the readout last.

    Attributes:
        seed: which chip.
        digest: of the program that it holds.
        arrays: of each layer (forward, feedback), twice the same object where the directions share one array;
            (forward,) where the layer is never read backward.
        biases: (C_out,) digital bias of each layer; None for the network's own.
    """

    seed: int
    digest: str
    arrays: tuple[tuple[Array, ...], ...]
    biases: tuple[torch.Tensor, ...] | None = None

    def tensors(self) -> dict[str, torch.Tensor]:
        """What distinguishes this chip from others of the program, on the CPU."""
        tensors = {f"{n}.bias": bias.cpu().contiguous() for n, bias in enumerate(self.biases or ())}
        for n, pair in enumerate(self.arrays):
            for name, array in zip(ARRAYS, distinct(pair)):
                tensors[f"{n}.{name}.conductance_us"] = array.conductance_us.cpu().contiguous()
                tensors[f"{n}.{name}.compensation"] = torch.tensor([array.compensation], dtype=torch.float64)
                if array.column_factors is not None:
                    tensors[f"{n}.{name}.column_factors"] = array.column_factors.cpu().contiguous()
                if array.fresh_us is not None:
                    tensors[f"{n}.{name}.fresh_us"] = array.fresh_us.cpu().contiguous()
        return tensors

    @classmethod
    def of(cls, seed: int, program: OnTiles, tensors: dict[str, torch.Tensor]) -> "ProgrammedChip":
        """Inverse of `tensors`."""
        layers = range(len(program.layers))
        biases = tuple(tensors[f"{n}.bias"] for n in layers) if "0.bias" in tensors else None
        return cls(seed, program.digest(), tuple(_pair(n, tensors, program) for n in layers), biases)

    def save(self, path: str | Path):
        """Write the chip's conductances to one safetensors file, whole or not at all.

        Raises:
            Refusal: the file cannot be written.
        """
        header = _Header(seed=self.seed, program=self.digest).model_dump()
        write_atomically(path, seal(FORM, header, {name: tensor.numpy() for name, tensor in self.tensors().items()}))

    @classmethod
    def load(cls, path: str | Path, program: OnTiles, device: str | torch.device = "cpu") -> "ProgrammedChip":
        """Read a chip of this program.

        Raises:
            Refusal: not a chip, a damaged one, or one that holds another program.
        """
        sealed = open_sealed(path, FORM, remedy="program the chip again")
        header = sealed.read_as(_Header)
        if header.program != program.digest():
            raise Refusal("the chip holds another program", where=str(path), got=header.program[:12],
                          allowed=program.digest()[:12], remedy="open it with the program it was programmed with")
        layout = chip_layout(devices(program), program.target, sealed.layout)
        arrays = sealed.arrays(layout, chip_ranges(layout, program.target))
        tensors = {name: torch.tensor(array, device=device) for name, array in arrays.items()}
        return cls.of(header.seed, program, tensors)


def program_chip(program: OnTiles, chip_seed: int, device: str | torch.device = "cpu",
                 model: Device | None = None) -> ProgrammedChip:
    """Program every layer's devices once.

    Args:
        model: a device model of your own, in place of the preset's.

    Raises:
        Refusal: conductances that the model does not have.
    """
    target = program.target
    if model is None:
        model = model_of(target)
    elif not (model.g_min_us <= target.g_min_us and target.g_max_us <= model.g_max_us):
        raise Refusal("the program's conductances are not those of the device", where=type(model).__name__,
                      got=f"{target.g_min_us:g} to {target.g_max_us:g} uS",
                      allowed=f"{model.g_min_us:g} to {model.g_max_us:g} uS",
                      remedy=f"compile for crossbar:generic[g_max_us={model.g_max_us:g}]")

    def arrays(layer: CrossbarLayer, backward: bool) -> tuple[Array, ...]:
        made = [program_array(layer, target, model, chip_seed, device, name) for name in arrays_of(target, backward)]
        return directions(made, backward)

    return ProgrammedChip(chip_seed, program.digest(), tuple(map(arrays, program.layers, program.feeds_back)))


def open_chip(named: str, program: CrossbarProgram) -> ProgrammedChip:
    """A chip by its file, or by the seed that it is programmed with now, unless the program brings it.

    Raises:
        Refusal: see `ProgrammedChip.load`, `kept_chip`.
    """
    if not (named.isascii() and named.isdecimal() and len(named) <= DIGITS and int(named) < SEEDS):
        return ProgrammedChip.load(named, program)
    return kept_chip(program, int(named)) if isinstance(program, TunedProgram) else program_chip(program, int(named))


def chip_devices(program: CrossbarProgram, chip: ProgrammedChip) -> dict[tuple[str, str], np.ndarray]:
    """(layer, array) -> a record a device of a chip, see `mapping.crossbar.places.devices_of`."""
    couplings = (*program.graph.couplings, program.graph.readout)
    return {(layer.name, name): devices_of(layer, array.conductance_us.cpu().numpy(), coupling.weight)
            for layer, coupling, pair in zip(program.layers, couplings, chip.arrays)
            for name, array in zip(ARRAYS, distinct(pair))}


def directions(arrays: Sequence[Array], backward: bool) -> tuple[Array, ...]:
    """The array of each direction in which a layer is read: forward, and if it is, backward."""
    return (arrays[0], arrays[-1]) if backward else (arrays[0],)


def distinct(pair: tuple[Array, ...]) -> tuple[Array, ...]:
    """Inverse of `directions`: what arrays a layer has."""
    return pair[:1] if pair[0] is pair[-1] else pair


def kept_chip(program: TunedProgram, chip_seed: int, device: str | torch.device = "cpu") -> ProgrammedChip:
    """The chip of that seed that a program brings with it.

    Raises:
        Refusal: it brings others.
    """
    if chip_seed not in program.chips:
        raise Refusal("this chip was not tuned", where=str(program.target), got=f"chip {chip_seed}",
                      allowed=", ".join(map(str, program.chips)), remedy="choose one of these, or tune it too")
    tensors = {name: torch.tensor(array, device=device) for name, array in program.chips[chip_seed].items()}
    return ProgrammedChip.of(chip_seed, program, tensors)


def _pair(n: int, tensors: dict, program: OnTiles) -> tuple[Array, ...]:
    arrays = [array_of(program.layers[n], program.target, tensors[f"{n}.{name}.conductance_us"],
                       tensors.get(f"{n}.{name}.fresh_us"), tensors[f"{n}.{name}.compensation"].item(),
                       tensors.get(f"{n}.{name}.column_factors"))
              for name in ARRAYS if f"{n}.{name}.conductance_us" in tensors]
    return directions(arrays, program.feeds_back[n])
