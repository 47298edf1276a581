"""The transfer matrix: what adversarial images made on one machine do to every other, over the same images.

The diagonal is the white box. Adversarial images are made once, in the cell of their source, and shown to all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ep_hw.analysis.rows import SummaryRow
from ep_hw.analysis.statistics import wilson
from ep_hw.data.splits import Split
from ep_hw.evaluation.execution import Run
from ep_hw.evaluation.plan import Asked, Attacks, Plan
from ep_hw.networks.baselines import Baseline
from ep_hw.networks.gains import gains_said, stated_gain
from ep_hw.networks.network import EPNetwork
from ep_hw.networks.programs import reference_of
from ep_hw.threats.attacks import AttackSettings
from ep_hw.threats.threat import Threat
from mapping.errors import Refusal
from mapping.labels import shown_names
from mapping.program import Table
from mapping.targets import REFERENCE
from simulators.module import AnyProgram


def plan_transfer(net: EPNetwork | Baseline, split: Split, programs: Mapping[str, AnyProgram], threat: Threat, *,
                  chips: int = 1, seed: int = 0, settings: AttackSettings | None = None,
                  run: Run | None = None) -> Plan:
    """An evaluation in which every machine is source and target.

    Args:
        programs: name -> program. Another model over the same data joins as its `reference` program under a name of
            its own, a torch module as `simulators.module.ModuleProgram`.
        threat: an attack.
        chips: programmed for targets that have chips; sources are their first.

    Raises:
        Refusal: no attack that a machine can be the source of.
    """
    if not threat.is_direct or threat.is_unclipped:
        raise Refusal("nothing to transfer", where="--attack", got=str(threat), allowed="an attack made on a machine, "
                      "within [0, 1]", remedy="write it as pgd_l2@0.5")
    threats = (threat, *(replace(threat, source=name) for name in programs))
    missing = {} if REFERENCE in programs else {REFERENCE: reference_of(net)}
    return Plan(model=net.name, images=split, programs={**programs, **missing}, run=run or Run(),
                asked=Asked(machines=tuple(programs), threats=threats, chips=chips, seed=seed,
                            names=shown_names(p.target for name, p in programs.items() if name == str(p.target))),
                attacks=Attacks(settings=settings or AttackSettings()))


def transfer_rows(summary: Sequence[SummaryRow], names: Sequence[str], threat: Threat) -> list[dict]:
    """A row a source and target, chips pooled: accuracy of the target with its Wilson interval over images."""
    rows = []
    for source in names:
        for target in names:
            wanted = target, (threat if source == target else replace(threat, source=source))
            chips = [row for row in summary if (row["machine"], row["threat"]) == wanted]
            n, accuracy = chips[0]["n"], sum(row["accuracy"] for row in chips) / len(chips)
            low, high = wilson(round(accuracy * n), n)
            rows.append({"source": source, "target": target, "threat": threat.kind, "strength": threat.strength,
                         "images": n, "chips": len(chips), "accuracy": accuracy, "ci_low": low, "ci_high": high})
    return rows


def transfer_table(rows: Sequence[dict], networks: Sequence[EPNetwork | Baseline] = ()) -> Table:
    """Sources down, targets across.

    Args:
        rows: of `transfer_rows`.
        networks: that are compared, whose feedback gains are said below.
    """
    names = list(dict.fromkeys(row["source"] for row in rows))
    accuracy = {(row["source"], row["target"]): row["accuracy"] for row in rows}
    lines = tuple((source, *(f"{accuracy[source, target]:.3f}" for target in names)) for source in names)
    first = rows[0]
    note = (f"{first['images']} images; rows: the machine that the images were made on; columns: the machine that is "
            "shown them. The diagonal is the white box.")
    return Table(f"accuracy under {first['threat']}@{first['strength']:g}", ("made on", *names), lines, (
        note, *gains_said({net.name: stated_gain(net.provenance) for net in networks})))
