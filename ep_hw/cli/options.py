"""Arguments and options that several commands share."""

import os
from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[str, typer.Argument(help="a packaged model (see 'ep-hw models') or a checkpoint file")]
Images = Annotated[int, typer.Option(min=1, help="test images, drawn by --seed")]
Chip = Annotated[int, typer.Option(min=0, help="chip seed, where there are chips")]
DataRoot = Annotated[str | None, typer.Option(help="folder that holds cifar-10-batches-py (or EP_HW_DATA)")]
Download = Annotated[bool, typer.Option("--download", help="fetch a missing data set from where it was published")]
Device = Annotated[str, typer.Option(help="cpu or cuda")]
Out = Annotated[Path | None, typer.Option(help="folder to write into; the same command goes on there [default: a new "
                                         "ep-hw-COMMAND-MODEL-TIME]")]
Jobs = Annotated[int, typer.Option(min=1, help="worker processes; any number gives the same bytes")]
PROCESSORS = len(os.sched_getaffinity(0))
