"""The images behind an accuracy: clean ones of a data set, and what attacks and corruptions made of them."""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from ep_hw.data.opening import is_place
from ep_hw.data.registry import DATA_SETS, known_names, load_data
from ep_hw.data.source import DEFAULT_SOURCE, DataSource
from ep_hw.data.splits import Split
from ep_hw.evaluation.cells import SCHEMA, corruption_noise, pixel_digest
from ep_hw.evaluation.stored import Stored
from ep_hw.threats.attacks import perturbation
from ep_hw.threats.corruptions import corrupt
from ep_hw.threats.corruptions.official import OfficialSet
from ep_hw.threats.threat import CLEAN, Threat, parse_threat
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
        class_names: of the classes that labels number; () where they have none.
    """

    clean: np.ndarray
    changed: np.ndarray
    labels: np.ndarray
    ids: np.ndarray
    predictions: np.ndarray
    class_names: tuple[str, ...] = ()


def pictures(folder: Path, results: pa.Table, images: Split, machine: str, threat: Threat,
             chip: int | None = None, data_source: DataSource = DEFAULT_SOURCE) -> Pictures:
    """The images behind an accuracy of a finished evaluation.

    What attacks made was kept, on the machine itself or on that which a transfer came from; corruptions are made again.

    Args:
        folder: of the evaluation.
        results: its rows, see `ep_hw.analysis.results.read_results`.
        images: those that it was about, and perhaps others.
        machine: its name.
        threat: that it met.
        chip: its seed; the first where there are chips and none is named.
        data_source: where published corruptions lie.

    Raises:
        Refusal: no such threat on this machine and chip in this evaluation, other images, damaged files, or a
            corruption that now makes others.
    """
    rows = _rows(results, machine, threat, chip)
    clean = _evaluated(images, rows)
    shards = _shards(folder / "cells", rows, threat)
    changed = _kept(shards, clean) if threat.is_attack else _made_again(shards, rows, clean, threat, data_source)
    return Pictures(clean.images.numpy(), changed, clean.labels.numpy(), clean.ids.numpy(),
                    rows["prediction"].to_numpy(), images.class_names)


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
                      allowed=f"{known_names()}, or the file or folder that was evaluated",
                      remedy="name it with --data")
    return load_data(data_source.data or name, "test", data_source)


def _has(results: pa.Table, column: str, kind: pa.DataType | None = None) -> bool:
    """Whether there is such a column, with a value in each row unless it is of chips; of a cell's type if None."""
    kind = kind or SCHEMA.field(column).type
    return results.column_names.count(column) == 1 and results.schema.field(column).type == kind and (
        column == "chip_seed" or not results[column].null_count)


def _rows(results: pa.Table, machine: str, threat: Threat, chip: int | None) -> pa.Table:
    """Those of a machine, threat and chip."""
    name = _full_name(results, machine)
    rows = results.filter((pc.field("machine") == name) & (pc.field("threat") == threat.name)
                          & (pc.field("strength") == threat.strength)).slice(0, 0 if threat == CLEAN else None)
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


def called_threat(results: pa.Table, threat: str) -> Threat:
    """A threat by its name, its source by what that is called in an evaluation.

    Raises:
        Refusal: unknown name or strength.
    """
    source = Threat.named(threat, 0.0).source
    return parse_threat(threat.replace(source, _full_name(results, source), 1) if source else threat)


def _no_images(results: pa.Table, machine: str, threat: Threat, chip: int | None) -> Refusal:
    made = results.group_by(["machine", "threat", "strength", "chip_seed"]).aggregate([]).to_pylist()
    changed = [row for row in made if row["threat"] != CLEAN.name]
    threats = dict.fromkeys(str(Threat.named(row["threat"], row["strength"])) for row in changed)
    machines = dict.fromkeys(row["machine"] for row in changed)
    chips = dict.fromkeys(f"chip {row['chip_seed']}" for row in changed if row["chip_seed"] is not None)
    allowed = ", ".join([f"{' or '.join(threats) or 'nothing'} on {', '.join(machines) or 'no machine'}", *chips])
    return Refusal("no images were changed", where=results["model"][0].as_py(),
                   got=f"{threat} on {machine}, chip {chip}", **suggesting(
                       "" if machine in machines else machine, machines, allowed=allowed,
                       remedy="choose an attack or corruption that a machine of this evaluation met"))


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


