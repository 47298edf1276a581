"""From a model's name to a finished report: the main path of `ep-hw evaluate` and `ep-hw demo`.

    load -> lower -> compile -> evaluate -> report
"""

import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from ep_hw.data.source import DEFAULT_SOURCE, DataSource
from ep_hw.data.splits import Split
from ep_hw.evaluation.checks import Flag, verdicts
from ep_hw.evaluation.folders import Question, claim
from ep_hw.evaluation.plan import Plan, cells_of, compile_all, evaluate_all
from ep_hw.evaluation.probes import probe
from ep_hw.evaluation.rungs import rungs_of
from ep_hw.evaluation.suites import BARE, Suite
from ep_hw.networks.baselines import Baseline
from ep_hw.networks.checkpoint import load
from ep_hw.networks.family import FOLDER, Member
from ep_hw.networks.network import EPNetwork
from ep_hw.networks.programs import check_same_data, named_programs, network_and_images, programs_of
from ep_hw.report import write_report
from ep_hw.report.contents import cards_beside, compared, record_of
from ep_hw.threads import threads
from ep_hw.threats.attacks import AttackSettings
from ep_hw.threats.corruptions.official import OfficialSet
from ep_hw.threats.corruptions.photographs import frost_photographs
from ep_hw.threats.threat import CLEAN, Threat
from mapping.errors import Refusal
from mapping.fields import check_named
from mapping.program import Program
from mapping.registry import REGISTRY, parse
from mapping.targets import REFERENCE, ReferenceTarget
from simulators.module import Interface, ModuleMachine, ModuleProgram
from simulators.registry import check_device


def plan_evaluation(model: str, machines: Sequence[str] | None, threats: Sequence[Threat], *,
                    suite: Suite = BARE, images: int | None = None, chips: int | None = None, seed: int = 0,
                    settings: AttackSettings | None = None, device: str = "cpu",
                    extra: Iterable[tuple[str, Threat]] = (), explained: Iterable[Threat] = (),
                    baseline: str = REFERENCE, data_source: DataSource = DEFAULT_SOURCE) -> Plan:
    """Everything an evaluation will do, decided before anything runs.

    Each white-box attack is joined by its transfer from the reference, so that aware and unaware attackers stand side
    by side; each machine by the rungs that lead to it, on clean and on transferred images, and under attacks of their
    own where these are to be explained.

    Args:
        model: a packaged name or a checkpoint file.
        machines: names, or folders of compiled programs, or None for those usual for the model; the reference is
            always among them.
        threats: besides those of the suite.
        suite: also says what the others are where they are not given.
        images: how many test images, drawn by `seed`.
        explained: threats besides those of the suite whose toll is traced rung by rung, each rung attacked itself.
        baseline: what the mCE is relative to: one of the machines, or another model of the same data, which is then
            corrupted beside them.

    Raises:
        Refusal: any of these is unknown, or a program was compiled from another network.
    """
    check_device(device)
    net, test = network_and_images(model, images or suite.images, seed, data_source)
    explained = [*suite.explained, *explained]
    threats = [*suite.threats, *threats, *explained]
    named = named_programs(net, machines or net.machines)
    names = tuple(dict.fromkeys([REFERENCE, *named]))
    _check_possible(threats, names)
    official = _official(threats, test, data_source)
    threats = tuple(dict.fromkeys([*threats, *(replace(t, source=REFERENCE) for t in threats if t.is_white_box)]))
    traced = [CLEAN, *(t for t in threats if t.source), *explained]
    rungs = [(rung, threat) for name in names for rung, _ in rungs_of(parse(name)) for threat in traced]
    against, other = _baseline(baseline, net, names)
    beside = [(name, threat) for name in other for threat in (CLEAN, *threats) if not threat.is_attack]
    extra = tuple(dict.fromkeys([*extra, *rungs, *beside]))
    used = [REFERENCE, *names, *(name for name, _ in extra), *(t.source for t in threats if t.source)]
    programs = compile_all(net, used, loaded=named | other)
    return Plan(net.name, test, programs, threats, names, extra, chips or suite.chips, seed, device=device,
                settings=settings or suite.settings, provenance=net.provenance, temporal=suite.temporal,
                labels=suite.labels, baseline=against, official=official, joined=True)


