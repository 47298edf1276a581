"""`write_report`: a run record becomes one HTML file that needs no network and no script."""

import json
from importlib import resources
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from ep_hw.checkpoint import write_atomically
from ep_hw.report import wording
from ep_hw.report.inline import amplified, data_uri, png, svg
from ep_hw.report.plots import Style, corruption_figure, curves_figure, shared_limits, styles, waterfall_figure
from ep_hw.report.points import Points, attacks_its_own_images, is_attack, pool, source
from ep_hw.report.record import GalleryItem, RunRecord
from ep_hw.report.series import Ladder, ladders, machines, panels, strongest, threats, without_rungs

SUMMARY_COLUMNS = ("model", "dataset", "machine", "threat", "strength", "chip_seed", "n", "accuracy", "ci_low",
                   "ci_high", "agreement", "flips_to_wrong", "flips_to_right", "seconds", "key")


def write_report(path: Path, run: RunRecord):
    """Write the report of a run; the file appears whole or not at all.

    The same record gives the same bytes.

    Raises:
        Refusal: the file cannot be written.
    """
    write_atomically(path, render(run).encode())


def render(run: RunRecord) -> str:
    """The page as text."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"percent": wording.percent, "interval": wording.interval, "cell": _cell}
    template = environment.from_string(resources.files(__package__).joinpath("template.html").read_text("utf-8"))
    studies = [_study(number, name, rows, run) for number, (name, rows) in enumerate(_studies(run.summary).items())]
    return template.render(run=run, studies=studies, gallery=list(map(_frame, run.gallery)), columns=SUMMARY_COLUMNS,
                           summary_uri=data_uri("application/json", json.dumps(run.summary, indent=1).encode()))


def _studies(summary: list[dict]) -> dict[tuple[str, str], list[dict]]:
    """Rows by (model, dataset): accuracies of different networks are never pooled."""
    found = {}
    for row in summary:
        found.setdefault((row["model"], row["dataset"]), []).append(row)
    return found


def _study(number: int, name: tuple[str, str], rows: list[dict], run: RunRecord) -> dict:
    """Everything the template shows of one model on one data set."""
    points = pool(rows)
    shown = ladders(points, run.waterfalls)
    whole = without_rungs(points, shown)
    look = styles(machines(whole))
    return {"id": f"s{number}", "model": name[0], "dataset": name[1],
            "findings": wording.findings(whole), "sample_size": wording.sample_size(list(points.values())),
            "images": sorted({p.n for p in points.values()}), "chips": max(len(p.chips) for p in points.values()),
            "over_chips": any(p.over_chips for p in points.values()),
            "machines": machines(whole), "headline": _headline(whole),
            "waterfalls": _waterfalls(f"s{number}", strongest(shown), look),
            "curves": _figures(f"s{number}-eps", panels(whole, attacks=True), look, curves_figure),
            "corruptions": _figures(f"s{number}-corruption", panels(whole, attacks=False), look, corruption_figure)}


def _headline(points: Points) -> list[dict]:
    """One row a threat: clean, attacks at every strength, each corruption at its largest severity."""
    pairs = threats(points)
    largest = dict(sorted(pairs, key=lambda pair: pair[1]))
    return [{"name": wording.threat_name(threat, strength), "own": attacks_its_own_images(threat),
             "source": source(threat),
             "points": {machine: points.get((machine, threat, strength)) for machine in machines(points)}}
            for threat, strength in pairs if is_attack(threat) or strength == largest[threat]]


def _waterfalls(prefix: str, shown: list[Ladder], look: dict[str, Style]) -> list[dict]:
    figures = []
    for number, ladder in enumerate(shown):
        title = f"{ladder.target}: {wording.threat_name(ladder.threat, ladder.strength)}"
        sentence = wording.largest_loss(ladder)
        figure = waterfall_figure(ladder, look[ladder.steps[-1].machine])
        figures.append({"title": title, "sentence": sentence, "clean": ladder.threat == "clean",
                        "svg": svg(figure, f"{prefix}-waterfall-{number}", f"Accuracy waterfall, {title}. {sentence}")})
    return figures


def _figures(prefix: str, shown: list, look: dict[str, Style], draw) -> list[dict]:
    if not shown:
        return []
    limits = shared_limits(shown)
    return [{"name": panel.name, "svg": svg(draw(panel, look, limits), f"{prefix}-{number}", _describe(panel))}
            for number, panel in enumerate(shown)]


def _describe(panel) -> str:
    """Every plotted number in words, for readers who cannot see the figure."""
    lines = []
    for line in panel.lines:
        values = ", ".join(f"{wording.percent(p.accuracy.value)} at {p.strength:.3g}" for p in line.points)
        lines.append(f"{line.machine}{f', crafted on {line.crafted_on}' if line.crafted_on else ''}: {values}")
    return f"Accuracy against strength of {panel.name}. {'; '.join(lines)}."


def _frame(item: GalleryItem) -> dict:
    difference, factor = amplified(item.clean, item.adversarial)
    return {"item": item, "factor": factor, "threat": wording.threat_name(item.threat, item.strength),
            "clean": png(item.clean), "adversarial": png(item.adversarial), "difference": png(difference)}


def _cell(value: object) -> str:
    """A plain value in a table: floats at six significant digits, a dash for None, name = value pairs of a dict."""
    if value is None:
        return "\u2013"
    if isinstance(value, dict):
        return ", ".join(f"{name} = {_cell(inner)}" for name, inner in value.items())
    return f"{value:.6g}" if isinstance(value, float) else str(value)
