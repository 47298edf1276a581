"""Attack times measured once and kept beside the cells of a run: the same question finds its answer there."""

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import ep_hw
import simulators
from ep_hw.data import Split
from ep_hw.execution import call_all
from ep_hw.measurements.temporal import TemporalPoint, measure_time
from ep_hw.suites import Temporal
from mapping.files import write_atomically
from mapping.program import Program


@dataclass(frozen=True, eq=False)
class StoredTime:
    """One attack time on one machine, of whose chips seed 0; what is asked is the key of `KEY.npy`.

    The file holds `TemporalPoint.correct`, (images, steps) bool. `time` 0 stands for clean images.
    """

    program: Program
    time: int
    split: Split
    temporal: Temporal
    seed: int
    device: str
    folder: Path

    @property
    def steps(self) -> tuple[int, ...]:
        return tuple(sorted(set(self.temporal.steps)))

    @property
    def path(self) -> Path:
        asked = (f"{ep_hw.__version__} {self.program.digest()} {self.time} {self.split.data} {self.temporal.eps} "
                 f"{self.steps} {self.temporal.iterations} {self.seed} {self.device}")
        return self.folder / f"{hashlib.sha256(asked.encode() + self.split.ids.numpy().tobytes()).hexdigest()[:16]}.npy"

    def measure(self):
        """Measure it and write its file."""
        with simulators.open(self.program, device=self.device) as machine:
            point = measure_time(machine, self.split, self.temporal.eps, self.time, self.steps,
                                 self.temporal.iterations, self.seed)
        blob = io.BytesIO()
        np.save(blob, point.correct.numpy(), allow_pickle=False)
        write_atomically(self.path, blob.getvalue())

    def read(self) -> TemporalPoint:
        """What its file holds."""
        correct = torch.from_numpy(np.load(self.path, allow_pickle=False))
        return TemporalPoint(str(self.program.target), self.temporal.eps, self.time, self.steps, correct)


def stored_times(folder: Path, programs: Mapping[str, Program], split: Split, temporal: Temporal, seed: int,
                 device: str = "cpu", jobs: int = 1) -> dict[str, list[TemporalPoint]]:
    """Machine -> its points, see `measure_times`; those that `folder` does not hold are measured, longest first.

    Args:
        jobs: see `call_all`.
    """
    times = (0, *sorted(set(temporal.times)))
    asked = {name: [StoredTime(program, time, split, temporal, seed, device, folder) for time in times]
             for name, program in programs.items()}
    missing = [one for group in asked.values() for one in group if not one.path.exists()]
    call_all([one.measure for one in sorted(missing, key=lambda one: -one.time)], jobs)
    return {name: [one.read() for one in group] for name, group in asked.items()}
