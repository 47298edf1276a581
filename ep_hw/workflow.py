"""From a model's name to a finished report: the main path of `ep-hw evaluate` and `ep-hw demo`.

    load -> lower -> compile -> plan -> evaluate -> check -> report
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import torch

import simulators
from ep_hw.data.registry import data_set
from ep_hw.data.source import DEFAULT_SOURCE, BaseDataset, DataSource
from ep_hw.data.splits import Split
from ep_hw.evaluation.cells import missing
from ep_hw.evaluation.checks import Verdict, verdicts
from ep_hw.evaluation.cluster import Cluster
from ep_hw.evaluation.envelope import Met, Platform, attacks_of, outcomes_of
from ep_hw.evaluation.execution import Run, check_present
from ep_hw.evaluation.folders import Question, claimed, folder_for
from ep_hw.evaluation.kept import measure_missing
from ep_hw.evaluation.matched_noise import noises_of
from ep_hw.evaluation.naming import called, shown_plan, shown_rows, shown_verdicts
from ep_hw.evaluation.plan import (
    Asked,
    Attacks,
    Outcome,
    Pair,
    Plan,
    cells_of,
    compile_all,
    evaluate_all,
    keys,
    with_sources,
)
from ep_hw.evaluation.probes import probe
from ep_hw.evaluation.progress import progress
from ep_hw.evaluation.rungs import rungs_of
from ep_hw.evaluation.suites import BARE, Request, Suite
from ep_hw.evaluation.suites import suite as suite_of
from ep_hw.networks.baselines import Baseline
from ep_hw.networks.checkpoint import load, packaged_models
from ep_hw.networks.family import (
    FOLDER,
    Member,
    kind_of,
    members,
    noise_trained,
    one_of_each,
    protocol_members,
)
from ep_hw.networks.gains import stated_gain
from ep_hw.networks.network import EPNetwork
from ep_hw.networks.own import network_of_module
from ep_hw.networks.programs import (
    check_same_data,
    named_programs,
    network_and_images,
    programs_of,
    reference_of,
)
from ep_hw.report import write_report
from ep_hw.report.answers import Results
from ep_hw.report.contents import cards_of_member, compared, gallery_beside, record_of
from ep_hw.report.envelopes import Measured, envelopes
from ep_hw.report.record import Envelopes
from ep_hw.threads import threads
from ep_hw.threats.attacks import AttackSettings
from ep_hw.threats.corruptions.official import OfficialSet
from ep_hw.threats.corruptions.photographs import frost_photographs
from ep_hw.threats.registry import ATTACKS
from ep_hw.threats.threat import CLEAN, Threat
from mapping.errors import Refusal
from mapping.fields import check_named
from mapping.labels import shown_names
from mapping.program import Program
from mapping.registry import REGISTRY, parse
from mapping.targets import REFERENCE, ReferenceTarget, Target
from simulators.module import AnyProgram, Interface, ModuleMachine, ModuleProgram
from simulators.registry import check_device, on_lava


def evaluate(model: str | EPNetwork | Baseline | torch.nn.Module, *, on: Sequence[str] | None = None,
             threats: Iterable[str | Threat] = (), suite: str = "",
             images: int | None = None, chips: int | None = None, seed: int = 0,
             settings: AttackSettings | None = None, data: BaseDataset | str | None = None,
             data_root: str | Path | None = None, download: bool = False, alone: bool = False,
             out: str | Path | None = None, jobs: int = 1, cluster: str = "", device: str = "cpu") -> Results:
    """What `ep-hw evaluate` does, with the same names.

    Args:
        model: a packaged name or a checkpoint file; or a network, or any module from images in [0, 1] to logits, which
            needs `data`.
        on: machines, as "crossbar:pcm[age=1d]", or folders of compiled programs; those usual for the model if None.
        threats: as "pgd_l2@0.5" or "jpeg_compression@3".
        suite: threats and settings by name.
        images: how many test images, drawn by `seed`.
        chips: how many of each machine that has chips.
        seed: of images, corruptions, attacks and read noise.
        settings: of the attacks; those of the suite if None.
        data: a data set of your own, or the name or path of one; that of the model if None.
        data_root: folder of data sets.
        download: fetch a missing data set from where it was published.
        alone: without the networks that were trained beside a packaged model.
        out: folder to write into, the same question goes on there; a new one named by model and time if None.
        jobs: processes that share out the cells; they import the main module of a script.
        cluster: Dask workers in place of jobs, as "local:4", "tcp://HOST:PORT" or a TOML file of a batch system.
        device: "cpu" or "cuda".

    Raises:
        Refusal: any of these is unknown; see `plan_evaluation`.
    """
    source = DataSource(data_root, download, data_set(data) if isinstance(data, str) else data)
    model = _of_module(model, source.data) if isinstance(model, torch.nn.Module) else model
    chosen = suite_of(suite) if suite else BARE
    named = [called(threat, on) if isinstance(threat, str) else threat for threat in threats]
    request = Request(on, named, chosen, images, chips, seed, settings)
    with Cluster(cluster) if cluster else nullcontext() as workers:
        plan = plan_evaluation(model, request, data_source=source, run=Run(device=device, jobs=jobs, cluster=workers))
        others = family_plans(plan, beside(model, plan, chosen, alone) if isinstance(model, str) else (), source)
        asked = [len(plan.images), *keys([plan, *(other for _, other in others)])]
        question = Question.of(f"ep_hw.evaluate({plan.model!r}, ...)", asked, plan.images.digest)
        folder = out or folder_for("evaluate", plan.model, lambda: question, datetime.now())
        with progress("evaluating") as show:
            return run(plan.showing(show), folder, command=question.command, title=title_of(plan), others=others,
                       question=question)


def _of_module(module: torch.nn.Module, data: BaseDataset | None) -> Baseline:
    """A module as a model, of the images and classes of its data."""
    if data is None:
        raise Refusal("no data for the module", where=type(module).__name__, got="data=None",
                      allowed="a data set, or the name or path of one", remedy="give data")
    return network_of_module(module, data.image_shape, data.classes, name=type(module).__name__)


def beside(model: str, plan: Plan, suite: Suite, alone: bool = False) -> tuple[Member, ...]:
    """The networks that a suite evaluates beside the model of a plan.

    Args:
        model: as it was named.
        plan: of its evaluation.
        suite: that was asked for.
        alone: none but those that the suite's protocol needs.
    """
    names = list(packaged_models())
    if suite.envelope:
        return protocol_members(model, kind_of(plan.provenance), names, alone)
    family = members(model, names)
    return () if alone else family if suite.of_families else one_of_each(family)


def plan_evaluation(model: str | EPNetwork | Baseline, request: Request, *,
                    data_source: DataSource = DEFAULT_SOURCE, run: Run | None = None) -> Plan:
    """Everything an evaluation will do, decided before anything runs.

    Each white-box attack is joined by its transfer from the reference, so that adaptive and transfer attackers stand
    side by side; each machine by the rungs that lead to it, on clean and on transferred images, and under attacks of
    their own where these are to be explained.

    Args:
        model: a packaged name, a checkpoint file or a network.
        request: which images, machines and threats.
        data_source: where the images lie.
        run: where the cells will run.

    Raises:
        Refusal: any of these is unknown, or a program was compiled from another network.
    """
    suite, run = request.suite, run or Run()
    check_device(run.device)
    net, test = network_and_images(model, request.images or suite.images, request.seed, data_source)
    tested = named_programs(net, request.machines or suite.machines or net.machines)
    names = shown_names(program.target for program in tested.values())
    explained = (*suite.explained, *request.explained)
    threats = _with_transfers((*suite.threats, *request.threats, *explained))
    _check_possible(threats, tested)
    against, other = _baseline(request.baseline, net, tested, names)
    pairs = [*request.extra_pairs, *_rung_pairs(tested, threats, explained)]
    named = [*((str(target), threat) for target, threat in pairs), *_baseline_pairs(other, threats)]
    targets = [ReferenceTarget(REFERENCE), *(program.target for program in tested.values()), *(t for t, _ in pairs)]
    return Plan(
        model=net.name, provenance=net.provenance, images=test, official=_official(threats, test, data_source), run=run,
        programs={**compile_all(net, with_sources(targets, threats), tested), **other},
        asked=Asked(machines=tuple(dict.fromkeys([REFERENCE, *tested])), threats=threats,
                    extra_pairs=tuple(dict.fromkeys(named)), chips=request.chips or suite.chips, seed=request.seed,
                    baseline=against, temporal=suite.temporal, labels=suite.labels, names=names,
                    envelope=suite.envelope, retrained=_has_noise_trained(net.name)),
        attacks=Attacks(settings=request.settings or suite.settings, joined=True))


def _with_transfers(threats: Iterable[Threat]) -> tuple[Threat, ...]:
    """The threats once each, then each white box as it was made on the reference."""
    threats = tuple(dict.fromkeys(threats))
    return tuple(dict.fromkeys([*threats, *(replace(t, source=REFERENCE) for t in threats if t.is_white_box)]))


def _rung_pairs(tested: dict[str, AnyProgram], threats: Iterable[Threat],
                explained: Iterable[Threat]) -> list[tuple[Target, Threat]]:
    """The rungs that lead to each machine, under every threat that makes no images of its own there, and explained."""
    traced = [CLEAN, *(threat for threat in threats if threat.source), *explained]
    return [(rung, threat) for program in tested.values() for rung, _ in rungs_of(program.target) for threat in traced]


def _baseline_pairs(other: Iterable[str], threats: Iterable[Threat]) -> list[Pair]:
    """Another model that the mCE is relative to, under all that is no attack."""
    return [(name, threat) for name in other for threat in (CLEAN, *threats) if not threat.is_attack]


def with_module(plan: Plan, name: str, module: torch.nn.Module | ModuleProgram) -> Plan:
    """The plan with one more machine, which meets every threat that the others meet.

    Args:
        name: of the machine in the results.
        module: images (B, C, H, W) in [0, 1] to logits, or a program of one (see `simulators.crossbar.tiled`).

    Raises:
        Refusal: the name means another machine or is none, or the module cannot be one (see `ModuleMachine`).
    """
    check_named(name, "module")
    if name in plan.programs or name.partition("[")[0] in REGISTRY:
        raise Refusal("the name means another machine", where="module", got=name, allowed="a name of its own",
                      remedy="call it something else")
    reference = plan.programs[REFERENCE]
    network = reference.graph if isinstance(reference, Program) else reference.interface
    own = Interface(network.image_shape, network.classes)
    joined = module if isinstance(module, ModuleProgram) else ModuleProgram(module, own)
    if joined.interface != own:
        raise Refusal("a program for other images or classes", where=name, got=joined.interface, allowed=own,
                      remedy="record the module on images of this data set")
    machine = simulators.open(joined, device=plan.run.device) if joined is module else ModuleMachine(
        joined.module, own.image_shape, own.classes, name, plan.run.device)
    if not machine.differentiable and (blind := [str(t) for t in plan.asked.threats if t.is_white_box]):
        raise Refusal("the module carries no gradient back to its images", where=name, got=", ".join(blind),
                      allowed=", ".join([*(name for name, attack in ATTACKS.items() if attack.access == "black box"),
                                         "corruptions"]),
                      remedy="let gradients flow: no detach(), numpy() or no_grad() on the way")
    return replace(plan, programs={**plan.programs, name: joined},
                   asked=replace(plan.asked, machines=(*plan.asked.machines, name)))


@threads(1)
def run(plan: Plan, out: str | Path, *, command: str, title: str, others: Sequence[tuple[Member, Plan]] = (),
        question: Question | None = None) -> Results:
    """Evaluate a plan into `out`, check it and write its report.

    Args:
        command: the command line that asks for it.
        title: of the report.
        others: members of the model's family, evaluated beside it into out/family/NAME and compared in the report;
            their failed checks join its own.
        question: what `out` belongs to; the plans themselves if None.

    Raises:
        Refusal: the folder belongs to another question, or a machine cannot be opened; where that is for want of
            Lava's interpreter, which is said first, all else goes on.
    """
    out = Path(out)
    gone = absent(parts_of(plan, out, others))
    asked = question or Question.of(command, keys([plan, *(other for _, other in others)]), plan.images.digest)
    with claimed(out, asked):
        return _answer(plan.without(gone), out, [(member, other.without(gone)) for member, other in others], command,
                       title)


def _answer(plan: Plan, out: Path, others: Sequence[tuple[Member, Plan]], command: str, title: str) -> Results:
    """What `run` does once the folder is its own."""
    parts, family = parts_of(plan, out, others), [other for _, other in others]
    found = evaluate_all(parts)
    own, *theirs = _checked(parts, found)
    checks = own + [replace(verdict, machine=f"{other.model} on {verdict.machine}")
                    for other, more in zip(family, theirs) for verdict in more]
    shown, *family_shown = map(shown_plan, (plan, *family))
    outcomes = [(shown_rows(rows, part.asked.names), cells) for (part, _), (rows, cells) in zip(parts, found)]
    record = replace(record_of(shown, out, *outcomes[0], checks, command=command, title=title),
                     envelopes=measure_envelopes(plan, out, others))
    for other, outcome, more in zip(family_shown, outcomes[1:], theirs):
        record.cards.extend(cards_of_member(other, outcome, more))
    members = [(member.kind, other, outcome)
               for (member, _), other, outcome in zip(others, family_shown, outcomes[1:])]
    record.gallery.extend(gallery_beside(outcomes[0][0], members))
    write_report(out, record, compared(shown, outcomes[0], members) if members else None)
    flags = [flag for verdict in checks for flag in verdict.flags]
    (summary, _), *rest = found
    return Results(plan.model, out, summary, flags, plan.images, {
        other.model: Results(other.model, out / FOLDER / other.model, rows, [], other.images)
        for other, (rows, _) in zip(family, rest)}, record.envelopes)


def parts_of(plan: Plan, out: Path, others: Sequence[tuple[Member, Plan]] = ()) -> list[tuple[Plan, Path]]:
    """The plans of a model and of its family, each with the folder that it is evaluated into."""
    return [(plan, out), *((other, out / FOLDER / other.model) for _, other in others)]


def absent(parts: Sequence[tuple[Plan, Path]]) -> dict[str, str]:
    """Machines that have cells to make and cannot run here, those on Lava without an interpreter, and why; it is said.

    Of a cluster those workers are asked that have joined it.

    Args:
        parts: plans and their folders, the model's own first.

    Raises:
        Refusal: nothing is left beside the reference, or the baseline is among them.
    """
    lava = {name for plan, _ in parts for name, program in plan.programs.items() if on_lava(program)}
    try:
        check_present((plan.programs[cell.configuration.machine] for plan, folder in parts if lava
                       for cell in missing(cells_of(plan, folder)) if cell.configuration.machine in lava),
                      parts[0][0].run)
    except Refusal as absence:
        asked = parts[0][0].asked
        if asked.baseline in lava or {*asked.machines} <= {REFERENCE, *lava}:
            raise
        logging.getLogger(__name__).warning("%s left out: %s", ", ".join(sorted(lava)), absence)
        return dict.fromkeys(sorted(lava), str(absence))
    return {}


def measure_envelopes(plan: Plan, out: Path, others: Sequence[tuple[Member, Plan]] = ()) -> Envelopes | None:
    """Adversarial success of a plan's model and of the members beside it; None where the plan does not ask for it.

    What `out` holds is not measured again.
    """
    if plan.asked.envelope is None:
        return None
    networks = [(kind_of(plan.provenance), plan), *((member.kind, other) for member, other in others)]
    asked = [(kind, own, attacks_of(own, out), noises_of(own, out)) for kind, own in networks]
    measure_missing([one for _, _, attacks, noises in asked
                     for one in (*noises, *(one for _, tries in attacks for one in tries))], plan.run)
    return envelopes([Measured(kind, own.model, _called(outcomes_of(attacks), plan.asked.names),
                               [noise.read() for noise in noises], stated_gain(own.provenance))
                      for kind, own, attacks, noises in asked])


def _called(outcomes: Mapping[Platform, list[Met]], names: Mapping[str, str]) -> dict[Platform, list[Met]]:
    """Outcomes of platforms by what their machines are called."""
    return {replace(platform, machine=names.get(platform.machine, platform.machine)): met
            for platform, met in outcomes.items()}


def title_of(plan: Plan) -> str:
    """The title of a plan's report."""
    return f"{plan.model} on {', '.join(shown_plan(plan).asked.machines)}"


