"""How the cost of a study grows with its cells: planning, a dry run, collecting and reporting, with nothing to compute.

    python -m benchmarks.scale [CELLS ...]

A study of one crossbar with 5 values of two options, 19 corruptions and clean images, and as many chips as give the
number of cells; another process stores every cell before the clock starts, with four rows that a generator made. Each
size runs in a process of its own: seconds of processor, and the most memory that it ever had.
"""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
import pyarrow as pa

from ep_hw.evaluation.cells import SCHEMA, Cell
from ep_hw.evaluation.forecast import estimate
from ep_hw.evaluation.plan import Plan, cells_of
from ep_hw.studies.execution import plan_study
from ep_hw.studies.outcome import run_study
from ep_hw.studies.study import Study
from ep_hw.threats.registry import CORRUPTIONS

SIZES = 10_000, 30_000, 100_000
IMAGES = 4
GOAL_S, GOAL_DRY_S, GOAL_BYTES = 60, 10, 1e9
VALUES = {"adc_bits": [4, 5, 6, 7, 8], "dac_bits": [4, 5, 6, 7, 8]}
HEADER = f"{'cells':>8} {'plan':>7} {'dry run':>8} {'collect and report':>19} {'memory':>9}"


def study(cells: int) -> Study:
    """With about so many cells."""
    threats = [f"{name}@3" for name in CORRUPTIONS]
    each = len(VALUES["adc_bits"]) * len(VALUES["dac_bits"]) * (1 + len(threats))
    return Study(title="scale", machines=("crossbar:pcm",), grid=VALUES, threats=threats, images=IMAGES,
                 chips=max(1, round(cells / each)), waterfalls=False)


def store(cell: Cell, rng: np.random.Generator):
    """Store a cell as if it had run."""
    c, n = cell.configuration, len(cell.images)
    labels = cell.images.labels.numpy()
    predicted = np.where(rng.random(n) < 0.8, labels, (labels + 1) % 10)
    values = {"key": c.key, "model": c.model, "dataset": c.dataset, "machine": c.machine, "threat": c.threat.name,
              "strength": float(c.threat.strength), "chip_seed": c.chip_seed, "pixels": "0" * 16, "logit_rms": 0.1,
              "norm": 0.0, "broken_by": "", "fooled_by": None, "read_accuracy": 0.8, "noise_correct": None,
              "zero_gradient": 0.0, "queries": 0.0, "steps": 20.0, "converged": True, "reference_correct_clean": True}
    columns = {**{name: [value] * n for name, value in values.items()}, "image_id": cell.images.ids.numpy(),
               "label": labels, "prediction": predicted, "reference_prediction": labels}
    cell.stored.write(pa.table(columns, schema=SCHEMA), None, 0.01, {})


def store_all(plan: Plan, out: Path):
    """Store every cell of a plan."""
    rng = np.random.default_rng(0)
    for cell in cells_of(plan, out):
        store(cell, rng)


def seconds(work: Callable[[], object]) -> tuple[float, object]:
    """Of this process's processor, and what came of it."""
    begun = time.process_time()
    made = work()
    return time.process_time() - begun, made


def measure(cells: int) -> str:
    """A row of the table."""
    asked = study(cells)
    with TemporaryDirectory() as folder, patch.object(os, "fsync"):   # the disk's own pace is left out
        out = Path(folder)
        planning, plan = seconds(lambda: plan_study(asked))
        dry = seconds(lambda: estimate([plan], out / "dry"))[0]
        storing = get_context("fork").Process(target=store_all, args=(plan, out))   # whose memory is not ours
        storing.start()
        storing.join()
        count = len(list((out / "cells").glob("*.json")))
        collecting = seconds(lambda: run_study(asked, plan, out))[0]
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return f"{count:8} {planning:6.1f}s {dry:7.1f}s {collecting:18.1f}s {most / 1e6:6.0f} MB"


def main():
    asked = [int(text) for text in sys.argv[1:]] or list(SIZES)
    if len(asked) == 1:
        print(measure(asked[0]))
        return
    print(HEADER)
    for cells in asked:
        print(subprocess.run([sys.executable, "-m", "benchmarks.scale", str(cells)], check=True, text=True,
                             stdout=subprocess.PIPE).stdout, end="", flush=True)
    print(f"goals: {asked[-1]} cells planned, collected and reported in {GOAL_S} s and {GOAL_BYTES / 1e9:g} GB, a dry "
          f"run in {GOAL_DRY_S} s")


if __name__ == "__main__":
    main()
