"""Doors of files that hold networks: checkpoints, programs, chips, unfinished trainings and tunings."""

from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

import ep_hw
import mapping
import simulators
from ep_hw.data import load_data
from ep_hw.learning.in_situ import TuningSettings
from ep_hw.learning.in_situ.course import Task, tune_chip
from ep_hw.learning.training.learners import learner_of
from ep_hw.learning.training.loop import _Part, _Place
from ep_hw.learning.training.recipe import load_recipe
from ep_hw.networks.baselines import Baseline, CNNSpec, ViTSpec
from ep_hw.networks.checkpoint import save_checkpoint
from mapping.crossbar.writing import parse_writing
from mapping.loading import load_program
from simulators.crossbar.chip import CrossbarMachine
from simulators.crossbar.programmed import ProgrammedChip, program_chip
from tests.fuzz import safetensors
from tests.fuzz.door import Door, digest
from tests.fuzz.edits import BYTE_EDITS, Files, in_one_file, replaced
from tests.support.networks import small_network

SEEN = {"name": "digits", "split_seed": 0, "train": 10, "test": 5}
IMAGES = {"image_shape": (1, 8, 8), "classes": 10, "mean": (0.3,), "scale": (1.1,)}


def files_in(folder: Path) -> Files:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


class Sealed(Door):
    """Safetensors under checksums."""

    edits = (replaced, *(in_one_file(edit, suffix=".safetensors") for edit in (*BYTE_EDITS, *safetensors.EDITS)))
    forgeries = tuple(in_one_file(edit, suffix=".safetensors")
                      for edit in (safetensors.edited_metadata, safetensors.edited_metadata, *safetensors.EDITS))

    def resealed(self, files):
        return {name: safetensors.resealed(blob) if name.endswith(".safetensors") else blob
                for name, blob in files.items()}


class Checkpoint(Sealed):
    """`ep_hw.load`: one network of each architecture."""

    def __init__(self, kind: str):
        self.name, self.kind = f"checkpoint {kind}", kind

    def make(self):
        with TemporaryDirectory() as folder:
            path = Path(folder) / "net.safetensors"
            save_checkpoint(self._network(), path, recipe={"kind": self.kind, "seed": 1}, data=SEEN,
                            accuracy={"test": 0.5})
            return [files_in(Path(folder))]

    def _network(self):
        if self.kind == "ep":
            return small_network(3)
        spec = CNNSpec(**IMAGES, channels=(3, 4), paddings=(1, 1), pools=(2, 2)) if self.kind == "cnn" else ViTSpec(
            **IMAGES, patch=4, layers=1, heads=2, dim=4, hidden=8)
        torch.manual_seed(1)
        return Baseline(spec, spec.build())

    def open(self, folder):
        return ep_hw.load(folder / "net.safetensors")

    def meaning(self, net):
        return digest((type(net).__name__, net.name, net.spec, net.provenance, net.tensors()))

    def use(self, net):
        net.machine().relax(torch.zeros(1, *net.spec.image_shape), 3)
        if self.kind == "ep":
            for target in ("loihi", "crossbar:pcm"):
                mapping.compile(net.lower(), target).tables()


class SavedProgram(Sealed):
    """`mapping.load_program`: a program of each kind."""

    def __init__(self, target: str):
        self.name, self.target = f"program {target}", target

    def make(self):
        with TemporaryDirectory() as folder:
            mapping.compile(small_network(3).lower(), self.target).save(Path(folder) / "prog")
            return [files_in(Path(folder))]

    def open(self, folder):
        return load_program(folder / "prog")

    def use(self, program):
        program.tables()
        if self.target != "lava":   # starts an interpreter
            seed = program.chip_seeds(1)[0] or 0
            simulators.open(program, chip_seed=seed).relax(torch.zeros(1, *program.graph.image_shape), 3)


class Chip(Sealed):
    """`ProgrammedChip.load`."""

    name = "chip"

    @cached_property
    def program(self):
        return mapping.compile(small_network(3).lower(), "crossbar:pcm")

    def make(self):
        with TemporaryDirectory() as folder:
            program_chip(self.program, 3).save(Path(folder) / "chip.safetensors")
            return [files_in(Path(folder))]

    def open(self, folder):
        return ProgrammedChip.load(folder / "chip.safetensors", self.program)

    def meaning(self, chip):
        return digest((chip.seed, chip.digest, chip.tensors()))

    def use(self, chip):
        CrossbarMachine(self.program, chip=chip).relax(torch.zeros(1, 1, 8, 8), 3)


class Training(Sealed):
    """OUT.part of `ep-hw train`, continued."""

    def __init__(self, recipe: str):
        self.name, self.recipe = f"training {recipe}", recipe

    def _part(self, path: Path):
        recipe = load_recipe(self.recipe)
        recipe = recipe.model_copy(update={"dim": 4, "hidden": 8} if "vit" in self.recipe else {"channels": (3, 4)})
        spec = recipe.spec(load_data("digits", "train").take(slice(100)))
        return _Part(path, learner_of(recipe, spec, 1, "cpu"), recipe.fingerprint(1))

    def make(self):
        with TemporaryDirectory() as folder:
            part = self._part(Path(folder) / "net.safetensors")
            images = load_data("digits", "train").take(slice(8))
            generator = torch.Generator().manual_seed(1)
            part.learner.step(images.images, images.labels, generator)
            part.save(_Place(3, 2, generator.get_state()))
            return [files_in(Path(folder))]

    def open(self, folder):
        part = self._part(folder / "net.safetensors")
        return part.resume(), part.learner

    def meaning(self, opened):
        place, learner = opened
        return digest((place, learner.tensors()))

    def use(self, opened):
        place, learner = opened
        images = load_data("digits", "train").take(slice(8))
        generator = torch.Generator()
        if place.generator is not None:
            generator.set_state(place.generator)
        learner.step(images.images, images.labels, generator)


class Tuning(Sealed):
    """A course file of `ep-hw tune`, continued at its end."""

    name = "tuning"

    @cached_property
    def task(self):
        images = load_data("digits", "train").take(slice(20))
        settings = TuningSettings(epochs=1, batch=20, free_steps=4, nudged_steps=2)
        program = mapping.compile(small_network(3).lower(), "crossbar:pcm[steps=4]")
        return Task(program, images, images, settings, parse_writing("linear[step=0.01]"), 0)

    def make(self):
        with TemporaryDirectory() as folder:
            tune_chip(self.task, 3, Path(folder) / "chip.safetensors")
            return [files_in(Path(folder))]

    def open(self, folder):
        return tune_chip(self.task, 3, folder / "chip.safetensors")

    def meaning(self, course):
        progress = course.progress
        return digest((progress.chip.seed, progress.chip.tensors(), progress.written, progress.epochs, course.watched))


class Tuned(SavedProgram):
    """`mapping.load_program`: a program with its tuned chips."""

    def __init__(self):
        super().__init__("tuned")

    def make(self):
        from ep_hw.learning.in_situ.comparison import tuned_program

        task = Tuning().task
        with TemporaryDirectory() as folder:
            course = tune_chip(task, 3, Path(folder) / "chip")
            tuned_program(task.program, [course]).save(Path(folder) / "all" / "prog")
            return [files_in(Path(folder) / "all")]


DOORS = (*map(Checkpoint, ("ep", "cnn", "vit")),
         *map(SavedProgram, ("reference", "loihi", "lava", "crossbar:pcm", "crossbar:ideal")), Tuned(), Chip(),
         *map(Training, ("digits", "digits-bp", "digits-vit")), Tuning())
