"""Running a study: its plan, what it will take, and its rows."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from ep_hw.analysis.points import Points
from ep_hw.analysis.statistics import student
from ep_hw.data.registry import load_data
from ep_hw.data.source import DEFAULT_SOURCE, DataSource
from ep_hw.evaluation.cells import Cell, run_cell
from ep_hw.evaluation.execution import Machines, Run
from ep_hw.evaluation.plan import Asked, Attacks, Plan, cells_of, compile_all, with_sources
from ep_hw.evaluation.rungs import rungs_of
from ep_hw.networks.calibration import calibrated
from ep_hw.networks.checkpoint import load
from ep_hw.studies.order import reversed_rungs_of
from ep_hw.studies.study import Point, Study, points_of
from ep_hw.threads import threads
from ep_hw.threats.threat import CLEAN
from mapping.registry import parse
from mapping.targets import REFERENCE, ReferenceTarget, Target
from simulators.machine import Machine
from simulators.registry import check_device

FEW, MORE = 8, 32   # images of measured cells


def plan_study(study: Study, *, run: Run | None = None, data_source: DataSource = DEFAULT_SOURCE) -> Plan:
    """Every machine of a study under every threat, and the rungs of its technologies under those that make no images
    of their own for each machine.

    Raises:
        Refusal: an unknown model, machine, option or threat, or missing data.
    """
    run = run or Run()
    check_device(run.device)
    net, threats = calibrated(load(study.model), data_source), study.threats_named()
    swept, rungs = [point.target for point in points_of(study)], rungs_of_study(study)
    shared = [CLEAN, *(t for t in threats if t.source or not t.is_attack)]
    asked = Asked(machines=tuple(map(str, swept)), threats=threats, chips=study.chips, seed=study.seed,
                  extra_pairs=tuple((str(rung), threat) for rung in rungs for threat in shared))
    targets = with_sources([ReferenceTarget(REFERENCE), *swept, *rungs], threats)
    data = load_data(net.provenance["data"]["name"], "test", data_source)
    return Plan(model=net.name, images=data.random_images(study.images, study.seed), programs=compile_all(net, targets),
                asked=asked, attacks=Attacks(settings=study.attack), run=run)


def rungs_of_study(study: Study) -> list[Target]:
    """The machines of all waterfalls, in both orders."""
    technologies = map(parse, study.machines if study.waterfalls else ())
    return list(dict.fromkeys(target for technology in technologies
                              for rungs in (rungs_of(technology), reversed_rungs_of(technology))
                              for target, _ in rungs))


@dataclass(frozen=True)
class Estimate:
    """What is left of a study.

    Attributes:
        cells, missing: all of them, and those not yet computed. seconds: of one processor, for the missing ones.
        measured: kinds of cells that were run, on a few images, to know.
    """

    cells: int
    missing: int
    seconds: float
    measured: int


def estimate(plan: Plan, folder: Path) -> Estimate:
    """Run one cell of each kind on FEW and on MORE images, in a folder of its own, for

        seconds = sum over machines and chips of t_open + sum over missing cells of (t_cell + t_image images)     (1)

    A kind is a threat on machines with or without read noise and with or without wires.
    """
    cells = cells_of(plan, folder)
    missing = [cell for cell in cells if not cell.done()]
    taken: dict[tuple, _Taken] = {}
    with TemporaryDirectory() as scratch, threads(1):
        for kinds, each in (({}, missing[:1]), (taken, missing)):   # the first run of a process is slower than others
            with Machines(plan.programs, plan.run.device) as machines:
                for cell in each:
                    if _kind(cell, plan) not in kinds:
                        kinds[_kind(cell, plan)] = _measure(cell, machines, Path(scratch))
    opened = {(_kind(c, plan), c.configuration.machine, c.configuration.chip_seed) for c in missing}
    seconds = sum(taken[kind].open_s for kind, *_ in opened)
    seconds += sum(taken[_kind(cell, plan)].cell_s(len(cell.images)) for cell in missing)
    return Estimate(len(cells), len(missing), seconds, len(taken))


@dataclass(frozen=True)
class _Taken:
    """t_open, t_cell and t_image of equation (1)."""

    open_s: float
    each_s: float
    image_s: float

    def cell_s(self, images: int) -> float:
        return self.each_s + self.image_s * images


def _kind(cell: Cell, plan: Plan) -> tuple:
    target = plan.programs[cell.configuration.machine].target
    return target.is_noisy, getattr(target, "wire_ohm", None) is not None, str(cell.configuration.threat)


def _measure(cell: Cell, machines: Machines, scratch: Path) -> _Taken:
    reference, begun = machines.get(REFERENCE), time.perf_counter()
    machines.get(cell.configuration.machine, cell.configuration.chip_seed)
    open_s, sizes = time.perf_counter() - begun, [min(n, len(cell.images)) for n in (FEW, MORE)]
    few, more = sorted(_run(cell, n, machines, reference, scratch) for n in sizes)
    image_s = (more - few) / (sizes[1] - sizes[0]) if sizes[1] > sizes[0] else few / sizes[0]
    return _Taken(open_s, max(few - image_s * sizes[0], 0.0), image_s)


def _run(cell: Cell, count: int, machines: Machines, reference: Machine, scratch: Path) -> float:
    """Seconds that the first images of a cell take, those of its source not counted."""
    few = Cell(cell.configuration, cell.images.take(torch.arange(count)), scratch)
    if few.configuration.source and not few.source.done():
        _run(few.source, count, machines, reference, scratch)
    begun = time.perf_counter()
    run_cell(few, machines.get(few.configuration.machine, few.configuration.chip_seed), reference)
    return time.perf_counter() - begun


def rows_of(study: Study, points: Points, summary: Sequence[dict]) -> list[dict]:
    """A row a machine of the study and threat: options, accuracy over images and over chips; fractions.

    `ci_low` and `ci_high` cover images and chips, `chips_low` and `chips_high` the mean over chips alone (None for
    fewer than two chips). `saturation`, `winner_flips` and `asymmetry` are means over chips of the summary's.
    """
    rows = []
    threats = [("clean", 0.0), *((t.name, float(t.strength)) for t in study.threats_named())]
    options = study.options()
    for place in points_of(study):
        for threat, strength in threats:
            rows.append(_row(place, options, points[str(place.target), threat, strength], summary))
    return rows


def _row(place: Point, options: Sequence[str], seen, summary: Sequence[dict]) -> dict:
    chips = [accuracy for _, accuracy in seen.chips]
    low, high = student(chips) if len(chips) > 1 else (None, None)
    swept = {name: place.options.get(name, place.target.spelled().get(name)) for name in options}
    return {"technology": place.technology, **swept, "machine": str(place.target), "threat": seen.threat,
            "strength": seen.strength, "images": seen.n, "chips": len(chips), "accuracy": seen.accuracy.value,
            "ci_low": seen.accuracy.low, "ci_high": seen.accuracy.high,
            "chips_low": low if low is None else max(0.0, low), "chips_high": high if high is None else min(1.0, high),
            "chip_worst": min(chips, default=None), "chip_best": max(chips, default=None),
            "agreement": seen.agreement, **_circuit(seen, summary)}


def _circuit(seen, summary: Sequence[dict]) -> dict:
    """What the circuit met, mean over chips; None where it has no such thing."""
    own = [r for r in summary if (r["machine"], r["threat"], r["strength"]) == (seen.machine, seen.threat,
                                                                               seen.strength)]
    values = {name: [r[name] for r in own if r[name] is not None]
              for name in ("saturation", "winner_flips", "asymmetry")}
    return {name: float(np.mean(found)) if found else None for name, found in values.items()}


def notes_of(study: Study) -> list[str]:
    """Remarks that a reader of the rows needs: which ages were moved, and how noisy machines were judged."""
    moved = dict.fromkeys(
        f"{p.technology}: age {p.clipped[0]} lies outside its data and was run as {p.clipped[1]}"
        for p in points_of(study) if p.clipped)
    return [*moved, f"accuracy over {study.images} images; 95 % intervals over images and {study.chips} chips; noisy "
            f"machines decide by majority over {study.attack.votes} reads"]
