"""The application that commands register with: their order in its help, and what is alike in all of them."""

import inspect
import shlex
from collections import Counter
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer
from typer._click.core import Command, Context, Parameter
from typer._click.formatting import HelpFormatter
from typer._click.shell_completion import add_completion_class
from typer.core import TyperCommand, TyperGroup

from ep_hw.cli import completion
from ep_hw.evaluation import own
from mapping.errors import Refusal

GROUPS = {   # what a person wants -> the commands that do it
    "Ask": ("demo", "evaluate", "study", "compare", "why"),
    "Build": ("train", "tune", "compile", "import", "export"),
    "Look up": ("machines", "devices", "models", "data", "images"),
    "Measure": ("transfer", "gradients", "eot", "slice", "temporal", "uncertainty", "events", "cost", "symmetry",
                "settle", "readout")}
FORMER = {"compile": {"--target": "--on"}, "images": {"--machine": "--on"}, "tune": {"--chip-seed": "--chip"},
          "export": {"--chip-seed": "--chip"}}
# options by other names, most of which they had up to 0.6
VALUES = {   # an option -> what its value is, in helps
    "on": "MACHINE", "model": "MODEL", "other": "MODEL", "beside": "MODEL", "attack": "ATTACK@STRENGTH",
    "corruption": "NAME@SEVERITY", "explain": "THREAT", "threat": "THREAT", "gradient": "GRADIENT", "suite": "SUITE",
    "baseline": "NAME", "budget": "TIME", "cluster": "WORKERS", "device": "DEVICE", "data": "DATA",
    "data_root": "FOLDER", "program": "FOLDER", "out": "PLACE", "devices": "FILE", "plugin": "FILE", "file": "FILE",
    "keys": "MAP", "write": "WRITE", "recipe": "RECIPE", "first": "FIRST", "second": "SECOND", "names": "NAME"}


class _Group(TyperGroup):
    """The commands in `GROUPS`, each with the whole first line of its help."""

    def list_commands(self, ctx: Context) -> list[str]:
        """See `TyperGroup.list_commands`."""
        return [name for names in GROUPS.values() for name in names]

    def _main_shell_completion(self, ctx_args: MutableMapping[str, Any], prog_name: str,
                               complete_var: str | None = None) -> None:
        """See `TyperGroup._main_shell_completion`."""
        add_completion_class(completion.WholeWords, completion.WholeWords.name)
        super()._main_shell_completion(ctx_args, prog_name, complete_var)

    def format_commands(self, ctx: Context, formatter: HelpFormatter) -> None:
        """See `TyperGroup.format_commands`."""
        widest = max(map(len, self.commands))
        for group, names in GROUPS.items():
            with formatter.section(group):
                formatter.write_dl([(name.ljust(widest), summary(self.commands[name])) for name in names])


def summary(command: Command) -> str:
    """The first line of a command's help."""
    return (command.help or "").partition("\n")[0]


