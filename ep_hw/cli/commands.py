"""All commands, which register when they are imported, and how they end: one line on stderr for every failure.

Exit code 2 for what the user can mend in the command or its files, 1 for what failed on the way.
"""

import contextlib
import os
import sys
from typing import NoReturn

import typer

from ep_hw.cli import (
    adversaries,
    analog,
    arrays,
    comparison,
    data,
    evaluation,
    exporting,
    measurements,
    networks,
    programs,
    stability,
    studies,
    tuning,
)
from ep_hw.cli.application import app
from mapping.errors import MachineError, Refusal, printable

__all__ = ["adversaries", "analog", "app", "arrays", "comparison", "data", "evaluation", "exporting",
           "measurements", "networks", "programs", "run", "stability", "studies", "tuning"]
INTERRUPTED = 130  # what typer returns after Ctrl-C
NO_MEMORY = "not enough memory; run the same command again to go on, with fewer --jobs or --images"


def run() -> int:
    """Run the command that `sys.argv` holds; what it returns is the exit code.

    Raises:
        KeyboardInterrupt: Ctrl-C.
        SystemExit: a failure that was said.
    """
    try:
        code = app(sys.argv[1:] or ["--help"], prog_name="ep-hw", standalone_mode=False) or 0   # None of most commands
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
