"""Checks that go with every robustness claim. The report lists all; what one finds becomes a red banner.

Source: Carlini et al. 2019 (evaluating adversarial robustness), Athalye et al. 2018 (gradient masking).
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ep_hw.analysis.statistics import LEVEL, mcnemar

Comparison = tuple[int, str | None]   # images that met both sides, and what is wrong
TOLERANCE = 0.002  # on deterministic machines; noisy ones, and attacks that search apart, get half an interval


@dataclass(frozen=True)
class Flag:
    """A check that a machine failed; `str()` is the line on the banner.

    Attributes:
        chip: seed of its chip, None for a machine without chips. finding: a sentence.
    """

    machine: str
    chip: int | None
    finding: str

    def __str__(self):
        return f"{self.machine}{'' if self.chip is None else f' (chip {self.chip})'}: {self.finding}"


@dataclass(frozen=True)
class Verdict:
    """What became of one check on one machine.

    Attributes:
        machine, chip: see `Flag`. check: what must hold, a clause.
        made: number of comparisons, 1 or more. images: the fewest behind one of them.
        findings: a sentence for each that failed.
    """

    machine: str
    chip: int | None
    check: str
    made: int
    images: int
    findings: tuple[str, ...]

    @property
    def flags(self) -> list[Flag]:
        """A flag for each finding."""
        return [Flag(self.machine, self.chip, finding) for finding in self.findings]


def verdicts(summary: Sequence[dict]) -> list[Verdict]:
    """The checks that an evaluation's summary rows allow, machine by machine."""
    by_machine = defaultdict(dict)
    for row in summary:
        by_machine[row["machine"], row["chip_seed"]][row["threat"], row["strength"]] = row
    return [found for (machine, chip), rows in by_machine.items() for name, check in CHECKS.items()
            for found in judged(machine, chip, name, check(rows))]


def judged(machine: str, chip: int | None, check: str, comparisons: Iterable[Comparison]) -> list[Verdict]:
    """The verdict on comparisons; none without any."""
    if not (comparisons := list(comparisons)):
        return []
    images, findings = zip(*comparisons)
    return [Verdict(machine, chip, check, len(comparisons), min(images), tuple(filter(None, findings)))]


def _rising(rows: dict):
    """A larger budget must never help the defender. Images made on another machine have no such duty."""
    for threat in dict.fromkeys(t for t, _ in rows if "_l" in t and not t.startswith("transfer:")):
        ladder = sorted((rows[k] for k in rows if k[0] in (threat, "clean")), key=lambda r: r["strength"])
        for weaker, stronger in pairwise(ladder):
            rises = stronger["accuracy"] > weaker["accuracy"] + slack(stronger, weaker)
            yield _both(weaker, stronger), (
                f"accuracy under {threat} rises from {weaker['accuracy']:.3f} at eps {weaker['strength']:g} to "
                f"{stronger['accuracy']:.3f} at eps {stronger['strength']:g}.") if rises else None


def _black_box_stronger(rows: dict):
    """An attacker who sees only outputs must not beat one who sees everything."""
    for white, black in _pairs(rows, "pgd", "square"):
        masked = aware(white) > black["accuracy"] + slack(white, black)
        yield _both(white, black), _beaten("the black-box attack", black, aware(white)) if masked else None


def _black_box_needed(rows: dict):
    """AutoAttack asks its black box last: gradients that mean something have left it little to break."""
    for (threat, strength), row in rows.items():
        alone = row.get("black_box_only")
        if threat.startswith("autoattack") and alone is not None:
            finding = (f"{alone:.0%} of images fell to {threat}@{strength:g} by its black box alone: its gradients may "
                       "be masked.")
            yield row["n"], finding if alone > half_interval(row) else None


def _unaware_stronger(rows: dict):
    """An attacker who knows another machine must not beat one who knows this, and tries those very images as well."""
    for white, unaware in _transferred(rows):
        masked = white["accuracy"] > unaware["accuracy"] + slack(white, unaware)
        yield _both(white, unaware), _beaten("the unaware attacker", unaware, white["accuracy"]) if masked else None


def _unaware_needed(rows: dict):
    """Gradients of the hardware must not need the unaware attacker's images to be as strong as they."""
    for white, unaware in _pairs(rows, "", "transfer:reference:"):
        masked = aware(white) > unaware["accuracy"] + half_interval(white) and not _chance(white, unaware)
        who = "without its images, the unaware attacker"
        yield _both(white, unaware), _beaten(who, unaware, aware(white)) if masked else None


