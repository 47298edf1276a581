"""Sources of noise at the same clean accuracy: which of them protects most, in words, a table and rows."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from ep_hw.evaluation.matched_noise import MACHINE, MOST, SOURCES, Matched
from ep_hw.report.entry import lead
from ep_hw.report.wording import apart, percent, short_percent
from mapping.program import Table

Noises = Mapping[str, Sequence[Matched]]   # kind of network -> what sources came to, no noise first


def success_under(noise: Matched) -> float:
    """Mean success over strengths."""
    return float(_by_image(noise).mean())


def noise_answers(noises: Noises) -> Iterator[str]:
    """At each drop, the source under which attacks succeed least, and that under which they succeed most."""
    for kind, (none, *matched) in noises.items():
        for drop, group in groupby(matched, key=lambda noise: noise.drop):
            reached = [noise for noise in group if noise.sigma is not None]
            if len(reached) > 1:
                yield _answer(kind, none, drop, sorted(reached, key=success_under))


def _answer(kind: str, none: Matched, drop: float, ranked: Sequence[Matched]) -> str:
    first, last = ranked[0], ranked[-1]
    gap = lead(_by_image(last)[None], _by_image(first)[None])
    return (f"{kind}, noise that costs {100 * drop:g} points of clean accuracy: {none.met[0].threat.kind} succeeds "
            f"least under {SOURCES[first.source]}, {percent(success_under(first))}, and most under "
            f"{SOURCES[last.source]}, {percent(success_under(last))}: {apart(gap)}; without noise "
            f"{percent(success_under(none))}.")


def _by_image(noise: Matched) -> NDArray[np.float64]:
    """(images,) parts of the mean success over strengths."""
    return np.mean([met.by_image for met in noise.met], axis=0)


def noise_table(noises: Noises) -> Table:
    """A row a drop and source, the networks side by side."""
    rows = tuple((_name(row[0]), *(cell for noise in row for cell in _cells(noise))) for row in zip(*noises.values()))
    columns = ("noise", *(f"{kind}: {what}" for kind in noises for what in ("strength", "clean", "success")))
    met = next(iter(noises.values()))[0].met
    notes = (f"Options of {MACHINE}, one at a time, each as strong as costs that much accuracy on these images; "
             f"{met[0].threat.kind} of {met[0].effort} iterations, mean over strengths "
             f"{', '.join(f'{one.threat.strength:g}' for one in met)}, made on a draw of the noise of its own. Weight "
             "noise always depends on the input. Recurrent: new at every read; frozen: drawn once a chip.",)
    return Table("Sources of noise at the same accuracy", columns, rows, notes)


def _name(noise: Matched) -> str:
    return f"\u2212{100 * noise.drop:g} points: {SOURCES[noise.source]}" if noise.drop else "none"


def _cells(noise: Matched) -> tuple[str, str, str]:
    clean = short_percent(float(noise.clean.mean()))
    if noise.sigma is None:
        return f"{MOST:g} costs less", clean, "\u2013"
    strength = f"{noise.source}={noise.sigma:.3g}" if noise.drop else "\u2013"
    return strength, clean, short_percent(success_under(noise))


def noise_rows(noises: Noises) -> list[dict]:
    """A row a network, source, drop and strength of the attack."""
    return [{"kind": kind, "source": noise.source if noise.drop else "none", "drop": noise.drop, "sigma": noise.sigma,
             "clean": float(noise.clean.mean()), "attack": met.threat.kind, "effort": met.effort,
             "strength": met.threat.strength, "success": None if noise.sigma is None else met.success}
            for kind, own in noises.items() for noise in own for met in noise.met]
