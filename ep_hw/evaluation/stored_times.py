"""Attack times measured once and kept in the folder of a run: the same question finds its answer there."""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

import simulators
from ep_hw.data.splits import Split
from ep_hw.evaluation.execution import Run, call_all
from ep_hw.evaluation.suites import Temporal
from ep_hw.evaluation.temporal import TemporalPoint, measure_time
from ep_hw.threats.threat import Threat
from ep_hw.versions import TEMPORAL, code_of
from mapping.errors import Refusal
from mapping.files import write_atomically
from mapping.program import Program
from mapping.sealed import open_sealed, seal

FORM = "ep-hw attack time 1"
PGD = Threat("pgd_l2")   # the attack of every time


@dataclass(frozen=True, eq=False)
class StoredTime:
    """One attack time on one machine, of whose chips seed 0; what is asked is the key of its file.

    The file holds `TemporalPoint.correct`, (images, steps) bool. `time` 0 stands for clean images.
    """

    program: Program
    time: int
    images: Split
    temporal: Temporal
    seed: int
    device: str
    folder: Path

    @property
    def steps(self) -> tuple[int, ...]:
        return tuple(sorted(set(self.temporal.steps)))

    @property
    def path(self) -> Path:
        code = {"temporal": TEMPORAL, **code_of([self.program], PGD)}
        asked = [code, self.program.digest(), self.time, self.images.digest, self.temporal.eps, self.steps,
                 self.temporal.iterations, self.seed, self.device]
        return self.folder / f"{hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]}.safetensors"

    def measure(self):
        """Measure it and write its file."""
        with simulators.open(self.program, device=self.device) as machine:
            point = measure_time(machine, self.images, self.temporal.eps, self.time, self.steps,
                                 self.temporal.iterations, self.seed)
        write_atomically(self.path, seal(FORM, {}, {"correct": point.correct.numpy()}))

    def done(self) -> bool:
        """Whether its file is there and whole; says so where it is damaged."""
        try:
            return self.path.exists() and self.read() is not None
        except Refusal as damage:
            logging.getLogger(__name__).warning("%s: measured again", damage)
            return False

    def read(self) -> TemporalPoint:
        """What its file holds.

        Raises:
            Refusal: it is damaged.
        """
        sealed = open_sealed(self.path, FORM, "run the same command again")
        arrays = sealed.arrays({"correct": ("bool", (len(self.images), len(self.steps)))})
        correct = torch.from_numpy(arrays["correct"])
        return TemporalPoint(str(self.program.target), self.temporal.eps, self.time, self.steps, correct)


def times_of(programs: Mapping[str, Program], images: Split, temporal: Temporal, seed: int, device: str,
             folder: Path) -> dict[str, list[StoredTime]]:
    """Machine -> every attack time on it, clean images first."""
    times = (0, *sorted(set(temporal.times)))
    return {name: [StoredTime(program, time, images, temporal, seed, device, folder) for time in times]
            for name, program in programs.items()}


def stored_times(folder: Path, programs: Mapping[str, Program], images: Split, temporal: Temporal, seed: int,
                 run: Run) -> dict[str, list[TemporalPoint]]:
    """Machine -> its points, see `measure_times`; those that `folder` does not hold are measured, longest first."""
    asked = times_of(programs, images, temporal, seed, run.device, folder)
    missing = [one for group in asked.values() for one in group if not one.done()]
    call_all([one.measure for one in sorted(missing, key=lambda one: -one.time)], run.jobs)
    return {name: [one.read() for one in group] for name, group in asked.items()}
