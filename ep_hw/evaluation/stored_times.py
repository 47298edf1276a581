"""Attack times measured once and kept in the folder of a run."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

import simulators
from ep_hw.data.splits import Split
from ep_hw.evaluation.execution import Run
from ep_hw.evaluation.kept import Kept, measure_missing
from ep_hw.evaluation.suites import Temporal
from ep_hw.evaluation.temporal import TemporalPoint, measure_time
from ep_hw.threats.threat import Threat
from ep_hw.versions import TEMPORAL, code_of
from mapping.program import Program
from mapping.sealed import Layout

PGD = Threat("pgd_l2")   # the attack of every time


@dataclass(frozen=True, eq=False)
class StoredTime(Kept):
    """One attack time on one machine, of whose chips seed 0.

    The file holds `TemporalPoint.correct`, (images, steps) bool. `time` 0 stands for clean images.
    """

    form: ClassVar[str] = "ep-hw attack time 1"
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
    def asked(self) -> list:
        code = {"temporal": TEMPORAL, **code_of([self.program], PGD)}
        return [code, self.program.digest(), self.time, self.images.digest, self.temporal.eps, self.steps,
                self.temporal.iterations, self.seed, self.device]

    @property
    def layout(self) -> Layout:
        return {"correct": ("bool", (len(self.images), len(self.steps)))}

    def compute(self) -> dict[str, np.ndarray]:
        with simulators.open(self.program, device=self.device) as machine:
            point = measure_time(machine, self.images, self.temporal.eps, self.time, self.steps,
                                 self.temporal.iterations, self.seed)
        return {"correct": point.correct.numpy()}

    def __str__(self):
        return f"{self.program.target.shown}: attack time {self.time}"

    def read(self) -> TemporalPoint:
        """What its file holds.

        Raises:
            Refusal: it is damaged.
        """
        correct = torch.from_numpy(self.arrays()["correct"])
        return TemporalPoint(self.program.target.shown, self.temporal.eps, self.time, self.steps, correct)


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
    longest_first = sorted((one for group in asked.values() for one in group), key=lambda one: -one.time)
    measure_missing(longest_first, run)
    return {name: [one.read() for one in group] for name, group in asked.items()}
