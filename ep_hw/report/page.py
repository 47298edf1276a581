"""A run record becomes one HTML file that needs no network: the answer first, everything else behind it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from itertools import starmap
from typing import Any

from markupsafe import Markup

from ep_hw.analysis import paper
from ep_hw.analysis.rows import plain
from ep_hw.analysis.series import Ladder
from ep_hw.data.splits import class_name
from ep_hw.evaluation.checks import Verdict
from ep_hw.networks.family import EP
from ep_hw.report import wording
from ep_hw.report.drawings import Drawings, limits_of, looks_of, models_chart
from ep_hw.report.entry import Entry
from ep_hw.report.figures.inline import data_uri
from ep_hw.report.frame import Drawn, Page, Section, environment, filled, in_frame
from ep_hw.report.galleries import galleries
from ep_hw.report.model_results import ModelResults, describe, describe_bars
from ep_hw.report.models import Models
from ep_hw.report.models import describe as describe_lines
from ep_hw.report.overview import FEW, answer, machines_picture, models_picture, quote, telling_threat
from ep_hw.report.record import RunRecord
from ep_hw.threats.threat import CLEAN, Threat
from mapping.program import Table
from mapping.targets import REFERENCE
from simulators.machine import Cost

SUMMARY_COLUMNS = ("model", "dataset", "machine", "threat", "strength", "chip_seed", "n", "accuracy", "ci_low",
                   "ci_high", "agreement", "flips_to_wrong", "flips_to_right", "gap_low", "gap_high", "logit_rmse",
                   "logit_rmse_clean_correct", "seconds", "key")
MOST_ROWS = 700   # of the table of every cell: more of them stand in summary.json alone


@dataclass(frozen=True, eq=False)
class Context:
    """What all parts of a page share.

    Attributes:
        run: the record.
        drawings: how machines look, and what lies behind their numbers.
        kinds: number of each kind of threat.
        parts: the template's macros.
    """

    run: RunRecord
    drawings: Drawings
    kinds: Mapping[str, int]
    parts: Any

    def waterfall(self, ladder: Ladder) -> Drawn:
        """A waterfall with the sentence under it."""
        return Drawn(f"{ladder.target}: {wording.threat_name(ladder.threat)}", self.drawings.waterfall(ladder),
                     wording.largest_loss(ladder), self._machine(ladder.target), self.kinds.get(ladder.threat.kind))

    def behind(self, own: str, entry: Entry, threat: Threat) -> str | None:
        """Id of the gallery of an entry's first network, which for those of the kind `own` is the page's."""
        network = "" if entry.kind == own else entry.kind
        return self.drawings.images.get((network, entry.machine, threat))

    def _machine(self, name: str) -> int | None:
        look = self.drawings.looks.get(name)
        return look.key if look else None


def render(run: RunRecord, shown: Sequence[ModelResults], models: Models | None = None) -> str:
    """The page as text.

    Args:
        run: the record.
        shown: `results_of(run)`.
        models: the networks of a family side by side, where one was evaluated.
    """
    return in_frame(_page(run, list(shown), models))


def _page(run: RunRecord, shown: list[ModelResults], models: Models | None) -> Page:
    looks, kinds = looks_of(_machines(shown, models)), _kinds(shown)
    behind = galleries(run.gallery)
    drawings = Drawings(looks, {(own.network, own.machine, own.threat): own.id for own in behind})
    context = Context(run, drawings, kinds, _macros(run, models, drawings, kinds))
    first = [section for n, study in enumerate(shown) for section in _first(context, study, _suffix(shown, n))]
    rest = [section for n, study in enumerate(shown) for section in _rest(context, study, _suffix(shown, n))]
    parts = context.parts
    sections = [*_asked(context, models), *first, *_beside(context, models), *rest,
                Section("measurements", "Attack time and free-phase steps", parts.measurements(
                    [chart for one in run.measurements for chart in one.charts])),
                Section("gallery", "Images behind the accuracies", parts.gallery(behind)),
                Section("checks", "What was checked", parts.trust()),
                Section("mapping", "How the network is mapped, and what a relaxation takes", parts.mapping()),
                Section("cells", f"Every cell: {len(run.summary)} rows", parts.every_cell()),
                Section("provenance", "Provenance", parts.provenance())]
    return Page(title=run.title, subtitle=_subtitle(shown, models), answer=_answer(run, shown, models),
                alarm=parts.alarm(), picture=_picture(context, shown, models), facts=_facts(run, shown, models),
                quote=_quote(run, shown, models), switches=_switches(looks, kinds), sections=filled(sections))


def _macros(run: RunRecord, models: Models | None, drawings: Drawings, kinds: Mapping[str, int]) -> Any:
    """The parts of the page, each a function."""
    own = environment(run.names)
    own.filters |= {"interval": wording.interval, "short": wording.short_percent,
                    "named": partial(class_name, run.class_names),
                    "key": lambda machine: drawings.looks[machine].key if machine in drawings.looks else "",
                    "kind": lambda kind: kinds.get(kind, ""), "images": lambda case: drawings.images.get(("", *case))}
    summary = plain(run.summary) if len(run.summary) <= MOST_ROWS else []
    return own.get_template("evaluation.html").make_module({
        "run": run, "models": models, "summary": summary, "columns": SUMMARY_COLUMNS, "paper": paper,
        "checks": _checks(run.checks), "chips": any(row["chip_seed"] is not None for row in run.summary),
        "summary_uri": data_uri("application/json", json.dumps(summary).encode())})


def _suffix(shown: Sequence[ModelResults], n: int) -> tuple[str, str]:
    """Before the ids of a network's sections, and after their titles where there are several networks."""
    study = shown[n]
    return f"s{n}-", f": {study.model} on {study.dataset}" if len(shown) > 1 else ""


