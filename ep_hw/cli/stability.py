"""Commands about how firmly a machine holds a prediction: against random perturbations, and over time."""

from typing import Annotated

import typer

from ep_hw.cli.application import app
from ep_hw.cli.folder import asked, claimed
from ep_hw.cli.options import (
    LARGEST_EPS,
    Chip,
    DataRoot,
    Download,
    Images,
    Model,
    Out,
    counted,
    measured,
    seeded,
    stepped,
)
from ep_hw.cli.printing import save_measurement, track_points


@app.command()
def uncertainty(context: typer.Context, model: Model,
                on: Annotated[list[str] | None, typer.Option(help="machine or program folder (repeatable)")] = None,
                size: Annotated[list[float] | None, measured("l2 size of a perturbation (repeatable)",
                                                             1e-6, LARGEST_EPS)] = None,
                draws: Annotated[int, counted("random directions an image and size")] = 5,
                images: Images = 100, chip: Chip = 0,
                seed: Annotated[int, seeded("of the images and of the directions")] = 0,
                out: Out = None,
                data_root: DataRoot = None, download: Download = False):
    """Show how the chance that a random perturbation changes a prediction grows with its size, and its exponent."""
    import simulators
    from ep_hw.data.source import DataSource
    from ep_hw.measurements.figures import uncertainty_figure
    from ep_hw.measurements.uncertainty import SIZES, check_quiet, check_sizes, measure_uncertainty, uncertainty_table
    from ep_hw.networks.programs import network_and_images, program_of

    sizes = check_sizes(size or SIZES)
    net, split = network_and_images(model, images, seed, DataSource(data_root, download))
    programs = [program_of(name, net.lower()) for name in on or ["reference", "loihi"]]
    for program in programs:
        check_quiet(str(program.target), program.target.is_noisy)
    out = claimed(context, net.name, asked(context, split.digest, *(program.digest() for program in programs)))
    found = []
    for program in track_points(programs, len(programs), "perturbing"):
        with simulators.open(program, chip_seed=chip) as machine:
            found.append(measure_uncertainty(machine, split, sizes, draws, seed))
    rows = [row for one in found for row in one.rows()]
    settings = {"model": net.name, "seed": seed, "chip": chip}
    save_measurement(out, "uncertainty", settings, rows, uncertainty_table(found), uncertainty_figure(found))


@app.command()
def temporal(context: typer.Context,
             model: Model, on: Annotated[str, typer.Option(help="machine or program folder")] = "reference",
             eps: Annotated[float, measured("of the l2 attack", 0, LARGEST_EPS)] = 0.5,
             time: Annotated[list[int] | None, stepped("iterations that the attacker's gradient goes through "
                                                       "(repeatable)")] = None,
             step: Annotated[list[int] | None, stepped("time step at which the machine predicts (repeatable)")] = None,
             iterations: Annotated[int, counted("PGD iterations")] = 20,
             images: Images = 100, chip: Chip = 0,
             seed: Annotated[int, seeded("of the images and of read noise")] = 0,
             out: Out = None,
             data_root: DataRoot = None, download: Download = False):
    """Show accuracy against an attacker's time and the machine's own: how long each of them relaxes."""
    import simulators
    from ep_hw.data.source import DataSource
    from ep_hw.evaluation.temporal import ATTACK_TIMES, PREDICTION_STEPS, measure_times, temporal_table
    from ep_hw.networks.programs import network_and_images, program_of
    from ep_hw.report.figures.temporal import temporal_figure

    net, split = network_and_images(model, images, seed, DataSource(data_root, download))
    program = program_of(on, net.lower())
    out = claimed(context, net.name, asked(context, split.digest, program.digest()))
    times = time or ATTACK_TIMES
    with simulators.open(program, chip_seed=chip) as machine:
        points = measure_times(machine, split, eps, times, step or PREDICTION_STEPS, iterations, seed)
        points = list(track_points(points, 1 + len(set(times)), "attacking"))
    rows = [row for point in points for row in point.rows()]
    settings = {"model": net.name, "seed": seed, "chip": chip, "iterations": iterations}
    save_measurement(out, "temporal", settings, rows, temporal_table(points), temporal_figure(points))