def _others_needed(rows: dict):
    """What an attack made on another machine must not find, beyond chance, what the machine's own attack missed."""
    for (threat, strength), row in rows.items():
        for other, (lost, won) in (row.get("others") or {}).items():
            weak = lost - won > half_interval(row) * row["n"] and mcnemar(won, lost) <= 1 - LEVEL
            yield row["n"], (f"{threat}@{strength:g} made on {other} breaks {lost} images that its own attack left "
                             f"standing, and misses {won}: its own attack is too weak.") if weak else None


def _noise_stronger(rows: dict):
    """Noise in a random direction must not do more harm than an attack that went as far."""
    for (threat, strength), row in rows.items():
        noise = row.get("noise_accuracy")
        if noise is not None:
            finding = (f"random noise as large as {threat}@{strength:g} ({noise:.3f}) does more harm than the attack "
                       f"({aware(row):.3f}).")
            yield row["n"], finding if aware(row) > noise + slack(row) else None


def _no_gradient(rows: dict):
    """A gradient that is mostly zero says nothing about robustness."""
    for (threat, strength), row in rows.items():
        if "_l" in threat and not threat.startswith(("square", "transfer:")):
            zero = row["zero_gradient"]
            finding = f"{zero:.0%} of {threat}@{strength:g} iterations saw a zero gradient."
            yield row["n"], finding if zero > 0.5 else None


CHECKS = {
    "a larger budget never helps the defender": _rising,
    "the black box (Square) is no stronger than the white box": _black_box_stronger,
    "AutoAttack's gradients leave little to its black box": _black_box_needed,
    "the unaware attacker is no stronger than the aware one": _unaware_stronger,
    "the aware attacker's own gradients are as strong as the unaware attacker's images": _unaware_needed,
    "what attacks on other machines break, the machine's own attack breaks too": _others_needed,
    "noise of the attack's size does less harm than the attack": _noise_stronger,
    "most gradients are not zero": _no_gradient,
}


def _pairs(rows: dict, strong: str, weak: str):
    """(row, row) for every threat whose name begins with `weak` and its like that begins with `strong`."""
    for (threat, strength), row in rows.items():
        if threat.startswith(weak):
            full = rows.get((strong + threat.removeprefix(weak), strength))
            if full:
                yield full, row


def _transferred(rows: dict):
    """(white box, transfer) for every attack whose images were made on another machine."""
    for (threat, strength), row in rows.items():
        source, _, kind = threat.rpartition(":")
        if source.startswith("transfer:") and (full := rows.get((kind, strength))):
            yield full, row


def _chance(white: dict, unaware: dict) -> bool:
    """Could gradients be as strong as the unaware attacker, who broke more of the same images? Exact McNemar."""
    if white["n"] != unaware["n"]:
        return False
    more = round((aware(white) - unaware["accuracy"]) * white["n"])
    lost = max(more, round((white.get("unaware_only") or 0.0) * white["n"]))
    return mcnemar(lost - more, lost) > 1 - LEVEL


def _both(row: dict, other: dict) -> int:
    return min(row["n"], other["n"])


def _beaten(who: str, weak: dict, accuracy: float) -> str:
    return (f"{who} ({weak['threat']}@{weak['strength']:g}, {weak['accuracy']:.3f}) beats the white box "
            f"({accuracy:.3f}): the white-box gradient may be masked.")


def aware(row: dict) -> float:
    """Accuracy under an attack without the images it took over from other machines: what its own gradients are worth.
    """
    return row["accuracy"] + (row.get("unaware_only") or 0.0) + (row.get("others_only") or 0.0)


def slack(row: dict, other: dict | None = None) -> float:
    """How far an accuracy may miss a bound that an exact attack would keep: nothing to speak of, or noise.

    Args:
        other: where the bound comes from; the two may have met different numbers of images.
    """
    alike = row["chip_seed"] is None and (other is None or other["n"] == row["n"])
    return TOLERANCE if alike else half_interval(min(row, other or row, key=lambda r: r["n"]))


def half_interval(row: dict) -> float:
    """Half the width of a row's interval."""
    return (row["ci_high"] - row["ci_low"]) / 2
