"""The command that writes models, their programmed devices and their circuits for other programs to read."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ep_hw.cli.application import app
from ep_hw.cli.data import DataOptions
from ep_hw.cli.options import Model, machine, stepped
from ep_hw.cli.printing import print_table, say
from mapping.errors import Refusal
from mapping.options import whole
from mapping.program import Table

if TYPE_CHECKING:   # load torch
    import numpy as np

    from ep_hw.networks.baselines import Baseline
    from ep_hw.networks.network import EPNetwork
    from mapping.crossbar.program import CrossbarProgram
    from simulators.crossbar.programmed import ProgrammedChip

Format = Literal["torch", "nir", "onnx", "csv", "npz", "spice"]
TAKES: dict[str, tuple[str, ...]] = {   # format -> options that mean something in it
    "torch": (), "nir": (), "onnx": ("steps",),
    "csv": ("on", "chip"), "npz": ("on", "chip"), "spice": ("on", "chip", "layer", "tile")}


@dataclass(frozen=True, kw_only=True)
class PartOptions:
    """What of a model, or of which chip, is written; each format takes some, see `TAKES`."""

    on: Annotated[str | None, machine("crossbar, or folder of its program")] = None
    chip: Annotated[str | None, typer.Option(help="chip seed, or a file of machine.chip.save [default: 0]")] = None
    layer: Annotated[str | None, typer.Option(help="whose tile is written [default: the whole network, if it is "
                                              "small and has no pools]")] = None
    tile: Annotated[str | None, typer.Option(metavar="R,C", help="row and column of the tile in its layer "
                                             "[default: 0,0]")] = None
    steps: Annotated[int | None, stepped("time steps that onnx unrolls [default: the model's most]")] = None


@app.command(examples=("export digits --out pt",
                       "export digits --on crossbar:pcm --chip 3 --to csv --out chip-3.csv"))
def export(model: Model, out: Annotated[Path, typer.Option(help="file to write, or of torch folder to create")],
           to: Annotated[Format, typer.Option(help="torch: state dict and key map; nir, onnx: network; csv, npz: "
                                                   "devices of a chip; spice: circuit of a tile or network")] = "torch",
           *, part: PartOptions, data: DataOptions):
    """Write a model, a chip's devices or a circuit for others.

    As a plain state dict of torch with the key map that brings it back; as a graph of NIR or a model of ONNX; the
    conductances of a chip as a relaxation finds them, with tile, row, column and weight; or a SPICE netlist.
    """
    from ep_hw import load

    _check_options(to, asdict(part))
    if to in ("torch", "nir", "onnx"):
        for path in _network(load(model), out, to, part.steps):
            say(path)
        return
    net = data.calibrated(model)
    program, opened = _programmed(net, part.on or "", part.chip or "0")
    if to == "spice":
        _write(out, _netlist(net, program, opened, part.layer, part.tile).encode())
    else:
        _write_devices(out, to, program, opened)
    say(out)


def _check_options(to: str, given: dict[str, str | int | None]) -> None:
    """Refuse options that mean nothing in a format, and devices without a machine."""
    for name, value in given.items():
        if value is not None and name not in TAKES[to]:
            formats = [form for form, names in TAKES.items() if name in names]
            raise Refusal("an option that means nothing in this format", where=f"--{name}", got=f"--to {to}",
                          allowed=f"with --to {', '.join(formats)}", remedy="leave it out, or choose such a format")
    if "on" in TAKES[to] and not given["on"]:
        raise Refusal("no machine that holds the model", where="--on", got="nothing", allowed="crossbar:PRESET",
                      remedy="name one, see 'ep-hw machines'")
    if given["tile"] and not given["layer"]:
        raise Refusal("a tile of no layer", where="--tile", got=given["tile"], allowed="with --layer",
                      remedy="name the layer")


def _network(net: "EPNetwork | Baseline", out: Path, to: str, steps: int | None) -> list[Path]:
    """The files of a network itself."""
    from ep_hw.networks.exchange import export_checkpoint, nir_file, onnx_file

    if to == "torch":
        return export_checkpoint(net, out)
    _write(out, nir_file(net.lower()) if to == "nir" else onnx_file(net.lower(), steps))
    return [out]


def _programmed(net: "EPNetwork | Baseline", on: str, chip: str) -> "tuple[CrossbarProgram, ProgrammedChip]":
    """A network's program, and the chip that it is on."""
    from ep_hw.networks.programs import program_of
    from mapping.crossbar.program import CrossbarProgram
    from simulators.crossbar.programmed import open_chip

    held = program_of(on, net.lower())
    if not isinstance(held, CrossbarProgram):
        raise Refusal("a machine without devices", where="--on", got=str(held.target), allowed="crossbar:PRESET",
                      remedy="name one, see 'ep-hw machines'")
    return held, open_chip(chip, held)


def _netlist(net: "EPNetwork | Baseline", program: "CrossbarProgram", chip: "ProgrammedChip", layer: str | None,
             tile: str | None) -> str:
    """Of a tile, or of the network as it is shown its first calibration image."""
    from simulators.crossbar.chip import CrossbarMachine
    from simulators.crossbar.circuit import network_netlist
    from simulators.crossbar.netlist import tile_netlist

    if layer is not None:
        return tile_netlist(program, chip, layer, _place(tile or "0,0"))
    activity = net.lower().activity
    if activity is None:
        raise Refusal("no image to show the circuit", where=net.name, got="a network without calibration images",
                      allowed="states recorded on calibration images", remedy="name a folder with its training data by "
                      "--data-root or EP_HW_DATA, or a tile by --layer and --tile")
    import torch

    return network_netlist(CrossbarMachine(program, chip=chip), torch.tensor(activity.images[0]))


def _place(text: str) -> tuple[int, int]:
    """Row and column that a user wrote as R,C."""
    try:
        row, column = map(whole, text.split(","))
    except ValueError:
        raise Refusal("not a tile", where="--tile", got=repr(text), allowed="row,column as 0,2",
                      remedy="write both numbers, counted from 0") from None
    return row, column


def _write_devices(out: Path, to: str, program: "CrossbarProgram", chip: "ProgrammedChip") -> None:
    from ep_hw.report.exports import devices_csv, devices_npz
    from simulators.crossbar.programmed import chip_devices

    devices = chip_devices(program, chip)
    _write(out, devices_csv(devices) if to == "csv" else devices_npz(devices))
    print_table(_summary(devices, f"{program.target}, chip {chip.seed}"))


def _write(out: Path, blob: bytes) -> None:
    from mapping.files import check_new, write_atomically

    check_new(out)
    write_atomically(out, blob)


def _summary(devices: "dict[tuple[str, str], np.ndarray]", title: str) -> Table:
    """A line a layer's array: what programming and age did to it."""
    rows = []
    for (layer, array), records in devices.items():
        error = records["conductance_us"].astype(float) - records["target_us"]
        rows.append((layer, array, (1 + records["tile_row"].max()) * (1 + records["tile_column"].max()), records.size,
                     float(records["target_us"].mean()), float(error.mean()), float(error.std())))
    return Table(title, ("layer", "array", "tiles", "devices", "mean target uS", "mean error uS", "sd of error uS"),
                 tuple(rows))
