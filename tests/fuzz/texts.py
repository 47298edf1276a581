"""Edits of what a user writes in one line: machines, threats, gradients, times."""

import re
from random import Random

from tests.fuzz.edits import Edited

HUGE = ("1e400", "-1e400", "nan", "inf", "-inf", str(10**18), str(2**63), "1" + "0" * 400, "9" * 5000, "1e308")
_NUMBER = re.compile(r"(?<![A-Za-z_])\d+(?:\.\d+)?")
_ODD = ("", " ", "\x00", "\x1b[31m", "\u202e", "\ud800", "\u0663", "[", "]", "[]", ",", ",,", "=", "@", ":", "/", "..",
        "-", "x", "e", "0", "_", "1_0", "+", "%", "\n", "'", "a" * 100_000, "[" * 5000, "@" * 5000, "1" * 5000)


def huge_number(rng: Random, text: str) -> str | None:
    """A number that nothing may have, in the place of another; None where there is none."""
    numbers = list(_NUMBER.finditer(text))
    return _spliced(text, rng.choice(numbers).span(), rng.choice(HUGE)) if numbers else None


def doubled_option(rng: Random, text: str) -> str | None:
    """An option given twice; None where there is none."""
    options = re.findall(r"[\[,]([a-z_0-9]+=[^,\]]*)", text)
    return text.replace("]", "," + rng.choice(options) + "]", 1) if options else None


def foreign_text(rng: Random, text: str) -> str:
    """Something put in, taken out, doubled or exchanged, anywhere."""
    start = rng.randrange(len(text) + 1)
    end = min(len(text), start + rng.choice((0, 0, 1, 1, 3, len(text))))
    return _spliced(text, (start, end), rng.choice((*_ODD, text[start:end] * 2)))


def _spliced(text: str, span: tuple[int, int], new: str) -> str:
    return text[:span[0]] + new + text[span[1]:]


def edited(rng: Random, files: dict) -> Edited:
    """One of these edits of `text`; what must be refused is strict."""
    text = files["text"].decode()
    edit, strict = rng.choice(((huge_number, True), (doubled_option, True), (foreign_text, False),
                               (foreign_text, False)))
    changed = edit(rng, text)
    if changed is None:
        changed, strict = foreign_text(rng, text), False
    return Edited(f"{text} -> {changed!r:.120}", {"text": changed.encode("utf-8", "surrogatepass")}, strict)
