"""Running a study: its plan, what it will take, and its rows."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from ep_hw.analysis.points import Point, Points
from ep_hw.analysis.rows import SummaryRow
from ep_hw.analysis.statistics import student
from ep_hw.data.source import DEFAULT_SOURCE, DataSource
from ep_hw.data.splits import Choose
from ep_hw.evaluation.execution import Run
from ep_hw.evaluation.plan import Asked, Attacks, Plan, compile_all, with_sources
from ep_hw.evaluation.rungs import rungs_of
from ep_hw.networks.checkpoint import load
from ep_hw.networks.images import images_for
from ep_hw.studies.order import reversed_rungs_of
from ep_hw.studies.study import Study, swept_machines
from ep_hw.threats.threat import CLEAN
from mapping.labels import shown_names
from mapping.registry import parse
from mapping.targets import REFERENCE, ReferenceTarget, Target
from simulators.registry import check_device


def plan_study(study: Study, *, run: Run | None = None, data_source: DataSource = DEFAULT_SOURCE) -> Plan:
    """Every machine of a study under every threat, and the rungs of its technologies under those that make no images
    of their own for each machine.

    Raises:
        Refusal: an unknown model, machine, option or threat, labels that are not one a machine, or missing
            data.
    """
    run = run or Run()
    check_device(run.device)
    shown_names(map(parse, study.machines))
    net, threats = load(study.model).calibrated(data_source), study.threats_named()
    swept, rungs = [point.target for point in swept_machines(study)], rungs_of_study(study)
    shared = [CLEAN, *(t for t in threats if not t.is_direct)]
    asked = Asked(machines=tuple(map(str, swept)), threats=threats, chips=study.chips, seed=study.seed,
                  extra_pairs=tuple((str(rung), threat) for rung in rungs for threat in shared))
    targets = with_sources([ReferenceTarget(REFERENCE), *swept, *rungs], threats)
    images = images_for(net, "test", data_source, Choose(study.images, study.seed))
    return Plan(model=net.name, images=images, programs=compile_all(net, targets), asked=asked,
                attacks=Attacks(settings=study.attack), run=run)


def rungs_of_study(study: Study) -> list[Target]:
    """The machines of all waterfalls, in both orders."""
    technologies = map(parse, study.machines if study.waterfalls else ())
    return list(dict.fromkeys(target for technology in technologies
                              for rungs in (rungs_of(technology), reversed_rungs_of(technology))
                              for target, _ in rungs))


def rows_of(study: Study, points: Points, summary: Sequence[SummaryRow]) -> list[dict]:
    """A row a machine of the study and threat: options, accuracy over images and over chips; fractions.

    `ci_low` and `ci_high` cover images and chips, `chips_low` and `chips_high` the mean over chips alone (None for
    fewer than two chips). `saturation`, `winner_flips` and `asymmetry` are means over chips of the summary's.
    """
    rows, options, met = [], study.options(), defaultdict(list)
    for n, row in enumerate(summary):
        met[row["machine"], row["threat"]].append(n)
    for place in swept_machines(study):
        machine = str(place.target)
        swept = {name: place.options.get(name, place.target.spelled().get(name)) for name in options}
        rows += [{"technology": place.technology, **swept, "machine": machine,
                  **_row(points[machine, threat], [summary[n] for n in met[machine, threat]])}
                 for threat in (CLEAN, *study.threats_named())]
    return rows


def _row(seen: Point, rows: Sequence[SummaryRow]) -> dict:
    chips = [accuracy for _, accuracy in seen.chips]
    low, high = student(chips) if len(chips) > 1 else (None, None)
    return {"threat": seen.threat, "images": seen.n, "chips": len(chips), "accuracy": seen.accuracy.value,
            "ci_low": seen.accuracy.low, "ci_high": seen.accuracy.high,
            "chips_low": low if low is None else max(0.0, low), "chips_high": high if high is None else min(1.0, high),
            "chip_worst": min(chips, default=None), "chip_best": max(chips, default=None),
            "agreement": seen.agreement, **_circuit(rows)}


def _circuit(chips: Sequence[SummaryRow]) -> dict:
    """What the circuit met, mean over chips; None where it has no such thing."""
    values = {name: [value for r in chips if (value := r[name]) is not None]
              for name in ("saturation", "winner_flips", "asymmetry")}
    return {name: float(np.mean(met)) if met else None for name, met in values.items()}


def notes_of(study: Study) -> list[str]:
    """Remarks that a reader of the rows needs: which ages were moved, and how noisy machines were judged."""
    moved = dict.fromkeys(
        f"{p.technology}: age {p.clipped[0]} lies outside its data and was run as {p.clipped[1]}"
        for p in swept_machines(study) if p.clipped)
    return [*moved, f"accuracy over {study.images} images; 95 % intervals over images and {study.chips} chips; noisy "
            f"machines decide by majority over {study.attack.votes} reads"]
