"""What a relaxation takes on each machine, and what the machines say of themselves after a few images."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

import simulators
from ep_hw.analysis.rows import SummaryRow
from ep_hw.evaluation.plan import Plan
from ep_hw.threats.threat import CLEAN, Threat
from mapping.loihi.program import LoihiProgram
from mapping.loihi.target import LoihiTarget
from mapping.program import Table
from simulators.crossbar.chip import CrossbarMachine
from simulators.crossbar.tiled import TiledMachine
from simulators.loihi.energy import mean_cost
from simulators.loihi.events import count_events
from simulators.loihi.twin import twin_of
from simulators.machine import Cost
from simulators.module import AnyProgram

IMAGES = 16   # counted and relaxed: means over images settle fast, and every step of theirs is held at once
COLUMNS = ("machine", "counted", "operations, M", "energy, uJ", "energy, range", "Hala Point, uJ", "latency, ms",
           "latency, range", "area, mm2", "area, range")


@dataclass(frozen=True)
class Taken:
    """What one machine takes for an image.

    Attributes:
        machine: its name.
        counted: which work the figures are of.
        cost: the figures.
    """

    machine: str
    counted: str
    cost: Cost


def resources_of(plan: Plan) -> tuple[list[Taken], list[Table]]:
    """What every machine takes for an image, then a report of every crossbar's first chip."""
    images = plan.images.take(slice(IMAGES)).images
    relaxed = [_relaxed(name, plan.programs[name], images) for name in plan.asked.machines]
    return [one for some, _ in relaxed for one in some], [table for _, tables in relaxed for table in tables]


def known_costs(taken: Iterable[Taken]) -> dict[str, Cost]:
    """Machine -> what an image takes, by the first way it was counted; of those whose energy is published."""
    known: dict[str, Cost] = {}
    for one in taken:
        if one.cost.energy_j is not None:
            known.setdefault(one.machine, one.cost)
    return known


def _relaxed(name: str, program: AnyProgram, images: torch.Tensor) -> tuple[list[Taken], list[Table]]:
    """What a machine takes, and its tables. Programs that run on Lava are counted on their twin, to the same bits."""
    if isinstance(target := program.target, LoihiTarget):
        if isinstance(program, LoihiProgram) and target.is_whole:
            return _loihi(name, program, images), []
        if target.on_lava:   # in floats, of which no energy is known
            return [], []
    with simulators.open(program) as machine:
        taken = [Taken(name, "the longest relaxation", machine.cost())]
        if not isinstance(machine, CrossbarMachine | TiledMachine):
            return taken, []
        machine.relax(images)
        return taken, [machine.report()]


def _loihi(name: str, program: LoihiProgram, images: torch.Tensor) -> list[Taken]:
    with twin_of(program) as twin:
        count = count_events(twin, images)
        return [Taken(name, f"events of {len(images)} images", mean_cost(program, count)),
                Taken(name, "every unit at every step", twin.cost())]


def cost_table(taken: list[Taken]) -> Table:
    """Operations, energy and latency of one image's free phase, and silicon, with the sources as notes."""
    rows = tuple((t.machine, t.counted, round(t.cost.operations / 1e6, 3),
                  *_figures(t.cost.energy_j, t.cost.energy_range_j, 1e6), _neighbour(t.cost),
                  *_figures(t.cost.latency_s, t.cost.latency_range_s, 1e3),
                  *_figures(t.cost.area_mm2, t.cost.area_range_mm2, 1)) for t in taken)
    sources: dict[str, list[str]] = {}
    for t in taken:
        sources.setdefault(t.cost.source, []).append(t.machine)
    notes = (f"{', '.join(dict.fromkeys(names))}: {source.rstrip('.')}." for source, names in sources.items())
    return Table("What an image takes: published figures, not measurements", COLUMNS, rows, tuple(notes))


def _figures(value: float | None, ends: tuple[float, float] | None, scale: float) -> tuple[str, str]:
    if value is None:
        return "none published", ""
    return _short(value * scale), f"{_short(ends[0] * scale)} to {_short(ends[1] * scale)}" if ends else "see source"


def _neighbour(cost: Cost) -> str:
    return "" if cost.neighbour_j is None else _short(1e6 * cost.neighbour_j)


def _short(value: float) -> str:
    """Two significant digits, written out: the sources support no more."""
    return f"{float(f'{value:.2g}'):g}"


def circuit_table(summary: Sequence[SummaryRow]) -> list[Table]:
    """What the circuits met on clean images, and where most conversions clipped; none without circuits."""
    met: dict[str, dict[Threat, list[SummaryRow]]] = {}
    for row in summary:
        if row["winner_flips"] is not None or row["saturation"] is not None:
            met.setdefault(row["machine"], {}).setdefault(row["threat"], []).append(row)
    rows = []
    for machine, threats in met.items():
        clipping = {threat: _mean(row["saturation"] for row in chips) for threat, chips in threats.items()}
        worst = max(clipping, key=lambda threat: clipping[threat] or 0.0)
        rows += [_circuit_row(machine, threat, threats[threat])
                 for threat in dict.fromkeys([CLEAN, worst]) if threat in threats]
    columns = ("machine", "threat", "conversions clipped", "pool winners changed", "|W_f - W_b| / |W_f|")
    return [Table("What the circuits met, mean over chips", columns, tuple(rows))] if rows else []


def _circuit_row(machine: str, threat: Threat, chips: Sequence[SummaryRow]) -> tuple[str, ...]:
    values = (_mean(row["saturation"] for row in chips), _mean(row["winner_flips"] for row in chips),
              _mean(row["asymmetry"] for row in chips))
    return machine, threat.label, *("none" if value is None else f"{value:.2%}" for value in values)


def _mean(values: Iterable[float | None]) -> float | None:
    """Of those that are known."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
