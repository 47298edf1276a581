"""Commands that write arrays for other programs: the images of an evaluation's attacks."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from ep_hw.cli.application import app
from ep_hw.cli.data import source_of
from ep_hw.cli.options import Data, DataRoot, Download, placed, seeded
from ep_hw.cli.printing import say


@app.command()
def images(run: Annotated[Path, typer.Argument(metavar="RUN", help="folder of an evaluation, or RUN/family/NAME")],
           machine: Annotated[str, typer.Option(help="a machine of it")],
           threat: Annotated[str, typer.Option(help="an attack that was made there, e.g. pgd_l2@0.5")],
           chip: Annotated[int | None, seeded("chip seed [default: the first, where there are chips]")] = None,
           to: Annotated[Literal["npz", "npy"], typer.Option(help="all arrays in one file, or a file each")] = "npz",
           out: Annotated[Path | None, placed("folder to create [default: one in RUN/images]")] = None,
           data: Data = None, data_root: DataRoot = None, download: Download = False):
    """Write an attack's images, clean ones and differences as PNG and NumPy arrays (clean, changed, labels, ids,
    predictions).
    """
    from ep_hw.analysis.results import read_results
    from ep_hw.evaluation.pictures import evaluated_data, pictures
    from ep_hw.report.pictures import picture_files
    from ep_hw.threats.threat import parse_threat
    from mapping.files import slug, write_folder

    wanted, (results, _) = parse_threat(threat), read_results(run)
    taken = pictures(run, results, evaluated_data(results, source_of(data, data_root, download)), machine, wanted, chip)
    named = f"{machine} {threat}{'' if chip is None else f' chip {chip}'}"
    folder = out or run / "images" / slug(named)
    write_folder(folder, picture_files(taken, to))
    right = int((taken.predictions == taken.labels).sum())
    say(f"{folder}: {len(taken.ids)} images of {named}, {right} of them still right")
