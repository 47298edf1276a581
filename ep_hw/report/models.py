"""Models of one family side by side: means over seeds in the paper's tables, and what becomes of the paper's claims.

    A > B is reproduced where low(A) > high(B), not reproduced where high(A) < low(B), and undecided between       (1)

low and high are the ends of the 95 % intervals of a mean over seeds (Student), or over images where there is one seed.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Literal

import numpy as np

from ep_hw import paper
from ep_hw.corruption_error import ALL, SEVERITIES, mce
from ep_hw.corruptions import MAIN
from ep_hw.family import ADVERSARIAL, BP, EP, KINDS, VIT
from ep_hw.report import wording
from ep_hw.report.beside import BesideRow, BesideTable, at, printed_rows, same_threat
from ep_hw.report.corruption import known
from ep_hw.report.plots import models_figure
from ep_hw.report.points import REFERENCE, Estimate, Point, Points
from ep_hw.report.record import Exhibit
from ep_hw.report.series import CLEAN
from ep_hw.statistics import student

Outcome = Literal["reproduced", "not reproduced", "undecided"]
Case = tuple[str, float]   # threat, strength
WHITE_BOX = ("pgd_l2", "autoattack_linf", "cw_l2")   # of the paper's tables


@dataclass(frozen=True, eq=False)
class Entry:
    """One row of the comparison. networks: points of each seed; all that is asked of them is on `machine`."""

    name: str
    machine: str
    networks: tuple[Points, ...]

    def mean(self, cases: Sequence[Case]) -> Estimate | None:
        """Mean accuracy over threats and seeds; None where a network has not met one of the threats, or there are none.

        Of one network the interval's ends are the means of its threats', as if all erred together: never too narrow.
        """
        found = [[self.point(points, case) for case in cases] for points in self.networks]
        if not cases or not all(all(points) for points in found):
            return None
        if len(found) == 1:
            ends = np.mean([[p.accuracy.value, p.accuracy.low, p.accuracy.high] for p in found[0]], axis=0)
            return Estimate(*map(float, ends))
        return over_seeds([float(np.mean([p.accuracy.value for p in points])) for points in found])

    def point(self, points: Points, case: Case) -> Point | None:
        """What one network is worth under a threat."""
        return at(points, self.machine, *case)

    def images(self, case: Case) -> int | None:
        """How many images met a threat."""
        found = self.point(self.networks[0], case)
        return found and found.n


def over_seeds(values: Sequence[float]) -> Estimate:
    """Mean of one number a seed with its Student interval, within [0, 1]."""
    low, high = student(values)
    return Estimate(float(np.mean(values)), max(0.0, low), min(1.0, high))


@dataclass(frozen=True)
class Verdict:
    """Whether `better` beats `worse`, equation (1). first, second: what they are worth."""

    better: str
    worse: str
    first: Estimate
    second: Estimate

    @property
    def outcome(self) -> Outcome:
        if self.first.low > self.second.high:
            return "reproduced"
        return "not reproduced" if self.first.high < self.second.low else "undecided"

    def __str__(self):
        return f"{self.better} {_estimate(self.first)} against {self.worse} {_estimate(self.second)}"


@dataclass(frozen=True)
class Claim:
    """One of the paper's claims on what was measured here. measure: of what the numbers are means."""

    text: str
    measure: str
    verdicts: tuple[Verdict, ...]

    @property
    def outcome(self) -> Outcome:
        """That of all verdicts; one that is not reproduced refutes the claim."""
        outcomes = {verdict.outcome for verdict in self.verdicts}
        return next(o for o in ("not reproduced", "undecided", "reproduced") if o in outcomes)

    def __str__(self):
        overlap = " (intervals overlap)" if self.outcome == "undecided" else ""
        return f"{self.text}: {self.outcome}{overlap}. {self.measure}: {'; '.join(map(str, self.verdicts))}."


@dataclass(frozen=True, eq=False)
class Models:
    """The comparison as a report shows it. notes: what a reader of the numbers needs to know."""

    tables: tuple[BesideTable, ...]
    claims: tuple[Claim, ...]
    exhibits: tuple[Exhibit, ...]
    notes: tuple[str, ...]

    def content(self) -> dict:
        """For comparison.json: claims with their outcomes, and every row of every table."""
        return {"claims": [{"sentence": str(claim), "outcome": claim.outcome, **asdict(claim), "verdicts": [
                    {"outcome": verdict.outcome, **asdict(verdict)} for verdict in claim.verdicts]}
                    for claim in self.claims],
                "tables": list(map(asdict, self.tables)), "notes": list(self.notes)}


def models(name: str, dataset: str, entries: Sequence[Entry], ensemble: str | None, notes: Sequence[str]) -> Models:
    """The comparison of a family.

    Args:
        name: of the EP network. entries: on the reference those named as the paper's models, then others.
        ensemble: which AutoAttack was run. notes: remarks of the evaluation.
    """
    tables = [_table(dataset, entries, ensemble, *key, labels) for key, labels in paper.STRENGTHS.items()]
    shown = [*tables, _corruptions(entries)]
    return Models(tuple(table for table in shown if any(not row.printed for row in table.rows)),
                  tuple(claims({entry.name: entry for entry in entries})), tuple(_budgets(name, entries)),
                  (*notes, _seeds(entries)))


