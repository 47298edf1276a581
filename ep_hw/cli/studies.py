"""`ep-hw study`: sweep options of machines and compare their accuracy under threats."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ep_hw.cli.application import app
from ep_hw.cli.data import DataOptions
from ep_hw.cli.folder import asked, claimed, place
from ep_hw.cli.options import MOST_CHIPS, MOST_IMAGES, Out, counted
from ep_hw.cli.printing import print_table, say
from ep_hw.cli.running import RunOptions
from ep_hw.evaluation.progress import Progress, progress

if TYPE_CHECKING:   # these load torch
    from ep_hw.data.source import DataSource
    from ep_hw.evaluation.execution import Run
    from ep_hw.evaluation.folders import Question
    from ep_hw.evaluation.plan import Plan
    from ep_hw.studies.study import NetworkStudy, Study

    Plans = list[tuple[str, Plan]]


@dataclass(frozen=True, kw_only=True)
class NumberOptions:
    """Numbers in place of a study's own."""

    images: Annotated[int | None, counted("test images, in place of the study's", high=MOST_IMAGES)] = None
    chips: Annotated[int | None, counted("chips, in place of the study's", high=MOST_CHIPS)] = None


@app.command(examples=("study age --dry-run", "study converters --images 50 --chips 2 --out converters"))
def study(context: typer.Context,
          name: Annotated[str, typer.Argument(metavar="FILE", help="a packaged study (age, converters, feedback, "
                                                                  "wires) or a TOML file")],
          dry_run: Annotated[bool, typer.Option("--dry-run", help="only count the cells and estimate their time from a "
                                                "few that are measured small")] = False,
          numbers: NumberOptions = NumberOptions(),
          out: Out = None, *, running: RunOptions, data: DataOptions):
    """Sweep options of machines, crossed with threats.

    By grid or list, with waterfalls in both orders of the causes.
    """
    from ep_hw.evaluation.plan import keys
    from ep_hw.studies.study import load_study, with_numbers

    wanted = with_numbers(load_study(name), images=numbers.images, chips=numbers.chips)
    plans = _plans(wanted, running.run(context), data.source())

    def question() -> "Question":
        return asked(context, plans[0][1].images.digest, wanted.model_dump(mode="json", by_alias=True),
                     *keys([plan for _, plan in plans]))

    if dry_run:
        with progress("measuring") as show:
            say(_foreseen(wanted, _showing(plans, show), place(context, Path(name).stem, question)))
        return
    folder = claimed(context, Path(name).stem, question())
    _make(wanted, plans, folder)
    say(f"{folder}: report.html, study.json, and its figures as PNG and SVG")


def _plans(wanted: "Study | NetworkStudy", where: "Run", source: "DataSource") -> "Plans":
    """The plans of a study, each with its group of networks; one of no group, where it sweeps machines."""
    from ep_hw.studies.execution import plan_study
    from ep_hw.studies.study import NetworkStudy

    if isinstance(wanted, NetworkStudy):
        from ep_hw.studies.networks import plan_networks  # and with it, all that draws

        return plan_networks(wanted, run=where, data_source=source)
    return [("", plan_study(wanted, run=where, data_source=source))]


def _showing(plans: "Plans", show: Progress) -> "Plans":
    return [(group, plan.showing(show)) for group, plan in plans]


def _foreseen(wanted: "Study | NetworkStudy", plans: "Plans", folder: Path) -> str:
    """What a study will take."""
    from ep_hw.evaluation.budget import not_measured
    from ep_hw.evaluation.forecast import estimate
    from ep_hw.studies.study import Study, figure_count

    asked = [plan for _, plan in plans]
    known = estimate(asked, folder, figures=figure_count(wanted) if isinstance(wanted, Study) else 0)
    largest = min(asked[0].limits.shard, len(asked[0].images))
    return (f"{wanted.title}: {known.cells} cells of up to {largest} images, "
            f"{len(known.jobs)} still to compute; about {duration_of(known.seconds)} on {known.workers} "
            f"worker{'s' * (known.workers != 1)} ({known.basis()}).{not_measured(known.unmeasured())}")


def _make(wanted: "Study | NetworkStudy", plans: "Plans", out: Path) -> None:
    """Compute and write a study, and print its answer."""
    from ep_hw.evaluation.folders import command_line
    from ep_hw.studies.networks import run_networks
    from ep_hw.studies.outcome import run_study, study_table
    from ep_hw.studies.study import NetworkStudy

    if isinstance(wanted, NetworkStudy):
        with progress("studying") as show:
            verdicts = run_networks(wanted, _showing(plans, show), out, command_line())
        for verdict in verdicts:
            say(verdict)
        return
    with progress("studying") as show:
        rows = run_study(wanted, _showing(plans, show)[0][1], out, command_line())
    print_table(study_table(wanted, rows))


def duration_of(seconds: float) -> str:
    """Seconds below two minutes, then minutes, then hours."""
    unit, size = next(((u, s) for u, s in (("h", 3600), ("min", 60)) if seconds >= 2 * s), ("s", 1))
    return f"{seconds / size:.2g} {unit}" if seconds < 100 * size else f"{seconds / size:.0f} {unit}"
