"""The command line: thin commands over the Python interface.

Every refusal is one line on stderr with exit code 2; an interrupted run ends with 130 and can be repeated.
"""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, track
from rich.table import Table as RichTable

from mapping.crossbar_target import RUNG_MEANINGS
from mapping.errors import MachineError, Refusal
from mapping.program import Table
from mapping.targets import REGISTRY

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False,
                  help="Equilibrium-propagation networks on simulated neuromorphic and analog hardware.")

INTERRUPTED = 130  # what typer returns after Ctrl-C

Model = Annotated[str, typer.Argument(help="a packaged model (see 'ep-hw models') or a checkpoint file")]
DataRoot = Annotated[str | None, typer.Option(help="folder that holds cifar-10-batches-py (or EP_HW_DATA)")]
Download = Annotated[bool, typer.Option("--download", help="let torchvision fetch a missing data set")]
Device = Annotated[str, typer.Option(help="cpu or cuda")]
Jobs = Annotated[int, typer.Option(min=1, help="worker processes; any number gives the same bytes")]
PROCESSORS = len(os.sched_getaffinity(0))


@app.command()
def demo(out: Annotated[Path, typer.Option(help="where to write")] = Path("ep-hw-demo"), jobs: Jobs = PROCESSORS):
    """Run the main job on the packaged digits network, in about a minute."""
    from ep_hw import workflow
    from ep_hw.demo import demo_plan

    _evaluate(demo_plan(), out, f"ep-hw demo --out {out}", jobs, workflow)


@app.command()
def evaluate(
    model: Model,
    on: Annotated[list[str] | None, typer.Option(help="machine or program folder (repeatable)")] = None,
    attack: Annotated[list[str] | None, typer.Option(help="e.g. pgd_l2@0.5 (repeatable)")] = None,
    corruption: Annotated[list[str] | None, typer.Option(help="e.g. jpeg_compression@3 (repeatable)")] = None,
    images: Annotated[int, typer.Option(min=1, help="test images, drawn by --seed")] = 200,
    chips: Annotated[int, typer.Option(min=1, help="chips programmed for machines that have chips")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="of images, corruptions, attacks and read noise")] = 0,
    out: Annotated[Path, typer.Option(help="where to write; an unfinished run there is continued")] = Path("ep-hw-run"),
    gradient: Annotated[list[str] | None, typer.Option(help="bptt@STEPS, adjoint@ITERATIONS, ep@BETA or ep@BETA:margin "
                                                       "(repeatable)")] = None,
    iterations: Annotated[int, typer.Option(min=1, help="PGD iterations")] = 20,
    queries: Annotated[int, typer.Option(min=1, help="most queries of a square attack, an image")] = 1000,
    jobs: Jobs = PROCESSORS, data_root: DataRoot = None, download: Download = False, device: Device = "cpu",
):
    """Attack and corrupt a model on machines and compare them with the reference, image by image."""
    from ep_hw import workflow
    from ep_hw.attacks import AttackSettings, parse_gradient
    from ep_hw.threats import parse_threat

    chosen = {"gradients": tuple(str(parse_gradient(g)) for g in gradient)} if gradient else {}
    settings = AttackSettings(iterations=iterations, queries=queries, **chosen)
    threats = [_expect(parse_threat(t), "is_attack", "--attack") for t in attack or []]
    threats += [_expect(parse_threat(t), "is_corruption", "--corruption") for t in corruption or []]
    plan = workflow.plan_evaluation(model, on or ["reference", "loihi", "crossbar:pcm"], threats, images=images,
                                    chips=chips, seed=seed, settings=settings, device=device, root=data_root,
                                    download=download)
    _evaluate(plan, out, workflow.command_line(), jobs, workflow)


