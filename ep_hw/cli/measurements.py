"""Commands that measure one thing on machines and leave a table, a plot and their numbers."""

from pathlib import Path
from typing import Annotated

import typer

from ep_hw.cli import completion
from ep_hw.cli.application import app
from ep_hw.cli.bench import Bench, ChipOptions, SampleOptions
from ep_hw.cli.folder import asked, claimed
from ep_hw.cli.options import Model, counted, machine, measured, nudged, placed, seeded
from ep_hw.cli.printing import print_table, save_measurement, track_points


@app.command(examples=("events digits --threshold 0 --threshold 0.02",
                       'events digits --on "loihi[state_bits=8]" --out events'))
def events(context: typer.Context,
           model: Model, on: Annotated[str, machine("loihi or lava, with options")] = "loihi",
           threshold: Annotated[list[float] | None, measured("changes up to it, in units of the state, are not sent "
                                                             "(repeatable)", 0, 0.5)] = None,
           sample: SampleOptions = SampleOptions(images=200)):
    """Show accuracy against events and energy on Loihi.

    Synaptic operations too, for several thresholds below which changes are not sent.
    """
    from ep_hw.measurements.answers import events_told
    from ep_hw.measurements.charts import events_charts
    from ep_hw.measurements.events import THRESHOLDS, event_table, event_targets, measure_events
    from ep_hw.measurements.figures import events_figure
    from mapping.program import FloatProgram

    bench, targets = Bench.of(context, model, sample), event_targets(on, threshold or THRESHOLDS)
    graph = bench.graph()
    folder = bench.claim([FloatProgram(targets[0], graph)])
    layers = [population.name for population in graph.populations]
    points = track_points(measure_events(graph, targets, bench.split), len(targets), "counting events")
    rows = [point.row(layers) for point in points]
    bench.save(folder, ["seed"], rows, event_table(rows), events_figure(rows, graph.period),
               events_told(rows), events_charts(rows, graph.period))


@app.command(examples=("gradients digits --on loihi --beta 0.5 --beta 1",
                       "gradients digits --state-bits 8 --out gradients"))
def gradients(context: typer.Context, model: Model,
              on: Annotated[list[str] | None, machine("machine (repeatable)")] = None,
              beta: Annotated[list[float] | None, nudged("strength of the nudge (repeatable)")] = None,
              state_bits: Annotated[list[int] | None, counted("of Loihi machines (repeatable); those proven safe are "
                                                              "added", 4, 16)] = None,
              pairs: Annotated[int, counted("nudged pairs averaged on noisy machines")] = 1,
              *, sample: ChipOptions):
    """Show what image gradients measured by nudging are worth.

    How often they are zero, and how well they are aimed.
    """
    from ep_hw.measurements.answers import gradients_told
    from ep_hw.measurements.charts import gradients_charts
    from ep_hw.measurements.figures import gradients_figure
    from ep_hw.measurements.gradients import BETAS, check_betas, gradient_programs, gradient_table, measure_gradients

    betas = check_betas(beta or BETAS)
    bench = Bench.of(context, model, sample)
    programs = gradient_programs(bench.graph(), on or ["reference", "loihi"], state_bits or [])
    folder = bench.claim(programs)
    points = (point for program in programs
              for point in measure_gradients(program, bench.split, betas, pairs=pairs, chip=sample.chip,
                                         seed=sample.seed))
    rows = [point.row() for point in track_points(points, 2 * len(programs) * len(betas), "measuring gradients")]
    bench.save(folder, ["seed", "chip", "pairs"], rows, gradient_table(rows), gradients_figure(rows),
               gradients_told(rows), gradients_charts(rows))


@app.command(examples=("devices", "devices pcm reram_wan --out curves"))
def devices(context: typer.Context,
            names: Annotated[list[str] | None, typer.Argument(autocompletion=completion.devices,
                                                                 help="presets; all if none is named")] = None,
            out: Annotated[Path | None, placed("folder for table and plot of their errors [default: a list is "
                                                     "only printed]")] = None,
            seed: Annotated[int, seeded("of the devices drawn for the plot")] = 0):
    """List memory devices with their sources; plot what they do.

    With --out also programming error, drift and read noise of the devices named, as table and plot.
    """
    from ep_hw.measurements.answers import devices_told
    from ep_hw.measurements.charts import devices_charts
    from ep_hw.measurements.devices import device_table, devices_figure, measure_devices, measured_presets

    presets = measured_presets(names or [])
    if out is None:
        print_table(device_table(presets))
        return
    claimed(context, "devices", asked(context, ""))
    rows = list(measure_devices(presets, seed))
    save_measurement(out, "devices", {"seed": seed}, rows, device_table(presets), devices_figure(rows),
                     devices_told([preset.name for preset in presets]), devices_charts(rows))
