"""Commands about analog machines: what they cost, how their two directions differ, how they settle and are read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from ep_hw.cli.application import app
from ep_hw.cli.bench import Bench, ChipOptions, SampleOptions
from ep_hw.cli.options import MOST_CHIPS, MOST_STEPS, Model, counted, machine, measured, placed

On = Annotated[list[str] | None, machine("machine (repeatable)")]
Rows = Annotated[Path | None, placed("folder for a CSV and a JSON file [default: they are only printed]")]


@dataclass(frozen=True, kw_only=True)
class RowsOptions(SampleOptions):
    """The images that machines are shown, and where the rows go, which have no figure."""

    out: Rows = None


@dataclass(frozen=True, kw_only=True)
class ChipRowsOptions(ChipOptions):
    """The same for a machine that may be a chip."""

    out: Rows = None


@app.command(examples=("cost digits", 'cost digits --on "crossbar:hermes_2[tile=128]" --on loihi --out cost'))
def cost(context: typer.Context, model: Model, on: On = None, sample: RowsOptions = RowsOptions(images=20)):
    """Estimate energy, latency and area of one image.

    On crossbars, next to Loihi.
    """
    from ep_hw.measurements.analog import cost_table, measure_cost

    bench = Bench.of(context, model, sample)
    bench.claim_if_named()
    rows = list(measure_cost(bench.graph(), on or ["crossbar:hermes_2", "crossbar:hermes_2[arrays=separate]", "loihi"],
                             bench.split.images))
    bench.save_rows([], rows, cost_table(rows))


@app.command(examples=("symmetry digits --chips 1 --sweeps 50",
                       "symmetry digits --on crossbar:reram_wan/programmed --out symmetry"))
def symmetry(context: typer.Context, model: Model, on: On = None,
             chips: Annotated[int, counted("chips", high=MOST_CHIPS)] = 3,
             sweeps: Annotated[int, counted("sweeps to watch", 25, MOST_STEPS)] = 200,
             sample: RowsOptions = RowsOptions(images=50)):
    """Show what separate arrays for feedback cost.

    Asymmetry, rising energy, limit cycles.
    """
    from ep_hw.measurements.analog import SYMMETRY_NOTE, measure_symmetry, plain_table

    bench = Bench.of(context, model, sample)
    bench.claim_if_named()
    rows = list(measure_symmetry(bench.graph(), on or ["crossbar:pcm/aged", "crossbar:pcm/aged[arrays=separate]"],
                                 bench.split.images, chips, sweeps))
    bench.save_rows(["seed"], rows, plain_table("two directions", rows, ("run_as", "images"), SYMMETRY_NOTE))


@app.command(name="settle", examples=("settle digits --images 5", "settle digits --volts 0.1 --out settle"))
def settling(context: typer.Context, model: Model, on: On = None,
             capacitance: Annotated[float, measured("of a neuron's node, in farads", 1e-18, 1e-3)] = 1e-12,
             volts: Annotated[float, measured("of a state of 1", 1e-6, 100)] = 0.2,
             tolerance: Annotated[float, measured("of a settled state", 1e-6, 0.1)] = 1e-3,
             sample: ChipRowsOptions = ChipRowsOptions(images=20)):
    """Let a chip relax in continuous time.

    Settling time and heat of its devices, and where it ends.
    """
    from ep_hw.measurements.analog import SETTLING_NOTE, measure_settling, plain_table
    from simulators.crossbar.continuous import Circuit

    circuit = Circuit(capacitance, volts)
    bench = Bench.of(context, model, sample)
    bench.claim_if_named()
    rows = list(measure_settling(bench.graph(), on or ["crossbar:pcm/aged"], bench.split, circuit, sample.chip,
                                 tolerance))
    bench.save_rows(["seed"], rows, plain_table("continuous time", rows, ("run_as", "images"), SETTLING_NOTE),
                    {"capacitance_f": capacitance, "read_v": volts})


@app.command(examples=("readout digits --dt 1 --dt 0.5 --reads 10",
                       "readout digits --on crossbar:hermes_2 --average 20 --out readout"))
def readout(context: typer.Context,
            model: Model, on: Annotated[str, machine("a crossbar with read noise")] = "crossbar:pcm",
            dt: Annotated[list[float] | None, measured("share of the way a state moves in a step (repeatable)",
                                                       0.01, 1)] = None,
            average: Annotated[list[int] | None, counted("last steps averaged (repeatable)")] = None,
            reads: Annotated[int, counted("relaxations with fresh noise", 2)] = 20,
            sample: ChipRowsOptions = ChipRowsOptions(images=50)):
    """Show what leaky steps and averaging do to noisy logits.

    To their variance, and to their bias.
    """
    from ep_hw.measurements.analog import READOUT_NOTE, measure_readout, plain_table

    bench = Bench.of(context, model, sample)
    bench.claim_if_named()
    rows = list(measure_readout(bench.graph(), on, bench.split.images, dt or [1.0, 0.5, 0.25], average or [1, 5, 20],
                                reads, sample.chip, sample.seed))
    bench.save_rows(["seed", "chip"], rows, plain_table("noise of the logits", rows, note=READOUT_NOTE))
