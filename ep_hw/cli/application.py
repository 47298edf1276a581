"""The application that commands register with."""

from collections import Counter
from collections.abc import Callable
from typing import Annotated

import typer
from typer._click.core import Context
from typer.core import TyperCommand

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


class _Application(typer.Typer):
    def command(self, name: str | None = None, **settings) -> Callable:
        """See `typer.Typer.command`; of `_Command`s."""
        return super().command(name, cls=_Command, **settings)


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