def _checked(parts: Sequence[tuple[Plan, Path]], outcomes: Sequence[Outcome]) -> list[list[Verdict]]:
    """The trust checks of every part: those of its summary, then its probes; machines by what they are called."""
    probed = probe([(plan, folder, cells) for (plan, folder), (_, cells) in zip(parts, outcomes)])
    return [[*verdicts(shown_rows(rows, plan.asked.names)), *shown_verdicts(more, plan.asked.names)]
            for (plan, _), (rows, _), more in zip(parts, outcomes, probed)]


def family_plans(plan: Plan, members: Iterable[Member],
                 data_source: DataSource = DEFAULT_SOURCE) -> list[tuple[Member, Plan]]:
    """The same evaluation of each member of a family: same machines, images, threats and settings.

    A machine that cannot hold a member, as Loihi no transformer, is left out of its plan and says why in its notes.

    Raises:
        Refusal: a member that was trained on other data.
    """
    return [(member, _member_plan(plan, load(member.model).calibrated(data_source))) for member in members]


def _member_plan(plan: Plan, net: EPNetwork | Baseline) -> Plan:
    check_same_data(net, plan.provenance["data"]["name"])
    programs: dict[str, AnyProgram] = {REFERENCE: reference_of(net)}
    refused: dict[str, str] = {}
    for name in plan.asked.machines:
        try:
            programs.setdefault(name, net.programs([plan.programs[name].target])[name])
        except Refusal as reason:
            refused[name] = reason.what
    threats = tuple(threat for threat in plan.asked.threats if threat.source is None or threat.source in programs)
    return replace(plan, model=net.name, provenance=net.provenance, programs=programs,
                   asked=replace(plan.asked, machines=tuple(programs), threats=threats, refused=refused, extra_pairs=(),
                                 temporal=None, retrained=_has_noise_trained(net.name), baseline=REFERENCE))



