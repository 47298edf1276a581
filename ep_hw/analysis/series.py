"""Points arranged for the figures and the headline: which machine under which threat belongs where."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ep_hw.analysis.points import Point, Points, WaterfallStep, waterfall
from ep_hw.threats.threat import CLEAN, Threat
from mapping.targets import REFERENCE


@dataclass(frozen=True)
class Line:
    """Accuracy of a machine against strength, the clean accuracy first where it is known.

    Attributes:
        crafted_on: the machine that transferred images were made on; None for adaptive attacks, and for corruptions.
    """

    machine: str
    crafted_on: str | None
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Panel:
    """The lines of one corruption or of one attack, however it was crafted."""

    name: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Ladder:
    """A waterfall: how the accuracy under one threat gets from the reference to the target, cause by cause."""

    target: str
    threat: Threat
    steps: tuple[WaterfallStep, ...]


def threats(points: Points) -> list[Threat]:
    """Clean, attacks with each transfer after its adaptive form, then corruptions."""
    return sorted({threat for _, threat in points},
                  key=lambda t: (t != CLEAN, not t.is_attack, t.kind, t.strength, t.source or ""))


def ladders(points: Points, waterfalls: Mapping[str, Sequence[tuple[str, str]]]) -> list[Ladder]:
    """Every waterfall whose rungs were all evaluated, clean ones first."""
    every = [Ladder(target, threat, tuple(waterfall(rungs, points, threat)))
             for threat in threats(points) for target, rungs in waterfalls.items()]
    return [ladder for ladder in every if ladder.steps]


def _series(ladder: Ladder) -> tuple[str, str]:
    """What the ladders at all strengths of one threat share."""
    return ladder.target, ladder.threat.name


def strongest(shown: Sequence[Ladder]) -> list[Ladder]:
    """Of each target and threat the ladder at the largest strength."""
    last = {_series(ladder): ladder for ladder in sorted(shown, key=lambda ladder: ladder.threat.strength)}
    return [ladder for ladder in shown if last[_series(ladder)] is ladder]


def telling(shown: Sequence[Ladder], clean: float) -> list[Ladder]:
    """Of each target and threat the ladder whose first rung is closest to half the clean accuracy.

    The rule looks at no machine but the first: at budgets that leave everything or nothing, all rungs are alike.
    """
    def distance(ladder: Ladder) -> tuple[float, float]:
        return abs(ladder.steps[0].point.accuracy.value - clean / 2), -ladder.threat.strength

    best: dict[tuple[str, str], Ladder] = {}
    for ladder in sorted(shown, key=distance):
        best.setdefault(_series(ladder), ladder)
    return [ladder for ladder in shown if best[_series(ladder)] is ladder]


def clean_accuracy(points: Points) -> float:
    """Clean accuracy of the first machine; 1 where clean images were not run."""
    first = points.get((machines(points)[0], CLEAN))
    return first.accuracy.value if first else 1.0


def chosen_strengths(points: Points) -> set[tuple[str, float]]:
    """(attack, strength) pairs that a short table shows: all of up to three, else those that halve, or take a quarter
    or three quarters of the first machine's clean accuracy.
    """
    first, clean = machines(points)[0], clean_accuracy(points)
    kept: set[tuple[str, float]] = set()
    for attack in dict.fromkeys(threat.kind for threat in threats(points) if threat.is_attack):
        strengths = sorted({threat.strength for _, threat in points if threat.kind == attack})
        own = {t.strength: p.accuracy.value for (m, t), p in points.items() if (m, t.name) == (first, attack)}
        if len(strengths) > 3 and own:
            strengths = [min(own, key=lambda s: abs(own[s] - share * clean)) for share in (0.75, 0.5, 0.25)]
        kept |= {(attack, s) for s in strengths}
    return kept


def without_rungs(points: Points, shown: Sequence[Ladder]) -> Points:
    """The points that no waterfall shows as a rung on the way: reference, whole machines and everything else."""
    rungs = {(step.machine, ladder.threat) for ladder in shown for step in ladder.steps[1:-1]}
    ends = {step.machine for ladder in shown for step in (ladder.steps[0], ladder.steps[-1])}
    return {key: point for key, point in points.items() if key not in rungs or key[0] in ends}


def machines(points: Points) -> list[str]:
    """Machine names, the reference first, the others as the summary has them."""
    names = dict.fromkeys(machine for machine, *_ in points)
    return sorted(names, key=lambda name: name != REFERENCE)


def panels(points: Points, attacks: bool) -> list[Panel]:
    """One panel an attack (its transferred forms included) or, with attacks=False, one a corruption."""
    kept = [threat for threat in threats(points) if threat != CLEAN and threat.is_attack == attacks]
    forms = list(dict.fromkeys((threat.kind, threat.source) for threat in kept))
    return [Panel(kind, tuple(_line(points, machine, form) for machine in machines(points) for form in forms
                              if form[0] == kind and _has(points, machine, form)))
            for kind in dict.fromkeys(threat.kind for threat in kept)]


def _has(points: Points, machine: str, form: tuple[str, str | None]) -> bool:
    return any((m, (t.kind, t.source)) == (machine, form) for m, t in points)


def _line(points: Points, machine: str, form: tuple[str, str | None]) -> Line:
    """The line of all threats of a `form`, their kind and source."""
    met = [p for (m, t), p in points.items() if m == machine and (t == CLEAN or (t.kind, t.source) == form)]
    return Line(machine, form[1], tuple(sorted(met, key=lambda p: p.strength)))
