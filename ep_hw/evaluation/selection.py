"""Parts of an evaluation that a user names, MACHINE:THREAT: made alone, or once more.

    crossbar:pcm:pgd_l2@0.5      crossbar:pcm:*      *:pgd_l2@0.5
"""

from collections.abc import Iterable, Sequence

from ep_hw.evaluation.cells import Cell
from mapping.errors import Refusal
from mapping.names import suggesting

ANY = "*"


def chosen(cells: Sequence[Cell], names: Iterable[str], option: str) -> list[Cell]:
    """The cells that some names mean, in their order.

    Args:
        cells: of the evaluation.
        names: MACHINE:THREAT each, either of them `ANY`.
        option: that named them, for refusals.

    Raises:
        Refusal: a name that means no cell.
    """
    meanings = [_meanings(cell) for cell in cells]
    for name in names:
        if not any(name in own for own in meanings):
            raise Refusal("no such part of the evaluation", where=option, got=name, **suggesting(
                name, dict.fromkeys(own[0] for own in meanings), remedy="write it as crossbar:pcm:pgd_l2@0.5, or * for "
                "all machines or all threats"))
    return [cell for cell, own in zip(cells, meanings) if not set(own).isdisjoint(names)]


def _meanings(cell: Cell) -> tuple[str, ...]:
    c = cell.configuration
    return (f"{cell.machine}:{cell.threat}", f"{cell.machine}:{ANY}", f"{ANY}:{cell.threat}",
            f"{c.machine}:{c.threat}", f"{c.machine}:{ANY}", f"{ANY}:{c.threat}")


def with_needs(cells: Iterable[Cell]) -> list[Cell]:
    """The cells, and all whose images they take."""
    found: dict[str, Cell] = {}
    waiting = list(cells)
    while waiting:
        cell = waiting.pop()
        if cell.stem not in found:
            found[cell.stem] = cell
            waiting += cell.needs
    return list(found.values())


def forget(cells: Iterable[Cell]):
    """Let cells be computed again: what vouches for them goes, and for the own attacks that they are joined from."""
    for cell in cells:
        for part in (cell, *cell.joined[:1]):
            part.stored.record_path.unlink(missing_ok=True)
