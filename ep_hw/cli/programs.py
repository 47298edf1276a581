"""Commands about models, the machines they are compiled for, and the programs that come of it."""

from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Annotated

import typer

from ep_hw.cli import completion
from ep_hw.cli.application import app, own_files
from ep_hw.cli.bench import ChipOptions
from ep_hw.cli.data import DataOptions
from ep_hw.cli.folder import asked, claimed
from ep_hw.cli.options import Model, machine, measured, placed, stepped
from ep_hw.cli.printing import print_table, say
from mapping.crossbar.target import RUNG_MEANINGS
from mapping.program import Table
from mapping.registry import REGISTRY, parse
from mapping.targets import Target


@dataclass(frozen=True, kw_only=True)
class WhyOptions(ChipOptions):
    """The images that both machines are shown, and where what is found goes."""

    out: Annotated[Path | None, placed("folder for why.json and a plot of the gap [default: they are only printed]"
                                       )] = None


@app.command(examples=("compile digits --on loihi --out prog",
                       'compile digits --on "crossbar:pcm[age=1d,adc_bits=6]" --out prog-pcm'))
def compile(context: typer.Context, model: Model,
            on: Annotated[str, machine("machine, see 'ep-hw machines'")],
            out: Annotated[Path, typer.Option(help="folder to create")], *, data: DataOptions):
    """Compile a model for a machine; print how it is mapped.

    The program is kept: whatever takes a machine takes the folder in its place.
    """
    import mapping

    program = mapping.compile(data.calibrated(model).lower(), on)
    program.save(out)
    for table in program.tables():
        print_table(table)
    say(f"{out}: run it with 'ep-hw evaluate {model} --on {out}{own_files(context)}'")


@app.command(examples=("why digits reference crossbar:pcm", "why digits loihi lava --images 4 --out why"))
def why(context: typer.Context,
        model: Model, first: Annotated[str, typer.Argument(autocompletion=completion.machines,
                                                           help="a machine, or the folder of a compiled program")],
        second: Annotated[str, typer.Argument(autocompletion=completion.machines, help="another one")],
        steps: Annotated[int, stepped("time steps to compare")] = 40,
        tolerance: Annotated[float, measured("gaps up to it count as equal", 0, 1)] = 1e-5,
        sample: WhyOptions = WhyOptions(images=20)):
    """Name where two machines diverge first, and what causes it.

    The first time step and layer, which rung explains the gap, and any fault by its name.
    """
    from ep_hw import load
    from ep_hw.data.splits import Choose
    from ep_hw.diagnosis import explain
    from ep_hw.networks.images import images_for
    from ep_hw.networks.programs import program_like

    source, out = sample.source(), sample.out
    net = load(model).calibrated(source)
    graph = net.lower()
    programs = program_like(first, graph), program_like(second, graph)
    shown = images_for(net, "test", source, Choose(sample.images))
    if out is not None:
        claimed(context, net.name, asked(context, shown.digest, *(program.digest() for program in programs)))
    explanation = explain(graph, *programs, shown.images, steps=steps, tolerance=tolerance, chip=sample.chip,
                          seed=sample.seed)
    say(explanation.sentence())
    for table in explanation.tables():
        print_table(table)
    if out is not None:
        explanation.save(out)
        say(f"{out}: why.json, and the gap against the step in why.png and why.svg")


@app.command(examples=("machines", "machines crossbar:pcm"))
def machines(name: Annotated[str | None, typer.Argument(metavar="NAME", help="a machine; all of them if none")] = None):
    """List the machines and their options.

    What each one computes, and the options of each family: of the machine that is named, or of all.
    """
    if name is not None:
        target = parse(name)
        print_table(Table("machine", ("name", "meaning"), ((str(target), REGISTRY[target.name].meaning),)))
        print_table(_options_of(target, set()))
        return
    rows = tuple((name, entry.meaning) for name, entry in REGISTRY.items() if "/" not in name)
    rungs = tuple((f"crossbar:PRESET/{rung}", meaning) for rung, meaning in RUNG_MEANINGS.items())
    print_table(Table("machines", ("name", "meaning"), rows + rungs, ("options: as crossbar:pcm[age=1d,adc_bits=6]",)))
    families = {type(entry.target): entry.target for entry in reversed(REGISTRY.values())}
    for target in reversed(families.values()):
        general = [families[base].options for base in type(target).__mro__[1:] if base in families]
        print_table(_options_of(target, {name for options in general for name in options}))


def _options_of(target: Target, known: set[str]) -> Table:
    """A line an option, those left out that are `known` of a more general family."""
    spelled = target.spelled()
    rows = tuple((name, "auto" if f.default in (None, MISSING) else spelled[name], f.metadata["allowed"],
                  f.metadata["meaning"]) for name, f in target.options.items() if name not in known)
    family = type(target).__name__.removesuffix("Target").lower()
    return Table(f"options of {family} machines", ("option", "default", "allowed", "meaning"), rows)
