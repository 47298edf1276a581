"""The application that commands register with, and how it ends: one line on stderr for every failure.

Exit code 2 for what the user can mend in the command or its files, 1 for what failed on the way.
"""

import contextlib
import os
import sys
from collections import Counter
from typing import NoReturn

import typer
from typer.core import TyperCommand

from mapping.errors import MachineError, Refusal, printable


class _Command(TyperCommand):
    """A command that refuses an option without a value, or given twice, where only the last one would count."""

    def parse_args(self, ctx, args):
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
    def command(self, name=None, **settings):
        """See `typer.Typer.command`; of `_Command`s."""
        return super().command(name, cls=_Command, **settings)


app = _Application(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False,
                  help="Equilibrium-propagation networks on simulated neuromorphic and analog hardware.")

INTERRUPTED = 130  # what typer returns after Ctrl-C
NO_MEMORY = "not enough memory; run the same command again to go on, with fewer --jobs or --images"


def run() -> int:
    """Run the command that `sys.argv` holds; what it returns is the exit code.

    Raises:
        KeyboardInterrupt: Ctrl-C. SystemExit: a failure that was said.
    """
    from ep_hw.cli import commands  # noqa: F401 - they register themselves

    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
        sys.stdout.flush()
    except Refusal as error:
        _fail(str(error), 2)
    except typer.TyperException as error:
        _fail(error.format_message(), 2)
    except MachineError as error:
        _fail(str(error).partition("\n")[0], 1)   # without a Lava process's traceback, if it brings one
    except MemoryError:
        _fail(NO_MEMORY, 1)
    except RuntimeError as error:
        if "allocate" not in str(error):   # torch's words for a MemoryError, on CPU and CUDA
            raise
        _fail(NO_MEMORY, 1)
    except OSError as error:
        _fail(_reason(error), 1)
    except SystemExit as end:   # how typer and rich meet a pipe that nobody reads any more
        if not isinstance(end.__context__, BrokenPipeError):
            raise
        _fail(_reason(end.__context__), 1)
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    return code


def _reason(error: OSError) -> str:
    """What the system refused; without a file's name it was standard output, or a resource of the whole process."""
    return ": ".join(map(str, filter(None, ("cannot go on", error.filename, error.strerror or str(error)))))


def _fail(message: str, code: int) -> NoReturn:
    with contextlib.suppress(OSError):
        typer.echo(f"ep-hw: {printable(' '.join(message.split()))}", err=True)
    _drop_output()
    sys.exit(code)


def _drop_output():
    """Forget what cannot be printed: Python would try again at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
