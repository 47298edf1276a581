"""Models of one family side by side: means over seeds in the paper's tables, and what becomes of the paper's claims.

    A > B is reproduced where low(A - B) > 0, not reproduced where high(A - B) < 0, and undecided between         (1)

low and high are the ends of the 95 % interval of the difference on the same images: either end the wider of what other
images would change (`difference_interval` over images, means over threats and seeds) and of what other seeds would
(Welch). An accuracy's interval likewise is the wider of Wilson's over images and Student's over seeds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Literal, Protocol

import numpy as np

from ep_hw.analysis import paper
from ep_hw.analysis.corruption import known
from ep_hw.analysis.corruption_error import SEVERITIES, Accuracies, corruption_error, mce
from ep_hw.analysis.points import Estimate
from ep_hw.analysis.statistics import student
from ep_hw.networks.family import ADVERSARIAL, BP, EP, KINDS, VIT
from ep_hw.report import wording
from ep_hw.report.entry import Entry, lead
from ep_hw.report.figures.plots import models_figure
from ep_hw.report.published import PublishedRow, PublishedTable, printed_rows, same_threat
from ep_hw.report.record import Exhibit
from ep_hw.report.tolls import stated, tolls
from ep_hw.threats.corruptions import ALL, MAIN
from ep_hw.threats.threat import CLEAN, Threat
from mapping.targets import REFERENCE

BudgetLine = Sequence[tuple[float, Estimate]]   # budgets with the accuracies that they leave
Outcome = Literal["reproduced", "not reproduced", "undecided"]
LOSS = 0.02   # of accuracy, that counts as none
TOLLS = "What does each machine cost an EP network, and what the others?"
RELATIVE = f"mCE against {BP}"


@dataclass(frozen=True)
class Contest:
    """Whether `better` beats `worse`, `report.models (1)`, or is behind by less than `allowed`.

    Attributes:
        better: a model's name.
        worse: another's.
        first: what `better` is worth.
        second: what `worse` is worth.
        lead: of `better`.
        allowed: accuracy that `better` may be behind.
    """

    better: str
    worse: str
    first: Estimate
    second: Estimate
    lead: Estimate
    allowed: float = 0.0

    @property
    def outcome(self) -> Outcome:
        if self.lead.low > -self.allowed:
            return "reproduced"
        return "not reproduced" if self.lead.high < -self.allowed else "undecided"

    def __str__(self):
        return (f"{self.better} {wording.percent(self.first.value)} against {self.worse} "
                f"{wording.percent(self.second.value)}, a lead of {wording.points_of(self.lead.value)} points "
                f"{wording.interval(self.lead)}")


@dataclass(frozen=True)
class Claim:
    """One of the paper's claims on what was measured here.

    Attributes:
        text: the claim.
        measure: of what the numbers are means.
        verdicts: one for each pair of models that it speaks of.
    """

    text: str
    measure: str
    verdicts: tuple[Contest, ...]

    @property
    def outcome(self) -> Outcome:
        """That of all verdicts; one that is not reproduced refutes the claim."""
        outcomes = {verdict.outcome for verdict in self.verdicts}
        return next(o for o in ("not reproduced", "undecided", "reproduced") if o in outcomes)

    def __str__(self):
        doubtful = ", ".join(f"{v.better} over {v.worse}" for v in self.verdicts if v.outcome == "undecided")
        unclear = f" (open: {doubtful})" if self.outcome == "undecided" else ""
        return f"{self.text}: {self.outcome}{unclear}. {self.measure}: {'; '.join(map(str, self.verdicts))}."


class Answer(Protocol):
    """A comparison that says itself what it found, by `str`."""

    def content(self) -> dict:
        """What comparison.json says of it."""
        ...


@dataclass(frozen=True, eq=False)
class Models:
    """The comparison as a report shows it: of the paper's tables and claims where one of these was run in full, else
    of whatever was run.

    Attributes:
        tables: printed and measured rows.
        claims: of the paper, on every machine.
        answers: further comparisons, under the question that they answer.
        exhibits: figures.
        notes: what a reader of the numbers needs to know.
        heading: of the comparison where it is what was asked, and so comes first.
        said: the answer in one sentence, where the comparison is what was asked.
        entries: what was compared.
        budgets: attack -> kind -> its accuracies by rising budget, of what `exhibits` draw alike.
        own: kind of the entries that the report's own network is among, as their first.
        seconds: that all cells of all networks took.
    """

    tables: tuple[PublishedTable, ...]
    claims: tuple[Claim, ...]
    answers: Mapping[str, Sequence[Answer]]
    exhibits: tuple[Exhibit, ...]
    notes: tuple[str, ...]
    heading: str = ""
    said: str = ""
    entries: tuple[Entry, ...] = ()
    budgets: Mapping[str, Mapping[str, BudgetLine]] = field(default_factory=dict)
    own: str = ""
    seconds: float = 0.0

    def content(self) -> dict:
        """For comparison.json: claims with their outcomes, and every row of every table."""
        return {"claims": [{"sentence": str(claim), "outcome": claim.outcome, **asdict(claim), "verdicts": [
                    {"outcome": verdict.outcome, **asdict(verdict)} for verdict in claim.verdicts]}
                    for claim in self.claims],
                "answers": {question: [{"sentence": str(answer), **answer.content()} for answer in answers]
                            for question, answers in self.answers.items()},
                "tables": list(map(asdict, self.tables)), "notes": list(self.notes)}


def models(name: str, dataset: str, entries: Sequence[Entry], ensemble: str | None, notes: Sequence[str]) -> Models:
    """The comparison of a family.

    Args:
        name: of the network that the question is about.
        dataset: that all were evaluated on.
        entries: on the reference those named as the paper's models, then others.
        ensemble: which AutoAttack was run.
        notes: remarks of the evaluation.
    """
    asked = EP if any(entry.kind == EP for entry in entries) else name
    every = [_table(dataset, entries, ensemble, *key, labels) for key, labels in paper.STRENGTHS.items()]
    every.append(_corruptions(entries))
    budgets, remarks = _budgets(entries), (*notes, *_flawless(entries), _seeds(entries))
    exhibits = tuple(_exhibit(name, attack, lines) for attack, lines in budgets.items())
    by_machine = {machine: [entry for entry in entries if entry.machine == machine]
                  for machine in dict.fromkeys(entry.machine for entry in entries)}
    costs = [toll for machine, after in by_machine.items() if machine != REFERENCE
                  for toll in tolls(by_machine[REFERENCE], after, _measures(entries, asked))]
    answers = {TOLLS: stated(costs)} if costs else {}
    if not any(map(_is_whole, every)):
        return Models((threats_table(entries, asked),), (), answers, exhibits, remarks, entries=tuple(entries),
                      budgets=budgets)
    tables = tuple(table for table in every if any(not row.printed for row in table.rows))
    claimed = tuple(claim for machine, own in by_machine.items() for claim in claims(own, machine))
    return Models(tables, claimed, answers, exhibits, remarks, entries=tuple(entries), budgets=budgets)


def _measures(entries: Sequence[Entry], kind: str) -> dict[str, list[Threat]]:
    """What tolls are measured under: clean images, each attack over its strengths, and the corruptions."""
    ep = next(entry for entry in entries if entry.kind == kind)
    met = [threat for machine, threat in ep.networks[0] if machine == ep.machine and threat.source is None]
    attacks: dict[str, list[Threat]] = {}
    for threat in met:
        if threat.is_attack:
            attacks.setdefault(f"under {threat.kind}", []).append(threat)
    corrupted = [threat for threat in met if threat != CLEAN and not threat.is_attack]
    return {"clean images": [CLEAN], **attacks, **({"under corruptions": corrupted} if corrupted else {})}


def _is_whole(table: PublishedTable) -> bool:
    """Whether a network met all that is tabulated; clean images and the mCE may be missing."""
    return any(all(cell for label, cell in row.cells.items() if label not in (CLEAN.name, RELATIVE))
               for row in table.rows if not row.printed)


def _table(dataset: str, entries: Sequence[Entry], ensemble: str | None, name: str, attack: str,
           labels: dict[str, float]) -> PublishedTable:
    """One of Tables 3 to 6: printed rows where the paper ran the same attack on the same data, then measured ones."""
    rows = printed_rows(name, dataset) if same_threat(attack, ensemble) else []
    for entry in entries:
        cells = {CLEAN.name: entry.mean([CLEAN]),
                 **{label: entry.mean([Threat(attack, s)]) for label, s in labels.items()}}
        met = [n for n in (entry.images(Threat(attack, s)) for s in labels.values()) if n]
        if met:
            rows.append(PublishedRow(entry.name, False, max(met), cells))
    return PublishedTable(f"models-{name}", f"{attack} ({name.capitalize()})", {CLEAN.name: None, **labels},
                          tuple(rows))


def threats_table(entries: Sequence[Entry], kind: str) -> PublishedTable:
    """Everything that was run; for evaluations that fill no table of the paper.

    Args:
        entries: the rows.
        kind: of the networks that met all threats.
    """
    ep = next(entry for entry in entries if entry.kind == kind)
    threats = [threat for machine, threat in ep.networks[0] if machine == ep.machine and threat.source is None]
    columns = {CLEAN.name if t == CLEAN else f"{t.name} {t.strength:g}": t for t in threats}
    rows = [PublishedRow(entry.name, False, entry.images(CLEAN), {
        label: entry.mean([threat]) for label, threat in columns.items()}) for entry in entries]
    return PublishedTable("models-threats", "All networks under all threats", dict.fromkeys(columns), tuple(rows))


def _corruptions(entries: Sequence[Entry]) -> PublishedTable:
    """Means over 15 and 19 corruptions, and the mCE against BP-CNN where there is one."""
    columns = (CLEAN.name, "mean of the 15", "mean of all 19", RELATIVE)
    baseline = _baseline(entries)
    rows = []
    for entry in entries:
        cells = [entry.mean([CLEAN]), entry.mean(_severities(MAIN)), entry.mean(_severities(ALL)),
                 _relative(entry, baseline)]
        if any(cells[1:]):
            rows.append(PublishedRow(entry.name, False, entry.images(Threat(MAIN[0], 1.0)), dict(zip(columns, cells))))
    return PublishedTable("models-corruptions", "Corruptions", dict.fromkeys(columns), tuple(rows))


def _severities(names: Sequence[str]) -> list[Threat]:
    return [Threat(name, severity) for name in names for severity in SEVERITIES]


def _accuracies(entry: Entry) -> Accuracies:
    """Mean accuracies over the seeds, of what all of them met."""
    return {case: float(np.mean([points[case].accuracy.value for points in entry.networks]))
            for case in entry.networks[0] if all(case in points for points in entry.networks)}


def _baseline(entries: Sequence[Entry]) -> Accuracies:
    return next((_accuracies(entry) for entry in entries if entry.name == BP), {})


def _flawless(entries: Sequence[Entry]) -> list[str]:
    """Why there is no mCE, where the baseline lacks an error to compare with."""
    baseline = _baseline(entries)
    names = [name for name in MAIN if known(partial(corruption_error, baseline, REFERENCE, name)) == 0]
    return [f"No mCE: {BP} makes no error on {', '.join(names)}."] if names else []


def _relative(entry: Entry, baseline: Accuracies) -> Estimate | float | None:
    """mCE of each seed against the baseline's mean over seeds; None where a set has gaps or the baseline no error."""
    each = (known(partial(mce, {case: p.accuracy.value for case, p in points.items()}, entry.machine, baseline,
                          REFERENCE, MAIN)) for points in entry.networks)
    values = [value for value in each if value is not None]
    if len(values) < len(entry.networks):
        return None
    return values[0] if len(values) == 1 else Estimate(float(np.mean(values)), *student(values))


