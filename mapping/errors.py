"""What can go wrong: a refusal says what, where, got, allowed, remedy; a machine can fail while it runs."""

from collections.abc import Callable


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
