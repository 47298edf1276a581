"""Corruption errors: the mCE against a named baseline, and plain means.

    E_c = mean over severities 1 to 5 of (1 - accuracy)      mCE = mean over c of E_c / E_c(baseline)             (21)

Every mean needs every corruption of its set at all five severities. Source: Hendrycks and Dietterich 2019.
"""

from collections.abc import Mapping, Sequence

from ep_hw.analysis.rows import Case
from ep_hw.threats.corruptions import ALL, MAIN
from ep_hw.threats.threat import Threat
from mapping.errors import Refusal

SEVERITIES = (1.0, 2.0, 3.0, 4.0, 5.0)
Accuracies = Mapping[Case, float]   # mean over chips


def corruption_error(accuracies: Accuracies, machine: str, name: str) -> float:
    """E_c of `analysis.corruption_error (21)`, in [0, 1].

    Args:
        accuracies: of an evaluation.
        machine: one of its machines.
        name: of a corruption, as its threat is called.

    Raises:
        Refusal: a severity that was not run, naming it.
    """
    cases = [(machine, Threat(name, severity)) for severity in SEVERITIES]
    if missing := [str(case[1]) for case in cases if case not in accuracies]:
        raise Refusal("an incomplete set of corruptions", where=machine, got=f"no {', '.join(missing)}",
                      allowed="every corruption at severities 1 to 5", remedy="evaluate these as well")
    return 1 - sum(accuracies[case] for case in cases) / len(SEVERITIES)


def mean_corruption_error(accuracies: Accuracies, machine: str, names: Sequence[str] = ALL) -> float:
    """Plain mean of E_c over `names`, in [0, 1].

    Raises:
        Refusal: see `corruption_error`.
    """
    return sum(corruption_error(accuracies, machine, name) for name in names) / len(names)


def mce(accuracies: Accuracies, machine: str, others: Accuracies, baseline: str, names: Sequence[str] = MAIN) -> float:
    """`analysis.corruption_error (21)`; 1 is as good as the baseline.

    Args:
        accuracies: of the evaluation in which `machine` was run.
        machine: the one whose errors count.
        others: accuracies of the evaluation in which `baseline` was run.
        baseline: the machine whose errors are the measure.
        names: of the corruptions.

    Raises:
        Refusal: an incomplete set, or a baseline without any error on a corruption.
    """
    ratios = []
    for name in names:
        ours, theirs = corruption_error(accuracies, machine, name), corruption_error(others, baseline, name)
        if theirs <= 0:
            raise Refusal("the baseline makes no error to compare with", where=baseline, got=name,
                          allowed="an error above 0", remedy="take more images, or another baseline")
        ratios.append(ours / theirs)
    return sum(ratios) / len(ratios)