def claims(own: Sequence[Entry], machine: str = REFERENCE) -> list[Claim]:
    """The paper's claims about models and threats that were run here, on one machine."""
    every, entries = [], {entry.kind: entry for entry in own}
    on = "" if machine == REFERENCE else f" on {machine}"
    rivals = [name for name in (VIT, BP) if name in entries]
    for (_, attack), labels in paper.STRENGTHS.items():
        threats, measure = [Threat(attack, s) for s in labels.values()], f"Mean over the paper's strengths of {attack}"
        every += [_claim(f"Adversarial training beats {EP} under {attack}{on}", measure, entries, threats,
                         [(name, EP) for name in ADVERSARIAL]),
                  _claim(f"{EP} beats {' and '.join(rivals)} under {attack}{on}", measure, entries, threats,
                         [(EP, name) for name in rivals])]
    every += [_claim(f"{EP} is the best under corruptions{on}", "Mean over all 19", entries, _severities(ALL),
                     [(EP, name) for name in KINDS.values() if name != EP]),
              _claim(f"{EP} pays with less than {100 * LOSS:g} points of clean accuracy{on}", "Clean images", entries,
                     [CLEAN], [(EP, BP)], LOSS)]
    return [claim for claim in every if claim.verdicts]


def _claim(text: str, measure: str, entries: dict[str, Entry], threats: Sequence[Threat],
           pairs: Sequence[tuple[str, str]], allowed: float = 0.0) -> Claim:
    worth = {name: mean for name, entry in entries.items() if entry.right and (mean := entry.mean(threats))}
    return Claim(text, measure, tuple(
        Contest(a, b, worth[a], worth[b], lead(*(entries[name].image_by_image(threats) for name in (a, b))), allowed)
        for a, b in pairs if a in worth and b in worth))


