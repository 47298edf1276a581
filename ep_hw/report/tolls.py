"""What a machine costs networks of one kind more than those of another.

    toll of a network = accuracy on the reference - accuracy on the machine
    difference = toll of the other kind - toll of the EP networks                                          (1)

image by image and seed by seed, so that hard images and weak networks count on both sides of each difference.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from ep_hw.analysis.points import Estimate
from ep_hw.networks.family import EP
from ep_hw.report import wording
from ep_hw.report.entry import Entry, lead
from ep_hw.threats.threat import Threat


@dataclass(frozen=True)
class Toll:
    """Equation (1) under the mean of some threats.

    Attributes:
        machine: that costs accuracy.
        kind: of the other networks.
        measure: of what accuracies are means, in words.
        own: toll of the EP networks.
        other: toll of the other kind.
        difference: how much less the machine costs the EP networks.
    """

    machine: str
    kind: str
    measure: str
    own: float
    other: float
    difference: Estimate

    @property
    def outcome(self) -> str:
        """Whether the machine costs EP networks less, more, or what this sample cannot tell apart."""
        if self.difference.low > 0:
            return "less"
        return "more" if self.difference.high < 0 else "undecided"

    def __str__(self):
        return (f"{self.measure.capitalize()}, {self.machine} costs {EP} {100 * self.own:.1f} points and {self.kind} "
                f"{100 * self.other:.1f}: {self.outcome}, by {100 * abs(self.difference.value):.1f} "
                f"{wording.interval(self.difference)}.")

    def content(self) -> dict:
        """For comparison.json."""
        return {"outcome": self.outcome, **asdict(self)}


@dataclass(frozen=True)
class Open:
    """Tolls of one machine that this sample cannot tell apart.

    Attributes:
        tolls: one a kind and measure.
    """

    tolls: tuple[Toll, ...]

    def __str__(self):
        kinds: dict[str, list[str]] = {}
        for toll in self.tolls:
            kinds.setdefault(toll.measure, []).append(toll.kind)
        which = "; ".join(f"{measure}: {', '.join(names)}" for measure, names in kinds.items())
        widest = max(max(abs(toll.difference.low), abs(toll.difference.high)) for toll in self.tolls)
        return (f"What {self.tolls[0].machine} costs {EP} and these others, this sample cannot tell apart; differences "
                f"are within {100 * widest:.0f} points. {which}.")

    def content(self) -> dict:
        """For comparison.json."""
        return {"outcome": "undecided", "tolls": [toll.content() for toll in self.tolls]}


def stated(every: Sequence[Toll]) -> list[Toll | Open]:
    """Each toll that is decided, then for each machine in one sentence those that are not."""
    decided = [toll for toll in every if toll.outcome != "undecided"]
    rest: dict[str, list[Toll]] = {}
    for toll in every:
        if toll.outcome == "undecided":
            rest.setdefault(toll.machine, []).append(toll)
    return [*decided, *(Open(tuple(ones)) for ones in rest.values())]


def tolls(before: Sequence[Entry], after: Sequence[Entry], measures: Mapping[str, Sequence[Threat]]) -> list[Toll]:
    """Of every kind of network beside EP networks that met a measure on both machines.

    Args:
        before: entries on the reference.
        after: on another machine.
        measures: what to average over, by name.
    """
    pairs = {entry.kind: (entry, other) for entry in before for other in after if entry.kind == other.kind}
    if EP not in pairs:
        return []
    return [_toll(pairs[EP], pair, measure, threats) for measure, threats in measures.items()
            for kind, pair in pairs.items()
            if kind != EP and all(e.met(threats) for e in (*pairs[EP], *pair))]


def _toll(own: tuple[Entry, Entry], other: tuple[Entry, Entry], measure: str, threats: Sequence[Threat]) -> Toll:
    (first, second), machine = (_lost(*pair, threats) for pair in (own, other)), own[1].machine
    return Toll(machine, other[1].kind, measure, float(first.mean()), float(second.mean()), lead(second, first))


def _lost(before: Entry, after: Entry, threats: Sequence[Threat]) -> np.ndarray:
    """(seeds, images) correctness that a machine takes; of one network where only one was put on the machine."""
    a, b = before.image_by_image(threats), after.image_by_image(threats)
    n, seeds = min(a.shape[1], b.shape[1]), min(len(a), len(b))
    return a[:seeds, :n] - b[:seeds, :n]
