"""The course of a chip's tuning, kept in a file after every epoch, from which a killed run goes on."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import Field

from ep_hw.data.held import HeldSplit
from ep_hw.data.splits import Split
from ep_hw.learning.in_situ.settings import TuningSettings
from ep_hw.learning.in_situ.tuner import Progress, begin, tune_epoch
from ep_hw.networks.accuracy import accuracy
from ep_hw.threads import threads
from ep_hw.versions import TUNING, libraries
from mapping.crossbar.chips import ARRAYS, chip_layout, chip_ranges
from mapping.crossbar.program import CrossbarProgram, devices
from mapping.crossbar.writing import Writing
from mapping.errors import Refusal
from mapping.fields import Fraction, Sha256, Stated
from mapping.files import write_atomically
from mapping.registry import contents
from mapping.sealed import Layout, open_sealed, seal
from simulators.crossbar.chip import CrossbarMachine
from simulators.crossbar.programmed import ProgrammedChip
from simulators.crossbar.programming import seeded
from simulators.crossbar.writing import Written

FORM = "ep-hw unfinished tuning 2"


class _CourseHeader(Stated):
    """What the file of a course says.

    Attributes:
        fingerprint: of the tuning, see `Task`.
        watched: see `Course`.
    """

    fingerprint: Sha256
    watched: tuple[Fraction, ...] = Field(min_length=2, max_length=2**16)


@dataclass(frozen=True, eq=False)
class Course:
    """How a chip's tuning went so far.

    Attributes:
        progress: the chip as it is now.
        watched: its accuracy on the watched images before tuning and after each epoch.
    """

    progress: Progress
    watched: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Task:
    """How chips are to be tuned.

    Attributes:
        program: that they hold.
        train: training images, as they are stored where they are many.
        watch: images whose accuracy is watched.
        settings: of the tuning.
        writing: the write model.
        seed: of everything random.
    """

    program: CrossbarProgram
    train: Split | HeldSplit
    watch: Split
    settings: TuningSettings
    writing: Writing
    seed: int

    def fingerprint(self, chip_seed: int) -> str:
        """sha256 of everything that decides the course of a chip."""
        data = [split.digest for split in (self.train, self.watch)]
        content = [TUNING, libraries(), self.program.digest(), chip_seed, data, self.settings.model_dump(mode="json"),
                   self.writing.name, self.writing.spelled(), self.seed, *contents(self.program.target).items()]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


@threads(1)
def tune_chip(task: Task, chip_seed: int, path: str | Path,
              log: Callable[[int, Course], None] = lambda chip, course: None) -> Course:
    """Tune a chip, or go on with it.

    Args:
        task: how it is to be tuned.
        chip_seed: of the chip.
        path: where its course is kept.
        log: called after each epoch with the chip's seed and its course so far.

    Raises:
        Refusal: `path` holds another course, or cells that cannot be tuned.
    """
    fingerprint, path = task.fingerprint(chip_seed), Path(path)
    if path.exists():
        course = _load(path, task, chip_seed, fingerprint)
    else:
        begun = begin(task.program, chip_seed)
        course = Course(begun, (chip_accuracy(task.program, begun.chip, task.watch, task.seed),))
    while course.progress.epochs < task.settings.epochs:
        progress = tune_epoch(task.program, course.progress, task.train, task.settings, task.writing, task.seed)
        seen = chip_accuracy(task.program, progress.chip, task.watch, task.seed)
        course = Course(progress, (*course.watched, seen))
        _save(path, course, fingerprint)
        log(chip_seed, course)
    return course


def chip_accuracy(program: CrossbarProgram, chip: ProgrammedChip, split: Split | HeldSplit, seed: int) -> float:
    """Fraction of the images that one read of the chip classifies correctly."""
    machine, generator = CrossbarMachine(program, chip=chip), seeded(chip.seed, "tuned reads", str(seed))
    return accuracy(machine, split, batch=120, generator=generator)


def _save(path: Path, course: Course, fingerprint: str):
    progress = course.progress
    tensors = progress.chip.tensors()
    for n, written in enumerate(progress.written):
        for name, record in zip(ARRAYS, written):
            tensors |= {f"{n}.{name}.owed_us": record.owed_us, f"{n}.{name}.pulses": record.pulses}
    header = _CourseHeader(fingerprint=fingerprint, watched=course.watched).model_dump()
    write_atomically(path, seal(FORM, header, {name: tensor.numpy() for name, tensor in tensors.items()}))


def _load(path: Path, task: Task, chip_seed: int, fingerprint: str) -> Course:
    sealed = open_sealed(path, FORM, remedy="remove it and tune again")
    header, program = sealed.read_as(_CourseHeader), task.program
    if header.fingerprint != fingerprint:
        raise Refusal("another tuning is in the way", where=str(path), got=header.fingerprint[:12],
                      allowed=fingerprint[:12], remedy="choose another --out, or its own model, machine and settings")
    layout = chip_layout(devices(program), program.target, {"0.bias", *sealed.layout}) | _records(program)
    arrays = sealed.arrays(layout, chip_ranges(layout, program.target))
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    written = tuple(tuple(_record(tensors, f"{n}.{name}") for name in layer.arrays)
                    for n, layer in enumerate(devices(program)))
    chip = ProgrammedChip.of(chip_seed, program, tensors)
    return Course(Progress(chip, written, len(header.watched) - 1), header.watched)


def _records(program: CrossbarProgram) -> Layout:
    """Type and shape of the records of each array's devices, see `Written`."""
    layout: Layout = {}
    for n, layer in enumerate(devices(program)):
        for name in layer.arrays:
            layout |= {f"{n}.{name}.owed_us": ("float32", (layer.outputs, *layer.shape[3:])),
                       f"{n}.{name}.pulses": ("int32", layer.shape)}
    return layout


def _record(tensors: dict[str, torch.Tensor], prefix: str) -> Written:
    return Written(*(tensors[f"{prefix}.{name}"] for name in ("conductance_us", "owed_us", "pulses")))
