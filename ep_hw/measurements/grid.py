"""The points at which something is measured."""

from collections.abc import Iterable

from mapping.errors import Refusal


def rising(points: Iterable[float], what: str, option: str, remedy: str) -> tuple[float, ...]:
    """Positive points, rising, each once.

    Args:
        what, option: what a point is, and where the user gives it.
        remedy: what to do about a wrong one.

    Raises:
        Refusal: one that is no positive finite number.
    """
    for point in points:
        if not 0 < point < float("inf"):
            raise Refusal(f"{what} out of range", where=option, got=point, allowed="above 0, finite", remedy=remedy)
    return tuple(sorted(set(points)))
