"""Results as the page's charts: which numbers a chart shows, what it says of each, and which images lie behind it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ep_hw.analysis.corruption import CorruptionRow
from ep_hw.analysis.points import Point
from ep_hw.analysis.series import Ladder, Line, Panel
from ep_hw.report import wording
from ep_hw.report.figures.charts import (
    Curve,
    Look,
    Step,
    Value,
    bars_chart,
    curves_chart,
    waterfall_chart,
)
from ep_hw.report.figures.drawing import COLOUR_COUNT, MARKER_COUNT
from ep_hw.report.figures.scales import PERCENT, Scale, fitting, strengths
from ep_hw.report.galleries import Behind
from ep_hw.report.models import BudgetLine
from ep_hw.threats.definitions import SEVERITY
from ep_hw.threats.registry import ATTACKS
from mapping.targets import REFERENCE


def looks_of(names: Sequence[str], group: str = "machine") -> dict[str, Look]:
    """A colour and marker for each name, the same everywhere on a page; the reference is drawn in ink, with circles."""
    others = [name for name in names if name != REFERENCE]
    return {REFERENCE: Look(0, 0, 0, group)} | {
        name: Look(1 + n % COLOUR_COUNT, 1 + n % (MARKER_COUNT - 1), n + 1, group) for n, name in enumerate(others)}


@dataclass(frozen=True, eq=False)
class Drawings:
    """How results are drawn on a page.

    Attributes:
        looks: of every machine.
        images: id of the gallery behind each number.
    """

    looks: Mapping[str, Look]
    images: Mapping[Behind, str]

    def value(self, point: Point) -> Value:
        """A machine under a threat, with what is said of it."""
        chips = f", mean of {len(point.chips)} chips" if point.over_chips else ""
        return Value(point.accuracy, f"{point.machine}, {wording.threat_name(point.threat)}: "
                     f"{wording.percent(point.accuracy.value)} {wording.interval(point.accuracy)}, {point.n} images"
                     f"{chips}", images=self.images.get(("", point.machine, point.threat)))

    def waterfall(self, ladder: Ladder) -> Markup:
        """How the accuracy under one threat gets from the reference to a machine."""
        values = [value for step in ladder.steps for value in (
            step.point.accuracy.low, step.point.accuracy.high, *(chip for _, chip in step.point.chips))]
        before = [None, *(step.point.accuracy.value for step in ladder.steps[:-1])]
        steps = [Step(step.cause, _short_machine(step.machine), self._of_step(ladder, n), before[n],
                      (wording.short_percent(step.point.accuracy.value),
                       "" if step.change is None else wording.points_of(step.change.value)),
                      [chip for _, chip in step.point.chips]) for n, step in enumerate(ladder.steps)]
        look = self.looks.get(ladder.target) or self.looks.get(ladder.steps[-1].machine, Look(1, 1))
        return waterfall_chart(steps, look, fitting(values), f"Accuracy waterfall, {ladder.target}, "
                               f"{wording.threat_name(ladder.threat)}. {wording.largest_loss(ladder)}")

    def _of_step(self, ladder: Ladder, n: int) -> Value:
        step = ladder.steps[n]
        said = self.value(step.point)
        changed = "" if step.change is None else (
            f"; {step.cause} changes it by {wording.points_of(step.change.value)} points "
            f"{wording.interval(step.change)}")
        return Value(said.estimate, said.tip + changed, images=said.images)

    def budgets(self, panel: Panel, up: Scale, alt: str) -> Markup:
        """Accuracy against an attack's budget."""
        return self._curves(panel, up, ATTACKS[panel.name].strength.label, alt)

    def severities(self, panel: Panel, up: Scale, alt: str) -> Markup:
        """Accuracy against the severity of a corruption."""
        return self._curves(panel, up, SEVERITY.label, alt)

    def _curves(self, panel: Panel, up: Scale, label: str, alt: str) -> Markup:
        across = strengths([point.strength for line in panel.lines for point in line.points])
        return curves_chart([self._line(line) for line in panel.lines], across, up, label, alt)

    def _line(self, line: Line) -> Curve:
        name = line.machine if line.crafted_on is None else f"{line.machine}, made on {line.crafted_on}"
        return Curve(name, self.looks[line.machine], [(p.strength, self.value(p)) for p in line.points],
                     line.crafted_on is not None)

    def bars(self, severity: float, rows: Sequence[CorruptionRow], alt: str) -> Markup:
        """Accuracy under every corruption of one severity."""
        def at(row: CorruptionRow, machine: str) -> Value | None:
            return next((self.value(p) for p in row.cells.get(machine, ()) if p.strength == severity), None)

        columns = [(machine, self.looks[machine], [at(row, machine) for row in rows]) for machine in rows[0].cells]
        return bars_chart([row.name for row in rows], columns, alt)


def models_chart(attack: str, lines: Mapping[str, BudgetLine], alt: str) -> Markup:
    """Accuracy of networks of several kinds against an attack's budget, with their intervals as bands."""
    looks = looks_of(list(lines), "kind")
    curves = [Curve(kind, looks[kind], [(eps, Value(
        mean, f"{kind}, {attack} at {eps:.3g}: {wording.percent(mean.value)} {wording.interval(mean)}"))
        for eps, mean in line]) for kind, line in lines.items()]
    across = strengths([eps for line in lines.values() for eps, _ in line])
    return curves_chart(curves, across, PERCENT, ATTACKS[attack].strength.label, alt, bands=True)


def limits_of(panels: Sequence[Panel]) -> Scale:
    """An accuracy axis that fits every line of every panel: panels side by side compare at a glance."""
    values = [end for panel in panels for line in panel.lines for point in line.points
              for end in (point.accuracy.low, point.accuracy.high)]
    return fitting(values) if values else PERCENT


def _short_machine(name: str) -> str:
    """A rung's machine without its options, where those do not leave causes out."""
    return "and those above" if "without=" in name else name.partition("[")[0]
