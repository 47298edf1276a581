"""Attack times measured once and kept beside the cells of a run: the same question finds its answer there."""

import hashlib
import io
from pathlib import Path

import numpy as np
import torch

import ep_hw
import simulators
from ep_hw.checkpoint import write_atomically
from ep_hw.data import Split
from ep_hw.measurements.temporal import TemporalPoint, measure_times
from ep_hw.suites import Temporal
from ep_hw.threads import threads
from mapping.program import Program


def stored_times(folder: Path, program: Program, split: Split, temporal: Temporal, seed: int) -> list[TemporalPoint]:
    """See `measure_times`; what was asked is the key of `KEY.npy`, (1 + times, images, steps) bool.

    Machines with chips are the one of seed 0.
    """
    ids = split.ids.numpy().tobytes()
    asked = f"{ep_hw.__version__} {program.digest()} {split.data} {temporal} {seed}".encode() + ids
    path = folder / f"{hashlib.sha256(asked).hexdigest()[:16]}.npy"
    name, steps = str(program.target), tuple(sorted(temporal.steps))
    if path.exists():
        kept = np.load(path, allow_pickle=False)
        return [TemporalPoint(name, temporal.eps, time, steps, torch.from_numpy(correct))
                for time, correct in zip((0, *sorted(temporal.times)), kept)]
    with simulators.open(program) as machine, threads(1):
        points = list(measure_times(machine, split, temporal.eps, temporal.times, steps, temporal.iterations, seed))
    blob = io.BytesIO()
    np.save(blob, np.stack([point.correct.numpy() for point in points]), allow_pickle=False)
    write_atomically(path, blob.getvalue())
    return points
