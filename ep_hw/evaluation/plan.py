"""Evaluation: every machine under every threat, cell by cell, compared with the reference image by image.

    plan -> cells (skipped when present) -> results.parquet, summary.json -> report
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from itertools import pairwise
from pathlib import Path
from typing import TypeGuard

from ep_hw.analysis.results import write_results
from ep_hw.analysis.rows import Summary, SummaryRow
from ep_hw.data.splits import Split
from ep_hw.evaluation.cells import Cell, Configuration, missing
from ep_hw.evaluation.execution import Programs, Run, check_present, runner
from ep_hw.evaluation.progress import Progress
from ep_hw.evaluation.selection import chosen, forget, with_needs
from ep_hw.evaluation.suites import Envelope, Temporal
from ep_hw.evaluation.summary import RESULTS_SCHEMA, summarise
from ep_hw.networks.baselines import Baseline
from ep_hw.networks.network import EPNetwork
from ep_hw.threats.attacks import AttackSettings
from ep_hw.threats.corruptions.official import OfficialSet
from ep_hw.threats.threat import CLEAN, Threat
from ep_hw.versions import code_of
from mapping.errors import Refusal
from mapping.files import check_writable
from mapping.names import in_a_line
from mapping.program import Program
from mapping.registry import parse
from mapping.targets import REFERENCE, Target
from simulators.module import AnyProgram

Pair = tuple[str, Threat]   # a machine's name, and what it meets
Digests = dict[str | Threat, str]   # of programs by machine, and of published images by threat
Case = tuple[str, str]      # a machine's name, and the kind of an attack, whatever its strength


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is asked about a network.

    Attributes:
        machines: names of those under test.
        threats: besides `CLEAN`, which always comes first.
        extra_pairs: beyond every machine under every threat, e.g. the rungs of a waterfall.
        chips: chip seeds 0 .. chips - 1, of machines that have chips.
        seed: of corruptions, attacks and read noise.
        baseline: the machine or other model among the programs that the mCE is relative to.
        temporal: attack times to measure beside the cells, or None.
        envelope: adversarial success to measure beside the cells, or None.
        retrained: whether its noise-trained network stands for it on hardware, so that it is attacked in floats only.
        labels: (attack, strength) -> how published tables name the strength.
        refused: machines that cannot hold the network, or cannot run here, and why.
        names: full name of a machine -> what it is called where it is shown, see `mapping.labels`; all others by their
            full names.
    """

    machines: tuple[str, ...]
    threats: tuple[Threat, ...] = ()
    extra_pairs: tuple[Pair, ...] = ()
    chips: int = 5
    seed: int = 0
    baseline: str = REFERENCE
    temporal: Temporal | None = None
    envelope: Envelope | None = None
    retrained: bool = False
    labels: dict[tuple[str, float], str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How many of the images meet what.

    Attributes:
        image_limits: how many of the images meet an attack on a machine, the first ones and no more than on the
            reference; cases that are not named meet all. Transfers meet what their source made.
        skipped: attacks that are not run on a machine at all.
        probed: images that white-box attacks are probed on, see `ep_hw.evaluation.probes`; 0 for none.
        shard: images in a cell.
    """

    image_limits: dict[Case, int] = field(default_factory=dict)
    skipped: frozenset[Case] = frozenset()
    probed: int = 64
    shard: int = 250


@dataclass(frozen=True, kw_only=True)
class Attacks:
    """How attacks are made.

    Attributes:
        settings: of every attack, and votes on every prediction of a noisy machine.
        settings_overrides: of attacks that are made otherwise, and of transfers of their images.
        joined: whether white boxes try last what the same attack made on the other machines.
    """

    settings: AttackSettings = field(default_factory=AttackSettings)
    settings_overrides: dict[Threat, AttackSettings] = field(default_factory=dict)
    joined: bool = False


@dataclass(frozen=True, eq=False, kw_only=True)
class Plan:
    """One evaluation, decided before anything runs.

    Attributes:
        model: the network's name in the results.
        provenance: what the model says of itself.
        images: the images to use, in order.
        programs: machine name -> compiled program, `reference` first.
        official: where published corruptions are read, None where no threat is one.
        asked: of which machines, under which threats.
        limits: how many of the images meet what.
        attacks: how attacks are made.
        run: where the cells run.
        before: the plan whose attacks those of this one go on from, each at its own strength; None where attacks go on
            from their next smaller strength.
    """

    model: str
    images: Split
    programs: dict[str, AnyProgram]
    asked: Asked
    provenance: dict = field(default_factory=dict)
    official: OfficialSet | None = None
    limits: Limits = field(default_factory=Limits)
    attacks: Attacks = field(default_factory=Attacks)
    run: Run = field(default_factory=Run)
    before: "Plan | None" = None

    def __repr__(self):
        machines, threats = self.asked.machines, (CLEAN, *self.asked.threats)
        return in_a_line(self, f"of {self.model} on {', '.join(machines)} under {', '.join(map(str, threats))}: "
                               f"{len(self.images)} images, up to {self.asked.chips} chips")

    def relaxing(self) -> dict[str, Program]:
        """Name -> program of the machines under test that relax: a feed-forward network has no time."""
        return {name: program for name in self.asked.machines if relaxes(program := self.programs[name])}

    def without(self, absent: Mapping[str, str]) -> "Plan":
        """The same plan but for machines that are not there: name -> why."""
        asked, here = self.asked, {name: p for name, p in self.programs.items() if name not in absent}
        return replace(self, programs=here, asked=replace(
            asked, machines=tuple(name for name in asked.machines if name in here),
            threats=tuple(threat for threat in asked.threats if threat.source not in absent),
            extra_pairs=tuple((name, t) for name, t in asked.extra_pairs if name in here and t.source not in absent),
            refused={**asked.refused, **{name: why for name, why in absent.items() if name in self.programs}}))

    def showing(self, progress: Progress) -> "Plan":
        """The same plan; `progress` hears of every cell."""
        return replace(self, run=replace(self.run, progress=progress))

    def pairs(self) -> list[Pair]:
        """(machine, threat) in running order: the sources of images before those who take them."""
        asked = self.asked
        wanted = [*((m, t) for m in asked.machines for t in (CLEAN, *asked.threats)), *asked.extra_pairs]
        sources = [(t.source or REFERENCE, Threat(t.kind, t.strength)) for _, t in wanted if t.source or t.is_white_box]
        sources += [(REFERENCE, t) for _, t in sources if t.is_white_box]
        ordered = [(m, t) for m, t in dict.fromkeys([(REFERENCE, CLEAN), *sources, *wanted])
                   if m != t.source  # an attack on itself is no transfer
                   and (t.source or (m, t.kind) not in self.limits.skipped)]
        return sorted(ordered, key=lambda pair: (pair[1].source is not None, pair[0] != REFERENCE))

    def begun(self, machine: str, threat: Threat) -> "tuple[Plan, Threat] | None":
        """What an attack on a machine goes on from: its next smaller strength, or itself as an earlier plan has it."""
        if self.before is not None:
            known = threat.strength in self.before.strengths.get((machine, threat.kind), ())
            return (self.before, threat) if known and threat not in self.attacks.settings_overrides else None
        own = self.strengths.get((machine, threat.kind), []) if threat.is_direct else []
        smaller = [strength for strength in own if 0 < strength < threat.strength]
        return (self, replace(threat, strength=max(smaller))) if smaller else None

    def black_box(self, machine: str, threat: Threat) -> Threat | None:
        """What an attack on a machine asks last, where it is asked for itself: of the same images, as hard."""
        kind = threat.attack.black_box if threat.is_direct else None
        if kind is None or threat.strength not in self.strengths.get((machine, kind), ()):
            return None
        last, known = replace(threat, kind=kind), self.attacks.settings_overrides
        alike = self.shards(machine, last) == self.shards(machine, threat) and known.get(last) == known.get(threat)
        return last if alike else None

    @cached_property
    def strengths(self) -> dict[Case, list[float]]:
        """Of every attack on a machine."""
        found: dict[Case, list[float]] = {}
        for machine, threat in self.pairs():
            if threat.is_direct:
                found.setdefault((machine, threat.kind), []).append(threat.strength)
        return found

    def others(self, machine: str, threat: Threat) -> list[str]:
        """Machines whose images of a white box are tried on another machine: those that meet all that it meets.

        What was made on the reference is the last attempt of every attack, and needs no mention.
        """
        joined = self.asked.machines if self.attacks.joined and threat.is_white_box else ()
        return [name for name in joined if name not in (machine, REFERENCE)
                and (name, threat.kind) not in self.limits.skipped
                and self._met(name, threat.kind) >= self._met(machine, threat.kind)]

    def _met(self, machine: str, kind: str) -> int:
        """How many of the images meet a threat of some kind on a machine."""
        return min(self.limits.image_limits.get((machine, kind), len(self.images)), len(self.images))

    def shards(self, machine: str, threat: Threat) -> list[Split]:
        """The images that meet a threat on a machine, in order, a cell each; cut alike on every machine."""
        met, shard = self._met(threat.source or machine, threat.kind), self.limits.shard
        cuts = {len(self.images), *(self._met(*case) for case in self.limits.image_limits if case[1] == threat.kind)}
        cuts |= {self.probed()} if threat.is_attack and threat.attack.ascends else set()
        return [self._cut(start, min(start + shard, end)) for first, end in pairwise([0, *sorted(cuts)])
                if end <= met for start in range(first, end, shard)]

    def probed(self) -> int:
        """How many of the images attacks are probed on, the first ones."""
        return min(self.limits.probed, *self.limits.image_limits.values(), len(self.images))

    def coverage_notes(self) -> list[str]:
        """What is not run in full, in words."""
        met: dict[str, dict[str, int]] = {}
        for (machine, kind), count in self.limits.image_limits.items():
            if (machine, kind) not in self.limits.skipped:
                met.setdefault(kind, {})[machine] = count
        limited = [f"{kind} met the first {', '.join(f'{n} ({machine})' for machine, n in counts.items())} of "
                   f"{len(self.images)} images." for kind, counts in met.items()]
        skipped = [f"{kind} was not run on {machine} (too dear for the budget)."
                   for machine, kind in sorted(self.limits.skipped)]
        return limited + skipped

    @cached_property
    def code(self) -> Callable[[str, Threat], dict[str, int | str]]:
        """Versions of the code that makes the cells of a threat on a machine, alike for all chips."""
        return cache(lambda name, threat: code_of([self.programs[name], self.programs[REFERENCE]], threat))

    @cached_property
    def _cut(self) -> Callable[[int, int], Split]:
        """Images from start to stop; the same object for the same places, so that it is hashed once."""
        return cache(lambda start, stop: self.images.take(slice(start, stop)))


def relaxes(program: AnyProgram) -> TypeGuard[Program]:
    """Whether a program's machine relaxes: modules and feed-forward graphs answer in one pass."""
    return isinstance(program, Program) and program.graph.has_feedback


def compile_all(net: EPNetwork | Baseline, targets: Iterable[Target],
                compiled: Mapping[str, AnyProgram] | None = None) -> dict[str, AnyProgram]:
    """name -> program of every target, in their order; those that are `compiled` are used as they are."""
    targets, compiled = list(dict.fromkeys(targets)), compiled or {}
    new = net.programs([target for target in targets if str(target) not in compiled])
    return {name: compiled.get(name) or new[name] for name in map(str, targets)}


def with_sources(targets: Iterable[Target], threats: Iterable[Threat]) -> list[Target]:
    """The targets once each, then the machines that transferred images are made on."""
    known = {str(target): target for target in targets}
    sources = dict.fromkeys(threat.source for threat in threats if threat.source)
    return [*known.values(), *(parse(source) for source in sources if source not in known)]


def cells_of(plan: Plan, folder: Path) -> list[Cell]:
    """Every cell of a plan, sources of transfers before their targets; last those that are only parts of others."""
    digests: Digests = {name: program.digest() for name, program in plan.programs.items()}
    published = [t for t in dict.fromkeys(threat for _, threat in plan.pairs()) if t.is_official]
    digests |= {t: plan.official.digest(t.corruption, int(t.strength), plan.images)
                for t in published if plan.official is not None}
    place = folder / "cells"
    cells = (Cell(configuration, shard, place, plan.official, names=plan.asked.names)
             for name, threat in plan.pairs() for shards in [plan.shards(name, threat)]
             for configuration in _configurations(plan, name, threat, digests) for shard in shards)
    shown = {cell.stem: cell for cell in cells}
    parts = {part.stem: part for cell in shown.values() for part in (
        [cell.begun] if plan.before and cell.configuration.begun else cell.joined)}
    return list((shown | {stem: part for stem, part in parts.items() if stem not in shown}).values())


def keys(plans: Iterable[Plan]) -> list[str]:
    """The keys of all configurations of some plans: whatever decides an answer, but for the images, is in them."""
    return list(dict.fromkeys(cell.configuration.key for plan in plans for cell in cells_of(plan, Path())))


def chips_of(plan: Plan, name: str) -> Sequence[int | None]:
    """Chip seeds of a machine; [None] where it has no chips."""
    return plan.programs[name].chip_seeds(plan.asked.chips)


Outcome = tuple[Sequence[SummaryRow], list[Cell]]   # rows of the summary, as in summary.json, and the cells


def evaluate(plan: Plan, folder: str | Path) -> Outcome:
    """Run what is missing of a plan and write `results.parquet` and `summary.json`.

    Raises:
        Refusal: the folder cannot be written, or a machine cannot be opened.
    """
    return evaluate_all([(plan, folder)])[0]


def evaluate_all(parts: Sequence[tuple[Plan, str | Path]]) -> list[Outcome]:
    """`evaluate` for several models, each into a folder of its own, shared out to the same workers.

    Args:
        parts: plans whose models have different names; all run where the first one does.

    Raises:
        Refusal: see `evaluate`.
    """
    cells = {Path(folder): _cells_in(plan, Path(folder)) for plan, folder in parts}
    every = [cell for own in cells.values() for cell in own]
    programs, run = {plan.model: plan.programs for plan, _ in parts}, parts[0][0].run
    shown = {folder: [cell for cell in own if cell.shown] for folder, own in cells.items()}
    _run_missing(every, programs, run, missing(every))
    try:
        return [(_collect(own, folder), own) for folder, own in shown.items()]
    except Refusal:
        if not _run_missing(every, programs, run, [cell for cell in every if not cell.done()]):
            raise
    return [(_collect(own, folder), own) for folder, own in shown.items()]


def evaluate_some(parts: Sequence[tuple[Plan, str | Path]], only: Sequence[str], again: Sequence[str]) -> int | None:
    """Make some parts of an evaluation: those of `again` anew, and of what is missing those of `only`.

    Args:
        parts: see `evaluate_all`.
        only: names of parts, see `ep_hw.evaluation.selection`; where there are none the rest is left to `evaluate_all`.
        again: alike, of parts that are computed once more.

    Returns:
        How many cells are still missing; None where nothing was made, as there is no `only`.

    Raises:
        Refusal: a name that means no part, or see `evaluate`.
    """
    every = [cell for plan, folder in parts for cell in _cells_in(plan, Path(folder))]
    wanted = with_needs(chosen(every, only, "--only"))
    forget(chosen(every, again, "--again"))
    if not only:
        return None
    _run_missing(wanted, {plan.model: plan.programs for plan, _ in parts}, parts[0][0].run, missing(wanted))
    return len(missing(every))


def check_some(parts: Sequence[tuple[Plan, str | Path]], only: Sequence[str], again: Sequence[str]):
    """Refuse a name of `evaluate_some` that means no part."""
    every = [cell for plan, folder in parts for cell in cells_of(plan, Path(folder))] if only or again else []
    chosen(every, only, "--only")
    chosen(every, again, "--again")


def _run_missing(cells: list[Cell], programs: Programs, run: Run, gone: list[Cell]) -> int:
    """Run the cells that are gone, those that others take images from before them; how many these were.

    What such a cell takes images from is looked at as a whole; of the others, reading finds what is damaged.
    """
    needed = {cell.stem for cell in with_needs(gone)}
    asked = [cell for cell in cells if cell.stem in needed and not cell.done()] if needed else []
    check_present((programs[c.model][c.machine] for c in (cell.configuration for cell in asked)), run)
    finished = len(cells) - len(asked)
    with runner(programs, replace(run, jobs=min(run.jobs, max(1, len(asked))))) as run_cells:
        for depth in sorted({cell.configuration.depth for cell in asked}):
            for cell in run_cells([cell for cell in asked if cell.configuration.depth == depth]):
                finished += 1
                run.progress(cell, finished, len(cells))
    return len(asked)


def _cells_in(plan: Plan, folder: Path) -> list[Cell]:
    check_writable(folder)
    return cells_of(plan, folder)


def _configurations(plan: Plan, name: str, threat: Threat, digests: Digests) -> Iterator[Configuration]:
    """Of the cells of a threat on a machine, chip by chip."""
    first, *others = chips_of(plan, name)
    yield (own := _configuration(plan, name, threat, first, digests))
    if own.begun or own.black_box or own.joined:   # by others on the same chip
        yield from (_configuration(plan, name, threat, chip, digests) for chip in others)
    else:
        yield from own.on_chips(chip for chip in others if chip is not None)


def _configuration(plan: Plan, name: str, threat: Threat, chip: int | None, digests: Digests) -> Configuration:
    """Of the cells of a threat on a machine, put together from those of others where white boxes are joined."""
    own = _alone(plan, name, threat, chip, digests)
    others = [_alone(plan, other, threat, chips_of(plan, other)[0], digests) for other in plan.others(name, threat)]
    return replace(own, source=None, joined=(own, *others)) if others else own


def _alone(plan: Plan, name: str, threat: Threat, chip: int | None, digests: Digests) -> Configuration:
    """What makes a cell without the images of machines other than the reference; see `_configuration`."""
    made_on = REFERENCE if threat.is_white_box and name != REFERENCE else threat.source
    source, made = None, Threat(threat.kind, threat.strength)
    if made_on:  # adversarial images come from the source's first chip
        source = _alone(plan, made_on, made, chips_of(plan, made_on)[0], digests)
    begun, last = plan.begun(name, threat), plan.black_box(name, threat)
    settings = plan.attacks.settings_overrides.get(made, plan.attacks.settings) if threat.is_attack else None
    return Configuration(model=plan.model, dataset=plan.images.data, machine=name, program=digests[name],
                         reference=digests[REFERENCE], code=plan.code(name, threat), threat=threat, chip_seed=chip,
                         seed=plan.asked.seed, settings=settings, votes=plan.attacks.settings.votes,
                         device=plan.run.device, source=source, published=digests.get(threat),
                         data_sha256=plan.images.sha256,
                         begun=begun and _alone(begun[0], name, begun[1], chip, digests),
                         black_box=None if last is None else _alone(plan, name, last, chip, digests))


def _collect(cells: list[Cell], folder: Path) -> Summary:
    return write_results(folder, RESULTS_SCHEMA, summarise(cells))
