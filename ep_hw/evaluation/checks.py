"""Checks that go with every robustness claim. The report lists all; a finding becomes a red banner.

Source: Carlini et al. 2019 (evaluating adversarial robustness), Athalye et al. 2018 (gradient masking).
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from ep_hw.analysis.rows import SummaryRow
from ep_hw.analysis.statistics import LEVEL, mcnemar
from ep_hw.threats.threat import CLEAN, Threat
from mapping.targets import REFERENCE

Comparison = tuple[int, str | None]   # images that met both sides, and what is wrong
Rows = dict[Threat, SummaryRow]       # of one machine and chip
Pairs = Iterator[tuple[SummaryRow, SummaryRow]]
TOLERANCE = 0.002  # on deterministic machines; noisy ones, and attacks that search apart, get half an interval


@dataclass(frozen=True)
class Flag:
    """A check that a machine failed; `str()` is the line on the banner.

    Attributes:
        machine: its name in the results.
        chip: seed of its chip, None for a machine without chips.
        finding: a sentence.
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
        machine: see `Flag`.
        chip: see `Flag`.
        check: what must hold, a clause.
        made: number of comparisons, 1 or more.
        images: the fewest behind one of them.
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


def verdicts(summary: Sequence[SummaryRow]) -> list[Verdict]:
    """The checks that an evaluation's summary rows allow, machine by machine."""
    by_machine: dict[tuple[str, int | None], Rows] = defaultdict(dict)
    for row in summary:
        by_machine[row["machine"], row["chip_seed"]][row["threat"]] = row
    return [verdict for (machine, chip), rows in by_machine.items() for name, check in CHECKS.items()
            for verdict in judged(machine, chip, name, check(rows))]


def judged(machine: str, chip: int | None, check: str, comparisons: Iterable[Comparison]) -> list[Verdict]:
    """The verdict on comparisons; none without any."""
    if not (comparisons := list(comparisons)):
        return []
    images, findings = zip(*comparisons)
    return [Verdict(machine, chip, check, len(comparisons), min(images), tuple(filter(None, findings)))]


def _rising(rows: Rows) -> Iterator[Comparison]:
    """A larger budget must never help the defender. Images made on another machine have no such duty."""
    for kind in dict.fromkeys(threat.kind for threat in rows if threat.is_direct):
        ladder = sorted((row for t, row in rows.items() if t == CLEAN or (t.kind == kind and t.is_direct)),
                        key=lambda row: row["threat"].strength)
        for weaker, stronger in pairwise(ladder):
            rises = stronger["accuracy"] > weaker["accuracy"] + slack(stronger, weaker)
            yield _both(weaker, stronger), (
                f"accuracy under {kind} rises from {weaker['accuracy']:.3f} at eps {weaker['threat'].strength:g} to "
                f"{stronger['accuracy']:.3f} at eps {stronger['threat'].strength:g}.") if rises else None


def _black_box_stronger(rows: Rows) -> Iterator[Comparison]:
    """An attacker who sees only outputs must not beat one who sees everything."""
    for white, black in _white_and_black(rows):
        masked = adaptive(white) > black["accuracy"] + slack(white, black)
        yield _both(white, black), _beaten("the black-box attack", black, adaptive(white)) if masked else None


def _black_box_needed(rows: Rows) -> Iterator[Comparison]:
    """AutoAttack asks its black box last: gradients that mean something have left it little to break."""
    for threat, row in rows.items():
        alone = row.get("black_box_only")
        if threat.is_white_box and alone is not None:
            finding = (f"{alone:.0%} of images fell to {threat.label} by its black box alone: its gradients may be "
                       "masked.")
            yield row["n"], finding if alone > half_interval(row) else None


def _transfer_stronger(rows: Rows) -> Iterator[Comparison]:
    """An attacker who knows another machine must not beat one who knows this, and tries those very images as well."""
    for white, transfer in _transferred(rows):
        masked = white["accuracy"] > transfer["accuracy"] + slack(white, transfer)
        yield _both(white, transfer), _beaten("the transfer", transfer, white["accuracy"]) if masked else None


def _transfer_needed(rows: Rows) -> Iterator[Comparison]:
    """Gradients of the hardware must not need images made on the reference to be as strong as they are."""
    for white, transfer in _transferred(rows):
        if transfer["threat"].source == REFERENCE:
            masked = adaptive(white) > transfer["accuracy"] + half_interval(white) and not _chance(white, transfer)
            who = "without its images, the transfer"
            yield _both(white, transfer), _beaten(who, transfer, adaptive(white)) if masked else None


