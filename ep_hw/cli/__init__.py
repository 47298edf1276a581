"""The command line: thin commands over the Python interface.

Next to nothing is imported before `main` runs, so that Ctrl-C is answered with one line from the first moment on.
"""

import atexit
import gc
import os
import signal
import sys
from types import FrameType

__all__ = ["main"]
INTERRUPTED = "ep-hw: interrupted; what was finished is kept, run the same command again to go on"
EXIT_CODE = 130   # after Ctrl-C, as shells count
_CLEAR_LINE, _SHOW_CURSOR = "\r\x1b[K", "\x1b[?25h"


def main():
    """Entry point: runs the command that `sys.argv` holds and exits; see `commands.run` for how it ends."""
    try:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, _interrupt)
        from simulators.isolated import ONE_THREAD

        os.environ.update(ONE_THREAD)   # before numpy and torch are loaded: sums do not depend on the environment
        _open_standard_streams()
        ended: list[int] = []
        atexit.register(_leave, ended)   # the first registered is the last called
        from ep_hw.cli.commands import run

        ended.append(run())
        sys.exit(ended[0])
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)   # pressed again while everything ends
        print(INTERRUPTED, file=sys.stderr)
        sys.exit(EXIT_CODE)


def _leave(ended: list[int]):
    """The last of what is done at the end, with the exit code of a command that ended by itself, its output written.

    Python would look for garbage in all of torch, and libraries would tidy up theirs: 0.4 s of a processor, 0.11 GB.
    """
    if ended:
        sys.stdout.flush()   # what was said at the end
        os._exit(ended[0])
    gc.freeze()


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Ctrl-C. An import would make an error of its own of the exception, or none, so there the process ends at once.

    What it started ends with it.
    """
    if _importing(frame):
        terminal = sys.stderr is not None and sys.stderr.isatty()
        os.write(2, f"{(_CLEAR_LINE + _SHOW_CURSOR) * terminal}{INTERRUPTED}\n".encode())
        os._exit(EXIT_CODE)
    raise KeyboardInterrupt


def _importing(frame: FrameType | None) -> bool:
    while frame is not None and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    return frame is not None


def _open_standard_streams():
    """Those that are closed lead nowhere: what is opened later would take their place."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        continue
    os.close(descriptor)
    sys.stdout, sys.stderr = sys.stdout or os.fdopen(1, "w"), sys.stderr or os.fdopen(2, "w")