@app.command()
def train(recipe: Annotated[str, typer.Argument(help="a packaged recipe or a TOML file")],
          out: Annotated[Path, typer.Option(help="checkpoint to write")],
          seed: Annotated[int, typer.Option(min=0)] = 1, data_root: DataRoot = None, download: Download = False):
    """Train an EP-CNN by a recipe; a killed run goes on where it was."""
    from ep_hw.training import load_recipe
    from ep_hw.training import train as fit

    chosen = load_recipe(recipe)
    net = fit(chosen, seed, out, name=out.stem, root=data_root, download=download, log=lambda epoch: typer.echo(
        f"epoch {epoch.number:3d}/{epoch.of}  accuracy {epoch.accuracy:.4f}  residual {epoch.residual:.1e}  "
        f"steps {epoch.steps:5.1f}  rate x{epoch.rate:.3f}  {epoch.seconds:.1f} s"))
    typer.echo(f"{out}: test accuracy {net.provenance['accuracy']['test']:.4f}")


@app.command()
def compile(model: Model, target: Annotated[str, typer.Option(help="machine, see 'ep-hw machines'")],
            out: Annotated[Path, typer.Option(help="folder to create")]):
    """Compile a model for a machine, print the mapping report, save the program."""
    import mapping
    from ep_hw import load

    program = mapping.compile(load(model).lower(), target)
    program.save(out)
    for table in program.tables():
        _print(table)
    typer.echo(f"{out}: run it with 'ep-hw evaluate {model} --on {out}'")


@app.command()
def why(model: Model, first: Annotated[str, typer.Argument(help="a machine, or the folder of a compiled program")],
        second: Annotated[str, typer.Argument(help="another one")],
        images: Annotated[int, typer.Option(min=1, help="test images")] = 20,
        steps: Annotated[int, typer.Option(min=1, help="time steps to compare")] = 40,
        tolerance: Annotated[float, typer.Option(min=0, help="gaps up to it count as equal")] = 1e-5,
        chip: Annotated[int, typer.Option(min=0, help="chip seed, where there are chips")] = 0,
        seed: Annotated[int, typer.Option(min=0, help="of the read noise")] = 0,
        out: Annotated[Path | None, typer.Option(help="folder for why.json and a plot of the gap")] = None,
        data_root: DataRoot = None):
    """Name the first time step and layer at which two machines part, which cause explains it, and any fault."""
    from ep_hw import load
    from ep_hw.checkpoint import check_writable
    from ep_hw.data import load_data
    from ep_hw.why import explain
    from ep_hw.workflow import program_of

    if out is not None:
        check_writable(out)
    net = load(model)
    graph = net.lower()
    shown = load_data(net.provenance["data"]["name"], "test", data_root).images[:images]
    found = explain(graph, program_of(first, graph), program_of(second, graph), shown, steps=steps,
                    tolerance=tolerance, chip=chip, seed=seed)
    typer.echo(found.sentence())
    for table in found.tables():
        _print(table)
    if out is not None:
        found.save(out)
        typer.echo(f"{out}: why.json, and the gap against the step in why.png and why.svg")


@app.command()
def events(model: Model, on: Annotated[str, typer.Option(help="loihi or lava, with options")] = "loihi",
           threshold: Annotated[list[float] | None, typer.Option(help="changes up to it, in units of the state, are "
                                                                 "not sent (repeatable)")] = None,
           images: Annotated[int, typer.Option(min=1, help="test images, drawn by --seed")] = 200,
           seed: Annotated[int, typer.Option(min=0, help="of the images")] = 0,
           out: Annotated[Path, typer.Option(help="folder for table and plot")] = Path("ep-hw-events"),
           data_root: DataRoot = None, download: Download = False):
    """Show accuracy against events, synaptic operations and energy on Loihi, for several thresholds."""
    from ep_hw.checkpoint import check_writable
    from ep_hw.measurements.events import THRESHOLDS, event_table, event_targets, measure_events
    from ep_hw.measurements.figures import events_figure
    from simulators.relaxation import period_of

    net, split = _network_and_images(model, images, seed, data_root, download)
    targets = event_targets(on, threshold or THRESHOLDS)
    check_writable(out)
    graph = net.lower()
    layers = [population.name for population in graph.populations]
    points = _track(measure_events(graph, targets, split), len(targets), "counting events")
    rows = [point.row(layers) for point in points]
    settings, period = {"model": net.name, "seed": seed}, period_of(graph.schedule)
    _write_measurement(out, "events", settings, rows, event_table(rows), events_figure(rows, period))