def _table(dataset: str, entries: Sequence[Entry], ensemble: str | None, name: str, attack: str,
           labels: dict[str, float]) -> BesideTable:
    """One of Tables 3 to 6: printed rows where the paper ran the same attack on the same data, then measured ones."""
    rows = printed_rows(name, dataset) if same_threat(attack, ensemble) else []
    for entry in entries:
        cells = {CLEAN[0]: entry.mean([CLEAN]), **{label: entry.mean([(attack, s)]) for label, s in labels.items()}}
        met = [n for n in (entry.images((attack, s)) for s in labels.values()) if n]
        if met:
            rows.append(BesideRow(entry.name, False, max(met), cells))
    return BesideTable(f"models-{name}", f"{attack} ({name.capitalize()})", {CLEAN[0]: None, **labels}, tuple(rows))


def _corruptions(entries: Sequence[Entry]) -> BesideTable:
    """Means over 15 and 19 corruptions, and the mCE against BP-CNN where there is one."""
    against = f"mCE against {BP}"
    columns = (CLEAN[0], "mean of the 15", "mean of all 19", against)
    baseline = next((_accuracies(entry) for entry in entries if entry.name == BP), {})
    rows = []
    for entry in entries:
        cells = [entry.mean([CLEAN]), entry.mean(_severities(MAIN)), entry.mean(_severities(ALL)),
                 _relative(entry, baseline)]
        if any(cells[1:]):
            rows.append(BesideRow(entry.name, False, entry.images((MAIN[0], 1.0)), dict(zip(columns, cells))))
    return BesideTable("models-corruptions", "Corruptions", dict.fromkeys(columns), tuple(rows))


def _severities(names: Sequence[str]) -> list[Case]:
    return [(name, severity) for name in names for severity in SEVERITIES]


def _accuracies(entry: Entry) -> dict[tuple[str, str, float], float]:
    """(machine, threat, strength) -> mean accuracy over the seeds, of what all of them met."""
    return {case: float(np.mean([points[case].accuracy.value for points in entry.networks]))
            for case in entry.networks[0] if all(case in points for points in entry.networks)}


def _relative(entry: Entry, baseline: dict) -> Estimate | float | None:
    """mCE of each seed against the baseline's mean over seeds; None where a set has gaps or the baseline no error."""
    values = [known(partial(mce, {case: p.accuracy.value for case, p in points.items()}, entry.machine, baseline,
                            REFERENCE, MAIN)) for points in entry.networks]
    if None in values:
        return None
    return values[0] if len(values) == 1 else Estimate(float(np.mean(values)), *student(values))


def claims(entries: dict[str, Entry]) -> list[Claim]:
    """The paper's claims, as far as the models that they speak of were run under what they speak of."""
    labels = {attack: list(labels.values()) for (_, attack), labels in paper.STRENGTHS.items()}
    found = []
    for attack in WHITE_BOX:
        cases, measure = [(attack, s) for s in labels[attack]], f"Mean over the paper's strengths of {attack}"
        found += [_claim(f"Adversarial training beats {EP} under {attack}", measure, entries, cases,
                         [(name, EP) for name in ADVERSARIAL]),
                  _claim(f"{EP} beats {VIT} and {BP} under {attack}", measure, entries, cases, [(EP, VIT), (EP, BP)])]
    found += [_claim(f"{EP} is the best under corruptions", "Mean over all 19", entries, _severities(ALL),
                     [(EP, name) for name in KINDS.values() if name != EP]),
              _claim(f"{EP} pays with no clean accuracy", "Clean images", entries, [CLEAN], [(EP, BP)])]
    return [claim for claim in found if claim.verdicts]


def _claim(text: str, measure: str, entries: dict[str, Entry], cases: Sequence[Case],
           pairs: Sequence[tuple[str, str]]) -> Claim:
    worth = {name: entry.mean(cases) for name, entry in entries.items()}
    return Claim(text, measure, tuple(Verdict(a, b, worth[a], worth[b]) for a, b in pairs
                                      if worth.get(a) and worth.get(b)))


def _budgets(name: str, entries: Sequence[Entry], attack: str = "pgd_l2") -> list[Exhibit]:
    """Accuracy against the l2 budget, the paper's models with their intervals as bands."""
    lines = {entry.name: _line(entry, attack) for entry in entries if entry.name in KINDS.values()}
    lines = {kind: line for kind, line in lines.items() if len(line) > 1}
    if not lines:
        return []
    alt = "; ".join(f"{kind}: " + ", ".join(f"{wording.percent(e.value)} at {eps:.3g}" for eps, e in line)
                    for kind, line in lines.items())
    return [Exhibit(f"{name}-models-{attack}", attack, "Bands: 95 %, Student t over seeds.",
                    f"Accuracy against the budget of {attack}. {alt}.", models_figure(attack, lines))]


def _line(entry: Entry, attack: str) -> list[tuple[float, Estimate]]:
    met = sorted(s for machine, threat, s in entry.networks[0] if (machine, threat) == (entry.machine, attack))
    points = [(s, entry.mean([(attack, s)])) for s in met]
    clean = entry.mean([CLEAN])
    return [(s, e) for s, e in ([(0.0, clean)] if clean else []) + points if e]


def _seeds(entries: Sequence[Entry]) -> str:
    counted = ", ".join(f"{entry.name} {len(entry.networks)}" for entry in entries)
    return (f"Seeds: {counted}. Intervals of several seeds are Student's: what another seed would change, not what "
            "other images would.")


def _estimate(estimate: Estimate) -> str:
    return f"{wording.percent(estimate.value)} {wording.interval(estimate)}"
