"""What can go wrong: a refusal says what, where, got, allowed, remedy; a machine can fail while it runs."""

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


class Refusal(ValueError):
    """Input or a request that the project will not run.

    Args:
        what: what is wrong, in a few words.
        where: the file, layer, option or argument it was found in.
        got: the offending value (never a whole array).
        allowed: the values that would have been accepted.
        remedy: what the user can do about it.

    The message is one line of printable characters, so that a command line can print it as it is.
    """

    def __init__(self, what: str, *, where: str, got: object, allowed: object, remedy: str):
        self.what, self.where, self.got = what, where, str(got)
        self.allowed, self.remedy = str(allowed), remedy
        line = f"{where}: {what}; got {got}; allowed: {allowed}; remedy: {remedy}"
        super().__init__(printable(" ".join(line.split())))

    def __reduce__(self) -> tuple[Callable[..., "Refusal"], tuple[str, ...]]:
        """Refusals cross process boundaries, which exceptions with keyword arguments do not by themselves."""
        return _refuse_again, (self.what, self.where, self.got, self.allowed, self.remedy)


def printable(text: str) -> str:
    """The text with every character that could steer a terminal written out, as `repr` does."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _refuse_again(what: str, where: str, got: str, allowed: str, remedy: str) -> Refusal:
    return Refusal(what, where=where, got=got, allowed=allowed, remedy=remedy)


class MachineError(RuntimeError):
    """A machine failed while it ran: no input was wrong, and nothing half-finished was kept."""


@contextmanager
def running(what: str, *, where: str) -> Iterator[None]:
    """Around code of a user: what it raises becomes a Refusal with the error and its place.

    Raises:
        Refusal: see above; refusals, and failures of machines and of the system, pass unchanged.
    """
    try:
        yield
    except (Refusal, MachineError, MemoryError, OSError):
        raise
    except Exception as error:
        raise Refusal(what, where=where, got=f"{type(error).__name__}: {error}, {_place_of(error)}",
                      allowed="code that runs without an error", remedy="correct it") from error


def _place_of(error: Exception) -> str:
    """The line that raised an error; where an installed package did, the last line that led to it."""
    frames = traceback.extract_tb(error.__traceback__)
    last = [frame for frame in frames if "site-packages" not in Path(frame.filename).parts][-1:] or frames[-1:]
    return f"line {last[0].lineno} of {Path(last[0].filename).name}"
