"""From a finished evaluation to everything that its report shows."""

import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from math import fsum
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from ep_hw.analysis.points import pool
from ep_hw.analysis.rows import Case, SummaryRow
from ep_hw.analysis.worst import Met, WorstCase, worst_cases
from ep_hw.evaluation.cells import Cell, changed_images
from ep_hw.evaluation.checks import Verdict
from ep_hw.evaluation.plan import Outcome, Plan, relaxes
from ep_hw.evaluation.rungs import named, rungs_of
from ep_hw.evaluation.stored_times import stored_times
from ep_hw.evaluation.summary import outcomes_of
from ep_hw.networks.family import EP, KINDS, SEEDS, kind_of
from ep_hw.networks.gains import gains_said, stated_gain
from ep_hw.networks.seeds import same_recipe
from ep_hw.report import Exhibit, GalleryItem, RunRecord
from ep_hw.report.cards import card
from ep_hw.report.entry import Entry, Right
from ep_hw.report.figures.temporal import temporal_charts, temporal_figure
from ep_hw.report.models import Models, models
from ep_hw.report.overview import telling_threat
from ep_hw.report.resources import circuit_table, cost_table, known_costs, resources_of
from ep_hw.threats.threat import CLEAN, Threat
from mapping.program import Program, Table
from simulators.loihi.interpreter import lava_version
from simulators.module import ModuleProgram
from simulators.registry import on_lava

REPORTED_PACKAGES = ("ep-hw", "torch", "numpy", "scipy", "pyautoattack", "pillow")
T = TypeVar("T")
Predictions = dict[tuple[str, int], int]   # machine and image -> its class of the clean one
Taken = tuple[str, Predictions, list[Cell]]   # of one network, machine and threat; see `GalleryItem.network`
GALLERY_ITEMS = 12         # of a machine and threat at most
CHOICE = 4                 # times as many images, at least, that these are chosen from
GALLERY_BYTES = 800_000  # of all pixels together, so that a page stays below 3 MB
BESIDE_ITEMS, BESIDE_BYTES = 6, 400_000   # the same of networks beside the one that was asked


def record_of(plan: Plan, folder: Path, summary: Sequence[SummaryRow], cells: list[Cell], checks: list[Verdict], *,
              command: str, title: str) -> RunRecord:
    """The record of an evaluation, with what is measured besides its cells.

    Args:
        plan: of the evaluation, see `ep_hw.evaluation.naming.shown_plan`; the others by the same names.
        folder: of the run; measurements that are there are not made again.
        summary: its rows.
        cells: its cells.
        checks: what became of the trust checks.
        command: the command line.
        title: heading of the report.
    """
    worst = worst_cases(_images(plan, cells))
    mapping = [table for name in plan.asked.machines for table in _mapping(name, plan.programs[name])]
    circuit = circuit_table([row for row in summary if row["machine"] in plan.asked.machines])
    asked, settings, (taken, reports) = plan.asked, plan.attacks.settings, resources_of(plan)
    return RunRecord(
        title=title, command=command, summary=summary, gallery=gallery(plan, cells),
        mapping=[*_called(plan), *mapping, cost_table(taken), *reports, *circuit], names=_full_names(plan),
        waterfalls=waterfalls(plan), versions=versions(plan),
        seeds={"seed": asked.seed, "chip seeds": f"0 to {asked.chips - 1}",
               "attack settings": settings.model_dump(mode="json")},
        notes=notes(plan, summary), checks=checks, worst=worst, measurements=temporal_exhibits(plan, folder),
        labels=asked.labels, class_names=plan.images.class_names, ensemble=settings.ensemble, baseline=asked.baseline,
        costs=known_costs(taken), cards=cards(plan, summary, worst, checks))


def _full_names(plan: Plan) -> dict[str, str]:
    """What a machine is called -> its full name, where that is another."""
    return {shown: name for name, shown in plan.asked.names.items() if name != shown}


def _called(plan: Plan) -> list[Table]:
    """What the machines are, that are called otherwise."""
    rows = tuple(_full_names(plan).items())
    return [Table("Names of the machines", ("called", "machine"), rows)] if rows else []