def _first(context: Context, study: ModelResults, suffix: tuple[str, str]) -> list[Section]:
    """The waterfall, which comes right after the answer."""
    clean, others = ([ladder for ladder in study.ladders if (ladder.threat == CLEAN) is is_clean]
                     for is_clean in (True, False))
    if not study.ladders:
        return []
    shown, more = (clean, others) if clean else (others, [])
    return [_section(suffix, "waterfalls", "Where the accuracy goes", context.parts.waterfalls(
        [context.waterfall(one) for one in shown], [context.waterfall(one) for one in more], study.over_chips),
        folded=False)]


def _rest(context: Context, study: ModelResults, suffix: tuple[str, str]) -> list[Section]:
    parts, drawings, kinds = context.parts, context.drawings, context.kinds
    limits, along = limits_of(study.budgets), limits_of(study.along_severity)
    curves = [Drawn(panel.name, drawings.budgets(panel, limits, describe(panel)), threat=kinds.get(panel.name))
              for panel in study.budgets]
    bars = [Drawn(f"severity {severity}", drawings.bars(severity, rows, describe_bars(severity, rows)))
            for severity, rows in study.by_severity.items()]
    corrupted = [Drawn(panel.name, drawings.severities(panel, along, describe(panel)), threat=kinds.get(panel.name))
                 for panel in study.along_severity]
    return [_section(suffix, "found", "Accuracies, machine by machine", parts.found(study)),
            _section(suffix, "curves", "Accuracy against attack budget", parts.curves(study, curves)),
            _section(suffix, "corruptions", "Accuracy against corruption", parts.corruptions(study, bars, corrupted)),
            _section(suffix, "published", "Published and measured", parts.published(study))]


def _section(suffix: tuple[str, str], id: str, title: str, body: str, folded: bool = True) -> Section:
    return Section(suffix[0] + id, title + suffix[1], Markup(body), folded)


def _asked(context: Context, models: Models | None) -> list[Section]:
    """What was asked for by name, and so stands open before everything else."""
    sections = []
    if own := context.run.envelopes:
        drawn = context.parts.envelopes([chart for one in own.exhibits for chart in one.charts])
        sections.append(Section("envelopes", "Adversarial success, platform by platform", drawn, folded=False))
    if models and _leads(models):
        sections.append(Section("comparison", models.heading or "Comparison", _comparison(context, models),
                                folded=False))
    return sections


def _beside(context: Context, models: Models | None) -> list[Section]:
    """Networks that were evaluated beside the one that was asked for."""
    if models is None or _leads(models):
        return []
    return [Section("comparison", "Networks trained otherwise", _comparison(context, models))]


def _leads(models: Models) -> bool:
    return bool(models.claims or models.heading)


def _comparison(context: Context, models: Models) -> Markup:
    drawn = [Drawn(attack, models_chart(attack, lines, describe_lines(attack, lines)),
                   "Bands: 95 %, the wider over seeds and over images.") for attack, lines in models.budgets.items()]
    return Markup(context.parts.comparison([*drawn, *(chart for one in models.exhibits for chart in one.charts)]))


def _answer(run: RunRecord, shown: Sequence[ModelResults], models: Models | None) -> str:
    """What was asked for first: a suite's own question, then the paper's, then what the hardware leaves."""
    if run.envelopes:
        return run.envelopes.answers[0]
    if models and models.heading:
        return models.said
    own = [answer(study.model, study.points) for study in shown]
    claimed = f" {_claimed(models)}" if models and models.claims else ""
    return (" ".join(own) or "Nothing was evaluated.") + claimed


def _claimed(models: Models) -> str:
    outcomes = [claim.outcome for claim in models.claims]
    return (f"Of the paper's {len(outcomes)} claims {outcomes.count('reproduced')} are reproduced, "
            f"{outcomes.count('not reproduced')} not, {outcomes.count('undecided')} undecided.")