def _has_noise_trained(model: str) -> bool:
    return noise_trained(model, packaged_models()) is not None


def _baseline(name: str, net: EPNetwork | Baseline, tested: dict[str, AnyProgram],
              names: Mapping[str, str]) -> tuple[str, dict[str, AnyProgram]]:
    """What the results call the baseline, and its program where it is another model.

    Raises:
        Refusal: neither a machine of this evaluation nor a model of its data.
    """
    name = next((full for full, shown in names.items() if shown == name), name)
    if name.partition("[")[0] in REGISTRY:
        if (machine := name if name == REFERENCE else str(parse(name))) in (REFERENCE, *tested):
            return machine, {}
        raise Refusal("the baseline is not evaluated", where="--baseline", got=name,
                      allowed=", ".join(dict.fromkeys([REFERENCE, *tested])),
                      remedy="add it with --on, or name another model")
    other = programs_of(net, [], [name])
    return next(iter(other)), other


def _check_possible(threats: Sequence[Threat], tested: dict[str, AnyProgram]):
    """Refuse now what would be refused when its cell is reached.

    Raises:
        Refusal: frost without its photographs, or an attack that does not clip on a machine with inputs of hardware.
    """
    if any(t.kind == "frost" for t in threats):   # published frost brings its own
        frost_photographs()
    closed = [name for name, program in tested.items() if not isinstance(program.target, ReferenceTarget)]
    for threat in threats:
        if threat.is_unclipped and closed:
            raise Refusal("pixels outside [0, 1] cannot be shown to hardware", where=str(threat),
                          got=", ".join(closed), allowed=REFERENCE, remedy="evaluate it with --on reference alone")


def _official(threats: Sequence[Threat], test: Split, data_source: DataSource) -> OfficialSet | None:
    """The published set that threats read, tried on one image of each; None where they read none.

    Raises:
        Refusal: see `OfficialSet`.
    """
    published = [threat for threat in threats if threat.is_official]
    if not published:
        return None
    official = OfficialSet.of(test.data, data_source)
    for threat in published:
        official.corrupted(threat.corruption, int(threat.strength), test.take(slice(1)))
    return official


