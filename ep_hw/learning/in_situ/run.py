"""`ep-hw tune` from a model's name to files: the comparison, its figure, and a program with the tuned chips."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

import mapping
import simulators
from ep_hw.data.held import HeldSplit
from ep_hw.data.source import DEFAULT_SOURCE, DataSource
from ep_hw.data.splits import SPLITS, Choose, Split
from ep_hw.evaluation.cells import corruption_noise
from ep_hw.evaluation.cluster import Cluster, Errand
from ep_hw.learning.in_situ.comparison import (
    comparison_table,
    cost_notes,
    digital_row,
    mapped_rows,
    save_tuned,
    tuned_program,
    tuned_rows,
    tuning_told,
)
from ep_hw.learning.in_situ.course import Course, Task, tune_chip
from ep_hw.learning.in_situ.figure import tuning_charts, tuning_figure
from ep_hw.learning.in_situ.on_loihi import LoihiTuning, plan_on_loihi
from ep_hw.learning.in_situ.settings import TuningSettings
from ep_hw.networks.checkpoint import load, packaged_models
from ep_hw.networks.images import held_for, images_for
from ep_hw.networks.network import EPNetwork
from ep_hw.networks.programs import check_same_data, program_of, reference_of
from ep_hw.report.story import write_told
from ep_hw.threads import threads
from ep_hw.threats.corruptions import corrupt
from ep_hw.threats.threat import parse_threat
from mapping.crossbar.program import CrossbarProgram
from mapping.crossbar.tuned import TunedProgram
from mapping.crossbar.writing import parse_writing, writing_of
from mapping.errors import Refusal
from mapping.loihi.program import LoihiProgram
from mapping.program import Table
from simulators.crossbar.writing import check_writable_cells

WATCHED = 120   # validation images that each epoch's line is about


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What chips learn, and what they are compared with.

    Attributes:
        images: how many test images, chosen at random by `seed`; all if None.
        learn: how many training images, chosen alike; all if None.
        world: a corruption that all images go through; None where none does.
        write: a write model of crossbars; the device's own if None.
        beside: a noise-aware network of the same data to compare with; the packaged one, where there is one, if None.
        seed: of everything random.
    """

    images: int | None = None
    learn: int | None = None
    world: str | None = None
    write: str | None = None
    beside: str | None = None
    seed: int = 0

    @property
    def choices(self) -> tuple[Choose, Choose, Choose]:
        """Which images of each split."""
        return Choose(self.learn, self.seed if self.learn else None), Choose(WATCHED), Choose(self.images, self.seed)


@dataclass(frozen=True, eq=False)
class Tuning:
    """A tuning as one command does it.

    Attributes:
        net: the network to map and tune.
        task: how it is tuned.
        chips: seeds of the chips.
        test: images of the comparison.
        noise_aware: name and program of the noise-aware network to compare with, or None.
    """

    net: EPNetwork
    task: Task
    chips: tuple[int, ...]
    test: Split | HeldSplit
    noise_aware: tuple[str, CrossbarProgram] | None

    @property
    def splits(self) -> tuple[Split | HeldSplit, ...]:
        """Images to learn from, to watch, and of the comparison."""
        return self.task.train, self.task.watch, self.test

    def title(self) -> str:
        how = "only digital biases learn" if self.task.settings.biases_only else f"written as {self.task.writing}"
        return f"{self.net.name} on {self.task.program.target.shown}, {how}"


def plan_tuning(model: str, machine: str, chips: Sequence[int], settings: TuningSettings, lesson: Lesson = Lesson(),
                data_source: DataSource = DEFAULT_SOURCE) -> Tuning | LoihiTuning:
    """Decide everything before anything runs.

    Args:
        model: a packaged name or a checkpoint file.
        machine: a crossbar's or Loihi's name, or the folder of one compiled.
        chips: seeds of the chips.
        settings: of the tuning.
        lesson: which images are learned, and what beside.
        data_source: where the data lie.

    Raises:
        Refusal: any of these is unknown, or the machine is none that can be tuned.
    """
    net = _ep_network(model, data_source)
    program = program_of(machine, net.lower())
    if isinstance(program, LoihiProgram) and lesson.write is None and lesson.beside is None:
        return plan_on_loihi(net, program, chips, settings, splits=_splits(net, lesson, data_source),
                             world=lesson.world or "", seed=lesson.seed)
    if not isinstance(program, CrossbarProgram) or isinstance(program, TunedProgram):
        raise Refusal("only programmed chips can be tuned, and Loihi without --write and --beside", where="--on",
                      got=machine, allowed="crossbar:PRESET, loihi, lava",
                      remedy="choose a machine of 'ep-hw machines'")
    writing = parse_writing(lesson.write) if lesson.write else writing_of(program.target.preset.name)
    check_writable_cells(program.target, writing)
    train, watch, test = _held(net, lesson, data_source) if lesson.world is None else _splits(net, lesson, data_source)
    task = Task(program, train, watch.take(slice(WATCHED)), settings, writing, lesson.seed)
    return Tuning(net, task, tuple(dict.fromkeys(chips)), test, _noise_aware(net, program, lesson.beside, data_source))