def _budgets(entries: Sequence[Entry], attack: str = "pgd_l2") -> dict[str, dict[str, BudgetLine]]:
    """Accuracy against the l2 budget, of the paper's models on the reference."""
    lines = {entry.name: _line(entry, attack) for entry in entries if entry.name in KINDS.values()}
    lines = {kind: line for kind, line in lines.items() if len(line) > 1}
    return {attack: lines} if lines else {}


def _exhibit(name: str, attack: str, lines: Mapping[str, BudgetLine]) -> Exhibit:
    """The lines with their intervals as bands."""
    return Exhibit(f"{name}-models-{attack}", attack, "Bands: 95 %, the wider over seeds and over images.",
                   describe(attack, lines), models_figure(attack, lines))


def describe(attack: str, lines: Mapping[str, BudgetLine]) -> str:
    """Every accuracy in words, for readers who cannot see the figure."""
    said = "; ".join(f"{kind}: " + ", ".join(f"{wording.percent(e.value)} at {eps:.3g}" for eps, e in line)
                     for kind, line in lines.items())
    return f"Accuracy against the budget of {attack}. {said}."


def _line(entry: Entry, attack: str) -> BudgetLine:
    met = sorted(t.strength for machine, t in entry.networks[0] if (machine, t.name) == (entry.machine, attack))
    means = [(0.0, entry.mean([CLEAN])), *((s, entry.mean([Threat(attack, s)])) for s in met)]
    return [(strength, mean) for strength, mean in means if mean]


def _seeds(entries: Sequence[Entry]) -> str:
    seeds = {len(entry.networks) for entry in entries}
    counted = "one of each" if seeds == {1} else ", ".join(f"{entry.name} {len(entry.networks)}" for entry in entries)
    return (f"Seeds: {counted}. Intervals of several seeds are the wider of Student's, what other seeds would change, "
            "and Wilson's, what other images would; a mean corruption error's is Student's. Leads are measured on the "
            "same images.")
