"""An evaluation with its machines called as they are shown: what reports, plots and terminals are made from.

Cells, results and keys go by full names; see `mapping.labels`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from ep_hw.analysis.rows import SummaryRow
from ep_hw.evaluation.checks import Verdict
from ep_hw.evaluation.plan import Asked, Limits, Plan
from ep_hw.threats.threat import TRANSFER, Threat, parse_threat
from mapping.labels import split_label

Names = Mapping[str, str]   # full name -> shown


def shown_rows(rows: Iterable[SummaryRow], names: Names) -> list[SummaryRow]:
    """Rows whose machines are what they are called."""
    return [_row(row, names) for row in rows]


def _row(row: SummaryRow, names: Names) -> SummaryRow:
    return {**row, "machine": names.get(row["machine"], row["machine"]), "threat": row["threat"].on(names),
            "others": {names.get(name, name): counts for name, counts in row["others"].items()}}


def shown_verdicts(verdicts: Iterable[Verdict], names: Names) -> list[Verdict]:
    """Verdicts on machines by what they are called."""
    return [replace(verdict, machine=names.get(verdict.machine, verdict.machine)) for verdict in verdicts]


def shown_plan(plan: Plan) -> Plan:
    """The plan by what its machines are called, for those who show it; what it runs goes by full names."""
    names = plan.asked.names
    return replace(plan, asked=_asked(plan.asked), limits=_limits(plan.limits, names),
                   programs={names.get(name, name): program for name, program in plan.programs.items()})


def _asked(asked: Asked) -> Asked:
    names = asked.names

    def of(name: str) -> str:
        return names.get(name, name)

    return replace(asked, machines=tuple(map(of, asked.machines)), baseline=of(asked.baseline),
                   threats=tuple(threat.on(names) for threat in asked.threats),
                   extra_pairs=tuple((of(name), threat.on(names)) for name, threat in asked.extra_pairs),
                   refused={of(name): why for name, why in asked.refused.items()})


def _limits(limits: Limits, names: Names) -> Limits:
    return replace(limits, skipped=frozenset((names.get(name, name), kind) for name, kind in limits.skipped),
                   image_limits={(names.get(name, name), kind): count
                                 for (name, kind), count in limits.image_limits.items()})


def called(threat: str, machines: Iterable[str] | None) -> Threat:
    """The threat of a text, whose source may be called by the label that one of the machines has.

    Args:
        threat: as `transfer:mine:pgd_l2@0.5`.
        machines: as `mine=crossbar:pcm`; None for none.

    Raises:
        Refusal: see `parse_threat`.
    """
    source, _, attack = threat.removeprefix(TRANSFER).rpartition(":")
    full = dict(split_label(machine) for machine in machines or ()).get(source, "")
    return parse_threat(f"{TRANSFER}{full}:{attack}" if full and threat.startswith(TRANSFER) else threat)