@app.command()
def gradients(model: Model,
              on: Annotated[list[str] | None, typer.Option(help="machine (repeatable)")] = None,
              beta: Annotated[list[float] | None, typer.Option(help="strength of the nudge (repeatable)")] = None,
              state_bits: Annotated[list[int] | None, typer.Option(help="of Loihi machines (repeatable); those proven "
                                                                   "safe are added")] = None,
              pairs: Annotated[int, typer.Option(min=1, help="nudged pairs averaged on noisy machines")] = 1,
              images: Annotated[int, typer.Option(min=1, help="test images, drawn by --seed")] = 100,
              chip: Annotated[int, typer.Option(min=0, help="chip seed, where there are chips")] = 0,
              seed: Annotated[int, typer.Option(min=0, help="of the images and of read noise")] = 0,
              out: Annotated[Path, typer.Option(help="folder for table and plot")] = Path("ep-hw-gradients"),
              data_root: DataRoot = None, download: Download = False):
    """Show what image gradients measured by nudging a machine are worth: how often zero, and how well aimed."""
    from ep_hw.checkpoint import check_writable
    from ep_hw.measurements.figures import gradients_figure
    from ep_hw.measurements.gradients import BETAS, check_betas, gradient_programs, gradient_table, measure_gradients

    betas = check_betas(beta or BETAS)
    net, split = _network_and_images(model, images, seed, data_root, download)
    programs = gradient_programs(net.lower(), on or ["reference", "loihi"], state_bits or [])
    check_writable(out)
    points = (point for program in programs
              for point in measure_gradients(program, split, betas, pairs=pairs, chip=chip, seed=seed))
    rows = [point.row() for point in _track(points, 2 * len(programs) * len(betas), "measuring gradients")]
    settings = {"model": net.name, "seed": seed, "chip": chip, "pairs": pairs}
    _write_measurement(out, "gradients", settings, rows, gradient_table(rows), gradients_figure(rows))


@app.command()
def machines():
    """List the machines: what each one computes, and the options of each family with their defaults."""
    rows = tuple((name, meaning) for name, (_, meaning) in REGISTRY.items() if "/" not in name)
    rungs = (f"crossbar:PRESET/{rung}: {meaning}" for rung, meaning in RUNG_MEANINGS.items())
    families = {type(target): target for target, _ in reversed(REGISTRY.values())}
    options = (f"options of {type(target).__name__.removesuffix('Target').lower()}: "
               + ", ".join(f"{k}={text}" for k, text in target.spelled().items() if k in type(target).__annotations__)
               for target in reversed(families.values()))
    _print(Table("machines", ("name", "meaning"), rows, (*rungs, *options, "as in crossbar:pcm[age=1d,adc_bits=6]")))


@app.command()
def devices(names: Annotated[list[str] | None, typer.Argument(help="presets; all if none is named")] = None,
            out: Annotated[Path | None, typer.Option(help="folder for table and plot of their errors")] = None,
            seed: Annotated[int, typer.Option(min=0, help="of the devices drawn for the plot")] = 0):
    """List the memory devices of analog crossbars with their sources; plot programming error, drift and read noise."""
    from ep_hw.checkpoint import check_writable
    from ep_hw.measurements.devices import device_table, devices_figure, measure_devices, measured_presets

    presets = measured_presets(names or [])
    if out is None:
        _print(device_table(presets))
        return
    check_writable(out)
    rows = list(measure_devices(presets, seed))
    _write_measurement(out, "devices", {"seed": seed}, rows, device_table(presets), devices_figure(rows))


