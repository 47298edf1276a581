"""Probes: what an attack must be able to do if its failures are to be believed.

    unbounded  gradients that lead an image wherever they will leave nothing standing
    harder     as many iterations again and one restart more, giving up nothing, find little that was missed where an
               image stood
    slice      the loss rises faster along the gradient than in a random direction

They are an evaluation of their own, on some of the plan's images and one chip a machine; ep_hw.evaluation.checks does
the rest. Source: Carlini et al. 2019, sections 3.6 and 4.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

import simulators
from ep_hw.analysis.rows import Case, SummaryRow
from ep_hw.analysis.statistics import wilson
from ep_hw.evaluation.cells import Cell
from ep_hw.evaluation.checks import Comparison, Verdict, adaptive, half_interval, judged, slack
from ep_hw.evaluation.plan import Attacks, Plan, cells_of, chips_of, evaluate_all
from ep_hw.evaluation.progress import Progress
from ep_hw.threats.attacks import possible_gradients
from ep_hw.threats.attacks.masking import aimed
from ep_hw.threats.threat import CLEAN, TRANSFER, Threat

UNBOUNDED = Threat("pgd_linf", 1.0)
AIMED = 0.75   # of images, at least; a masked gradient is better than a random direction on half of them
FOLDER = "probes"   # in the folder of the evaluation that they check


def probe_plan(plan: Plan) -> Plan | None:
    """The unbounded attack, and of each PGD of the plan the middle strength tried harder; None without white boxes.

    A machine on which PGD was too dear is not probed.
    """
    white = [threat for threat in plan.asked.threats if threat.is_white_box]
    if not white or not plan.limits.probed:
        return None
    ladders = [sorted((t for t in white if t.kind == kind), key=lambda t: t.strength)
               for kind in dict.fromkeys(t.kind for t in white if t.attack.ascends)]
    asked, skipped = plan.attacks.settings, plan.limits.skipped
    settings = asked.model_copy(update={"restarts": asked.restarts + 1, "patience": 1.0})
    threats = tuple(dict.fromkeys([UNBOUNDED, *(ladder[len(ladder) // 2] for ladder in ladders)]))
    unbounded = asked.model_copy(update={"iterations": 2 * asked.iterations, "restarts": 1,
                                         "gradients": _led(asked.gradients)})
    dear = {machine for machine, kind in skipped if Threat(kind).attack.ascends}
    return replace(
        plan, images=plan.images.take(slice(plan.probed())), before=plan,
        asked=replace(plan.asked, threats=threats, extra_pairs=(), chips=1, temporal=None),
        limits=replace(plan.limits, image_limits={}, skipped=frozenset((m, t.kind) for m in dear for t in threats)),
        attacks=Attacks(settings=settings, settings_overrides={UNBOUNDED: unbounded}))


def _led(gradients: Sequence[str]) -> tuple[str, ...]:
    """Gradients climbed in small steps: the first of Auto-PGD leads to a corner, and an image there fools by itself."""
    return tuple(dict.fromkeys(name.replace("apgd@", "bptt@") for name in gradients))


def probe(parts: Sequence[tuple[Plan, Path, Sequence[Cell]]]) -> list[list[Verdict]]:
    """Run the probes of finished evaluations, each into its folder/probes; what became of them, for each evaluation.

    Args:
        parts: plan, folder and cells of each evaluation.
    """
    chosen = [(plan, folder / FOLDER) for plan, folder in ((probe_plan(p), folder) for p, folder, _ in parts) if plan]
    chosen = [(plan.showing(_probing(plan.run.progress)), folder) for plan, folder in chosen]
    for plan, folder in chosen:
        _bring_begun(plan, folder)
    if chosen:
        chosen[0][0].run.progress(_announced([plan for plan, _ in chosen]), 0, 0)
    probed = {plan.model: (plan, *outcome) for (plan, _), outcome in
              zip(chosen, evaluate_all(chosen) if chosen else [])}
    return [_verdicts(cells, *probed[plan.model]) if plan.model in probed else [] for plan, _, cells in parts]


def _probing(progress: Progress) -> Progress:
    """Progress that calls every cell a probe."""
    return lambda what, finished, of: progress(f"probe: {what}" if of else what, finished, of)


def _announced(plans: Sequence[Plan]) -> str:
    """What the probes try, in a line."""
    harder = dict.fromkeys(str(threat) for plan in plans for threat in plan.asked.threats if threat != UNBOUNDED)
    tried = f", {' and '.join(harder)} tried harder" if harder else ""
    return f"now probes, of whether the attacks can be believed: {UNBOUNDED}, which has no bound{tried}"


def _bring_begun(plan: Plan, folder: Path):
    """Bring the attacks that probes go on from, and what else the evaluation knows of the same images."""
    for cell in cells_of(plan, folder):
        if not cell.done():
            cell.stored.bring(folder.parent / cell.folder.name)


def _verdicts(cells: Sequence[Cell], chosen: Plan, rows: Sequence[SummaryRow], probes: Sequence[Cell]) -> list[Verdict]:
    before, after = (_accuracies(group, chosen.images.ids.tolist()) for group in (cells, probes))
    of_rows = [verdict for row in rows for name, comparisons in (
                   ("an attack without any bound leaves nothing standing", _unbounded(row)),
                   ("more iterations and restarts change little", harder(row, before, after)))
               for verdict in judged(row["machine"], row["chip_seed"], name, comparisons)]
    return of_rows + [verdict for name in chosen.asked.machines if (threat := telling(before, name))
                      for verdict in _slice(chosen, name, threat)]


def telling(accuracies: Mapping[Case, float], machine: str) -> Threat | None:
    """The PGD that leaves a machine closest to half its clean accuracy: far from it, noise or clipping decide."""
    attacked = {threat: accuracy for (name, threat), accuracy in accuracies.items()
                if name == machine and _ascends(threat) and threat.attack.is_bounded and threat.strength > 0}
    half = accuracies.get((machine, CLEAN), 1.0) / 2
    return min(attacked, key=lambda threat: abs(attacked[threat] - half), default=None)


def _ascends(threat: Threat) -> bool:
    """Whether it is an attack on the machine under test that more iterations and restarts make no weaker."""
    return threat.is_direct and threat.attack.ascends


def _slice(plan: Plan, name: str, threat: Threat) -> list[Verdict]:
    """The loss as far away as an attack goes, along its first gradient and in a random direction."""
    chip = chips_of(plan, name)[0]
    with simulators.open(plan.programs[name], chip_seed=chip or 0, device=plan.run.device) as machine:
        gradient, draws = possible_gradients(machine, plan.attacks.settings)[0], plan.attacks.settings.eot
        hits = aimed(machine, plan.images, gradient, threat.norm, threat.strength,
                     torch.Generator().manual_seed(plan.asked.seed), draws=1 if machine.deterministic else draws)
    n, right = len(hits), int(hits.sum())
    finding = (f"{threat.strength:g} away the loss is higher along {gradient} than in a random direction on "
               f"{right} of {n} images only: the gradient may be masked.")
    return judged(name, chip, "the loss rises faster along the gradient than in a random direction",
                  [(n, finding if wilson(right, n).high < AIMED else None)])


def _unbounded(row: SummaryRow) -> Iterator[Comparison]:
    if row["threat"] == UNBOUNDED:
        finding = (f"an attack without any bound leaves {adaptive(row):.3f} accuracy: what stands up to it is masked, "
                   "not robust.")
        yield row["n"], finding if adaptive(row) > slack(row) else None


def harder(row: SummaryRow, before: Mapping[Case, float], after: Mapping[Case, float]) -> Iterator[Comparison]:
    """A PGD that was tried harder must break, within what the sample could show, what it broke at first.

    Args:
        row: of the harder attempt.
        before: accuracies of the evaluation on the same images.
        after: accuracies of the probes.
    """
    case = row["machine"], row["threat"]
    if case in before and _ascends(row["threat"]) and row["threat"] != UNBOUNDED:
        gained = after[case] - before[case]
        finding = (f"more iterations and restarts {'raise' if gained > 0 else 'lower'} the accuracy under "
                   f"{row['threat'].label} from {before[case]:.3f} to {after[case]:.3f}: the attack is not to be "
                   "trusted as it is.")
        yield row["n"], finding if abs(gained) > half_interval(row) else None


def _accuracies(cells: Sequence[Cell], ids: Sequence[int]) -> dict[Case, float]:
    """Accuracies on the images `ids`, of first chips; see `checks.adaptive`."""
    right: dict[Case, list[bool]] = {}
    chosen = set(ids)
    for c, cell in ((cell.configuration, cell) for cell in cells if not cell.configuration.chip_seed):
        rows = [row for row in cell.read().to_pylist() if row["image_id"] in chosen]
        right.setdefault((c.machine, c.threat), []).extend(
            row["prediction"] == row["label"] or row["broken_by"].startswith(TRANSFER) for row in rows)
    return {case: sum(values) / len(values) for case, values in right.items() if values}
