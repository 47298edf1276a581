"""`ep-hw tune`: let programmed chips learn in situ, and compare what that wins back."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ep_hw.cli.application import app, own_files
from ep_hw.cli.data import DataOptions
from ep_hw.cli.folder import asked, claimed
from ep_hw.cli.options import (
    MOST_CHIPS,
    MOST_IMAGES,
    Model,
    Out,
    Workers,
    counted,
    machine,
    measured,
    nudged,
    seeded,
)
from ep_hw.cli.printing import print_table, say
from ep_hw.cli.running import cluster_of
from mapping.errors import Refusal

if TYPE_CHECKING:   # these load torch
    from ep_hw.data.held import HeldSplit
    from ep_hw.data.splits import Split
    from ep_hw.learning.in_situ.course import Course
    from ep_hw.learning.in_situ.on_loihi import LoihiTuning
    from ep_hw.learning.in_situ.run import Tuning
    from mapping.program import Program


@dataclass(frozen=True, kw_only=True)
class LearningOptions:
    """How chips learn; see `ep_hw.learning.in_situ.settings.TuningSettings`."""

    epochs: Annotated[int, counted("passes over the training images")] = 4
    rate: Annotated[float, measured("learning rate, of all layers", 1e-12, 1_000_000)] = 0.3
    batch: Annotated[int, counted("images between two updates")] = 60
    beta: Annotated[float, nudged("strength of the nudges")] = 1.0
    pairs: Annotated[int, counted("nudged pairs averaged on noisy machines")] = 1
    biases_only: Annotated[bool, typer.Option("--biases-only", help="write no device: only digital biases learn")
                           ] = False


@dataclass(frozen=True, kw_only=True)
class LessonOptions:
    """What chips learn, and what they are compared with; see `ep_hw.learning.in_situ.run.Lesson`."""

    write: Annotated[str | None, typer.Option(help="write model: exact, linear, pcm or reram, with options as in "
                                              "reram[noise=0] [default: the device's]")] = None
    beside: Annotated[str | None, typer.Option(help="noise-aware network to compare with [default: the packaged "
                                               "one of the model]")] = None
    images: Annotated[int | None, counted("test images, drawn by --seed [default: all]", high=MOST_IMAGES)] = None
    learn: Annotated[int | None, counted("training images, drawn by --seed [default: all]", high=MOST_IMAGES)] = None
    world: Annotated[str | None, typer.Option(help="a corruption, as contrast@3, that all images go through: the "
                                              "chips learn a changed world")] = None
    seed: Annotated[int, seeded("of order, read noise and write noise")] = 0


@app.command(examples=("tune digits --on crossbar:reram_wan --chips 1 --epochs 1",
                       'tune digits --on loihi --world contrast@3 --learn 400 --chips 1'))
def tune(context: typer.Context, model: Model,
         on: Annotated[str, machine("a crossbar, loihi, lava, or the folder of one compiled")] = "crossbar:pcm",
         chips: Annotated[int, counted("chips to tune, of seeds 0, 1, ...", high=MOST_CHIPS)] = 5,
         chip: Annotated[list[int] | None, seeded("a chip by its seed, in place of --chips (repeatable)")] = None,
         *, learning: LearningOptions, lesson: LessonOptions, out: Out = None, cluster: Workers = None,
         data: DataOptions):
    """Let programmed chips learn in situ, and compare.

    By equilibrium propagation, from their own states; beside digital, mapped and noise-aware networks. On Loihi and
    Lava each process writes its own 8-bit weights, beside learning of the readout alone and learning off the chip.
    """
    from ep_hw.learning.in_situ.on_loihi import LoihiTuning
    from ep_hw.learning.in_situ.run import Lesson, plan_tuning
    from ep_hw.learning.in_situ.settings import TuningSettings

    settings, seeds = TuningSettings(**asdict(learning)), list(dict.fromkeys(chip or range(chips)))
    tuning = plan_tuning(model, on, seeds, settings, Lesson(**asdict(lesson)), data.source())
    if isinstance(tuning, LoihiTuning):
        if cluster is not None:
            raise Refusal("a cluster tunes crossbars alone", where="--cluster", got=cluster, allowed="crossbar:PRESET",
                          remedy="leave --cluster out")
        _tune_on_loihi(context, model, tuning)
    else:
        _tune_crossbars(context, model, tuning, cluster)


def _tune_on_loihi(context: typer.Context, model: str, tuning: "LoihiTuning") -> None:
    from ep_hw.evaluation.folders import command_line
    from ep_hw.learning.in_situ.on_loihi import run_on_loihi

    folder = _claimed(context, tuning.net.name, tuning.splits, tuning.program)
    print_table(run_on_loihi(tuning, folder, _course, command_line()))
    say(f"{folder}: report.html, tuning.csv, .json, .png and .svg; a chip runs with 'ep-hw evaluate {model} --on "
        f"{folder / f'tuned-chip-{tuning.chips[0]}'}{own_files(context)}'")


def _tune_crossbars(context: typer.Context, model: str, tuning: "Tuning", cluster: str | None) -> None:
    from ep_hw.evaluation.folders import command_line
    from ep_hw.learning.in_situ.run import run_tuning

    folder = _claimed(context, tuning.net.name, tuning.splits, tuning.task.program)
    print_table(run_tuning(tuning, folder, _line, cluster_of(context, cluster), command_line()))
    say(f"{folder}: report.html, tuning.csv, .json, .png and .svg; the tuned chips run with 'ep-hw evaluate {model} "
        f"--on {folder}{own_files(context)}'")


def _claimed(context: typer.Context, name: str, splits: "Sequence[Split | HeldSplit]", program: "Program") -> Path:
    shown = "".join(split.digest for split in splits)
    return claimed(context, name, asked(context, shown, program.digest()))


def _course(variant: str, chip: int, watched: Sequence[float]) -> None:
    say(f"{variant}, chip {chip}  epoch {len(watched) - 1}  accuracy on validation {watched[-1]:.4f} "
        f"(untuned {watched[0]:.4f})")


def _line(chip: int, course: "Course") -> None:
    say(f"chip {chip}  epoch {course.progress.epochs}  accuracy on validation {course.watched[-1]:.4f} "
               f"(untuned {course.watched[0]:.4f})  pulses {int(course.progress.pulses.sum())}")