def cards(plan: Plan, summary: Sequence[SummaryRow], worst: Sequence[WorstCase],
          checks: list[Verdict]) -> list[tuple[str, dict]]:
    """(file name, content) of the card of each machine of a plan."""
    return [(f"{plan.model}-{name}", card(plan, name, summary, worst, checks, versions(plan)))
            for name in plan.asked.machines]


def cards_of_member(plan: Plan, outcome: Outcome, checks: list[Verdict]) -> list[tuple[str, dict]]:
    """The cards of a member of the family, see `cards`."""
    return cards(plan, outcome[0], worst_cases(_images(plan, outcome[1])), checks)


def compared(plan: Plan, outcome: Outcome, members: Sequence[tuple[str, Plan, Outcome]]) -> Models:
    """A plan's model and the other members of its family: machine by machine, kind by kind over their seeds.

    Args:
        plan: of the model.
        outcome: its summary and cells.
        members: kind, plan and outcome of each, see `ep_hw.networks.family`.
    """
    own, networks = seeds_pooled(plan, outcome, members)
    entries = entries_of(networks, plan.asked.machines)
    absent = dict.fromkeys(f"No {kind} on {machine}: {reason}." for kind, other, _ in members
                           for machine, reason in other.asked.refused.items())
    remarks = [*plan.coverage_notes(), *absent, *feedback_gains([plan, *(other for _, other, _ in members)])]
    return replace(models(plan.model, plan.images.data, entries, plan.attacks.settings.ensemble, remarks), own=own,
                   seconds=seconds_of([outcome, *(one for _, _, one in members)]))


def seeds_pooled(plan: Plan, outcome: T, members: Sequence[tuple[str, Plan, T]]) -> tuple[str, dict[str, list[T]]]:
    """The networks of a family: seeds of one recipe by their kind, those of another recipe by their own names.

    An EP network is the first seed of its family, or stands beside the others where they are as many as the paper's.

    Args:
        plan: of the family's model.
        outcome: of the model.
        members: kind, plan and outcome of each, see `ep_hw.networks.family`.

    Returns:
        What the model is called, and the outcomes of each name.
    """
    first = {kind_of(plan.provenance): plan}
    networks: dict[str, list[T]] = {kind: [] for kind in KINDS.values()}
    for kind, other, one in (member for member in members if member[0] in KINDS.values()):
        alike = other is first.setdefault(kind, other) or same_recipe(first[kind].provenance, other.provenance)
        networks.setdefault(kind if alike else other.model, []).append(one)
    own = EP if kind_of(plan.provenance) == EP and len(networks[EP]) < SEEDS else plan.model
    networks[own] = [outcome, *networks.get(own, [])]
    return own, networks


def seconds_of(outcomes: Iterable[Outcome]) -> float:
    """What all cells of some networks took."""
    return fsum(row["seconds"] for rows, _ in outcomes for row in rows)


def feedback_gains(plans: Iterable[Plan]) -> tuple[str, ...]:
    """The feedback gains of the networks of some plans in a sentence."""
    return gains_said({plan.model: stated_gain(plan.provenance) for plan in plans})


def entries_of(networks: Mapping[str, Sequence[Outcome]], machines: Iterable[str]) -> list[Entry]:
    """The rows of a comparison, machine by machine: of each kind those networks that are on the machine.

    Args:
        networks: outcomes by kind, one a seed.
        machines: names.
    """
    pooled = {kind: [(pool(rows), cells) for rows, cells in ones] for kind, ones in networks.items()}
    return [Entry(kind, machine, tuple(points for points, _ in there),
                  tuple(_right(cells, machine) for _, cells in there))
            for machine in machines for kind, ones in pooled.items()
            if (there := [one for one in ones if (machine, CLEAN) in one[0]])]


def _right(cells: Sequence[Cell], machine: str) -> Right:
    """How often each image is classified rightly on a machine, over its chips: threat by threat, in the plan's order.
    """
    own = outcomes_of([cell for cell in cells if cell.machine == machine])
    return {threat: np.mean(list(chips), axis=0) for (_, threat), chips in own.items()}


