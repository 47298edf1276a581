"""Names that nothing has: which known ones a user may have meant. And a line that shows a thing by its name."""

from collections.abc import Iterable
from difflib import SequenceMatcher
from typing import TypedDict

from mapping.errors import printable

FEW = 3        # suggestions
SHOWN = 8      # so many names are all shown, whatever is suggested
LINE = 200     # characters of a repr
LONGEST = 80   # characters of what may be a name


class Advice(TypedDict):
    """Two parts of a `mapping.errors.Refusal`."""

    allowed: str
    remedy: str


def in_a_line(kind: object, text: str) -> str:
    """What a repr shows of a thing: its class and a text, in at most `LINE` characters; what is too long loses its
    middle.
    """
    line = f"<{type(kind).__name__} {printable(text)}>"
    return line if len(line) <= LINE else f"{line[:LINE // 2]} ... {line[5 - LINE // 2:]}"


def suggesting(name: str, known: Iterable[str], *, remedy: str, allowed: str | None = None) -> Advice:
    """What a refusal of an unknown name allows and advises: the names most like it, or all where none is.

    Args:
        name: as it was written, without options and strengths.
        known: names.
        remedy: whatever is suggested.
        allowed: said in place of all names, where none is like it or they are few.
    """
    names = list(known)
    near = nearest(name, names)
    every = allowed or ", ".join(names)
    if not near:
        return Advice(allowed=every, remedy=remedy)
    if len(names) > SHOWN:
        every = f"{', '.join(near)}, and {len(names) - len(near)} others"
    return Advice(allowed=every, remedy=f"did you mean {' or '.join(near)}? {remedy}")


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """Up to three names that differ in the fewest characters, two at most, or else that contain what was written."""
    typed = name.lower()
    if not 0 < len(typed) <= LONGEST:
        return []
    misses = {other: _misses(typed, other.lower()) for other in known}
    least = min(misses.values(), default=LONGEST)
    if least <= (2 if len(typed) > 4 else 1):
        return [other for other in misses if misses[other] == least][:FEW]
    return sorted((other for other in misses if len(typed) > 2 and typed in other.lower()), key=len)[:FEW]


def _misses(a: str, b: str) -> int:
    """Characters of the longer text that have none in the other's to match, in their order."""
    blocks = SequenceMatcher(None, a, b, autojunk=False).get_matching_blocks()
    return max(len(a), len(b)) - sum(block.size for block in blocks)
