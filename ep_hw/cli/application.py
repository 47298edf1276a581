"""The application that commands register with."""

import inspect
from collections import Counter
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer
from typer._click.core import Context
from typer.core import TyperCommand

from ep_hw.evaluation import own
from mapping.errors import Refusal


class _Command(TyperCommand):
    """A command that refuses an option without a value, or given twice, where only the last one would count."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """See `TyperCommand.parse_args`."""
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


Devices = Annotated[list[Path] | None, typer.Option(
    callback=lambda paths: own.bring_devices(paths or ()), is_eager=True, expose_value=False,
    help="TOML file of memory devices of your own, then crossbar:NAME (repeatable)")]

Plugins = Annotated[list[Path] | None, typer.Option(
    callback=lambda paths: own.bring_plugins(paths or ()), is_eager=True, expose_value=False,
    help="Python file that registers attacks, corruptions, data sets, machines or models of your own (repeatable)")]


class _Application(typer.Typer):
    def command(self, name: str | None = None, **settings) -> Callable:
        """See `typer.Typer.command`; of `_Command`s, which all take what users bring."""
        register = super().command(name, cls=_Command, **settings)

        def add(function: Callable) -> Callable:
            register(_taking(function, plugin=Plugins, devices=Devices))
            return function

        return add


def _taking(function: Callable, **options: Any) -> Callable:
    """A function with options that only their callbacks see."""
    @wraps(function)
    def same(**named: Any) -> Any:
        own.check_devices()
        return function(**{name: value for name, value in named.items() if name not in options})

    signature = inspect.signature(function, eval_str=True)
    added = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
             for name, annotation in options.items()]
    same.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *added])  # type: ignore[attr-defined]  # as inspect allows
    same.__annotations__ = {**function.__annotations__, **options}
    return same


app = _Application(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False,
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
    """Equilibrium-propagation networks on simulated neuromorphic and analog hardware."""
    own.bring_usual(Path(typer.get_app_dir("ep-hw")))
