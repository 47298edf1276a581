"""Arguments and options that several commands share, and the ranges of numbers that any of them takes."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from os.path import isdir
from pathlib import Path
from typing import Annotated

import typer
from pydantic_core import PydanticCustomError
from typer.models import OptionInfo

from ep_hw.cli import completion
from mapping.fields import MOST, MOST_STEPS
from mapping.files import check_possible
from mapping.labels import split_label
from mapping.options import number, whole
from mapping.registry import parse
from simulators.isolated import processors

MOST_IMAGES, MOST_CHIPS, MOST_JOBS, LAST_SEED = 10**6, 1000, 1024, 2**32 - 1
LARGEST_EPS = 100


def _within(read: Callable[[str], float], low: float, high: float) -> Callable:
    """How an option's text is read: by `read`, and refused out of a range. A default comes as the number that it is."""
    def parse(text: str | float) -> float:
        try:
            value = read(text) if isinstance(text, str) else text
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            kind = "whole number" if read is whole else "number"
            raise PydanticCustomError("range", "{got} is no {kind} from {low} to {high}",
                                      {"got": repr(text), "kind": kind, "low": str(low), "high": str(high)})
        return value

    return parse


def counted(help: str, low: int = 1, high: int = MOST) -> OptionInfo:
    """An option that takes a whole number."""
    return typer.Option(parser=_within(whole, low, high), metavar=f"<{low}..{high}>", help=help)


def measured(help: str, low: float, high: float) -> OptionInfo:
    """An option that takes a number."""
    return typer.Option(parser=_within(number, low, high), metavar=f"<{low}..{high}>", help=help)


def seeded(help: str) -> OptionInfo:
    """An option that takes a seed."""
    return counted(help, 0, LAST_SEED)


def stepped(help: str) -> OptionInfo:
    """An option that takes a number of time steps or iterations."""
    return counted(help, 1, MOST_STEPS)


def nudged(help: str) -> OptionInfo:
    """An option that takes the strength of a nudge."""
    return measured(help, 1e-6, 1_000_000)


def placed(help: str) -> OptionInfo:
    """An option that takes a folder to write into, which is tried before any work."""
    return typer.Option(callback=_tried, help=help)


def _tried(folder: Path | None) -> Path | None:
    if folder is not None:
        check_possible(folder)
    return folder


def _found(device: str) -> str:
    from simulators.registry import check_device

    check_device(device)
    return device


def machine(help: str) -> OptionInfo:
    """An option that takes machines, or folders of compiled programs; an unknown one is refused before any work."""
    return typer.Option(callback=_known, autocompletion=completion.machines, help=help)


def _known(named: str | list[str] | None) -> str | list[str] | None:
    for name in [named] if isinstance(named, str) else named or ():
        if name and not isdir(split_label(name)[1]):   # an option without a value is refused as one
            parse(name)
    return named


Model = Annotated[str, typer.Argument(autocompletion=completion.models, help="a packaged model (see 'ep-hw models') or "
                                      "a checkpoint file")]
Machines = Annotated[list[str] | None, machine("machine, or folder of its program; a label before it, as in "
                                               "mine=crossbar:pcm, is what it is called (repeatable)")]
Images = Annotated[int, counted("test images, drawn by --seed", high=MOST_IMAGES)]
Chip = Annotated[int, seeded("chip seed, where there are chips")]
Out = Annotated[Path | None, placed("folder to write into; the same command goes on there [default: a new "
                                    "ep-hw-COMMAND-MODEL-TIME]")]
Device = Annotated[str, typer.Option(callback=_found, help="cpu or cuda")]
Jobs = Annotated[int, counted("worker processes; any number gives the same bytes", high=MOST_JOBS)]
Workers = Annotated[str | None, typer.Option(help="Dask workers in place of this command's own: local:4, "
                                             "tcp://HOST:PORT, or a TOML file of a batch system")]
PROCESSORS = min(processors(), MOST_JOBS)


@dataclass(frozen=True, kw_only=True)
class PGDOptions:
    """The l2 attack that a measurement is about."""

    eps: Annotated[float, measured("of the l2 attack", 0, LARGEST_EPS)] = 0.5
    iterations: Annotated[int, counted("PGD iterations")] = 20
