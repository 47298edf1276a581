"""How much accuracy tuning in situ wins back, and at which cost: digital, mapped, noise-aware and tuned networks.

    E_write = pulses E_pulse,    E_read = epochs images E_relaxation(free + 2 pairs nudged steps)         (1)

with E_relaxation of `simulators.crossbar.cost`. Two reads of the readout in each nudged step are not counted, nor is
anything digital. The chip does not age while it is tuned.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ep_hw.analysis.points import Estimate, estimate
from ep_hw.analysis.statistics import student, unpaired_interval, wilson
from ep_hw.data.held import HeldSplit
from ep_hw.data.splits import Split
from ep_hw.learning.in_situ.course import Course, Task, chip_accuracy
from ep_hw.networks.accuracy import accuracy
from ep_hw.report.story import Told
from ep_hw.report.wording import interval, percent, points_of
from mapping.crossbar.program import CrossbarProgram
from mapping.crossbar.tuned import TunedProgram
from mapping.files import write_atomically
from mapping.program import Table
from simulators.crossbar.cost import relaxation_cost
from simulators.crossbar.programmed import program_chip
from simulators.machine import Machine

VARIANTS = ("digital", "mapped", "noise-aware", "readout", "off-chip", "tuned")


@dataclass(frozen=True)
class Summary:
    """A variant over its chips.

    Attributes:
        variant: one of `VARIANTS`.
        accuracy: mean over chips.
        low: end of its interval, the wider one of Wilson's over images and Student's over chips.
        high: the other end.
        gain: over the mapped network on the same chips.
        gain_low: end of its interval, the wider one of Student's over chips and Newcombe's over images, as if these
            did not pair up; None without two chips.
        gain_high: the other end.
    """

    variant: str
    accuracy: float
    low: float
    high: float
    gain: float
    gain_low: float | None
    gain_high: float | None


def digital_row(machine: Machine, test: Split | HeldSplit) -> dict:
    """The reference's accuracy."""
    return _row("digital", machine.name, None, accuracy(machine, test), len(test))


def mapped_rows(variant: str, program: CrossbarProgram, chips: Sequence[int], test: Split | HeldSplit,
                seed: int) -> list[dict]:
    """Accuracy of each chip as it was programmed."""
    return [_row(variant, program.target.shown, chip, chip_accuracy(program, program_chip(program, chip), test, seed),
                 len(test)) for chip in chips]


def tuned_rows(task: Task, courses: Sequence[Course], test: Split | HeldSplit) -> list[dict]:
    """Accuracy of each tuned chip, and what tuning it cost."""
    name = tuned_program(task.program, courses).target.shown
    return [_row("tuned", name, c.progress.chip.seed, chip_accuracy(task.program, c.progress.chip, test, task.seed),
                 len(test), costs(task, c)) for c in courses]


def costs(task: Task, course: Course) -> dict:
    """Pulses, wear and energy of a chip's tuning, (1) above; None where there is no published figure."""
    s, pulses = task.settings, course.progress.pulses
    total, most = int(pulses.sum()), int(pulses.max())
    per_pulse, endurance = task.writing.pulse_energy_j, task.writing.endurance
    phases = s.free_steps + 2 * s.pairs * s.nudged_steps
    longer = replace(task.program, target=task.program.target.having(steps=phases))
    relaxing, image = (relaxation_cost(program).energy_j for program in (longer, task.program))
    return {"pulses": total, "devices": len(pulses), "devices_written": float((pulses > 0).double().mean()),
            "most_pulses": most, "endurance_used": endurance and most / endurance,
            "write_energy_j": per_pulse and total * per_pulse,
            "read_energy_j": relaxing and s.epochs * len(task.train) * relaxing, "image_energy_j": image}


def summarise(rows: Sequence[dict]) -> list[Summary]:
    """A summary of each variant that has rows."""
    by_variant = {name: [row for row in rows if row["variant"] == name] for name in VARIANTS}
    before = {row["chip"]: row["accuracy"] for row in by_variant["mapped"]}
    return [_summary(name, mine, before) for name, mine in by_variant.items() if mine]