def _picture(context: Context, shown: Sequence[ModelResults], models: Models | None) -> Markup:
    if models and len(models.entries) > 1 and shown:
        threat = telling_threat(shown[0].points)
        return models_picture(models.entries, EP, threat, context.drawings.looks, partial(context.behind, models.own))
    return Markup("\n").join(machines_picture(study.model, study.points, context.drawings.looks, context.drawings.value)
                             for study in shown)


def _quote(run: RunRecord, shown: Sequence[ModelResults], models: Models | None) -> str:
    if models and models.heading:
        return ""
    settings = run.seeds.get("attack settings")
    known = settings if isinstance(settings, dict) else {}
    return " ".join(quote(study.model, study.dataset, study.points, known,
                          run.versions.get("ep-hw", version("ep-hw"))) for study in shown)


def _facts(run: RunRecord, shown: Sequence[ModelResults], models: Models | None) -> list[tuple[str, str | Markup]]:
    counts = sorted({n for study in shown for n in study.images})
    images = " or ".join(map(str, counts)) if len(counts) <= FEW else f"{counts[0]} to {counts[-1]}"
    chips = max((study.chips for study in shown), default=0)
    facts: list[tuple[str, str | Markup]] = [("trust checks", _trust(run.checks))] if run.checks else []
    counted = f", {chips} chip{'s' if chips > 1 else ''}" if chips else ""
    facts.append(("based on", f"{images} images a cell{counted}; 95 % intervals"))
    if run.gallery:
        facts.append(("to look at", "a click on a mark shows its images"))
    if run.costs:
        facts.append(("an image costs", Markup("{}; published figures, <a href=\"#mapping\">with sources</a>").format(
            ", ".join(starmap(_energy, run.costs.items())))))
    seconds = models.seconds if models else sum(row["seconds"] for row in run.summary)
    return [*facts, ("computed in", _time(seconds))]


def _energy(machine: str, cost: Cost) -> str:
    own = f"{1e6 * (cost.energy_j or 0.0):.2g} \u00b5J on {machine}"
    return own if cost.neighbour_j is None else f"{own} ({1e6 * cost.neighbour_j:.2g} at Hala Point's rate)"


def _trust(checks: Sequence[Verdict]) -> Markup:
    made, failed = sum(verdict.made for verdict in checks), sum(len(verdict.findings) for verdict in checks)
    if failed:
        return Markup('<a href="#checks">{} violated</a> of {} comparisons').format(failed, made)
    return Markup('<span class="held">all held</span>: <a href="#checks">{} comparisons</a>').format(made)


def _time(seconds: float) -> str:
    """Of one core, in a unit that suits it."""
    unit, size = next(((u, s) for u, s in (("h", 3600), ("min", 60)) if seconds >= 2 * s), ("s", 1))
    return f"{seconds / size:.3g} {unit} of one core, all cells together"


def _subtitle(shown: Sequence[ModelResults], models: Models | None) -> str:
    """Of which network the page is, unless it is of several alike."""
    if models and models.heading:
        return ""
    return "; ".join(f"network {study.model}, data set {study.dataset}" for study in shown)


def _machines(shown: Sequence[ModelResults], models: Models | None) -> list[str]:
    """All that have numbers on the page, in order."""
    own = [machine for study in shown for machine in study.machines]
    return list(dict.fromkeys([*own, *(entry.machine for entry in models.entries)] if models else own))


def _kinds(shown: Sequence[ModelResults]) -> dict[str, int]:
    """Kinds of threats, which are shown and hidden together at all strengths and from all sources."""
    kinds = dict.fromkeys(row.threat.kind for study in shown for row in study.rows if row.threat != CLEAN)
    return {kind: n for n, kind in enumerate(kinds)}


def _switches(looks: Mapping[str, Any], kinds: Mapping[str, int]) -> list[tuple[str, list[tuple[int, str]]]]:
    machines = [(look.key, name) for name, look in looks.items() if name != REFERENCE]
    threats = [(n, kind) for kind, n in kinds.items()]
    return [(group, named) for group, named in (("machine", machines), ("threat", threats)) if len(named) > 1]


def _checks(verdicts: Sequence[Verdict]) -> Table:
    """A line a check, over all machines and chips."""
    rows = []
    for check in dict.fromkeys(verdict.check for verdict in verdicts):
        same = [verdict for verdict in verdicts if verdict.check == check]
        rows.append((check, len({verdict.machine for verdict in same}), sum(verdict.made for verdict in same),
                     min(verdict.images for verdict in same), sum(len(verdict.findings) for verdict in same)))
    columns = ("must hold", "machines", "comparisons", "images at least", "violated")
    note = ("Where an attack fails, its gradient may be to blame rather than the network be strong. Noisy machines and "
            "unequal samples are allowed half an interval.")
    return Table("What was checked", columns, tuple(rows), (note,))
