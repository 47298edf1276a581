"""The application that commands register with, and how it ends: one line on stderr for every refusal, exit code 2.

An interrupted run ends with 130 and can be repeated.
"""

import sys

import typer

from mapping.errors import MachineError, Refusal

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False,
                  help="Equilibrium-propagation networks on simulated neuromorphic and analog hardware.")

INTERRUPTED = 130  # what typer returns after Ctrl-C


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
