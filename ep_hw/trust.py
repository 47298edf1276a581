"""Checks that go with every robustness claim. What they find becomes a red banner on the report.

Source: Carlini et al. 2019 (evaluating adversarial robustness), Athalye et al. 2018 (gradient masking).
"""

from collections import defaultdict
from itertools import pairwise

TOLERANCE = 0.002  # on deterministic machines; noisy ones, and attacks that search apart, get half an interval


def violated(summary: list[dict]) -> list[str]:
    """One sentence for each check that an evaluation's summary rows fail."""
    by_machine = defaultdict(dict)
    for row in summary:
        by_machine[row["machine"], row["chip_seed"]][row["threat"], row["strength"]] = row
    return [flag for (machine, chip), rows in by_machine.items()
            for check in (_rising, _black_box_stronger, _unaware_stronger, _no_gradient)
            for flag in check(machine if chip is None else f"{machine} (chip {chip})", rows)]


def _rising(name: str, rows: dict):
    """A larger budget must never help the defender."""
    for threat in dict.fromkeys(t for t, _ in rows if "_l" in t):
        ladder = sorted((rows[k] for k in rows if k[0] in (threat, "clean")), key=lambda r: r["strength"])
        for weaker, stronger in pairwise(ladder):
            if stronger["accuracy"] > weaker["accuracy"] + _slack(stronger):
                yield (f"{name}: accuracy under {threat} rises from {weaker['accuracy']:.3f} at eps "
                       f"{weaker['strength']:g} to {stronger['accuracy']:.3f} at eps {stronger['strength']:g}.")


def _black_box_stronger(name: str, rows: dict):
    """An attacker who sees only outputs must not beat one who sees everything."""
    yield from _beats(name, rows, "square", "pgd", "the black-box attack", _slack)


def _unaware_stronger(name: str, rows: dict):
    """An attacker who ignores the hardware must not beat one who knows it."""
    yield from _beats(name, rows, "transfer:reference:pgd", "pgd", "the unaware attacker", _half_interval)


def _no_gradient(name: str, rows: dict):
    """A gradient that is mostly zero says nothing about robustness."""
    for (threat, strength), row in rows.items():
        if threat.startswith("pgd") and row["zero_gradient"] > 0.5:
            yield f"{name}: {row['zero_gradient']:.0%} of {threat}@{strength:g} iterations saw a zero gradient."


def _beats(name: str, rows: dict, weak: str, strong: str, who: str, slack):
    for (threat, strength), row in rows.items():
        if threat.startswith(weak):
            full = rows.get((threat.replace(weak, strong, 1), strength))
            if full and full["accuracy"] > row["accuracy"] + slack(full):
                yield (f"{name}: {who} ({threat}@{strength:g}, {row['accuracy']:.3f}) beats the white box "
                       f"({full['accuracy']:.3f}): the white-box gradient may be masked.")


def _slack(row: dict) -> float:
    return TOLERANCE if row["chip_seed"] is None else _half_interval(row)


def _half_interval(row: dict) -> float:
    return (row["ci_high"] - row["ci_low"]) / 2
