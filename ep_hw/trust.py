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
            for check in (_rising, _black_box_stronger, _unaware_stronger, _unaware_needed, _noise_stronger,
                          _no_gradient)
            for flag in check(machine if chip is None else f"{machine} (chip {chip})", rows)]


def _rising(name: str, rows: dict):
    """A larger budget must never help the defender."""
    for threat in dict.fromkeys(t for t, _ in rows if "_l" in t):
        ladder = sorted((rows[k] for k in rows if k[0] in (threat, "clean")), key=lambda r: r["strength"])
        for weaker, stronger in pairwise(ladder):
            if stronger["accuracy"] > weaker["accuracy"] + slack(stronger):
                yield (f"{name}: accuracy under {threat} rises from {weaker['accuracy']:.3f} at eps "
                       f"{weaker['strength']:g} to {stronger['accuracy']:.3f} at eps {stronger['strength']:g}.")


def _black_box_stronger(name: str, rows: dict):
    """An attacker who sees only outputs must not beat one who sees everything."""
    for white, black in _pairs(rows, "pgd", "square"):
        if aware(white) > black["accuracy"] + slack(white):
            yield _beaten(name, "the black-box attack", black, aware(white))


def _unaware_stronger(name: str, rows: dict):
    """An attacker who ignores the hardware must not beat one who knows it, and tries those very images as well."""
    for white, unaware in _pairs(rows, "", "transfer:reference:"):
        if white["accuracy"] > unaware["accuracy"] + slack(white):
            yield _beaten(name, "the unaware attacker", unaware, white["accuracy"])


def _unaware_needed(name: str, rows: dict):
    """Gradients of the hardware must not need the unaware attacker's images to be as strong as they."""
    for white, unaware in _pairs(rows, "", "transfer:reference:"):
        if aware(white) > unaware["accuracy"] + half_interval(white):
            yield _beaten(name, "without its images, the unaware attacker", unaware, aware(white))


def _noise_stronger(name: str, rows: dict):
    """Noise in a random direction must not do more harm than an attack that went as far."""
    for (threat, strength), row in rows.items():
        noise = row.get("noise_accuracy")
        if noise is not None and aware(row) > noise + slack(row):
            yield (f"{name}: random noise as large as {threat}@{strength:g} ({noise:.3f}) does more harm than the "
                   f"attack ({aware(row):.3f}).")


def _no_gradient(name: str, rows: dict):
    """A gradient that is mostly zero says nothing about robustness."""
    for (threat, strength), row in rows.items():
        if row["zero_gradient"] > 0.5:
            yield f"{name}: {row['zero_gradient']:.0%} of {threat}@{strength:g} iterations saw a zero gradient."


def _pairs(rows: dict, strong: str, weak: str):
    """(row, row) for every threat whose name begins with `weak` and its like that begins with `strong`."""
    for (threat, strength), row in rows.items():
        if threat.startswith(weak):
            full = rows.get((strong + threat.removeprefix(weak), strength))
            if full:
                yield full, row


def _beaten(name: str, who: str, weak: dict, accuracy: float) -> str:
    return (f"{name}: {who} ({weak['threat']}@{weak['strength']:g}, {weak['accuracy']:.3f}) beats the white box "
            f"({accuracy:.3f}): the white-box gradient may be masked.")


def aware(row: dict) -> float:
    """Accuracy under an attack without the images it took over from the reference: what its own gradients are worth."""
    return row["accuracy"] + (row.get("unaware_only") or 0.0)


def slack(row: dict) -> float:
    """How far an accuracy may miss a bound that an exact attack would keep: nothing to speak of, or noise."""
    return TOLERANCE if row["chip_seed"] is None else half_interval(row)


def half_interval(row: dict) -> float:
    """Half the width of a row's interval."""
    return (row["ci_high"] - row["ci_low"]) / 2
