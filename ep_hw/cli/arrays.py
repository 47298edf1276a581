"""The command that writes the images of an evaluation's attacks for other programs."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from ep_hw.cli.application import app
from ep_hw.cli.data import DataOptions
from ep_hw.cli.options import placed, seeded
from ep_hw.cli.printing import say


@app.command(examples=("images run-1 --on loihi --threat pgd_l2@0.5",
                       "images run-2 --on crossbar:pcm --threat fog@3 --to npy --out seen"))
def images(run: Annotated[Path, typer.Argument(metavar="RUN", help="folder of an evaluation, or RUN/family/NAME")],
           on: Annotated[str, typer.Option(help="a machine of it")],
           threat: Annotated[str, typer.Option(help="what it met: an attack, a transfer or a corruption")],
           chip: Annotated[int | None, seeded("chip seed [default: the first, where there are chips]")] = None,
           to: Annotated[Literal["npz", "npy"], typer.Option(help="all arrays in one file, or a file each")] = "npz",
           out: Annotated[Path | None, placed("folder to create [default: one in RUN/images]")] = None,
           *, data: DataOptions):
    """Write the images that a machine of a run met.

    Clean ones, changed ones and differences as PNG, and as NumPy arrays (clean, changed, labels, ids, predictions).
    """
    from ep_hw.analysis.results import read_results
    from ep_hw.evaluation.pictures import called_threat, evaluated_data, pictures
    from ep_hw.report.pictures import picture_files
    from mapping.files import slug, write_folder

    results, _ = read_results(run)
    wanted, source = called_threat(results, threat), data.source()
    taken = pictures(run, results, evaluated_data(results, source), on, wanted, chip, source)
    named = f"{on} {threat}{'' if chip is None else f' chip {chip}'}"
    folder = out or run / "images" / slug(named)
    write_folder(folder, picture_files(taken, to))
    right = int((taken.predictions == taken.labels).sum())
    say(f"{folder}: {len(taken.ids)} images of {named}, {right} of them still right")