@app.command()
def models():
    """List the packaged models with data, accuracy and sha256; random weights have none to show."""
    from ep_hw.checkpoint import load, model_names

    headers = [load(name).provenance for name in model_names()]
    rows = tuple((h["name"], h["data"]["name"], "x".join(map(str, h["spec"]["channels"])), h["recipe"].get("seed"),
                  f"{h['accuracy']['test']:.4f}" if h["accuracy"] else "random, untrained", h["sha256"][:12])
                 for h in headers)
    _print(Table("models", ("name", "data", "channels", "seed", "test accuracy", "sha256"), rows))


def main():
    """Entry point: turns every expected failure into one line and an exit code."""
    if len(sys.argv) == 1:
        sys.argv.append("--help")
    try:
        code = app(standalone_mode=False)
    except Refusal as error:
        _fail(str(error), 2)
    except typer.TyperException as error:
        _fail(error.format_message(), 2)
    except MachineError as error:
        sys.exit(f"ep-hw: {error}")
    if code == INTERRUPTED:
        _fail("interrupted; what was finished is kept, run the same command again to go on", code)
    sys.exit(code)


def _fail(message: str, code: int):
    typer.echo(f"ep-hw: {' '.join(message.split())}", err=True)
    sys.exit(code)


def _expect(threat, kind: str, option: str):
    if not getattr(threat, kind):
        raise Refusal("wrong kind of threat", where=option, got=str(threat), allowed="attacks with --attack, "
                      "corruptions with --corruption", remedy="use the other option; clean is always included")
    return threat


def _evaluate(plan, out: Path, command: str, jobs: int, workflow):
    from ep_hw.checkpoint import check_writable

    check_writable(out)
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("evaluating")

        def show(cell, number: int, total: int):
            c = cell.configuration
            chip = "" if c.chip_seed is None else f" chip {c.chip_seed}"
            bar.update(task, completed=number, total=total, description=f"{c.machine}{chip}: {c.threat}")

        summary = workflow.run(plan, out, command=command, title=f"{plan.model} on {', '.join(plan.machines)}",
                               progress=show, jobs=jobs)
    _print(_summary_table(summary))
    typer.echo(f"{out / 'report.html'}: open it in a browser; summary.json and results.parquet are beside it")


def _summary_table(summary: list[dict]) -> Table:
    rows = tuple((r["machine"], "" if r["chip_seed"] is None else r["chip_seed"],
                  r["threat"] + (f"@{r['strength']:g}" if r["strength"] else ""), f"{r['accuracy']:.3f}",
                  f"{r['ci_low']:.3f} to {r['ci_high']:.3f}", f"{r['agreement']:.3f}",
                  r["flips_to_wrong"], r["flips_to_right"]) for r in summary)
    columns = ("machine", "chip", "threat", "accuracy", "95 %", "agreement", "to wrong", "to right")
    return Table("summary", columns, rows)


def _network_and_images(model: str, images: int, seed: int, root: str | None, download: bool):
    """A network and test images of the data it was trained on."""
    from ep_hw import load
    from ep_hw.data import load_data
    from ep_hw.workflow import draw

    net = load(model)
    return net, draw(load_data(net.provenance["data"]["name"], "test", root, download), images, seed)


def _track(points, total: int, description: str):
    """The points, with a progress bar on stderr while they are made."""
    return track(points, description, total=total, console=Console(stderr=True), transient=True)


def _write_measurement(out: Path, name: str, settings: dict, rows: list[dict], table: Table, figure):
    from ep_hw.measurements.files import write_measurement

    _print(table)
    for path in write_measurement(out, name, settings, rows, figure):
        typer.echo(path)


def _print(table: Table):
    rich = RichTable(*table.columns, title=escape(table.title), title_justify="left")
    for row in table.rows:
        rich.add_row(*(f"{v:.4g}" if isinstance(v, float) else escape(str(v)) for v in row))
    console = Console()
    console.print(rich, markup=False, highlight=False) if console.is_terminal else Console(width=160).print(rich)
    for note in table.notes:
        typer.echo(note)


if __name__ == "__main__":
    main()