def waterfalls(plan: Plan) -> dict[str, list[tuple[str, str]]]:
    """Target -> rungs, for every machine of the plan that has a ladder; a module that joined it brings none."""
    names = plan.asked.names
    targets = {name: plan.programs[name].target for name in plan.asked.machines}
    ladders = {name: [(names.get(rung, rung), cause) for rung, cause in named(rungs_of(target))]
               for name, target in targets.items() if names.get(str(target), str(target)) == name}
    return {name: rungs for name, rungs in ladders.items() if len(rungs) > 1}


def gallery(plan: Plan, cells: list[Cell]) -> list[GalleryItem]:
    """Images behind the accuracies of all machines but rungs on the way, those that were broken first.

    Of machines with chips the first chip, of corruptions the largest severity.
    """
    on_the_way = {rung for rungs in waterfalls(plan).values() for rung, _ in rungs} - {*plan.asked.machines}
    own = [cell for cell in _first_chips(cells) if cell.machine not in on_the_way]
    largest = {kind: max(threat.strength for threat in plan.asked.threats if threat.kind == kind)
               for kind in {threat.kind for threat in plan.asked.threats}}
    shown = [cell for cell in own
             if not cell.threat.is_corruption or cell.threat.strength == largest.get(cell.threat.kind)]
    return _chosen(_behind("", shown), GALLERY_ITEMS, GALLERY_BYTES)


def gallery_beside(own: Sequence[SummaryRow], others: Iterable[tuple[str, Plan, Outcome]]) -> list[GalleryItem]:
    """Images behind the first picture of a page about several networks: of the first network of each kind.

    Args:
        own: rows of the page's own network, which decide the threat of that picture.
        others: kind, plan and outcome of each network beside it.
    """
    first: dict[str, list[Cell]] = {}
    for kind, plan, (_, cells) in others:
        first.setdefault(kind, [cell for cell in _first_chips(cells) if cell.machine in plan.asked.machines])
    met = CLEAN, telling_threat(pool(own))
    return _chosen([one for kind, cells in first.items()
                    for one in _behind(kind, [cell for cell in cells if cell.threat in met])],
                   BESIDE_ITEMS, BESIDE_BYTES)


def _behind(network: str, cells: Sequence[Cell]) -> list[Taken]:
    """The cells behind each accuracy of a network."""
    clean = {(cell.machine, row["image_id"]): row["prediction"] for cell in cells
             if cell.threat == CLEAN for row in cell.read().to_pylist()}
    cases: dict[Case, list[Cell]] = {}
    for cell in cells:
        cases.setdefault((cell.machine, cell.threat), []).append(cell)
    return [(network, clean, some) for some in cases.values()]


