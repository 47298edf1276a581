"""The command line: thin commands over the Python interface.

Every refusal is one line on stderr with exit code 2; an interrupted run ends with 130 and can be repeated.
"""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table as RichTable

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
    gradient: Annotated[list[str] | None, typer.Option(help="bptt@STEPS or ep@BETA (repeatable)")] = None,
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
        images: Annotated[int, typer.Option(min=2, help="test images")] = 20,
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
def machines():
    """List the machines: what each one computes, and the options of each family with their defaults."""
    rows = tuple((name, meaning) for name, (_, meaning) in REGISTRY.items())
    families = {type(target): target for target, _ in reversed(REGISTRY.values())}
    options = (f"options of {target.name.split(':')[0]}: "
               + ", ".join(f"{k}={text}" for k, text in target.spelled().items())
               for target in reversed(families.values()))
    _print(Table("machines", ("name", "meaning"), rows, (*options, "as in crossbar:pcm[age=1d,adc_bits=6]")))


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


def _print(table: Table):
    rich = RichTable(*table.columns, title=table.title, title_justify="left")
    for row in table.rows:
        rich.add_row(*(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row))
    console = Console()
    console.print(rich, markup=False, highlight=False) if console.is_terminal else Console(width=160).print(rich)
    for note in table.notes:
        typer.echo(note)


if __name__ == "__main__":
    main()
