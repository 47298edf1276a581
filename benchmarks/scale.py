"""How the cost of a study grows with its cells: planning, a dry run, collecting and reporting, with nothing to compute.

    python -m benchmarks.scale [CELLS ...] [--figure FILE.svg]

A study of one crossbar with 5 values of two options, 19 corruptions and clean images, and as many chips as give the
number of cells; another process stores every cell before the clock starts, with four rows that a generator made. Each
size runs in a process of its own: seconds of processor, and the most memory that it ever had. Dry runs are those of the
command, `ep-hw study FILE --dry-run`, by the clock and by the processor, start included: with no cell stored, where it
measures a few, and with all of them.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple, dataclass
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
import pyarrow as pa

from ep_hw.evaluation.cells import SCHEMA, Cell
from ep_hw.evaluation.plan import Plan, cells_of
from ep_hw.studies.execution import plan_study
from ep_hw.studies.outcome import run_study
from ep_hw.studies.study import load_study
from ep_hw.threats.registry import CORRUPTIONS

SIZES = 10_000, 30_000, 100_000
IMAGES = 4
GOAL_S, GOAL_DRY_S, GOAL_GB = 60, 10, 1
VALUES = [4, 5, 6, 7, 8]   # of the bits of either converter
LINES = {"collect_s": "collect and report", "fresh_s": "dry run, no cell stored", "stored_s": "dry run, all stored",
         "plan_s": "plan"}
HEADER = (f"{'':8} {'':>8} {'dry run':>18} {'dry run, stored':>18} {'collect':>9}\n"
          f"{'cells':>8} {'plan':>8} {'clock':>9}{'CPU':>9} {'clock':>9}{'CPU':>9} {'+ report':>9} {'memory':>9}")


@dataclass(frozen=True)
class Cost:
    """What a study took: CPU seconds, but for those by the clock, and GB."""

    cells: int
    plan_s: float
    fresh_clock_s: float
    fresh_s: float
    stored_clock_s: float
    stored_s: float
    collect_s: float
    memory_gb: float

    def __str__(self):
        cells, *seconds, memory = astuple(self)
        times = "{:7.1f}s {:8.1f}s{:8.1f}s {:8.1f}s{:8.1f}s {:8.1f}s".format(*seconds)
        return f"{cells:8} {times} {memory:6.2f} GB"

    def verdicts(self) -> Iterable[str]:
        """Each goal, and whether it was met."""
        for what, value, goal, unit in (
                ("planned, collected and reported", self.plan_s + self.collect_s, GOAL_S, "s of processor"),
                ("a dry run, by the clock", self.fresh_clock_s, GOAL_DRY_S, "s"),
                ("a dry run of stored cells, by the clock", self.stored_clock_s, GOAL_DRY_S, "s"),
                ("memory", self.memory_gb, GOAL_GB, "GB")):
            yield f"{what}: {value:.3g} of {goal} {unit}, {'met' if value <= goal else 'MISSED'}"


def write_study(cells: int, path: Path):
    """A study file with about so many cells."""
    threats = [f"{name}@3" for name in CORRUPTIONS]
    stated = {"title": "scale", "machines": ["crossbar:pcm"], "threats": threats, "images": IMAGES,
              "chips": max(1, round(cells / len(VALUES)**2 / (1 + len(threats)))), "waterfalls": False,
              "grid.adc_bits": VALUES, "grid.dac_bits": VALUES}
    path.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in stated.items()))


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


def dry_run(path: Path, out: Path) -> tuple[float, float, int]:
    """Of the command, which keeps what Python compiles: seconds by the clock, of the processor, and bytes of memory."""
    begun = time.perf_counter()
    command = subprocess.Popen([sys.executable, "-m", "ep_hw.cli", "study", path, "--dry-run", "--out", out],
                               env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""}, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(command.pid, 0)
    assert status == 0
    return time.perf_counter() - begun, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024


def measure(cells: int) -> Cost:
    """A row of the table."""
    with TemporaryDirectory() as folder, patch.object(os, "fsync"):   # the disk's own pace is left out
        path, out = Path(folder, "scale.toml"), Path(folder, "out")
        write_study(cells, path)
        asked = load_study(path)
        planning, plan = seconds(lambda: plan_study(asked))
        *fresh, fresh_bytes = dry_run(path, out)
        out.mkdir()
        storing = get_context("fork").Process(target=store_all, args=(plan, out))   # whose memory is not ours
        storing.start()
        storing.join()
        count = len(list((out / "cells").glob("*.json")))
        *stored, stored_bytes = dry_run(path, out)
        collecting = seconds(lambda: run_study(asked, plan, out))[0]
    most = max(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, fresh_bytes, stored_bytes)
    return Cost(count, planning, *fresh, *stored, collecting, most / 1e9)


def draw(costs: Sequence[Cost], path: str):
    """Seconds and memory over cells, beside their goals."""
    import matplotlib
    from matplotlib.figure import Figure

    from ep_hw.report.figures.plots import COLOURS, INK, MARKERS, RC, legend

    cells = [cost.cells for cost in costs]
    with matplotlib.rc_context({**RC, "svg.hashsalt": "scale"}):
        figure = Figure(figsize=(8.4, 3.6), layout="constrained")
        times, memory = figure.subplots(1, 2)
        for n, (name, label) in enumerate(LINES.items()):
            times.plot(cells, [getattr(cost, name) for cost in costs], color=COLOURS[n], marker=MARKERS[n], label=label)
        memory.plot(cells, [cost.memory_gb for cost in costs], color=INK, marker="o")
        _frame(times, cells, "seconds of processor", (GOAL_DRY_S, GOAL_S), (0.3, 200))
        _frame(memory, cells, "memory, GB", (GOAL_GB,), (0.1, 3))
        legend(figure, *times.get_legend_handles_labels())
        figure.savefig(path, metadata={"Date": None})


def _frame(axes, cells: Sequence[int], title: str, goals: Sequence[float], limits: tuple[float, float]):
    """Logarithmic axes with plain numbers, and a dotted line a goal."""
    for goal in goals:
        axes.axhline(goal, color="0.3", lw=0.8, ls=":")
        axes.annotate(f"goal {goal}", (0, goal), (4, 3), axes.get_yaxis_transform(), "offset points", fontsize=8)
    axes.set(xscale="log", yscale="log", xlabel="cells", ylim=limits)
    axes.set_xticks(cells, [f"{count:,}" for count in cells])
    axes.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_title(title, loc="left", fontsize=10, weight="bold")
    axes.grid(visible=True)


def main():
    parser = argparse.ArgumentParser(prog="benchmarks.scale")
    parser.add_argument("cells", nargs="*", type=int, default=SIZES)
    parser.add_argument("--figure", metavar="FILE.svg", help="draw seconds and memory over cells")
    options = parser.parse_args()
    print(HEADER, flush=True)
    costs = []
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as processes:
        for cost in processes.map(measure, options.cells):
            costs.append(cost)
            print(cost, flush=True)
    print(f"goals, at {costs[-1].cells} cells:", *costs[-1].verdicts(), sep="\n")
    if options.figure:
        draw(costs, options.figure)


if __name__ == "__main__":
    main()
