"""Everything a report shows of one model on one data set: what was run, arranged as tables and figures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from ep_hw.analysis.corruption import CorruptionRow, corruption_rows, means
from ep_hw.analysis.points import Point, Points, pool
from ep_hw.analysis.rows import SummaryRow
from ep_hw.analysis.series import (
    Ladder,
    Panel,
    chosen_strengths,
    clean_accuracy,
    ladders,
    machines,
    panels,
    telling,
    threats,
    without_rungs,
)
from ep_hw.analysis.worst import WorstCase
from ep_hw.report import wording
from ep_hw.report.figures.plots import (
    Style,
    corruption_figure,
    curves_figure,
    severity_figure,
    shared_limits,
    styles,
    waterfall_figure,
)
from ep_hw.report.published import PublishedTable, published
from ep_hw.report.record import Exhibit, RunRecord
from ep_hw.threats.threat import CLEAN, Threat

Drawing = Callable[[Panel, dict[str, Style], tuple[float, float]], Figure]   # of a panel, with the limits of its axis
FEWEST_BARS = 3       # corruptions from which on bars side by side tell more than a curve each
FEW_CORRUPTIONS = 4   # that the first table still lists one by one


@dataclass(frozen=True)
class Row:
    """One threat in the table of accuracies.

    Attributes:
        threat: that every machine meets.
        label: how the paper's tables name its strength, or None.
        points: machine -> its point, None where it was not run.
    """

    threat: Threat
    label: str | None
    points: dict[str, Point | None]

    @property
    def name(self) -> str:
        return wording.threat_name(self.threat)

    @property
    def own(self) -> bool:
        """Whether every machine meets images that were made against it."""
        return self.threat.is_direct

    @property
    def source(self) -> str | None:
        """The machine that a transferred attack was made on."""
        return self.threat.source


@dataclass(frozen=True, eq=False)
class ModelResults:
    """What the page and the files show of one model on one data set.

    Attributes:
        model: its name.
        dataset: that it was evaluated on.
        points: without the rungs that only waterfalls show.
        headline: the rows that answer.
        rows: all of them.
        worst: worst cases over the attacks of one norm and budget, where there are several.
        ladders: what waterfalls show, clean ones first.
        budgets: attacks, shown against their budgets.
        corruptions: a row each.
        means: machine -> name -> mean accuracy, or mCE.
        by_severity: corruptions of each severity at which several were run.
        along_severity: corruptions of several severities, shown against these.
        published: tables of the paper.
    """

    model: str
    dataset: str
    points: Points
    headline: list[Row]
    rows: list[Row]
    worst: list[WorstCase]
    ladders: list[Ladder]
    budgets: list[Panel]
    corruptions: list[CorruptionRow]
    means: dict[str, dict[str, float | None]]
    by_severity: dict[int, list[CorruptionRow]]
    along_severity: list[Panel]
    published: list[PublishedTable]

    @property
    def machines(self) -> list[str]:
        return machines(self.points)

    @property
    def findings(self) -> list[str]:
        return wording.findings(self.points)

    @property
    def sample_size(self) -> str:
        return wording.sample_size(list(self.points.values()))

    @property
    def images(self) -> list[int]:
        return sorted({point.n for point in self.points.values()})

    @property
    def chips(self) -> int:
        return max(len(point.chips) for point in self.points.values())

    @property
    def over_chips(self) -> bool:
        return any(point.over_chips for point in self.points.values())

    @property
    def complete_means(self) -> list[str]:
        """Names of the means over corruptions that some machine has."""
        return list(dict.fromkeys(name for named in self.means.values() for name, value in named.items()
                                  if value is not None))

    @property
    def severity_list(self) -> str:
        """The severities that were run, in words."""
        met = {p.strength for row in self.corruptions for points in row.cells.values() for p in points}
        return ", ".join(f"{severity:g}" for severity in sorted(met))

    def exhibits(self) -> list[Exhibit]:
        """All figures, each of which becomes a file."""
        look = styles(self.machines)
        return [*_waterfalls(self.model, self.ladders, look),
                *_figures(self.model, self.budgets, look, curves_figure),
                *(_bars(self.model, severity, rows, look) for severity, rows in self.by_severity.items()),
                *_figures(self.model, self.along_severity, look, corruption_figure)]


def results_of(run: RunRecord) -> list[ModelResults]:
    """One a model and data set: accuracies of different networks are never pooled."""
    groups: dict[tuple[str, str], list[SummaryRow]] = {}
    for row in run.summary:
        groups.setdefault((row["model"], row["dataset"]), []).append(row)
    return [_results(*name, rows, run) for name, rows in groups.items()]


def _results(model: str, dataset: str, summary: Sequence[SummaryRow], run: RunRecord) -> ModelResults:
    everything = pool(summary)
    falls = ladders(everything, run.waterfalls)
    points = without_rungs(everything, falls)
    rows, corruptions = _rows(points, run.labels), corruption_rows(points)
    return ModelResults(
        model, dataset, points, _headline(points, rows, corruptions), rows,
        [case for case in run.worst if len(case.attacks) > 1 and case.machine in machines(points)],
        telling(falls, clean_accuracy(points)), panels(points, attacks=True), corruptions,
        {machine: means(points, machine, run.baseline) for machine in machines(points)}, _by_severity(corruptions),
        [panel for panel in panels(points, attacks=False) if _has_a_curve(panel)],
        published(model, dataset, points, run.ensemble))


def _rows(points: Points, labels: dict[tuple[str, float], str]) -> list[Row]:
    return [Row(threat, labels.get((threat.kind, threat.strength)),
                {machine: points.get((machine, threat)) for machine in machines(points)}) for threat in threats(points)]


def _headline(points: Points, rows: Sequence[Row], corruptions: Sequence[CorruptionRow]) -> list[Row]:
    """Clean images, attacks at telling strengths, and a few corruptions at their largest severity."""
    strengths = chosen_strengths(points)
    met = sorted((row.threat for row in rows), key=lambda threat: threat.strength)
    largest = {threat.name: threat for threat in met if threat.is_corruption and len(corruptions) <= FEW_CORRUPTIONS}
    return [row for row in rows if row.threat == CLEAN or (row.threat.kind, row.threat.strength) in strengths
            or row.threat in largest.values()]


def _waterfalls(model: str, shown: Sequence[Ladder], look: dict[str, Style]) -> list[Exhibit]:
    exhibits = []
    for ladder in shown:
        title = f"{ladder.target}: {wording.threat_name(ladder.threat)}"
        sentence = wording.largest_loss(ladder)
        exhibits.append(Exhibit(f"{model}-waterfall-{ladder.target}-{ladder.threat.name}", title, sentence,
                                f"Accuracy waterfall, {title}. {sentence}",
                                waterfall_figure(ladder, look[ladder.steps[-1].machine])))
    return exhibits


def _figures(model: str, shown: Sequence[Panel], look: dict[str, Style], draw: Drawing) -> list[Exhibit]:
    if not shown:
        return []
    limits = shared_limits(shown)
    return [Exhibit(f"{model}-{panel.name}", panel.name, "", describe(panel), draw(panel, look, limits))
            for panel in shown]


def _has_a_curve(panel: Panel) -> bool:
    return any(len(line.points) > 2 for line in panel.lines)


def _by_severity(rows: Sequence[CorruptionRow]) -> dict[int, list[CorruptionRow]]:
    """Severity -> the corruptions that were run at it, of those severities with a few."""
    severities = sorted({point.strength for row in rows for points in row.cells.values() for point in points})
    present = {int(severity): [row for row in rows if any(p.strength == severity for ps in row.cells.values()
                                                          for p in ps)] for severity in severities}
    return {severity: own for severity, own in present.items() if len(own) >= FEWEST_BARS}


def _bars(model: str, severity: int, rows: Sequence[CorruptionRow], look: dict[str, Style]) -> Exhibit:
    return Exhibit(f"{model}-severity-{severity}", f"severity {severity}", "", describe_bars(severity, rows),
                   severity_figure(severity, rows, look))


def describe_bars(severity: int, rows: Sequence[CorruptionRow]) -> str:
    """Every bar in words, for readers who cannot see the figure."""
    lines = (f"{row.name}: " + ", ".join(f"{machine} {wording.percent(p.accuracy.value)}" for machine, points in
                                         row.cells.items() for p in points if p.strength == severity) for row in rows)
    return f"Accuracy under corruptions of severity {severity}. {'; '.join(lines)}."


def describe(panel: Panel) -> str:
    """Every plotted number in words, for readers who cannot see the figure."""
    lines = []
    for line in panel.lines:
        values = ", ".join(f"{wording.percent(p.accuracy.value)} at {p.strength:.3g}" for p in line.points)
        lines.append(f"{line.machine}{f', made on {line.crafted_on}' if line.crafted_on else ''}: {values}")
    return f"Accuracy against strength of {panel.name}. {'; '.join(lines)}."
