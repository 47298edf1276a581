"""Commands about networks themselves: train them, list them, bring them in and out."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ep_hw.cli.application import app
from ep_hw.cli.data import DataOptions
from ep_hw.cli.options import Device, counted, measured, seeded
from ep_hw.cli.printing import print_table, say
from ep_hw.networks.gains import gain_text, stated_gain
from mapping.errors import Refusal
from mapping.names import suggesting
from mapping.program import Table

if TYPE_CHECKING:   # loads torch
    from ep_hw.networks.checkpoint import Header

Out = Annotated[Path, typer.Option(help="file to write")]
Loss = Literal["cross-entropy", "mse"]
Readout = Literal["outside", "inside"]
Pool = Literal["max", "average"]


@dataclass(frozen=True, kw_only=True)
class KeyOptions:
    """What is said of a checkpoint of other code beside its map."""

    loss: Annotated[Loss | None, typer.Option(help="what it was trained on, where --map does not say")] = None
    readout: Annotated[Readout | None, typer.Option(help="inside the energy, fed back, or outside it")] = None
    pool: Annotated[Pool | None, typer.Option(help="kind of all pools")] = None
    stride: Annotated[int | None, counted("of every convolution")] = None
    slope: Annotated[float | None, measured("A of the activation clamp(A x, 0, 1)", 1e-6, 1_000_000)] = None


@app.command(examples=("train digits --out mine.safetensors", "train digits-bp --seed 3 --out bp.safetensors"))
def train(recipe: Annotated[str, typer.Argument(help="a packaged recipe or a TOML file")], out: Out,
          seed: Annotated[int, seeded("of weights, order and noise")] = 1, device: Device = "cpu", *,
          data: DataOptions):
    """Train a network by a recipe; a killed run goes on where it was."""
    from ep_hw.learning.training import load_recipe
    from ep_hw.learning.training import train as fit

    chosen = load_recipe(recipe)
    net = fit(chosen, seed, out, name=out.stem, data_source=data.source(), device=device,
              log=lambda epoch: say(
                  f"epoch {epoch.number:3d}/{epoch.of}  accuracy {epoch.accuracy:.4f}  residual {epoch.residual:.1e}  "
                  f"steps {epoch.steps:5.1f}  rate x{epoch.rate:.3f}  {epoch.seconds:.1f} s"))
    say(f"{out}: test accuracy {net.provenance['accuracy']['test']:.4f}")


@app.command(examples=("models", "models cifar10"))
def models(name: Annotated[str, typer.Argument(metavar="NAME", help="how names begin; all models if none")] = ""):
    """List the packaged models.

    Kind, feedback gain (of EP networks), data, recipe, accuracy and sha256; random weights have no accuracy to show.
    """
    from ep_hw.learning.training import load_recipe, recipes
    from ep_hw.networks.checkpoint import model_names, provenance_of

    packaged = {name: load_recipe(name) for name in recipes()}
    rows = tuple(_row(*provenance_of(known), packaged) for known in _beginning(model_names(), name))
    columns = ("name", "kind", "gain", "data", "size", "recipe", "seed", "test accuracy", "sha256")
    print_table(Table("models", columns, rows))


def _beginning(names: Iterable[str], start: str) -> list[str]:
    """The names that begin so.

    Raises:
        Refusal: none does.
    """
    names = list(names)
    if found := [name for name in names if name.startswith(start)]:
        return found
    raise Refusal("no such model", where="NAME", got=start,
                  **suggesting(start, names, remedy="name how a model's name begins, or nothing"))


def _row(header: "Header", sha256: str, packaged: dict) -> tuple:
    recipe, accuracy = dict(header.recipe), header.accuracy
    seed, shown = recipe.pop("seed", ""), f"{accuracy['test']:.4f}" if accuracy else "not measured"
    return (header.name, recipe.get("kind", "ep"), gain_text(stated_gain(header.model_dump())), header.data.name,
            header.spec.size, _recipe_name(recipe, packaged), seed, shown, sha256[:12])


def _recipe_name(recipe: dict, packaged: dict) -> str:
    """The packaged recipe that made a network, where one did."""
    from ep_hw.learning.training import parse_recipe

    if "data" not in recipe:
        return "imported" if recipe else "random, untrained"
    made_by = parse_recipe(recipe)
    return next((name for name, known in packaged.items() if known == made_by), "its own")


@app.command("import", examples=("import pt/digits.pt --map pt/digits.toml --out back.safetensors",
                                 "import pt/digits.pt --map pt/digits.toml --pool max --out b.safetensors"))
def bring_in(file: Annotated[Path, typer.Argument(help="a PyTorch file that holds a state dict")], out: Out,
             keys: Annotated[str, typer.Option("--map", help="advep, advep-cifar100, laborieux, scellier, or a TOML "
                                                    "file of the same fields")],
             *, said: KeyOptions, data: DataOptions):
    """Turn an EP checkpoint of other code into a model.

    It is checked by a forward pass in that code's own terms, and by its accuracy where the data are there. What neither
    --map nor the file says of its training is asked for.
    """
    from ep_hw.analysis.statistics import wilson
    from ep_hw.networks.exchange import KeyMap, import_checkpoint, trial

    source = data.source()
    net, difference = import_checkpoint(file, keys, out, data_source=source, **asdict(said))
    assumed = KeyMap.model_validate(net.provenance["recipe"]["keys"]).sentence()
    say(f"{out}: {net.spec.size}; differs by {difference:.1e} at most from {assumed}")
    if (right := trial(net, source)) is None:
        say("its data are not there: whether it was trained as --map and the options say is not known", err=True)
        return
    low, high = wilson(*right)
    say(f"right on {right[0]} of {right[1]} test images ({low:.0%} to {high:.0%})")
    if low <= 1 / net.spec.classes:
        say("no better than guessing: it may have been trained otherwise than --map and the options say", err=True)