def _held(net: EPNetwork, lesson: Lesson, data_source: DataSource) -> list[HeldSplit]:
    """Images to learn from, to watch, and of the comparison, as they are stored."""
    return [held_for(net, name, data_source, choose) for name, choose in zip(SPLITS, lesson.choices)]


def _splits(net: EPNetwork, lesson: Lesson, data_source: DataSource) -> tuple[Split, Split, Split]:
    """The same as the lesson's world shows them."""
    train, watch, test = (_in_world(images_for(net, name, data_source, choose), lesson.world, lesson.seed)
                          for name, choose in zip(SPLITS, lesson.choices))
    return train, watch, test


def _in_world(split: Split, world: str | None, seed: int) -> Split:
    """The images after a corruption, the same for the same seed."""
    if world is None:
        return split
    threat = parse_threat(world)
    if not threat.is_corruption or threat.is_official:
        raise Refusal("a world is a corruption", where="--world", got=world, allowed="contrast@3 and its like",
                      remedy="see 'ep-hw evaluate --help'")
    changed = corrupt(split.images.numpy(), threat.kind, int(threat.strength),
                      corruption_noise(split.data, threat, seed, split))
    return replace(split, images=torch.from_numpy(changed))


@threads(1)
def run_tuning(tuning: Tuning, out: Path, log: Callable[[int, Course], None], cluster: Cluster | None = None,
               command: str = "") -> Table:
    """Tune what is not yet tuned, compare, and write everything into the existing folder `out`.

    Args:
        log: called after each epoch with the chip's seed and its course so far; on a cluster after the last one.
        cluster: whose workers tune a chip each.
        command: that asked for it, as the page says it.
    """
    task, test, folder = tuning.task, tuning.test, out / "chips"
    for errand in cluster.each(_errands(tuning, folder)) if cluster else ():
        chip = int(errand.name.rpartition("-")[2])
        log(chip, tune_chip(task, chip, folder / _file(chip)))
    courses = [tune_chip(task, chip, folder / _file(chip), log) for chip in tuning.chips]
    with simulators.open(reference_of(tuning.net)) as reference:
        rows = [digital_row(reference, test)]
    rows += mapped_rows("mapped", task.program, tuning.chips, test, task.seed)
    if tuning.noise_aware:
        rows += mapped_rows("noise-aware", tuning.noise_aware[1], tuning.chips, test, task.seed)
    rows += tuned_rows(task, courses, test)
    save_tuned(tuned_program(task.program, courses), out)
    watched = {course.progress.chip.seed: course.watched for course in courses}
    table = comparison_table(tuning.title(), rows, (*cost_notes(rows), f"write model: {task.writing.source}"))
    write_told(out, "tuning", _settings(tuning, watched), rows, table, tuning_figure(rows, watched), tuning_told(rows),
               command, tuning_charts(rows, watched))
    return table


def _errands(tuning: Tuning, folder: Path) -> list[Errand]:
    """The chips' tuning on a cluster, from where it stands; what all of them take travels once to each worker."""
    task = tuning.task
    parts = {f"tuning-{task.fingerprint(tuning.chips[0])}": task}
    return [Errand(name=f"{task.fingerprint(chip)}-{chip}", call=partial(_tune_in, chip), folder=folder, parts=parts,
                   reads=tuple(path.name for path in folder.glob(_file(chip))), writes=(_file(chip),))
            for chip in tuning.chips]


def _tune_in(chip: int, folder: Path, task: Task):
    tune_chip(task, chip, folder / _file(chip))


def _file(chip: int) -> str:
    """Of a chip's course."""
    return f"chip-{chip}.safetensors"


def _settings(tuning: Tuning, watched: dict) -> dict:
    task = tuning.task
    return {"model": tuning.net.name, "machine": task.program.target.shown, "target": str(task.program.target),
            "writing": str(task.writing),
            "source": task.writing.source, "seed": task.seed, "settings": task.settings.model_dump(mode="json"),
            "training_images": len(task.train), "noise_aware": tuning.noise_aware and tuning.noise_aware[0],
            "watched": {str(chip): line for chip, line in watched.items()}}


def _noise_aware(net: EPNetwork, program: CrossbarProgram, wanted: str | None,
                 data_source: DataSource) -> tuple[str, CrossbarProgram] | None:
    name = wanted or next((name for name in packaged_models() if name.startswith(f"{net.name}-noise-")), None)
    if name is None:
        return None
    other = _ep_network(name, data_source)
    check_same_data(other, net.data)
    compiled = mapping.compile(other.lower(), program.target)
    assert isinstance(compiled, CrossbarProgram)
    return other.name, compiled


def _ep_network(model: str, data_source: DataSource) -> EPNetwork:
    net = load(model).calibrated(data_source)
    if not (isinstance(net, EPNetwork) and net.spec.feedback_gain):
        raise Refusal("only networks with feedback learn from their own states", where="MODEL", got=model,
                      allowed="a network trained by equilibrium propagation", remedy="see 'ep-hw models'")
    return net
