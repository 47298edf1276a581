"""What a property of networks, such as feedback, is worth: a group of networks against others, on machines.

    worth = accuracy of the first group - accuracy of another group                                        (1)
    beyond clean images = worth under a threat - worth on clean images                                     (2)

image by image and seed by seed, as ep_hw.report.entry.lead has it: with equation (2) a group that is merely better at
the task is not called more robust.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from ep_hw.analysis.points import Estimate
from ep_hw.report import wording
from ep_hw.report.entry import Entry, lead
from ep_hw.threats.threat import CLEAN, Threat


@dataclass(frozen=True)
class Worth:
    """Equations (1) and (2) of one group on one machine under one threat.

    Attributes:
        machine: the name.
        threat: the threat.
        first: the group that the others are compared with.
        other: the group compared.
        accuracies: of both.
        worth: equation (1).
        beyond: equation (2); None on clean images.
    """

    machine: str
    threat: Threat
    first: str
    other: str
    accuracies: tuple[float, float]
    worth: Estimate
    beyond: Estimate | None

    def __str__(self):
        own, other = map(wording.percent, self.accuracies)
        beyond = "" if self.beyond is None else (
            f"; beyond clean images {wording.points_of(self.beyond.value)} {wording.interval(self.beyond)}")
        return (f"{self.machine}, {wording.threat_name(self.threat)}: {self.first} {own}, {self.other} {other}, "
                f"{wording.points_of(self.worth.value)} points {wording.interval(self.worth)}{beyond}.")

    def content(self) -> dict:
        """For comparison.json."""
        return {"machine": self.machine, "threat": str(self.threat), "first": self.first, "other": self.other,
                "accuracies": self.accuracies, "worth": asdict(self.worth),
                "beyond": self.beyond and asdict(self.beyond)}


@dataclass(frozen=True)
class Verdict:
    """What all of a group's comparisons on one machine come to.

    Attributes:
        machine: the name.
        first: the group that the other is compared with.
        other: the group compared.
        more: threats under which the first group is more robust, equation (2).
        less: threats under which the other is.
        open: threats under which this sample cannot tell.
    """

    machine: str
    first: str
    other: str
    more: tuple[str, ...]
    less: tuple[str, ...]
    open: tuple[str, ...]

    @classmethod
    def of(cls, ones: Sequence[Worth]) -> "Verdict":
        sorted_out: dict[str, list[str]] = {"more": [], "less": [], "open": []}
        for one in ones:
            if one.beyond:
                kind = "more" if one.beyond.low > 0 else "less" if one.beyond.high < 0 else "open"
                sorted_out[kind].append(wording.threat_name(one.threat))
        return cls(ones[0].machine, ones[0].first, ones[0].other, *map(tuple, sorted_out.values()))

    def __str__(self):
        if not (self.more or self.less):
            return (f"{self.machine}: nothing tells {self.first} and {self.other} apart in robustness "
                    f"({len(self.open)} threats).")
        parts = [f"{who} is more robust under {', '.join(which)}" for who, which in (
            (self.first, self.more), (self.other, self.less)) if which]
        undecided = f"; undecided under {', '.join(self.open)}" if self.open else ""
        return f"{self.machine}, {self.first} against {self.other}: {'; '.join(parts)}{undecided}."

    def content(self) -> dict:
        """For comparison.json."""
        return asdict(self)


def worths_of(entries: Sequence[Entry], threats: Sequence[Threat]) -> list[Worth]:
    """Equations (1) and (2) of every group against the first, machine by machine."""
    found = []
    for machine in dict.fromkeys(entry.machine for entry in entries):
        first, *others = [entry for entry in entries if entry.machine == machine]
        found += [_worth(first, other, threat) for other in others for threat in (CLEAN, *threats)]
    return found


def _worth(first: Entry, other: Entry, threat: Threat) -> Worth:
    (own, own_clean), (its, its_clean) = ([entry.image_by_image([t]) for t in (threat, CLEAN)]
                                          for entry in (first, other))
    beyond = None if threat == CLEAN else lead(own - own_clean, its - its_clean)
    return Worth(first.machine, threat, first.kind, other.kind, (float(own.mean()), float(its.mean())),
                 lead(own, its), beyond)


def by_pair(worths: Sequence[Worth]) -> list[list[Worth]]:
    pairs: dict[tuple[str, str], list[Worth]] = {}
    for one in worths:
        pairs.setdefault((one.machine, one.other), []).append(one)
    return list(pairs.values())
