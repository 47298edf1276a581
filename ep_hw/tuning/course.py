"""The course of a chip's tuning, kept in one file after every epoch: a killed run goes on where it was."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ep_hw.data import Split
from ep_hw.tuning.settings import TuningSettings
from ep_hw.tuning.tuner import ARRAYS, Progress, begin, tune_epoch
from mapping.crossbar import CrossbarProgram
from mapping.errors import Refusal
from mapping.files import write_atomically
from mapping.writing import Writing
from simulators.crossbar.chip import CrossbarMachine
from simulators.crossbar.programmed import ProgrammedChip
from simulators.crossbar.programming import seeded
from simulators.crossbar.writing import Written


@dataclass(frozen=True, eq=False)
class Course:
    """A chip on its way, and its accuracy on watched images before tuning and after each epoch."""

    progress: Progress
    watched: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Task:
    """What to tune by: the program, training images and those to watch, settings, write model, seed of all draws."""

    program: CrossbarProgram
    train: Split
    watch: Split
    settings: TuningSettings
    writing: Writing
    seed: int

    def fingerprint(self, chip_seed: int) -> str:
        """sha256 of everything that decides the course of a chip."""
        data = [hashlib.sha256(split.ids.numpy().tobytes()).hexdigest() for split in (self.train, self.watch)]
        content = [self.program.digest(), chip_seed, self.train.data, data, self.settings.model_dump(mode="json"),
                   self.writing.name, self.writing.spelled(), self.seed]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def tune_chip(task: Task, chip_seed: int, path: str | Path,
              log: Callable[[int, Course], None] = lambda chip, course: None) -> Course:
    """Tune a chip, or go on with it.

    Args:
        path: where its course is kept. log: called with the chip's seed and its course so far after each epoch.

    Raises:
        Refusal: `path` holds another course, or cells that cannot be tuned.
    """
    fingerprint, path = task.fingerprint(chip_seed), Path(path)
    if path.exists():
        course = _load(path, task, chip_seed, fingerprint)
    else:
        begun = begin(task.program, chip_seed)
        course = Course(begun, (accuracy(task.program, begun.chip, task.watch, task.seed),))
    while course.progress.epochs < task.settings.epochs:
        progress = tune_epoch(task.program, course.progress, task.train, task.settings, task.writing, task.seed)
        seen = accuracy(task.program, progress.chip, task.watch, task.seed)
        course = Course(progress, (*course.watched, seen))
        _save(path, course, fingerprint)
        log(chip_seed, course)
    return course


def accuracy(program: CrossbarProgram, chip: ProgrammedChip, split: Split, seed: int) -> float:
    """Fraction of the images that one read of the chip classifies correctly."""
    machine, generator = CrossbarMachine(program, chip=chip), seeded(chip.seed, "tuned reads", str(seed))
    right = [(machine.relax(images, generator=generator).prediction == labels).sum().item()
             for images, labels in zip(split.images.split(120), split.labels.split(120))]
    return sum(right) / len(split)


def _save(path: Path, course: Course, fingerprint: str):
    progress = course.progress
    tensors = progress.chip.tensors()
    for n, written in enumerate(progress.written):
        for name, record in zip(ARRAYS, written):
            tensors |= {f"{n}.{name}.owed_us": record.owed_us, f"{n}.{name}.pulses": record.pulses}
    header = json.dumps({"fingerprint": fingerprint, "watched": course.watched})   # one entry: their order varies
    write_atomically(path, save({name: tensor.contiguous() for name, tensor in tensors.items()}, {"course": header}))


def _load(path: Path, task: Task, chip_seed: int, fingerprint: str) -> Course:
    try:
        with safe_open(str(path), "pt") as file:
            header = json.loads((file.metadata() or {}).get("course", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError) as error:
        raise Refusal("an unfinished tuning cannot be read", where=str(path), got=error, allowed="a whole file",
                      remedy="remove it and tune again") from None
    if header.get("fingerprint") != fingerprint:
        raise Refusal("another tuning is in the way", where=str(path), got=header.get("fingerprint", "nothing")[:12],
                      allowed=fingerprint[:12], remedy="choose another --out, or its own model, machine and settings")
    chip, watched = ProgrammedChip.of(chip_seed, task.program, tensors), header["watched"]
    written = tuple(tuple(_record(tensors, f"{n}.{name}") for name in ARRAYS if f"{n}.{name}.pulses" in tensors)
                    for n in range(len(task.program.layers)))
    return Course(Progress(chip, written, len(watched) - 1), tuple(watched))


def _record(tensors: dict[str, torch.Tensor], prefix: str) -> Written:
    return Written(*(tensors[f"{prefix}.{name}"] for name in ("conductance_us", "owed_us", "pulses")))
