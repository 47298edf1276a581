"""`ep-hw study`: sweep options of machines and compare their accuracy under threats."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ep_hw.cli.application import app
from ep_hw.cli.data import source_of
from ep_hw.cli.folder import asked, claimed, place
from ep_hw.cli.options import (
    MOST_CHIPS,
    MOST_IMAGES,
    PROCESSORS,
    Cluster,
    Data,
    DataRoot,
    Device,
    Download,
    Jobs,
    Out,
    counted,
)
from ep_hw.cli.printing import print_table, say
from ep_hw.cli.running import run_of
from ep_hw.evaluation.progress import progress

if TYPE_CHECKING:
    from ep_hw.evaluation.plan import Plan
    from ep_hw.studies.study import NetworkStudy


@app.command(examples=("study age --dry-run", "study converters --images 50 --chips 2 --out converters"))
def study(context: typer.Context,
          name: Annotated[str, typer.Argument(metavar="FILE", help="a packaged study (age, converters, feedback, "
                                                                  "wires) or a TOML file")],
          dry_run: Annotated[bool, typer.Option("--dry-run", help="only count the cells and estimate their time from a "
                                                "few that are measured small")] = False,
          images: Annotated[int | None, counted("test images, in place of the study's", high=MOST_IMAGES)] = None,
          chips: Annotated[int | None, counted("chips, in place of the study's", high=MOST_CHIPS)] = None,
          out: Out = None,
          jobs: Jobs = PROCESSORS, cluster: Cluster = None, data: Data = None,
          data_root: DataRoot = None, download: Download = False, device: Device = "cpu"):
    """Sweep options of machines, crossed with threats.

    By grid or list, with waterfalls in both orders of the causes.
    """
    from ep_hw.evaluation.budget import not_measured
    from ep_hw.evaluation.forecast import estimate
    from ep_hw.evaluation.plan import cells_of
    from ep_hw.studies.execution import plan_study
    from ep_hw.studies.networks import plan_networks
    from ep_hw.studies.outcome import figure_count, run_study, study_table
    from ep_hw.studies.study import NetworkStudy, load_study, with_numbers
    from ep_hw.workflow import command_line, keys

    wanted, source = with_numbers(load_study(name), images=images, chips=chips), source_of(data, data_root, download)
    where = run_of(context, device, jobs, cluster)
    if isinstance(wanted, NetworkStudy):
        plans = plan_networks(wanted, run=where, data_source=source)
        _study_networks(context, name, wanted, plans, dry_run)
        return
    plan = plan_study(wanted, run=where, data_source=source)
    question = asked(context, plan.images.digest, wanted.model_dump(mode="json", by_alias=True), *keys([plan]))
    if dry_run:
        folder = place(context, Path(name).stem, question)
        with progress("measuring") as show:
            known = estimate([plan.showing(show)], folder, figures=figure_count(wanted))
        say(f"{wanted.title}: {len(cells_of(plan, folder))} cells of up to {min(plan.limits.shard, len(plan.images))} "
            f"images, {len(known.jobs)} still to compute; about {duration_of(known.seconds)} on {jobs} workers "
            f"({known.basis()}).{not_measured(known.unmeasured())}")
        return
    out = claimed(context, Path(name).stem, question)
    with progress("studying") as show:
        rows = run_study(wanted, plan.showing(show), out, command_line())
    print_table(study_table(wanted, rows))
    say(f"{out}: report.html, study.csv, study.json, and its figures as PNG and SVG")


def _study_networks(context: typer.Context, name: str, wanted: "NetworkStudy", plans: "list[tuple[str, Plan]]",
                    dry_run: bool):
    """A study over networks, or what it will take."""
    from ep_hw import workflow
    from ep_hw.evaluation.forecast import estimate
    from ep_hw.studies.networks import run_networks

    question = asked(context, plans[0][1].images.digest, wanted.model_dump(mode="json"),
                     *workflow.keys([plan for _, plan in plans]))
    if dry_run:
        folder = place(context, Path(name).stem, question)
        with progress("measuring") as show:
            known = estimate([plan.showing(show) for _, plan in plans], folder)
        say(f"{wanted.title}: {len(known.jobs)} cells to compute; about {duration_of(known.seconds)} "
            f"({known.basis()}).")
        return
    out = claimed(context, Path(name).stem, question)
    with progress("studying") as show:
        verdicts = run_networks(wanted, [(group, plan.showing(show)) for group, plan in plans], out,
                                workflow.command_line())
    for verdict in verdicts:
        say(str(verdict))
    say(f"{out}: report.html, study.json, and its figures as PNG and SVG")


def duration_of(seconds: float) -> str:
    """Seconds below two minutes, then minutes, then hours."""
    unit, size = next(((u, s) for u, s in (("h", 3600), ("min", 60)) if seconds >= 2 * s), ("s", 1))
    return f"{seconds / size:.2g} {unit}" if seconds < 100 * size else f"{seconds / size:.0f} {unit}"