class _Command(TyperCommand):
    """A command with examples, which refuses an option without a value, or given twice, where only the last one would
    count.
    """

    def get_params(self, ctx: Context) -> list[Parameter]:
        """See `TyperCommand.get_params`; each says what its value is."""
        params = super().get_params(ctx)
        for param in params:
            param.metavar = param.metavar or VALUES.get(param.name or "")
        return params

    def format_epilog(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Examples, each on a line of its own; see `TyperCommand.format_epilog`."""
        with formatter.section("Examples"):
            for example in (self.epilog or "").splitlines():
                formatter.write(f"  {example}\n")

    def _by_todays_names(self, args: Sequence[str]) -> list[str]:
        """Options by the names that they have now, where they were given by `FORMER` ones."""
        former = FORMER.get(self.name or "", {})
        split = (arg.partition("=") for arg in args)
        return ["".join((former.get(option, option), *value)) for option, *value in split]

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """See `TyperCommand.parse_args`."""
        args = self._by_todays_names(args)
        given, _, order = self.make_parser(ctx).parse_args(args=list(args))
        for option, times in Counter(order).items():
            if times > 1 and not option.multiple:
                raise Refusal("an option is given twice", where=option.opts[0], got=times, allowed="once",
                              remedy="leave one of them out")
        rest = super().parse_args(ctx, args)
        for option in order:
            value = given[option.name]
            if "" in (value if isinstance(value, list) else [value]):
                raise Refusal("an option without a value", where=option.opts[0], got="nothing", allowed="a value",
                              remedy="name one, or leave the option out")
        return rest


def _bringing(bring: Callable[[list[Path]], None]) -> Callable:
    """What becomes of files that a command names: they are brought, and the command's context knows them."""
    def callback(context: typer.Context, option: typer.CallbackParam, paths: list[Path] | None):
        if context.resilient_parsing:   # a shell asks how a line may go on
            completion.quietly(bring, paths or [])
        else:
            bring(paths or [])
        context.meta[option.opts[0]] = paths or []

    return callback


def own_files(context: typer.Context) -> str:
    """The options of a command that name files of the user, as another command takes them."""
    given = [(option, path) for option in ("--plugin", "--devices") for path in context.meta.get(option, ())]
    given += [("--data", data) for data in [context.params.get("data")] if data]
    return "".join(f" {option} {shlex.quote(str(path))}" for option, path in given)


Devices = Annotated[list[Path] | None, typer.Option(
    callback=_bringing(own.bring_devices), is_eager=True, expose_value=False,
    help="TOML file of memory devices of your own, then crossbar:NAME (repeatable)")]

Plugins = Annotated[list[Path] | None, typer.Option(
    callback=_bringing(own.bring_plugins), is_eager=True, expose_value=False,
    help="Python file that registers attacks, corruptions, data sets, machines or models of your own (repeatable)")]


class _Application(typer.Typer):
    def command(self, name: str | None = None, *, examples: Sequence[str] = (), **settings) -> Callable:
        """See `typer.Typer.command`; of `_Command`s, which all take what users bring.

        Args:
            examples: two commands that run as they stand, `ep-hw` before them left out, in the order in which one would
                try them.
        """
        shown = "\n".join(f"ep-hw {example}" for example in examples)
        register = super().command(name, cls=_Command, epilog=shown, **settings)

        def add(function: Callable) -> Callable:
            register(_taking(function, plugin=Plugins, devices=Devices))
            return function

        return add


def _taking(function: Callable, **options: Any) -> Callable:
    """A function whose groups of options, which are dataclasses, are given one by one; with more `options` that only
    their callbacks see.
    """
    signature = inspect.signature(function, eval_str=True)
    groups = {name: param for name, param in signature.parameters.items() if is_dataclass(param.annotation)}

    @wraps(function)
    def same(**named: Any) -> Any:
        own.check_devices()
        taken = {name: param.annotation(**{field.name: named.pop(field.name) for field in fields(param.annotation)})
                 for name, param in groups.items()}
        return function(**taken, **{name: value for name, value in named.items() if name not in options})

    added = [_keyword(name, annotation, None) for name, annotation in options.items()]
    single = [one for name, param in signature.parameters.items()
              for one in (_grouped(param) if name in groups else [_keyword(name, param.annotation, param.default)])]
    same.__signature__ = signature.replace(parameters=[*single, *added])  # type: ignore[attr-defined]  # as inspect allows
    same.__annotations__ = {param.name: param.annotation for param in (*single, *added)}
    return same


def _grouped(group: inspect.Parameter) -> list[inspect.Parameter]:
    """The options of a group; their defaults are those of its default, where a command gives it one."""
    members = inspect.signature(group.annotation, eval_str=True).parameters.values()
    return [_keyword(member.name, member.annotation, getattr(group.default, member.name, member.default))
            for member in members]


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


app = _Application(cls=_Group, rich_markup_mode=None, pretty_exceptions_enable=False,
                   context_settings={"help_option_names": ["-h", "--help"]})


def _print_version(wanted: bool) -> None:
    if wanted:
        from ep_hw import __version__
        from ep_hw.cli.printing import say

        say(f"ep-hw {__version__}")
        raise typer.Exit


@app.callback()
def ep_hw(version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True,
                                                help="Show the version and exit.")] = False) -> None:
    """Equilibrium-propagation networks on simulated neuromorphic and analog hardware.

    'ep-hw COMMAND -h' shows a command's options, and two examples that run.
    """
    own.bring_usual(Path(typer.get_app_dir("ep-hw")))
