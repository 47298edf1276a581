"""Corruption errors from summary rows: the mCE against a named baseline, and plain means.

    E_c = mean over severities 1 to 5 of (1 - accuracy)      mCE = mean over c of E_c / E_c(baseline)             (21)

Every mean needs every corruption of its set at all five severities. Source: Hendrycks and Dietterich 2019.
"""

from collections.abc import Sequence

from ep_hw.corruptions import CORRUPTIONS, MAIN
from mapping.errors import Refusal

SEVERITIES = (1.0, 2.0, 3.0, 4.0, 5.0)
ALL = tuple(CORRUPTIONS)


def corruption_error(summary: Sequence[dict], machine: str, name: str) -> float:
    """E_c of equation (21), chips pooled.

    Args:
        summary: rows of an evaluation. name: of a corruption, as its threat is called in the rows.

    Raises:
        Refusal: a severity that was not run, naming it.
    """
    found: dict[float, list[float]] = {}
    for row in summary:
        if (row["machine"], row["threat"]) == (machine, name):
            found.setdefault(row["strength"], []).append(1 - row["accuracy"])
    missing = [f"{name}@{severity:g}" for severity in SEVERITIES if severity not in found]
    if missing:
        raise Refusal("an incomplete set of corruptions", where=machine, got=f"no {', '.join(missing)}",
                      allowed="every corruption at severities 1 to 5", remedy="evaluate these as well")
    return sum(sum(found[severity]) / len(found[severity]) for severity in SEVERITIES) / len(SEVERITIES)


def mean_corruption_error(summary: Sequence[dict], machine: str, names: Sequence[str] = ALL) -> float:
    """Plain mean of E_c over `names`, in [0, 1].

    Raises:
        Refusal: see `corruption_error`.
    """
    return sum(corruption_error(summary, machine, name) for name in names) / len(names)


def mce(summary: Sequence[dict], machine: str, baseline: Sequence[dict], baseline_machine: str,
        names: Sequence[str] = MAIN) -> float:
    """Equation (21); 1 is as good as the baseline.

    Args:
        baseline: summary rows of the baseline's evaluation.

    Raises:
        Refusal: an incomplete set, or a baseline without any error on a corruption.
    """
    ratios = []
    for name in names:
        ours, theirs = (corruption_error(*who, name) for who in ((summary, machine), (baseline, baseline_machine)))
        if theirs == 0:
            raise Refusal("the baseline makes no error to compare with", where=baseline_machine, got=name,
                          allowed="an error above 0", remedy="take more images, or another baseline")
        ratios.append(ours / theirs)
    return sum(ratios) / len(ratios)
