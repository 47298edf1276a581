"""Commands about attackers: what carries over between machines, what noise hides, what a gradient is worth."""

from dataclasses import dataclass
from typing import Annotated

import typer

from ep_hw.cli import completion
from ep_hw.cli.application import app
from ep_hw.cli.bench import Bench, ChipOptions, SampleOptions
from ep_hw.cli.folder import asked, claimed
from ep_hw.cli.options import (
    LARGEST_EPS,
    MOST_CHIPS,
    Machines,
    Model,
    PGDOptions,
    counted,
    machine,
    measured,
    stepped,
)
from ep_hw.cli.printing import save_measurement, track_points
from ep_hw.cli.running import RunOptions
from ep_hw.evaluation.progress import progress


@dataclass(frozen=True, kw_only=True)
class MadeOptions:
    """How the images are made that machines hand on."""

    attack: Annotated[str, typer.Option(autocompletion=completion.attacks, help="e.g. pgd_l2@0.5")] = "pgd_l2@0.5"
    gradient: Annotated[list[str] | None, typer.Option(help="bptt@STEPS, adjoint@ITERATIONS, ep@BETA (repeatable)"
                                                       )] = None
    iterations: Annotated[int, counted("PGD iterations")] = 20


@app.command(examples=("transfer digits --on reference --on loihi --attack pgd_l2@0.5",
                       "transfer digits --other digits-bp-s11 --images 50 --out transfer"))
def transfer(context: typer.Context, model: Model,
             on: Machines = None,
             other: Annotated[list[str] | None, typer.Option(help="another model of the same data, on its reference "
                                                             "(repeatable)")] = None,
             chips: Annotated[int, counted("chips of targets that have chips; sources are the first",
                                           high=MOST_CHIPS)] = 1,
             *, made: MadeOptions, sample: SampleOptions, running: RunOptions):
    """Show what images made on one machine do to the others."""
    from ep_hw.evaluation.naming import shown_plan, shown_rows
    from ep_hw.evaluation.plan import evaluate, keys
    from ep_hw.measurements.adversary_figures import transfer_figure
    from ep_hw.measurements.answers import transfer_told
    from ep_hw.measurements.charts import transfer_charts
    from ep_hw.measurements.transfer import plan_transfer, transfer_rows, transfer_table
    from ep_hw.networks.checkpoint import load
    from ep_hw.networks.programs import programs_of
    from ep_hw.threats.attacks import AttackSettings, parse_gradient
    from ep_hw.threats.threat import parse_threat

    bench, threat = Bench.of(context, model, sample), parse_threat(made.attack)
    programs = programs_of(bench.net, on or ["reference", "loihi", "crossbar:pcm"], other or [])
    gradients = tuple(dict.fromkeys(str(parse_gradient(g)) for g in made.gradient or ()))
    settings = AttackSettings(iterations=made.iterations, **({"gradients": gradients} if gradients else {}))
    plan = plan_transfer(bench.net, bench.split, programs, threat, chips=chips, seed=sample.seed, settings=settings,
                         run=running.run(context))
    folder = claimed(context, bench.net.name, asked(context, bench.split.digest, *keys([plan])))
    with progress("transferring") as show:
        summary, _ = evaluate(plan.showing(show), folder)
    rows = transfer_rows(shown_rows(summary, plan.asked.names), shown_plan(plan).asked.machines, threat)
    called = {shown: full for full, shown in plan.asked.names.items()}
    kept = {"model": bench.net.name, "machines": called, "seed": sample.seed,
            "settings": settings.model_dump(mode="json")}
    table = transfer_table(rows, [bench.net, *map(load, other or [])])
    save_measurement(folder, "transfer", kept, rows, table, transfer_figure(rows), transfer_told(rows),
                     transfer_charts(rows))


@app.command(examples=("eot digits --draws 1 --draws 4 --images 16",
                       "eot digits --on crossbar:hermes_2 --eps 1 --out eot"))
def eot(context: typer.Context,
        model: Model, on: Annotated[str, machine("a machine with read noise")] = "crossbar:pcm",
        draws: Annotated[list[int] | None, counted("gradients averaged (repeatable)")] = None,
        time: Annotated[int, stepped("iterations that the gradient goes through")] = 10,
        *, pgd: PGDOptions, sample: ChipOptions = ChipOptions(images=64)):
    """Show how many noisy gradients an attacker must average.

    Their direction, and the accuracy that they leave.
    """
    import simulators
    from ep_hw.measurements.adversary_figures import eot_figure
    from ep_hw.measurements.answers import eot_told
    from ep_hw.measurements.charts import eot_charts
    from ep_hw.measurements.eot import DRAWS, check_noisy, eot_table, measure_eot
    from ep_hw.threats.attacks import Averaged

    bench, counts = Bench.of(context, model, sample), draws or list(DRAWS)
    (program,) = bench.programs([on])
    check_noisy(str(program.target), program.target.is_noisy)
    folder = bench.claim([program])
    with simulators.open(program, chip_seed=sample.chip) as machine:
        points = measure_eot(machine, bench.split, pgd.eps, counts, Averaged(time), pgd.iterations, sample.seed)
        rows = [point.row() for point in track_points(points, len(set(counts)), "averaging")]
    bench.save(folder, ["seed", "chip", "time", "iterations"], rows, eot_table(rows), eot_figure(rows),
               eot_told(rows), eot_charts(rows))


@app.command(name="slice", examples=("slice digits --on reference --on crossbar:pcm",
                                     "slice digits --gradient ep@0.5 --reach 2 --out slice"))
def slice_(context: typer.Context, model: Model,
           on: Machines = None,
           gradient: Annotated[str, typer.Option(help="bptt@STEPS, adjoint@ITERATIONS or ep@BETA")] = "bptt@10",
           reach: Annotated[float, measured("l2 distance on either side", 0.001, LARGEST_EPS)] = 1.0,
           sample: ChipOptions = ChipOptions(images=50)):
    """Show the loss around images, along a gradient and at random."""
    from ep_hw.measurements.adversary_figures import slice_figure
    from ep_hw.measurements.answers import slice_told
    from ep_hw.measurements.charts import slice_charts
    from ep_hw.measurements.landscape import measure_slice, slice_table
    from ep_hw.threats.attacks import parse_gradient

    bench, chosen = Bench.of(context, model, sample), parse_gradient(gradient)
    programs = bench.programs(on or ["reference", "loihi"])
    folder = bench.claim(programs)
    slices = bench.each(programs, "slicing",
                        lambda machine: measure_slice(machine, bench.split, chosen, reach, sample.seed))
    rows = [row for one in slices for row in one.rows()]
    bench.save(folder, ["seed", "chip"], rows, slice_table(slices), slice_figure(slices), slice_told(slices),
               slice_charts(slices))
