"""Points arranged for the figures and the headline: which machine under which threat belongs where."""

from collections.abc import Sequence
from dataclasses import dataclass

from ep_hw.analysis.points import Point, Points, Step, family, is_attack, source, waterfall
from mapping.targets import REFERENCE

CLEAN = ("clean", 0.0)


@dataclass(frozen=True)
class Line:
    """Accuracy of a machine against strength, the clean accuracy first where it is known.

    `crafted_on` is the machine of an unaware attacker; None for an aware one, and for corruptions.
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
    threat: str
    strength: float
    steps: tuple[Step, ...]


def threats(points: Points) -> list[tuple[str, float]]:
    """(threat, strength) pairs: clean, attacks with each transfer beside its aware form, then corruptions."""
    pairs = {(threat, strength) for _, threat, strength in points}
    return sorted(pairs, key=lambda p: (p != CLEAN, not is_attack(p[0]), family(p[0]), p[1], source(p[0]) or ""))


def ladders(points: Points, waterfalls: dict[str, Sequence[tuple[str, str]]]) -> list[Ladder]:
    """Every waterfall whose rungs were all evaluated, clean ones first."""
    found = [Ladder(target, *pair, tuple(waterfall(rungs, points, *pair)))
             for pair in threats(points) for target, rungs in waterfalls.items()]
    return [ladder for ladder in found if ladder.steps]


def strongest(shown: Sequence[Ladder]) -> list[Ladder]:
    """Of each target and threat the ladder at the largest strength."""
    last = {(ladder.target, ladder.threat): ladder for ladder in sorted(shown, key=lambda ladder: ladder.strength)}
    return [ladder for ladder in shown if last[ladder.target, ladder.threat] is ladder]


def telling(shown: Sequence[Ladder], clean: float) -> list[Ladder]:
    """Of each target and threat the ladder whose first rung is closest to half the clean accuracy.

    The rule looks at no machine but the first: at budgets that leave everything or nothing, all rungs are alike.
    """
    def distance(ladder: Ladder) -> tuple[float, float]:
        return abs(ladder.steps[0].point.accuracy.value - clean / 2), -ladder.strength

    best = {}
    for ladder in sorted(shown, key=distance):
        best.setdefault((ladder.target, ladder.threat), ladder)
    return [ladder for ladder in shown if best[ladder.target, ladder.threat] is ladder]


def clean_accuracy(points: Points) -> float:
    """Clean accuracy of the first machine; 1 where clean images were not run."""
    first = points.get((machines(points)[0], *CLEAN))
    return first.accuracy.value if first else 1.0


def chosen_strengths(points: Points) -> set[tuple[str, float]]:
    """(attack, strength) pairs that a short table shows: all of up to three, else those that halve, or take a quarter
    or three quarters of the first machine's clean accuracy."""
    first = machines(points)[0]
    clean, kept = clean_accuracy(points), set()
    for attack in dict.fromkeys(family(threat) for threat, _ in threats(points) if is_attack(threat)):
        strengths = sorted({s for _, threat, s in points if family(threat) == attack})
        own = {s: p.accuracy.value for (m, threat, s), p in points.items() if (m, threat) == (first, attack)}
        if len(strengths) > 3 and own:
            strengths = [min(own, key=lambda s: abs(own[s] - share * clean)) for share in (0.75, 0.5, 0.25)]
        kept |= {(attack, s) for s in strengths}
    return kept


def without_rungs(points: Points, shown: Sequence[Ladder]) -> Points:
    """The points that no waterfall shows as a rung on the way: reference, whole machines and everything else."""
    rungs = {(step.machine, ladder.threat, ladder.strength) for ladder in shown for step in ladder.steps[1:-1]}
    ends = {step.machine for ladder in shown for step in (ladder.steps[0], ladder.steps[-1])}
    return {key: point for key, point in points.items() if key not in rungs or key[0] in ends}


def machines(points: Points) -> list[str]:
    """Machine names, the reference first, the others as the summary has them."""
    names = dict.fromkeys(machine for machine, *_ in points)
    return sorted(names, key=lambda name: name != REFERENCE)


def panels(points: Points, attacks: bool) -> list[Panel]:
    """One panel an attack (its transferred forms included) or, with attacks=False, one a corruption."""
    kept = (threat for threat, _ in threats(points) if threat != CLEAN[0] and is_attack(threat) == attacks)
    names = dict.fromkeys(kept)
    families = dict.fromkeys(map(family, names))
    return [Panel(kind, tuple(_line(points, machine, threat) for machine in machines(points) for threat in names
                              if family(threat) == kind and _has(points, machine, threat))) for kind in families]


def _has(points: Points, machine: str, threat: str) -> bool:
    return any((m, t) == (machine, threat) for m, t, _ in points)


def _line(points: Points, machine: str, threat: str) -> Line:
    found = [p for (m, t, _), p in points.items() if m == machine and t in (threat, CLEAN[0])]
    return Line(machine, source(threat), tuple(sorted(found, key=lambda p: p.strength)))