def with_module(plan: Plan, name: str, module: torch.nn.Module) -> Plan:
    """The plan with one more machine, which meets every threat that the others meet.

    Args:
        name: of the machine in the results. module: images (B, C, H, W) in [0, 1] to logits.

    Raises:
        Refusal: the name means another machine or is none, or the module cannot be one (see `ModuleMachine`).
    """
    check_named(name, "module")
    if name in plan.programs or name.partition("[")[0] in REGISTRY:
        raise Refusal("the name means another machine", where="module", got=name, allowed="a name of its own",
                      remedy="call it something else")
    reference = plan.programs[REFERENCE]
    network = reference.graph if isinstance(reference, Program) else reference.interface
    joined = ModuleProgram(module, Interface(tuple(network.image_shape), network.classes))
    machine = ModuleMachine(module, joined.interface.image_shape, joined.interface.classes, name, plan.device)
    if not machine.differentiable and (blind := [str(t) for t in plan.threats if t.is_white_box]):
        raise Refusal("the module carries no gradient back to its images", where=name, got=", ".join(blind),
                      allowed="square_l2, square_linf, corruptions",
                      remedy="let gradients flow: no detach(), numpy() or no_grad() on the way")
    return replace(plan, programs={**plan.programs, name: joined}, machines=(*plan.machines, name))


@threads(1)
def run(plan: Plan, out: str | Path, *, command: str, title: str, progress=lambda *a: None, jobs: int = 1,
        others: Sequence[tuple[Member, Plan]] = (), question: Question | None = None) -> tuple[list[dict], list[Flag]]:
    """Evaluate a plan into `out` and write its report: summary rows, failed checks. See `evaluation.evaluate`.

    Args:
        others: members of the model's family, evaluated beside it into out/family/NAME and compared in the report;
            their failed checks join its own.
        question: what `out` belongs to; the plans themselves if None.

    Raises:
        Refusal: the folder belongs to another question, or a machine cannot be opened.
    """
    out = Path(out)
    claim(out, question or Question.of(command, keys([plan, *(other for _, other in others)]),
                                       plan.images.digest))
    parts = [(plan, out), *((other, out / FOLDER / other.model) for _, other in others)]
    outcomes = evaluate_all(parts, progress, jobs)
    (summary, cells), *beside = outcomes
    probed = probe([(p, folder, found) for (p, folder), (_, found) in zip(parts, outcomes)], progress, jobs)
    own, *theirs = ([*verdicts(rows), *found] for (rows, _), found in zip(outcomes, probed))
    checks = own + [replace(verdict, machine=f"{other.model} on {verdict.machine}")
                    for (_, other), found in zip(others, theirs) for verdict in found]
    members = [(member.kind, outcome) for (member, _), outcome in zip(others, beside)]
    record = record_of(plan, out, summary, cells, checks, command=command, title=title, jobs=jobs)
    for (_, other), outcome, found in zip(others, beside, theirs):
        record.cards.extend(cards_beside(other, outcome, found))
    write_report(out, record, compared(plan, outcomes[0], members) if members else None)
    return summary, [flag for verdict in checks for flag in verdict.flags]


def keys(plans: Iterable[Plan]) -> list[str]:
    """The keys of all configurations of some plans: whatever decides an answer, but for the images, is in them."""
    return list(dict.fromkeys(cell.configuration.key for plan in plans for cell in cells_of(plan, Path())))


def plans_beside(plan: Plan, members: Iterable[Member]) -> list[tuple[Member, Plan]]:
    """The same evaluation of each member of a family, on the reference alone: same images, threats and settings.

    Raises:
        Refusal: a member that was trained on other data.
    """
    return [(member, _plan_beside(plan, load(member.model))) for member in members]


def _plan_beside(plan: Plan, net: EPNetwork | Baseline) -> Plan:
    check_same_data(net, plan.images.data)
    threats = tuple(threat for threat in plan.threats if threat.source is None)
    return replace(plan, model=net.name, programs=compile_all(net, [REFERENCE]), threats=threats,
                   machines=(REFERENCE,), extra=(), provenance=net.provenance, temporal=None, baseline=REFERENCE,
                   fewer={case: n for case, n in plan.fewer.items() if case[0] == REFERENCE})


def command_line() -> str:
    """The command that is running, as a user would type it again; bytes that are no text are written out."""
    return shlex.join(["ep-hw", *sys.argv[1:]]).encode(errors="backslashreplace").decode()


def _baseline(name: str, net: EPNetwork | Baseline, machines: Sequence[str]) -> tuple[str, dict[str, Program]]:
    """What the results call the baseline, and its program where it is another model.

    Raises:
        Refusal: neither a machine of this evaluation nor a model of its data.
    """
    if name.partition("[")[0] in REGISTRY:
        if (machine := str(parse(name))) in machines:
            return machine, {}
        raise Refusal("the baseline is not evaluated", where="--baseline", got=name, allowed=", ".join(machines),
                      remedy="add it with --on, or name another model")
    other = programs_of(net, [], [name])
    return next(iter(other)), other


def _check_possible(threats: Sequence[Threat], machines: Sequence[str]):
    """Refuse now what would be refused when its cell is reached.

    Raises:
        Refusal: frost without its photographs, or an attack that does not clip on a machine with inputs of hardware.
    """
    if any(t.kind == "frost" for t in threats):   # published frost brings its own
        frost_photographs()
    closed = [name for name in machines if not isinstance(parse(name), ReferenceTarget)]
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


