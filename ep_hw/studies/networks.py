"""Studies over networks in place of options: running them, and what they leave."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from ep_hw.data.source import DEFAULT_SOURCE, DataSource
from ep_hw.data.splits import Choose
from ep_hw.evaluation.execution import Run
from ep_hw.evaluation.naming import shown_plan, shown_rows
from ep_hw.evaluation.plan import Asked, Attacks, Outcome, Plan, compile_all, evaluate_all, with_sources
from ep_hw.networks.baselines import Baseline
from ep_hw.networks.checkpoint import load
from ep_hw.networks.family import kind_of
from ep_hw.networks.gains import gain_text, stated_gain
from ep_hw.networks.images import images_for
from ep_hw.networks.network import EPNetwork
from ep_hw.networks.programs import check_same_data
from ep_hw.networks.seeds import named_networks
from ep_hw.report import wording
from ep_hw.report.contents import entries_of, feedback_gains, gallery_beside, record_of, seconds_of
from ep_hw.report.drawings import looks_of
from ep_hw.report.entry import Entry
from ep_hw.report.figures.charts import Curve, Look, Value, curves_chart
from ep_hw.report.figures.scales import PERCENT, ordered
from ep_hw.report.files import write_report
from ep_hw.report.frame import Drawn
from ep_hw.report.models import Models, threats_table
from ep_hw.report.record import Exhibit
from ep_hw.studies.figures import networks_figure
from ep_hw.studies.study import NetworkStudy
from ep_hw.studies.worth import Verdict, by_pair, worths_of
from ep_hw.threats.threat import CLEAN, Threat, parse_threat
from mapping.errors import Refusal
from mapping.files import write_atomically
from mapping.labels import shown_names
from mapping.program import Program
from mapping.registry import parse
from mapping.targets import REFERENCE, ReferenceTarget

Threats = tuple[str, ...]   # by their names


def plan_networks(study: NetworkStudy, *, run: Run | None = None,
                  data_source: DataSource = DEFAULT_SOURCE) -> list[tuple[str, Plan]]:
    """(group, plan) of every network: the same images, machines, threats and settings.

    Raises:
        Refusal: an unknown model, machine or threat, networks of different data, a network that a machine cannot hold,
            or missing data.
    """
    nets = [(group, load(one).calibrated(data_source)) for group, names in study.networks.items() for name in names
            for one in named_networks(name)]
    first = nets[0][1]
    _check_kinds(nets)
    for _, net in nets:
        check_same_data(net, first.data)
    if len({net.name for _, net in nets}) < len(nets):
        raise Refusal("a network stands in the study twice", where="networks", got=", ".join(n.name for _, n in nets),
                      allowed="each name once", remedy="leave one out")
    threats, targets = tuple(map(parse_threat, study.threats)), list(map(parse, study.machines))
    images = images_for(first, "test", data_source, Choose(study.images, study.seed))
    asked = Asked(machines=tuple(dict.fromkeys([REFERENCE, *map(str, targets)])), threats=threats, chips=study.chips,
                  seed=study.seed, names=shown_names(targets))
    return [(group, Plan(model=net.name, provenance=net.provenance, images=images, asked=asked,
                         programs=compile_all(net, with_sources([ReferenceTarget(REFERENCE), *targets], threats)),
                         attacks=Attacks(settings=study.attack), run=run or Run())) for group, net in nets]


def _check_kinds(nets: Sequence[tuple[str, EPNetwork | Baseline]]):
    """Refuse a group whose networks were not trained by one rule: their mean would be of no kind."""
    for group in dict.fromkeys(group for group, _ in nets):
        kinds = {kind_of(net.provenance) for own, net in nets if own == group}
        if len(kinds) > 1:
            raise Refusal("a group pools networks of several kinds", where=f"networks, {group}",
                          got=", ".join(sorted(kinds)), allowed="one kind a group",
                          remedy="make each kind a group of its own")


def run_networks(study: NetworkStudy, plans: Sequence[tuple[str, Plan]], out: Path, command: str) -> list[Verdict]:
    """Compute what is missing of a study and write its report into `out`.

    Each network's results lie in a folder of its own, `out`/networks/NAME.

    Returns:
        The verdict on every machine and pair of groups.
    """
    parts = [(plan, out / "networks" / plan.model) for _, plan in plans]
    shown_plans = [(group, shown_plan(plan)) for group, plan in plans]
    outcomes = [(shown_rows(rows, plan.asked.names), cells) for (plan, _), (rows, cells)
                in zip(parts, evaluate_all(parts))]
    groups: dict[str, list[Outcome]] = {}
    for (group, _), outcome in zip(plans, outcomes):
        groups.setdefault(group, []).append(outcome)
    (_, first), folder = shown_plans[0], parts[0][1]
    entries = entries_of(groups, first.asked.machines)
    worths = worths_of(entries, first.asked.threats)
    verdicts = [Verdict.of(ones) for ones in by_pair(worths)]
    record = record_of(first, folder, *outcomes[0], [], command=command, title=study.title)
    record.gallery.extend(gallery_beside(outcomes[0][0], [
        (group, plan, outcome) for (group, plan), outcome in zip(shown_plans, outcomes) if group != shown_plans[0][0]]))
    shown = Models((threats_table(entries, entries[0].kind),), (), {study.title: verdicts},
                   _figures(entries, shown_plans, first.asked.threats),
                   (_seeds_note(groups), *feedback_gains(plan for _, plan in shown_plans)), "Group against group",
                   said(verdicts), tuple(entries), own=entries[0].kind, seconds=seconds_of(outcomes))
    write_report(out, record, shown)
    content = {"study": study.model_dump(mode="json"), **shown.content(),
               "worths": [{"sentence": str(worth), **worth.content()} for worth in worths]}
    write_atomically(out / "study.json", json.dumps(content, indent=1).encode() + b"\n")
    return verdicts


def said(verdicts: Sequence[Verdict]) -> str:
    """What all verdicts come to: machines and groups of which the same is true share a sentence, differences first."""
    machines: dict[tuple[str, Threats, Threats], list[str]] = {}
    for one in verdicts:
        machines.setdefault((one.other, one.more, one.less), []).append(one.machine)
    others: dict[tuple[tuple[str, ...], Threats, Threats], list[str]] = {}
    for (other, more, less), where in machines.items():
        others.setdefault((tuple(where), more, less), []).append(other)
    every = tuple(dict.fromkeys(one.machine for one in verdicts))
    alike = sorted(others.items(), key=lambda item: not (item[0][1] or item[0][2]))
    return " ".join(f"On {'every machine' if where == every else ' and '.join(where)} "
                    f"{_told(verdicts[0].first, ' and '.join(groups), more, less)}."
                    for (where, more, less), groups in alike)


def _told(first: str, others: str, more: Threats, less: Threats) -> str:
    """What is true of the first group beside others."""
    found = [f"{how} robust than {others} under {', '.join(threats)}"
             for how, threats in (("more", more), ("less", less)) if threats]
    return f"{first} is {' and '.join(found)}" if found else f"nothing tells {first} apart from {others} in robustness"


def _seeds_note(groups: dict[str, list[Outcome]]) -> str:
    return ("Networks: " + ", ".join(f"{group} {len(ones)}" for group, ones in groups.items())
            + ". Intervals are the wider of what other images and other seeds would change.")


def _figures(entries: Sequence[Entry], plans: Sequence[tuple[str, Plan]],
             threats: Sequence[Threat]) -> tuple[Exhibit, ...]:
    """Accuracy against the feedback gain, a panel a machine; groups of one gain stand side by side."""
    groups = by_gain(plans)
    return (Exhibit("feedback", "Accuracy against the feedback gain", "Bars: 95 %, the wider over seeds and images.",
                    _alt(entries, threats), networks_figure(entries, groups, (CLEAN, *threats)),
                    networks_charts(entries, groups, (CLEAN, *threats))),)


def by_gain(plans: Sequence[tuple[str, Plan]]) -> dict[str, str]:
    """Groups in the order of their feedback gains, those of one gain as they come -> what the axis calls them."""
    gains: dict[str, list[str]] = {}
    for group, plan in sorted(plans, key=lambda one: gain_of(one[1])):
        gains.setdefault(group, []).append(gain_text(stated_gain(plan.provenance)))
    return {group: f"{group}, gamma {' and '.join(dict.fromkeys(texts))}" if all(texts) else group
            for group, texts in gains.items()}


def networks_charts(entries: Sequence[Entry], groups: Mapping[str, str], threats: Sequence[Threat]) -> list[Drawn]:
    """A chart a machine, a line a threat, groups in their order."""
    looks = looks_of([wording.threat_name(threat) for threat in threats], "threat")
    return [_against_gain(machine, [entry for entry in entries if entry.machine == machine], groups, threats, looks)
            for machine in dict.fromkeys(entry.machine for entry in entries)]


def _against_gain(machine: str, entries: Sequence[Entry], groups: Mapping[str, str], threats: Sequence[Threat],
                  looks: Mapping[str, Look]) -> Drawn:
    order = list(groups)
    lines = [(wording.threat_name(threat), [(order.index(entry.kind), entry.kind, mean) for entry in entries
                                            if (mean := entry.mean([threat]))]) for threat in threats]
    curves = [Curve(name, looks[name], [(n, Value(mean, f"{kind} on {machine}, {name}: {wording.percent(mean.value)} "
                                                  f"{wording.interval(mean)}")) for n, kind, mean in sorted(line)])
              for name, line in lines]
    alt = "; ".join(f"{name}: " + ", ".join(f"{kind} {wording.percent(mean.value)}" for _, kind, mean in sorted(line))
                    for name, line in lines)
    return Drawn(f"{machine}: accuracy by rising feedback gain, percent", curves_chart(
        curves, ordered(list(groups.values())), PERCENT, "", alt, aslant=True))


def gain_of(plan: Plan) -> float:
    """The feedback gain of a network: a mean over couplings, 0 where none feeds back or it is no EP network."""
    reference = plan.programs[REFERENCE]
    couplings = reference.graph.couplings[1:] if isinstance(reference, Program) else ()
    return fmean(coupling.feedback_gain for coupling in couplings) if couplings else 0.0


def _alt(entries: Sequence[Entry], threats: Sequence[Threat]) -> str:
    return "; ".join(f"{entry.name}: " + ", ".join(
        f"{wording.threat_name(t)} {wording.percent(mean.value)}" for t in (CLEAN, *threats)
        if (mean := entry.mean([t]))) for entry in entries)