def _chosen(taken: Sequence[Taken], most: int, most_bytes: int) -> list[GalleryItem]:
    """As many images of each as fit, `most` at most."""
    bytes_an_image = max((3 * int(np.prod(some[0].images.image_shape)) for *_, some in taken), default=1)
    affordable = most_bytes // bytes_an_image   # each clean, changed, difference
    count, changed = min(most, affordable // max(len(taken), 1)) or 1, Changed()
    return [replace(item, network=network) for network, clean, some in taken[:affordable]
            for item in _items(some, clean, count, changed)]


def temporal_exhibits(plan: Plan, folder: Path) -> list[Exhibit]:
    """Attack time against prediction time for every machine that relaxes, where the plan's suite asks for it."""
    temporal = plan.asked.temporal
    if temporal is None:
        return []
    exhibits = []
    times = stored_times(folder / "temporal", plan.relaxing(), plan.images, temporal, plan.asked.seed, plan.run)
    for name, points in times.items():
        rows = [row for point in points for row in point.rows()]
        alt = "; ".join(f"T = {r['attack_time']}, step {r['steps']}: {r['accuracy']:.3f}" for r in rows)
        exhibits.append(Exhibit(f"{plan.model}-temporal-{name}", name,
                                f"pgd_l2 at {temporal.eps:.3g}, {temporal.iterations} iterations, "
                                f"{len(plan.images)} images.", f"Accuracy of {name}. {alt}.", temporal_figure(points),
                                temporal_charts(points)))
    return exhibits


def versions(plan: Plan) -> dict[str, str]:
    """Versions of what decides the numbers."""
    lava = {"lava-nc": lava_version()} if any(map(on_lava, plan.programs.values())) else {}
    return {"python": platform.python_version(), **{name: version(name) for name in REPORTED_PACKAGES}, **lava}


def notes(plan: Plan, summary: Sequence[SummaryRow]) -> list[str]:
    """Remarks a reader of the numbers needs."""
    votes = f"Noisy machines are judged by majority over {plan.attacks.settings.votes} reads."
    worst = f"White-box results are the worst case for each image over {', '.join(plan.attacks.settings.gradients)}."
    noisy = {name for name, program in plan.programs.items() if program.target.is_noisy}
    late = dict.fromkeys(row["machine"] for row in summary if row["machine"] not in noisy
                         and row["threat"] == CLEAN and row["unconverged"] > 0.01)
    stuck = f"More than 1 % of clean images had not settled when {', '.join(late)} reached the step limit."
    moving = sorted(name for name in noisy if relaxes(plan.programs[name]))
    fixed = f"Read noise never settles: {', '.join(moving)} run a fixed number of steps."
    own = f"Images: {len(plan.images)} of the test split of {plan.images.data}, whose sha256 is {plan.images.sha256}."
    hybrid = f"{plan.model} is a hybrid: equilibrium propagation trained on weights that it had not learnt."
    is_hybrid = plan.provenance.get("recipe", {}).get("kind") == "hybrid"
    return [*([hybrid] if is_hybrid else []), *([own] if plan.images.sha256 else []), worst, votes,
            *([stuck] if late else []), *([fixed] if moving else []), *plan.coverage_notes(),
            *(f"Without {name}: {reason}." for name, reason in plan.asked.refused.items())]


def _mapping(name: str, program: Program | ModuleProgram) -> tuple[Table, ...]:
    if isinstance(program, Program):
        return program.tables()
    table = program.report()   # of a module, which does not know what it is called here
    own = table.title.startswith(f"{name}:")
    return (table if own else replace(table, title=f"{name}: {table.title}"),)


def _images(plan: Plan, cells: Iterable[Cell]) -> Iterator[Met]:
    """Every image of every attack, of the machines that were asked for."""
    for cell in cells:
        if cell.machine in plan.asked.machines and cell.threat.is_attack:
            rows = cell.read().select(["image_id", "label", "prediction"]).to_pylist()
            yield from (Met(cell.machine, cell.configuration.chip_seed, cell.threat, row["image_id"],
                            row["prediction"] == row["label"]) for row in rows)


def _first_chips(cells: Iterable[Cell]) -> list[Cell]:
    return [cell for cell in cells if not cell.configuration.chip_seed]


class Changed:
    """Images as threats left them; corruptions, which are the same on every machine, are made once."""

    def __init__(self):
        self._corrupted: dict[tuple[Threat, str], torch.Tensor] = {}

    def of(self, cell: Cell) -> torch.Tensor:
        """(N, C, H, W) of a finished cell."""
        if cell.threat == CLEAN:
            return cell.images.images
        if cell.threat.is_attack:
            return changed_images(cell)
        key = cell.threat, cell.images.digest
        if key not in self._corrupted:
            self._corrupted[key] = changed_images(cell)
        return self._corrupted[key]


def _items(cells: Sequence[Cell], clean: Predictions, count: int, changed: Changed) -> list[GalleryItem]:
    """So many of the first images of one machine and threat: broken ones, then those that stand."""
    items: list[GalleryItem] = []
    for cell in cells:
        if len(items) < CHOICE * count:
            items += _items_of(cell, clean, changed)
    return sorted(items, key=_stands)[:count]


def _items_of(cell: Cell, clean: Predictions, changed: Changed) -> list[GalleryItem]:
    return [GalleryItem(cell.machine, cell.threat, row["image_id"], row["label"], before.numpy(), after.numpy(),
                        clean.get((cell.machine, row["image_id"])), row["prediction"], row["reference_prediction"],
                        row["norm"], row["broken_by"])
            for row, before, after in zip(cell.read().to_pylist(), cell.images.images, changed.of(cell))]


def _stands(item: GalleryItem) -> int:
    """0 for an image that was broken, 1 for one that stands, 2 for one that was wrong before; clean ones are never."""
    if item.threat != CLEAN and item.clean_prediction not in (item.label, None):
        return 2
    return int(item.adversarial_prediction == item.label)