def _shards(cells: Path, rows: pa.Table, threat: Threat) -> list[tuple[int, Stored]]:
    """The cells that hold some rows, which follow each other, and how many of these each has: the rows' own, or those
    of a transfer's images.
    """
    columns = [name for name in _ALIKE if threat.source is None or name != "prediction"]
    key = f"{rows['key'][0]}-" if threat.source is None else ""
    stored = (Stored(cells, path.stem) for path in sorted(cells.glob("*.json")) if path.name.startswith(key))
    tables = [(own.read()[1], own) for own in stored if not threat.source or own.images_path.exists()]
    shards = sorted(((table.select(columns), own) for table, own in tables if _is_of(table, threat)),
                    key=lambda shard: -len(shard[0]))
    parts: list[tuple[int, Stored]] = []
    while rows:
        wanted = rows.select(columns)
        size, own = next(((len(table), own) for table, own in shards if table.equals(wanted.slice(0, len(table)))),
                         (0, None))
        if not size or own is None:
            raise _missing(cells, len(rows))
        parts.append((size, own))
        rows = rows.slice(size)
    return parts


def _is_of(table: pa.Table, threat: Threat) -> bool:
    """Whether a table is that of a cell; for a transfer, of the attack on its source."""
    if not table.schema.equals(SCHEMA) or not len(table):
        return False
    first = table.slice(0, 1).to_pylist()[0]
    return threat.source is None or (first["machine"], first["threat"], first["strength"]) == (
        threat.source, threat.kind, threat.strength)


def _missing(cells: Path, rows: int) -> Refusal:
    return Refusal("a cell of the evaluation is missing", where=str(cells), got=f"{rows} rows without one",
                   allowed="the cells as they were written", remedy="run its command again")


def _kept(shards: list[tuple[int, Stored]], clean: Split) -> np.ndarray:
    """What cells hold of their images."""
    parts = []
    for size, own in shards:
        if (images := own.images()).shape != (size, *clean.images.shape[1:]):
            raise _missing(own.folder, size)
        parts.append(images)
    return np.concatenate(parts)


def _made_again(shards: list[tuple[int, Stored]], rows: pa.Table, clean: Split, threat: Threat,
                data_source: DataSource) -> np.ndarray:
    """Corrupted images, each cell's by its own noise; as far from the clean ones as those that were evaluated."""
    ends = np.cumsum([size for size, _ in shards])
    parts = [clean.take(slice(end - size, end)) for end, (size, _) in zip(ends.tolist(), shards)]
    changed = torch.cat([_corrupted(part, rows, threat, data_source) for part in parts])
    moved = perturbation(clean.images, changed, threat.norm).double()
    if not torch.allclose(moved, torch.tensor(rows["norm"].to_pylist()).double(), rtol=1e-5, atol=1e-7):
        raise Refusal("the corruption makes other images than were evaluated", where=str(threat),
                      got="images further from the clean ones, or nearer", allowed="the code and files that they were "
                      "evaluated with", remedy="evaluate again with this version")
    return changed.numpy()


def _corrupted(part: Split, rows: pa.Table, threat: Threat, data_source: DataSource) -> torch.Tensor:
    if threat.is_official:
        return OfficialSet.of(part.data, data_source).corrupted(threat.corruption, int(threat.strength), part)
    if not _has(rows, "seed", pa.int64()):
        raise Refusal("the rows do not say by which seed images were corrupted", where="results.parquet",
                      got="no column of seeds", allowed="results of this version", remedy="evaluate again with it")
    noise = corruption_noise(rows["dataset"][0].as_py(), threat, rows["seed"][0].as_py(), part)
    return torch.from_numpy(corrupt(part.images.numpy(), threat.kind, int(threat.strength), noise))
