"""Commands that write arrays for other programs: the images of an evaluation's attacks, the devices of a chip."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ep_hw.cli.application import app
from ep_hw.cli.data import source_of
from ep_hw.cli.options import Data, DataRoot, Download, placed, seeded
from ep_hw.cli.printing import print_table, say
from mapping.errors import Refusal
from mapping.program import Table

if TYPE_CHECKING:
    import numpy as np


@app.command(examples=("images run-1 --on loihi --threat pgd_l2@0.5",
                       "images run-2 --on crossbar:pcm --threat fog@3 --to npy --out seen"))
def images(run: Annotated[Path, typer.Argument(metavar="RUN", help="folder of an evaluation, or RUN/family/NAME")],
           on: Annotated[str, typer.Option(help="a machine of it")],
           threat: Annotated[str, typer.Option(help="what it met: an attack, a transfer or a corruption")],
           chip: Annotated[int | None, seeded("chip seed [default: the first, where there are chips]")] = None,
           to: Annotated[Literal["npz", "npy"], typer.Option(help="all arrays in one file, or a file each")] = "npz",
           out: Annotated[Path | None, placed("folder to create [default: one in RUN/images]")] = None,
           data: Data = None, data_root: DataRoot = None, download: Download = False):
    """Write the images that a machine of a run met.

    Clean ones, changed ones and differences as PNG, and as NumPy arrays (clean, changed, labels, ids, predictions).
    """
    from ep_hw.analysis.results import read_results
    from ep_hw.evaluation.pictures import called_threat, evaluated_data, pictures
    from ep_hw.report.pictures import picture_files
    from mapping.files import slug, write_folder

    results, _ = read_results(run)
    wanted, source = called_threat(results, threat), source_of(data, data_root, download)
    taken = pictures(run, results, evaluated_data(results, source), on, wanted, chip, source)
    named = f"{on} {threat}{'' if chip is None else f' chip {chip}'}"
    folder = out or run / "images" / slug(named)
    write_folder(folder, picture_files(taken, to))
    right = int((taken.predictions == taken.labels).sum())
    say(f"{folder}: {len(taken.ids)} images of {named}, {right} of them still right")


@app.command(examples=("chip 0 --program prog-pcm --out chip-0.csv", "chip 3 --program prog-pcm --to npy --out chip-3"))
def chip(chip: Annotated[str, typer.Argument(metavar="CHIP", help="a file of machine.chip.save, or the seed of a chip "
                                                                  "to program now")],
         program: Annotated[Path, typer.Option(help="folder of the program that it holds, see 'ep-hw compile'")],
         out: Annotated[Path, typer.Option(help="file to write, or with --to npy folder to create")],
         to: Annotated[Literal["csv", "npy"], typer.Option(help="a line a device, or an array of records a layer"
                                                           )] = "csv"):
    """Write the conductances of a chip, device by device.

    As a relaxation finds them, beside their targets, with tile, row and column.
    """
    from ep_hw.report.exports import devices_csv, devices_npy
    from mapping.crossbar.program import CrossbarProgram
    from mapping.files import check_new, write_atomically, write_folder
    from mapping.loading import load_program
    from simulators.crossbar.programmed import chip_devices, open_chip

    held = load_program(program)
    if not isinstance(held, CrossbarProgram):
        raise Refusal("a program without devices", where=str(program), got=str(held.target), allowed="a crossbar's",
                      remedy="compile the model for crossbar:PRESET")
    check_new(out)
    opened = open_chip(chip, held)
    devices = chip_devices(held, opened)
    write_atomically(out, devices_csv(devices)) if to == "csv" else write_folder(out, devices_npy(devices))
    print_table(_summary(devices, f"{held.target}, chip {opened.seed}"))
    say(out)


def _summary(devices: "dict[tuple[str, str], np.ndarray]", title: str) -> Table:
    """A line a layer's array: what programming and age did to it."""
    rows = []
    for (layer, array), records in devices.items():
        error = records["conductance_us"].astype(float) - records["target_us"]
        rows.append((layer, array, (1 + records["tile_row"].max()) * (1 + records["tile_column"].max()), records.size,
                     float(records["target_us"].mean()), float(error.mean()), float(error.std())))
    return Table(title, ("layer", "array", "tiles", "devices", "mean target uS", "mean error uS", "sd of error uS"),
                 tuple(rows))