def comparison_table(title: str, rows: Sequence[dict], notes: Sequence[str] = ()) -> Table:
    """A line a variant; below, notes."""
    lines = []
    for s in summarise(rows):
        chips = sum(row["variant"] == s.variant and row["chip"] is not None for row in rows)
        lines.append((s.variant, chips or "", f"{100 * s.accuracy:.1f}", f"{100 * s.low:.1f} to {100 * s.high:.1f}",
                      "" if s.variant in ("digital", "mapped") else _gain(s)))
    return Table(title, ("", "chips", "accuracy, %", "95 %", "gain over mapped, points"), tuple(lines),
                 tuple(notes))


def _gain(summary: Summary) -> str:
    """The gain in points, with its interval where there is one."""
    gain = f"{100 * summary.gain:+.1f}"
    if summary.gain_low is None or summary.gain_high is None:
        return gain
    return f"{gain} ({100 * summary.gain_low:+.1f} to {100 * summary.gain_high:+.1f})"


def tuned_program(program: CrossbarProgram, courses: Sequence[Course]) -> TunedProgram:
    """The program with its tuned chips, which `ep-hw evaluate --on` runs."""
    chips = {c.progress.chip.seed: {k: t.numpy() for k, t in c.progress.chip.tensors().items()} for c in courses}
    return TunedProgram(replace(program.target, tuned=True), program.graph, program.layers, chips)


def save_tuned(program: TunedProgram, out: Path):
    """Write a tuned program into an existing folder, whole or not at all."""
    for name, blob in program.files().items():
        write_atomically(out / name, blob)


def _row(variant: str, machine: str, chip: int | None, share: float, images: int, cost: dict | None = None) -> dict:
    low, high = wilson(round(share * images), images)
    return {"variant": variant, "machine": machine, "chip": chip, "images": images, "accuracy": share, "ci_low": low,
            "ci_high": high, **(cost or dict.fromkeys(_COSTS))}


_COSTS = ("pulses", "devices", "devices_written", "most_pulses", "endurance_used", "write_energy_j", "read_energy_j",
          "image_energy_j")


def _summary(name: str, rows: Sequence[dict], before: dict) -> Summary:
    n = rows[0]["images"]
    share = estimate([row["accuracy"] for row in rows], n)
    mapped = float(np.mean(list(before.values())))
    gains = [row["accuracy"] - before[row["chip"]] for row in rows if row["chip"] in before]
    low = high = None
    if len(gains) > 1:
        images, chips = unpaired_interval(round(mapped * n), n, round(share.value * n), n), student(gains)
        low, high = min(images.low, chips.low), max(images.high, chips.high)
    return Summary(name, share.value, share.low, share.high, share.value - mapped, low, high)


def cost_notes(rows: Sequence[dict]) -> list[str]:
    """What tuning took, in words: means over tuned chips."""
    tuned = [row for row in rows if row["variant"] == "tuned"]

    def mean(key: str) -> float:
        return float(np.mean([row[key] for row in tuned]))

    def is_published(key: str) -> bool:
        return all(row[key] is not None for row in tuned)

    written = f"pulses: {mean('pulses'):.4g} a chip, on {100 * mean('devices_written'):.1f} % of its devices, " \
              f"{max(row['most_pulses'] for row in tuned)} at most on one"
    if is_published("endurance_used"):
        written += f", {mean('endurance_used'):.1g} of its endurance"
    energy = "energy: unknown of reads"
    if is_published("read_energy_j"):
        energy = f"energy: {1e3 * mean('read_energy_j'):.3g} mJ of reads, as much as " \
                 f"{mean('read_energy_j') / mean('image_energy_j'):.3g} images"
    if is_published("write_energy_j"):
        energy += f"; {1e9 * mean('write_energy_j'):.3g} nJ of pulses"
    return [written, energy]


def tuning_told(rows: Sequence[dict]) -> Told:
    """What tuning wins back, beside what chips lose that are only mapped."""
    by_variant = {one.variant: one for one in summarise(rows)}
    digital, mapped, tuned = (by_variant[name] for name in ("digital", "mapped", "tuned"))
    known = f" {interval(Estimate(tuned.gain, tuned.gain_low, tuned.gain_high))}" if (
        tuned.gain_low is not None and tuned.gain_high is not None) else " on one chip, without an interval"
    return Told("What does learning in situ win back?", (
        f"Tuned chips get {percent(tuned.accuracy)} right where mapped ones get {percent(mapped.accuracy)} and the "
        f"digital network {percent(digital.accuracy)}: {points_of(tuned.gain)} points{known}."))
