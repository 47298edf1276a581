"""What cells come to: a row a configuration, as in summary.json."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import groupby, islice
from math import sqrt

import numpy as np
import pyarrow as pa

from ep_hw.analysis.rows import Case, SummaryRow
from ep_hw.analysis.statistics import Interval, paired_bootstrap, wilson
from ep_hw.evaluation.cells import SCHEMA, Cell, all_rows
from ep_hw.evaluation.stored import Record
from ep_hw.threats.attacks import TRANSFERRED
from ep_hw.threats.attacks.begun import BLACK_BOX
from ep_hw.threats.threat import TRANSFER
from simulators.heap import give_back

BATCH = 2**14      # rows that are held at once, and a row group of results.parquet
RESAMPLES = 2000   # of the paired bootstrap of a row
SAID = (pa.field("machine_label", pa.string()), pa.field("seed", pa.int64()))   # in results beside what cells hold
RESULTS_SCHEMA = pa.schema([*SCHEMA, *SAID])
Batch = tuple[pa.Table, list[SummaryRow]]   # rows an image, and a row a configuration
Columns = dict[str, np.ndarray]
Outcomes = dict[Case, np.ndarray]   # (chips, images) bool, which images were classified correctly


def summarise(cells: Iterable[Cell]) -> Iterator[Batch]:
    """The rows of cells, and a row of the summary a configuration, its shards pooled, in running order.

    No more rows are held at once than `BATCH`, and those of one configuration.

    Args:
        cells: in running order, so that the shards of a configuration follow each other.
    """
    batch: list[list[Cell]] = []
    held = 0
    for _, own in groupby(cells, key=lambda cell: cell.configuration.key):
        batch.append(list(own))
        held += sum(len(cell.images) for cell in batch[-1])
        if held >= BATCH:
            yield _batch(batch)
            batch, held = [], 0
            give_back()
    if batch:
        yield _batch(batch)


def _batch(groups: list[list[Cell]]) -> Batch:
    """The rows of whole configurations, and of each what its rows come to."""
    every = [cell for group in groups for cell in group]
    records, table = all_rows(every)
    said = [(cell.machine, cell.configuration.seed) for cell in every for _ in cell.images.ids]
    for field, values in zip(SAID, zip(*said)):
        table = table.append_column(field, pa.array(values, field.type))
    columns, records_left, summary, start = _columns(table), iter(records), [], 0
    for cells in groups:
        end = start + sum(len(cell.images) for cell in cells)
        own = {name: values[start:end] for name, values in columns.items()}
        summary.append(_row(own, cells, list(islice(records_left, len(cells)))))
        start = end
    return table, summary


def _columns(table: pa.Table) -> Columns:
    """The columns that a summary takes, as numpy arrays."""
    plain = ("label", "prediction", "reference_prediction", "reference_correct_clean", "logit_rms", "read_accuracy",
             "zero_gradient", "queries", "converged")
    mixed = ("noise_correct", "broken_by", "fooled_by")
    return {**{name: table[name].to_numpy() for name in plain},
            **{name: _objects(table[name].to_pylist()) for name in mixed}}


def _objects(values: list) -> np.ndarray:
    """Values of any kind, lists among them, in an array."""
    array = np.empty(len(values), object)
    array[:] = values
    return array


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


def _row(rows: Columns, shards: list[Cell], records: list[Record]) -> SummaryRow:
    label, predicted, reference = (rows[k] for k in ("label", "prediction", "reference_prediction"))
    right, reference_right = predicted == label, reference == label
    known, rms = rows["reference_correct_clean"], rows["logit_rms"]
    n, correct = len(label), _count(right)
    to_wrong, to_right = _count(reference_right > right), _count(right > reference_right)
    (low, high), gap = _wilson(correct, n), _gap(to_wrong, to_right, n)
    c = shards[0].configuration
    circuits: list[dict] = [record.circuit for record in records]
    broken = rows["broken_by"].tolist()
    return SummaryRow(
        model=c.model, dataset=c.dataset, machine=c.machine, machine_label=shards[0].machine, threat=c.threat,
        chip_seed=c.chip_seed, n=n,
        accuracy=correct / n, ci_low=low, ci_high=high, agreement=_count(predicted == reference) / n,
        flips_to_wrong=to_wrong, flips_to_right=to_right,
        gap=correct / n - _count(reference_right) / n, gap_low=gap.low, gap_high=gap.high, logit_rmse=_rms(rms),
        logit_rmse_clean_correct=_rms(rms[known]), read_accuracy=_mean(rows["read_accuracy"]),
        zero_gradient=_mean_known(rows["zero_gradient"]),
        noise_accuracy=_share(rows["noise_correct"].tolist(), True), unaware_only=_share(broken, TRANSFERRED),
        others_only=sum(by.startswith(TRANSFER) and by != TRANSFERRED for by in broken) / n,
        others=_others(broken, rows["fooled_by"], shards[0]),
        black_box_only=_share(broken, BLACK_BOX) if rows["queries"].max() else None,
        unconverged=1 - _count(rows["converged"]) / n,
        saturation=_circuit_share(circuits, "saturation"), winner_flips=_circuit_share(circuits, "winner_flips"),
        asymmetry=circuits[0].get("asymmetry"), seconds=round(_seconds(shards, records), 3), key=c.key)


def _seconds(shards: list[Cell], records: list[Record]) -> float:
    """What cells took, their own attacks included."""
    return sum(record.seconds for record in records) + sum(
        _seconds(own, [own[0].stored.record()]) for cell in shards if (own := cell.joined[:1]))


@cache
def _wilson(correct: int, n: int) -> Interval:
    return wilson(correct, n)


@cache
def _gap(to_wrong: int, to_right: int, n: int) -> Interval:
    """Of accuracy minus the reference's, by a paired bootstrap, which draws from counts of differences alone."""
    differences = np.repeat([-1.0, 0.0, 1.0], [to_wrong, n - to_wrong - to_right, to_right])
    return paired_bootstrap(np.zeros(n), differences, np.random.default_rng(0), RESAMPLES)


def _others(broken: list[str], fooled: np.ndarray, cell: Cell) -> dict[str, list[int]]:
    """Machine -> [images that those made there broke and the own attack did not, the reverse]; an attack leaves alone
    what is misclassified clean.
    """
    names = [one.machine for one in cell.configuration.joined[1:]]
    attacked, counts = [n for n, by in enumerate(broken) if by != "clean" and names], dict[str, list[int]]()
    own = [broken[n] != "" and not broken[n].startswith(TRANSFER) for n in attacked]
    for name in names:
        theirs = [name in fooled[n] for n in attacked]
        counts[name] = [sum(b > a for a, b in zip(own, theirs)), sum(a > b for a, b in zip(own, theirs))]
    return counts


def _rms(values: np.ndarray) -> float | None:
    return sqrt(_mean(values**2)) if len(values) else None


def _count(values: np.ndarray) -> int:
    """How many are true; of a few it takes a tenth of the time of a sum."""
    return int(np.count_nonzero(values))


def _mean(values: np.ndarray) -> float:
    """That of numpy to the bit, which takes three times as long for a few."""
    return float(np.add.reduce(values)) / len(values)


def _mean_known(values: np.ndarray) -> float:
    """Mean of those that are not NaN; 0 where there are none."""
    known = values[~np.isnan(values)]
    return _mean(known) if len(known) else 0.0


def _share(values: list, value: str | bool) -> float | None:
    """Fraction of what is known that equals `value`; None where nothing is."""
    known = [v for v in values if v is not None]
    return sum(v == value for v in known) / len(known) if known else None
