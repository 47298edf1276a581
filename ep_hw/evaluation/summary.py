"""What cells come to: a row a configuration, as in summary.json."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from ep_hw.analysis.rows import Case, SummaryRow
from ep_hw.analysis.statistics import paired_bootstrap, wilson
from ep_hw.evaluation.cells import Cell
from ep_hw.threats.attacks import TRANSFERRED
from ep_hw.threats.attacks.square import BLACK_BOX
from ep_hw.threats.threat import TRANSFER

RESAMPLES = 2000   # of the paired bootstrap of a row
Outcomes = dict[Case, np.ndarray]   # (chips, images) bool, which images were classified correctly


def summarise(table: pa.Table, cells: list[Cell]) -> list[SummaryRow]:
    """One row a configuration, its shards pooled, in running order."""
    shards: dict[str, list[Cell]] = {}
    for cell in cells:
        shards.setdefault(cell.configuration.key, []).append(cell)
    keys = np.array(table["key"].to_pylist())
    return [_row(table.filter(keys == key), shards[key]) for key in dict.fromkeys(keys.tolist())]


def outcomes_of(cells: Sequence[Cell]) -> Outcomes:
    """What became of every image of an evaluation, by what its machines are called."""
    shards: dict[Case, dict[int | None, list[np.ndarray]]] = defaultdict(lambda: defaultdict(list))
    for cell in cells:
        rows = cell.read()
        right = rows["prediction"].to_numpy() == rows["label"].to_numpy()
        shards[cell.machine, cell.threat][cell.configuration.chip_seed].append(right)
    return {key: np.array([np.concatenate(own) for own in chips.values()]) for key, chips in shards.items()}


def _circuit_share(circuits: list[dict], name: str) -> float | None:
    """What circuits met, as a share of all; None where there is no such thing."""
    events, of = (sum(one.get(name, (0, 0))[i] for one in circuits) for i in range(2))
    return events / of if of else None


def _row(rows: pa.Table, shards: list[Cell]) -> SummaryRow:
    label, predicted, reference = (rows[k].to_numpy() for k in ("label", "prediction", "reference_prediction"))
    right, reference_right = predicted == label, reference == label
    known, rms = (rows[k].to_numpy() for k in ("reference_correct_clean", "logit_rms"))
    low, high = wilson(int(right.sum()), len(label))
    gap = paired_bootstrap(reference_right, right, np.random.default_rng(0), RESAMPLES)
    c, circuits = shards[0].configuration, [shard.circuit() for shard in shards]
    return SummaryRow(
        model=c.model, dataset=c.dataset, machine=c.machine, machine_label=shards[0].machine, threat=c.threat,
        chip_seed=c.chip_seed, n=len(label),
        accuracy=float(right.mean()), ci_low=low, ci_high=high, agreement=float((predicted == reference).mean()),
        flips_to_wrong=int((reference_right & ~right).sum()), flips_to_right=int((~reference_right & right).sum()),
        gap=float(right.mean() - reference_right.mean()), gap_low=gap.low, gap_high=gap.high, logit_rmse=_rms(rms),
        logit_rmse_clean_correct=_rms(rms[known]), read_accuracy=float(rows["read_accuracy"].to_numpy().mean()),
        zero_gradient=_mean_known(rows["zero_gradient"].to_numpy()),
        noise_accuracy=_share(rows["noise_correct"], True), unaware_only=_share(rows["broken_by"], TRANSFERRED),
        others_only=_others_only(rows), others=_others(rows, shards[0]),
        black_box_only=_share(rows["broken_by"], BLACK_BOX) if max(rows["queries"].to_pylist()) else None,
        unconverged=float(1 - rows["converged"].to_numpy(zero_copy_only=False).mean()),
        saturation=_circuit_share(circuits, "saturation"), winner_flips=_circuit_share(circuits, "winner_flips"),
        asymmetry=circuits[0].get("asymmetry"), seconds=round(sum(shard.seconds() for shard in shards), 3), key=c.key)


def _others_only(rows: pa.Table) -> float:
    """Share of images that only those broke which the same attack made on machines other than the reference."""
    broken = rows["broken_by"].to_pylist()
    return sum(by.startswith(TRANSFER) and by != TRANSFERRED for by in broken) / len(broken)


def _others(rows: pa.Table, cell: Cell) -> dict[str, list[int]]:
    """Machine -> [images that those made there broke and the own attack did not, the reverse]; an attack leaves alone
    what is misclassified clean.
    """
    broken, fooled = (rows[name].to_pylist() for name in ("broken_by", "fooled_by"))
    attacked, counts = [n for n, by in enumerate(broken) if by != "clean"], dict[str, list[int]]()
    own = [broken[n] != "" and not broken[n].startswith(TRANSFER) for n in attacked]
    for name in (one.machine for one in cell.configuration.joined[1:]):
        theirs = [name in fooled[n] for n in attacked]
        counts[name] = [sum(b > a for a, b in zip(own, theirs)), sum(a > b for a, b in zip(own, theirs))]
    return counts


def _rms(values: np.ndarray) -> float | None:
    return float(np.sqrt(np.mean(values**2))) if len(values) else None


def _mean_known(values: np.ndarray) -> float:
    """Mean of those that are not NaN; 0 where there are none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else 0.0


def _share(column: pa.ChunkedArray, value: str | bool) -> float | None:
    """Fraction of a column that equals `value`; None where nothing is known."""
    known = column.drop_null().to_pylist()
    return sum(v == value for v in known) / len(known) if known else None
