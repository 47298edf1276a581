"""A card: what one model on one machine is worth, and everything that decided it, as plain JSON values."""

from collections.abc import Sequence

from ep_hw.analysis.corruption import corruption_rows, means
from ep_hw.analysis.points import Estimate, pool
from ep_hw.analysis.rows import SummaryRow, spelled
from ep_hw.analysis.worst import WorstCase
from ep_hw.evaluation.checks import Verdict
from ep_hw.evaluation.plan import Plan, chips_of
from ep_hw.threats.threat import CLEAN


def card(plan: Plan, machine: str, summary: Sequence[SummaryRow], worst: Sequence[WorstCase], checks: Sequence[Verdict],
         versions: dict[str, str]) -> dict:
    """The card of one machine of a plan.

    Args:
        plan: of the evaluation.
        machine: one of its machines.
        summary: of all machines.
        worst: of all machines.
        checks: of all machines.
        versions: of every package that decided a number.
    """
    points = pool(summary)
    own = {key: point for key, point in points.items() if key[0] == machine}
    header = plan.provenance
    return {
        "model": plan.model, "machine": machine, "target": str(plan.programs[machine].target),
        "architecture": header.get("spec"), "weights": header.get("sha256"),
        "recipe": header.get("recipe"), "trained_on": header.get("data"), "trained_accuracy": header.get("accuracy"),
        "evaluated_on": {"data": plan.images.data, "split": "test", "images": len(plan.images),
                         **({"sha256": plan.images.sha256} if plan.images.sha256 else {})},
        "program": plan.programs[machine].digest(),
        "seeds": {"evaluation": plan.asked.seed, "chips": chips_of(plan, machine)},
        "settings": plan.attacks.settings.model_dump(mode="json"),
        "clean": _accuracy(own[machine, CLEAN].accuracy),
        "attacks": [{**spelled(threat), **_accuracy(point.accuracy)}
                    for (_, threat), point in own.items() if threat.is_attack],
        "worst": [{"norm": w.norm, "budget": w.budget, "attacks": w.names, **_accuracy(w.accuracy)}
                  for w in worst if w.machine == machine],
        "corruptions": [{"corruption": row.name, "severities": [p.strength for p in row.cells[machine]],
                         "mean": row.mean(machine)} for row in corruption_rows(points) if row.cells[machine]],
        "corruption_means": means(points, machine, plan.asked.baseline),
        "trust": [{"check": v.check, "chip": v.chip, "comparisons": v.made, "images": v.images,
                   "violated": list(v.findings)} for v in checks if v.machine == machine],
        "versions": versions}


def _accuracy(estimate: Estimate) -> dict[str, float]:
    return {"accuracy": estimate.value, "low": estimate.low, "high": estimate.high}