def _others_needed(rows: Rows) -> Iterator[Comparison]:
    """Beyond chance, an attack made on another machine must break no image that the machine's own attack missed."""
    for threat, row in rows.items():
        for other, (lost, won) in (row.get("others") or {}).items():
            weak = lost - won > half_interval(row) * row["n"] and mcnemar(won, lost) <= 1 - LEVEL
            yield row["n"], (f"{threat.label} made on {other} breaks {lost} images that its own attack left "
                             f"standing, and misses {won}: its own attack is too weak.") if weak else None


def _noise_stronger(rows: Rows) -> Iterator[Comparison]:
    """Noise in a random direction must not do more harm than an attack that went as far."""
    for threat, row in rows.items():
        noise = row.get("noise_accuracy")
        if noise is not None:
            finding = (f"random noise as large as {threat.label} ({noise:.3f}) does more harm than the attack "
                       f"({adaptive(row):.3f}).")
            yield row["n"], finding if adaptive(row) > noise + slack(row) else None


def _no_gradient(rows: Rows) -> Iterator[Comparison]:
    """A gradient that is mostly zero says nothing about robustness."""
    for threat, row in rows.items():
        if threat.is_white_box:
            zero = row["zero_gradient"]
            yield row["n"], f"{zero:.0%} of {threat.label} iterations saw a zero gradient." if zero > 0.5 else None


CHECKS: dict[str, Callable[[Rows], Iterable[Comparison]]] = {
    "a larger budget never helps the defender": _rising,
    "the black box (Square) is no stronger than the white box": _black_box_stronger,
    "AutoAttack's gradients leave little to its black box": _black_box_needed,
    "the transfer is no stronger than the adaptive attack": _transfer_stronger,
    "the adaptive attack's own gradients are as strong as the transfer from the reference": _transfer_needed,
    "what attacks on other machines break, the machine's own attack breaks too": _others_needed,
    "noise of the attack's size does less harm than the attack": _noise_stronger,
    "most gradients are not zero": _no_gradient,
}


def _white_and_black(rows: Rows) -> Pairs:
    """Every black box with each gradient ascent of its norm and strength."""
    for threat, black in rows.items():
        if threat.is_black_box:
            yield from ((white, black) for other, white in rows.items() if other.is_white_box and other.attack.ascends
                        and other.attack.is_bounded and (other.norm, other.strength) == (threat.norm, threat.strength))


def _transferred(rows: Rows) -> Pairs:
    """(white box, transfer) for every attack whose images were made on another machine."""
    for threat, row in rows.items():
        if threat.source is not None and (full := rows.get(replace(threat, source=None))):
            yield full, row


def _chance(white: SummaryRow, transfer: SummaryRow) -> bool:
    """Could gradients be as strong as the transfer, which broke more of the same images? Exact McNemar."""
    if white["n"] != transfer["n"]:
        return False
    more = round((adaptive(white) - transfer["accuracy"]) * white["n"])
    lost = max(more, round((white.get("unaware_only") or 0.0) * white["n"]))
    return mcnemar(lost - more, lost) > 1 - LEVEL


def _both(row: SummaryRow, other: SummaryRow) -> int:
    return min(row["n"], other["n"])


def _beaten(who: str, weak: SummaryRow, accuracy: float) -> str:
    return (f"{who} ({weak['threat'].label}, {weak['accuracy']:.3f}) beats the white box ({accuracy:.3f}): the "
            "white-box gradient may be masked.")


def adaptive(row: SummaryRow) -> float:
    """Accuracy under an attack without the images it took over from other machines: what its own gradients are worth.
    """
    return row["accuracy"] + (row.get("unaware_only") or 0.0) + (row.get("others_only") or 0.0)


def slack(row: SummaryRow, other: SummaryRow | None = None) -> float:
    """How far an accuracy may miss a bound that an exact attack would keep: nothing to speak of, or noise.

    Args:
        row: whose accuracy it is.
        other: where the bound comes from; the two may have met different numbers of images.
    """
    alike = row["chip_seed"] is None and (other is None or other["n"] == row["n"])
    return TOLERANCE if alike else half_interval(min(row, other or row, key=lambda r: r["n"]))


def half_interval(row: SummaryRow) -> float:
    """Half the width of a row's interval."""
    return (row["ci_high"] - row["ci_low"]) / 2
