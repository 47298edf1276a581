"""The images behind an accuracy: clean ones of a data set, and what attacks left of them in an evaluation's folder."""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from ep_hw.data.opening import is_place
from ep_hw.data.registry import DATA_SETS, load_data
from ep_hw.data.source import DEFAULT_SOURCE, DataSource
from ep_hw.data.splits import Split
from ep_hw.evaluation.cells import SCHEMA, pixel_digest
from ep_hw.evaluation.stored import Stored
from ep_hw.threats.threat import Threat
from mapping.errors import Refusal
from mapping.names import suggesting
from mapping.registry import REGISTRY, parse

_ALIKE = ["image_id", "pixels", "prediction", "norm"]   # tell a cell from an older one of other images
_TAKEN = ("key", "model", "dataset", "machine", "threat", "strength", "chip_seed", *_ALIKE, "label")


class Pictures(NamedTuple):
    """Images of one machine (and chip) under a threat, as arrays.

    Attributes:
        clean: (N, C, H, W) float32 in [0, 1].
        changed: alike, as the threat left them.
        labels: (N,) true classes.
        ids: (N,) numbers in their data set.
        predictions: (N,) classes that the machine gives the changed images.
    """

    clean: np.ndarray
    changed: np.ndarray
    labels: np.ndarray
    ids: np.ndarray
    predictions: np.ndarray


def pictures(folder: Path, results: pa.Table, images: Split, machine: str, threat: Threat,
             chip: int | None = None) -> Pictures:
    """The images behind an accuracy of a finished evaluation.

    Args:
        folder: of the evaluation.
        results: its rows, see `ep_hw.analysis.results.read_results`.
        images: those that it was about, and perhaps others.
        machine: its name.
        threat: an attack that was made on it.
        chip: its seed; the first where there are chips and none is named.

    Raises:
        Refusal: no such attack on this machine and chip in this evaluation, other images, or damaged files.
    """
    rows = _rows(results, machine, threat, chip)
    clean = _evaluated(images, rows)
    changed = _changed(folder / "cells", rows, clean)
    return Pictures(clean.images.numpy(), changed, clean.labels.numpy(), clean.ids.numpy(),
                    rows["prediction"].to_numpy())


def evaluated_data(results: pa.Table, data_source: DataSource = DEFAULT_SOURCE) -> Split:
    """The test images that an evaluation chose from.

    Raises:
        Refusal: rows of another version, or images that are not there; see `load_data`.
    """
    if not len(results) or not all(map(partial(_has, results), _TAKEN)):
        raise Refusal("the rows of the evaluation are not complete", where="results.parquet",
                      got=f"{len(results)} rows of {', '.join(results.column_names)}",
                      allowed=f"one or more, with {', '.join(_TAKEN)}", remedy="evaluate again with this version")
    name = results["dataset"][0].as_py()
    if data_source.data is None and name not in DATA_SETS and not is_place(name):
        raise Refusal("the data that were evaluated have no name here", where="--data", got=name,
                      allowed=f"{', '.join(DATA_SETS)}, or the file or folder that was evaluated",
                      remedy="name it with --data")
    return load_data(data_source.data or name, "test", data_source)


def _has(results: pa.Table, column: str) -> bool:
    """Whether there is such a column, with a value in each row unless it is of chips."""
    return column in results.column_names and results.schema.field(column).type == SCHEMA.field(column).type and (
        column == "chip_seed" or not results[column].null_count)


def _rows(results: pa.Table, machine: str, threat: Threat, chip: int | None) -> pa.Table:
    """Those of a machine, threat and chip."""
    name = _full_name(results, machine)
    rows = results.filter((pc.field("machine") == name) & (pc.field("threat") == threat.name)
                          & (pc.field("strength") == threat.strength)) if threat.is_direct else results.slice(0, 0)
    chips = rows["chip_seed"].unique().to_pylist()
    if chip not in (None, *chips) or not chips:
        raise _no_images(results, name, threat, chip)
    own = pa.array([chips[0] if chip is None else chip], pa.int64())
    return rows.filter(pc.is_in(rows["chip_seed"], own))


def _full_name(results: pa.Table, machine: str) -> str:
    """Of a machine that is named by it, with options in another order, or by what it is called."""
    known = results["machine"].unique().to_pylist()
    if machine not in known and "machine_label" in results.column_names:
        called = results.filter(pc.field("machine_label") == machine)["machine"].unique().to_pylist()
        if called:
            return called[0]
    return machine if machine in known or machine.partition("[")[0] not in REGISTRY else str(parse(machine))


def _no_images(results: pa.Table, machine: str, threat: Threat, chip: int | None) -> Refusal:
    made = results.group_by(["machine", "threat", "strength", "chip_seed"]).aggregate([]).to_pylist()
    attacked = [row for row in made if Threat.named(row["threat"], row["strength"]).is_direct]
    attacks = dict.fromkeys(str(Threat.named(row["threat"], row["strength"])) for row in attacked)
    machines = dict.fromkeys(row["machine"] for row in attacked)
    chips = dict.fromkeys(f"chip {row['chip_seed']}" for row in attacked if row["chip_seed"] is not None)
    allowed = ", ".join([f"{' or '.join(attacks) or 'nothing'} on {', '.join(machines) or 'no machine'}", *chips])
    return Refusal("no images were kept", where=results["model"][0].as_py(), got=f"{threat} on {machine}, chip {chip}",
                   **suggesting("" if machine in machines else machine, machines, allowed=allowed,
                                remedy="choose an attack that was made on a machine of this evaluation"))


def _evaluated(images: Split, rows: pa.Table) -> Split:
    """The images of some rows, in their order.

    Raises:
        Refusal: one of them is not there, or has other pixels or another label.
    """
    places = {number: place for place, number in enumerate(images.ids.tolist())}
    ids = rows["image_id"].to_pylist()
    own = images.take(torch.tensor([places[number] for number in ids if number in places], dtype=torch.long))
    if [own.ids.tolist(), own.labels.tolist(), [*map(pixel_digest, own.images)]] != [
            ids, rows["label"].to_pylist(), rows["pixels"].to_pylist()]:
        raise Refusal("other images than were evaluated", where=images.data, got="other pixels, labels or numbers",
                      allowed=f"the images that the evaluation saw of {rows['dataset'][0]}",
                      remedy="name them with --data")
    return own


def _changed(cells: Path, rows: pa.Table, clean: Split) -> np.ndarray:
    """What the cells of some rows, which follow each other, hold of their images."""
    stems = [path.stem for path in sorted(cells.glob("*.json")) if path.name.startswith(f"{rows['key'][0]}-")]
    tables = [(own.table(), own) for own in (Stored(cells, stem) for stem in stems)]
    shards = sorted(((table.select(_ALIKE), own) for table, own in tables if table.schema.equals(SCHEMA)),
                    key=lambda shard: -len(shard[0]))
    parts: list[np.ndarray] = []
    while rows:
        fitting = ((len(table), own) for table, own in shards if table.equals(rows.slice(0, len(table)).select(_ALIKE)))
        size, own = next(fitting, (0, None))
        if not size or own is None or own.images().shape != (size, *clean.images.shape[1:]):
            raise Refusal("a cell of the evaluation is missing", where=str(cells), got=f"{len(rows)} rows without one",
                          allowed="the cells as they were written", remedy="run its command again")
        parts.append(own.images())
        rows = rows.slice(size)
    return np.concatenate(parts)
