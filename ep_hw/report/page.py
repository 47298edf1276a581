"""A run record becomes one HTML file that needs no network and no script."""

import json
import re
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import resources

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from ep_hw.analysis import paper
from ep_hw.analysis.rows import plain
from ep_hw.data.splits import class_name
from ep_hw.evaluation.checks import Verdict
from ep_hw.report import wording
from ep_hw.report.figures.inline import amplified, data_uri, png, svg
from ep_hw.report.model_results import ModelResults
from ep_hw.report.models import Models
from ep_hw.report.published import datasets
from ep_hw.report.record import Exhibit, GalleryItem, RunRecord
from mapping.files import slug
from mapping.program import Table

SUMMARY_COLUMNS = ("model", "dataset", "machine", "threat", "strength", "chip_seed", "n", "accuracy", "ci_low",
                   "ci_high", "agreement", "flips_to_wrong", "flips_to_right", "gap_low", "gap_high", "logit_rmse",
                   "logit_rmse_clean_correct", "seconds", "key")


def render(run: RunRecord, shown: Sequence[ModelResults], models: Models | None = None) -> str:
    """The page as text.

    Args:
        run: the record.
        shown: `results_of(run)`, whose figures are drawn once for the page and for the files that go with it.
        models: what the page begins with where a family was evaluated.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"percent": wording.percent, "interval": wording.interval, "cell": _cell, "svg": _inline,
                            "short": wording.short_percent, "named": partial(class_name, run.class_names),
                            "breakable": partial(_breakable, run.names)}
    summary = plain(run.summary)
    template = environment.from_string(resources.files(__package__).joinpath("template.html").read_text("utf-8"))
    return template.render(run=run, models=models, studies=list(shown), gallery=list(map(_frame, run.gallery)),
                           summary=summary, columns=SUMMARY_COLUMNS, paper=paper, datasets=datasets(),
                           checks=_checks(run.checks),
                           summary_uri=data_uri("application/json", json.dumps(summary, indent=1).encode()))


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


def _breakable(names: Mapping[str, str], machine: str) -> Markup:
    """What a machine is called, which may be broken where its parts meet, and its full name for who points at it."""
    shown = Markup(re.sub(r"([:/\[,])", r"\1<wbr>", str(escape(machine))))
    return Markup('<span title="{}">{}</span>').format(names[machine], shown) if machine in names else shown


def _inline(exhibit: Exhibit) -> str:
    return svg(exhibit.figure, slug(exhibit.name), exhibit.alt)


def _frame(item: GalleryItem) -> dict:
    difference, factor = amplified(item.clean, item.adversarial)
    return {"item": item, "factor": factor, "threat": wording.threat_name(item.threat),
            "clean": png(item.clean), "adversarial": png(item.adversarial), "difference": png(difference)}


def _cell(value: object) -> str:
    """A plain value in a table: floats at six significant digits, a dash for None, lists and dicts spelled out."""
    if value is None:
        return "\u2013"
    if isinstance(value, dict):
        return ", ".join(f"{name} = {_cell(inner)}" for name, inner in value.items())
    if isinstance(value, (list, tuple)):
        return " ".join(map(_cell, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)
