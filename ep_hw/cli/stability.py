"""Commands about how firmly a machine holds a prediction: against random perturbations, and over time."""

from typing import Annotated

import typer

from ep_hw.cli.application import app
from ep_hw.cli.bench import Bench, ChipOptions
from ep_hw.cli.options import LARGEST_EPS, Machines, Model, PGDOptions, counted, machine, measured, stepped
from ep_hw.cli.printing import track_points


@app.command(examples=("uncertainty digits --on reference --on loihi",
                       "uncertainty digits --size 0.5 --size 1 --draws 10 --out uncertainty"))
def uncertainty(context: typer.Context, model: Model,
                on: Machines = None,
                size: Annotated[list[float] | None, measured("l2 size of a perturbation (repeatable)",
                                                             1e-6, LARGEST_EPS)] = None,
                draws: Annotated[int, counted("random directions an image and size")] = 5,
                *, sample: ChipOptions):
    """Show how often random perturbations change a prediction.

    How that grows with their size, and its exponent.
    """
    from ep_hw.measurements.answers import uncertainty_told
    from ep_hw.measurements.charts import uncertainty_charts
    from ep_hw.measurements.figures import uncertainty_figure
    from ep_hw.measurements.uncertainty import SIZES, check_quiet, check_sizes, measure_uncertainty, uncertainty_table

    sizes = check_sizes(size or SIZES)
    bench = Bench.of(context, model, sample)
    programs = bench.programs(on or ["reference", "loihi"])
    for program in programs:
        check_quiet(str(program.target), program.target.is_noisy)
    folder = bench.claim(programs)
    changes = bench.each(programs, "perturbing",
                         lambda machine: measure_uncertainty(machine, bench.split, sizes, draws, sample.seed))
    rows = [row for one in changes for row in one.rows()]
    bench.save(folder, ["seed", "chip"], rows, uncertainty_table(changes), uncertainty_figure(changes),
               uncertainty_told(changes), uncertainty_charts(changes))


@app.command(examples=("temporal digits --time 5 --time 15 --images 20",
                       "temporal digits --on loihi --eps 1 --out temporal"))
def temporal(context: typer.Context,
             model: Model, on: Annotated[str, machine("machine or program folder")] = "reference",
             time: Annotated[list[int] | None, stepped("iterations that the attacker's gradient goes through "
                                                       "(repeatable)")] = None,
             step: Annotated[list[int] | None, stepped("time step at which the machine predicts (repeatable)")] = None,
             *, pgd: PGDOptions, sample: ChipOptions):
    """Show accuracy against the attacker's time and the machine's.

    How long each of them relaxes.
    """
    import simulators
    from ep_hw.evaluation.temporal import (
        ATTACK_TIMES,
        PREDICTION_STEPS,
        check_relaxes,
        measure_times,
        temporal_table,
    )
    from ep_hw.measurements.answers import temporal_told
    from ep_hw.report.figures.temporal import temporal_charts, temporal_figure

    bench, times = Bench.of(context, model, sample), time or ATTACK_TIMES
    (program,) = bench.programs([on])
    check_relaxes(program.graph)
    folder = bench.claim([program])
    with simulators.open(program, chip_seed=sample.chip) as machine:
        measured_times = measure_times(machine, bench.split, pgd.eps, times, step or PREDICTION_STEPS, pgd.iterations,
                                       sample.seed)
        points = list(track_points(measured_times, 1 + len(set(times)), "attacking"))
    rows = [row for point in points for row in point.rows()]
    bench.save(folder, ["seed", "chip", "iterations"], rows, temporal_table(points), temporal_figure(points),
               temporal_told(points), temporal_charts(points))
