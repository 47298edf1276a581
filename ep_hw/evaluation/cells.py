"""Cells: the unit of work of an evaluation, written once and never computed twice.

A cell is one shard of images under one threat on one machine (and chip). Its key is the hash of everything that
decides its outcome: configuration, program, the pixels and labels themselves, and the versions of the code that makes
it (`ep_hw.versions`). Its files are checked when they are read (`ep_hw.evaluation.stored`); damaged ones are computed
again.
"""

import hashlib
import json
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from pyarrow.compute import list_flatten

from ep_hw.data.splits import Split
from ep_hw.evaluation.stored import Record, Stored, stems_in
from ep_hw.threats.attacks import (
    AttackSettings,
    Begun,
    Candidate,
    attack,
    decide,
    differing,
    fools,
    majority,
    noise_like,
    perturbation,
    read,
)
from ep_hw.threats.corruptions import corrupt
from ep_hw.threats.corruptions.official import HeldSet, OfficialSet
from ep_hw.threats.threat import TRANSFER, Threat
from ep_hw.versions import libraries
from mapping.errors import Refusal
from simulators.machine import Equilibrium, Machine

SCHEMA = pa.schema([
    ("key", pa.string()), ("model", pa.string()), ("dataset", pa.string()), ("machine", pa.string()),
    ("threat", pa.string()), ("strength", pa.float64()), ("chip_seed", pa.int64()), ("image_id", pa.int64()),
    ("pixels", pa.string()), ("label", pa.int64()), ("prediction", pa.int64()), ("reference_prediction", pa.int64()),
    ("reference_correct_clean", pa.bool_()), ("logit_rms", pa.float64()), ("norm", pa.float64()),
    ("broken_by", pa.string()), ("fooled_by", pa.list_(pa.string())), ("read_accuracy", pa.float64()),
    ("noise_correct", pa.bool_()), ("zero_gradient", pa.float64()), ("queries", pa.float64()), ("steps", pa.float64()),
    ("converged", pa.bool_())])
JUDGED = ("prediction", "read_accuracy", "reference_prediction", "reference_correct_clean", "logit_rms", "norm",
          "steps", "converged", "noise_correct")   # columns of what machines say of the images as they are in the end
OPTIONAL = ("chip_seed", "fooled_by", "noise_correct")   # columns of which a row may have no value


TABLES = 128             # of cells, which take twenty times the memory of their rows
MOST_KNOWN = 256         # batches whose logits are held
Known = dict[bytes, torch.Tensor]                        # digest of a batch -> logits (N, classes) of one reference
Column = list | torch.Tensor                             # of a table, a value an image
Judged = tuple[Mapping[str, Column], dict]               # the columns `JUDGED`, and what the machine's circuit met
# images (N, C, H, W), what is known of the attack on each, and a deterministic machine's answer, where it is known
Threatened = tuple[torch.Tensor, dict[str, Column], Equilibrium | None]


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """What decides a cell's outcome, besides its images.

    Attributes:
        model, dataset, machine: their names.
        program: digest of the compiled program (weights, ranges, bounds).
        reference: digest of the reference's program, which rows are compared with.
        code: versions of what makes the cell.
        threat: what is done to the images.
        chip_seed: None for machines without chips.
        seed: of corruptions, attacks and read noise.
        settings: those of the attack, None where the threat needs none.
        votes: reads whose majority decides on noisy machines.
        device: that it runs on.
        source: what made a transfer's images, or the last attempt of a white box.
        published: digest of published images.
        data_sha256: of the split that the images are part of; empty for data sets that are known by their names.
        joined: what a white box is put together from: its own attack, then the same on other machines.
        begun: where an attack goes on from: itself at the next smaller strength that is asked, or with less effort.
        black_box: what the black box made that an attack ends with, where it is asked for itself as well.
    """

    model: str
    dataset: str
    machine: str
    program: str
    reference: str
    code: dict[str, int | str]
    threat: Threat
    chip_seed: int | None
    seed: int
    settings: AttackSettings | None
    votes: int
    device: str = "cpu"
    source: "Configuration | None" = None
    published: str | None = None
    data_sha256: str = ""
    joined: "tuple[Configuration, ...]" = ()
    begun: "Configuration | None" = None
    black_box: "Configuration | None" = None

    @property
    def needs(self) -> "tuple[Configuration, ...]":
        """Whose images this one takes."""
        return (*filter(None, [self.source, self.begun, self.black_box]), *self.joined)

    @cached_property
    def depth(self) -> int:
        """How many cells must be done, one after another, before this one."""
        return max((1 + one.depth for one in self.needs), default=0)

    @cached_property
    def key(self) -> str:
        """16 hex digits of the sha256 of the canonical configuration and the versions of libraries."""
        return _sha(self._canonical(libraries()))

    @property
    def draws(self) -> str:
        """What seeds random numbers, alike: the same ones are drawn with any version of a library."""
        return _sha(self._canonical({}))

    def on_chips(self, seeds: Iterable[int]) -> "Iterator[Configuration]":
        """The same on other chips, where it takes no images from cells of its own: only the seeds are hashed anew."""
        before, name, rest = self._canonical(libraries()).partition('"chip_seed": ')
        after = rest[rest.index(","):]
        for seed in seeds:
            other = copy(self)
            vars(other).update(chip_seed=seed, key=_sha(f"{before}{name}{seed}{after}"))
            yield other

    def _canonical(self, libraries: dict[str, str]) -> str:
        """All that decides an outcome, as JSON in alphabetical order."""
        content = {"code": {**self.code, **libraries}, "model": self.model, "dataset": self.dataset,
                   "machine": self.machine, "program": self.program, "reference": self.reference,
                   "threat": str(self.threat), "chip_seed": self.chip_seed, "seed": self.seed, "votes": self.votes,
                   "device": self.device, "source": self.source and _sha(self.source._canonical(libraries)),
                   "published": self.published, "joined": [_sha(one._canonical(libraries)) for one in self.joined],
                   "settings": self.settings and self.settings.model_dump(mode="json"),
                   **({"data": self.data_sha256} if self.data_sha256 else {}),
                   **{name: _sha(one._canonical(libraries)) for name, one in (
                       ("begun", self.begun), ("black_box", self.black_box)) if one}}
        return json.dumps(content, sort_keys=True)


@dataclass(frozen=True, eq=False, slots=True)
class Cell:
    """A configuration on one shard of images, and its files.

    `official` is where published images are read. `shown`: it is a result, not only a part of others. `names`: what
    machines are called where they are shown, see `ep_hw.evaluation.plan.Asked`.
    """

    configuration: Configuration
    images: Split
    folder: Path
    official: OfficialSet | HeldSet | None = None
    shown: bool = True
    names: Mapping[str, str] = field(default_factory=dict)

    def __str__(self):
        chip = self.configuration.chip_seed
        return f"{self.machine}{'' if chip is None else f' chip {chip}'}: {self.threat}"

    @property
    def machine(self) -> str:
        """What its machine is called."""
        return self.names.get(self.configuration.machine, self.configuration.machine)

    @property
    def threat(self) -> Threat:
        """Its threat, made on a machine by what that is called."""
        return self.configuration.threat.on(self.names)

    @property
    def ids(self) -> bytes:
        return self.images.ids.numpy().tobytes()

    @property
    def stem(self) -> str:
        """Keys of the configuration and of the images, so that runs share the shards that hold the same images."""
        return f"{self.configuration.key}-{self.images.digest[:16]}"

    @property
    def stored(self) -> Stored:
        return Stored(self.folder, self.stem)

    def _part(self, configuration: Configuration | None) -> "Cell":
        return Cell(configuration or self.configuration, self.images, self.folder, shown=False, names=self.names)

    @property
    def source(self) -> "Cell":
        """The cell that makes the images of a transfer, or of a white box's last attempt."""
        return self._part(self.configuration.source)

    @property
    def begun(self) -> "Cell":
        """The cell that an attack goes on from."""
        return self._part(self.configuration.begun)

    @property
    def needs(self) -> "list[Cell]":
        """The cells whose images this one takes."""
        return [self._part(one) for one in self.configuration.needs]

    @property
    def joined(self) -> "list[Cell]":
        """The cells that a white box is put together from, its own attack first."""
        return [self._part(one) for one in self.configuration.joined]

    @property
    def same(self) -> "Cell | None":
        """The cell of the same threat on the same machine that this one goes on from, where there is one."""
        begun = self.configuration.begun
        if self.configuration.joined:
            return self.joined[0]
        return self.begun if begun is not None and begun.threat == self.configuration.threat else None

    def portable(self) -> "Cell":
        """The same cell, with the published images in it that it would read from a disk."""
        if self.official is None or not self.configuration.threat.is_official:
            return replace(self, official=None)
        threat = self.configuration.threat
        return replace(self, official=HeldSet(
            self.official.corrupted(threat.corruption, int(threat.strength), self.images)))

    def there(self) -> bool:
        """Whether it was done, whatever became of its files since."""
        return self.stored.there()

    def done(self) -> bool:
        """Whether its files are there and whole; says so where they are damaged."""
        try:
            if there := self.there():
                self.rows()
        except Refusal as damage:
            logging.getLogger(__name__).warning("%s: computed again", damage)
            return False
        return there

    def rows(self) -> tuple[Record, pa.Table]:
        """Its record, and a row an image, as in `SCHEMA`.

        Raises:
            Refusal: they are not those of this cell, whole.
        """
        record, table = self.stored.read()
        if not (_belongs(table, [self]) and self._has_images(record)):
            raise Refusal("a stored cell is damaged", where=str(self.stored.table_path), got="another cell",
                          allowed="a row for each of its images", remedy="run the same command again")
        return record, table

    def _has_images(self, record: Record) -> bool:
        """Whether the images that its attack made are there, where it made some."""
        return not record.images or self.adversarial().shape == self.images.images.shape

    def generator(self, purpose: str) -> torch.Generator:
        """Torch generator of this cell for one purpose: the same configuration and images give the same numbers."""
        stem = f"{self.configuration.draws}-{self.images.digest[:16]}"
        return torch.Generator().manual_seed(_number(f"{stem} {purpose}".encode()))

    def attack_generator(self, machine: Machine) -> torch.Generator:
        """Torch generator of an attack: on machines without noise the same for every strength, machine and model.

        Random searches then try the same directions, and larger steps; what differs is not their luck. Noise must be
        read afresh, so a noisy machine has one for each cell.
        """
        if not machine.deterministic:
            return self.generator("attack")
        c = self.configuration
        return torch.Generator().manual_seed(_number(f"{c.dataset} {c.threat.name} {c.seed}".encode() + self.ids))

    def read(self) -> pa.Table:
        """A row an image, as in `SCHEMA`."""
        return self.stored.read()[1]

    def adversarial(self) -> torch.Tensor:
        """Images (N, C, H, W) that an attack made."""
        return torch.from_numpy(self.stored.images())


def missing(cells: Iterable[Cell]) -> list[Cell]:
    """Those that were not done; of the others no file is looked at."""
    done = cache(stems_in)
    return [cell for cell in cells if cell.stem not in done(cell.folder)]


def all_rows(cells: Sequence[Cell]) -> tuple[list[Record], pa.Table]:
    """What `Cell.rows` gives, of one cell or more: records, and one table of all rows; tables of no more cells than
    `TABLES` are open at once.

    Raises:
        Refusal: of the first cell whose rows are not its own, whole.
    """
    parts = [_rows_together(cells[n:n + TABLES]) for n in range(0, len(cells), TABLES)]
    return [record for records, _ in parts for record in records], pa.concat_tables(
        [table for _, table in parts]).combine_chunks()


def _rows_together(cells: Sequence[Cell]) -> tuple[list[Record], pa.Table]:
    """See `all_rows`; they are looked at as a whole."""
    records, tables = zip(*(cell.stored.open() for cell in cells))
    with suppress(pa.ArrowInvalid):
        table = pa.concat_tables(tables)
        table.validate(full=True)
        if _belongs(table, cells) and all(cell._has_images(record) for cell, record in zip(cells, records)):
            return list(records), table.combine_chunks()
    records, tables = zip(*(cell.rows() for cell in cells))
    return list(records), pa.concat_tables(tables)


def _belongs(table: pa.Table, cells: Sequence[Cell]) -> bool:
    """Whether a table has a row for each image of some cells, in order, and all values."""
    return (table.schema.equals(SCHEMA)
            and table["image_id"].to_pylist() == [n for cell in cells for n in cell.images.ids.tolist()]
            and table["key"].to_pylist() == [cell.configuration.key for cell in cells for _ in cell.images.ids]
            and not any(table[name].null_count for name in table.column_names if name not in OPTIONAL)
            and not list_flatten(table["fooled_by"]).null_count)


def changed_images(cell: Cell) -> torch.Tensor:
    """Images (N, C, H, W) as the threat of a finished cell left them: what an attack made is read, here or on the
    machine that it was made on, and a corruption is made again.
    """
    if cell.configuration.threat.is_attack:
        return (cell.source if cell.configuration.threat.source else cell).adversarial()
    return _corrupted(cell)


def run_cell(cell: Cell, machine: Machine, reference: Machine, known: Known | None = None):
    """Compute a cell and write its files. Its source must be done.

    Args:
        machine: the machine under test, opened with the cell's chip seed.
        reference: the digital reference.
        known: what the reference answered in earlier cells; what it answers in this one is added.
    """
    started = time.perf_counter()
    threat, own = cell.configuration.threat, machine is reference
    if threat.is_unclipped:
        machine, reference = machine.unclipped, reference.unclipped
    images, detail, answer = _threatened(cell, machine, own)
    judged, circuit = _judged(cell, machine, None if own else reference, images, answer, known)
    columns = {"image_id": cell.images.ids, "pixels": [pixel_digest(image) for image in cell.images.images],
               "label": cell.images.labels, **judged, **detail}
    made = images.numpy() if threat.is_direct else None
    cell.stored.write(_table(cell, columns), made, time.perf_counter() - started, circuit)


def _judged(cell: Cell, machine: Machine, reference: Machine | None, images: torch.Tensor,
            answer: Equilibrium | None, known: Known | None) -> Judged:
    """What machines say of the images as they are in the end, and what the circuit met.

    A machine without noise is not asked what `Cell.same` says of the same images.

    Args:
        reference: None where it is the machine under test.
        answer: of the machine to the images that are asked, where it is known.
        known: see `run_cell`.
    """
    same = cell.same if machine.deterministic and not machine.counts() else None
    if same is None:
        return _asked(cell, machine, reference, images, answer, known)
    told = same.read().select(JUDGED).to_pydict()
    new = differing(images, same.adversarial()).nonzero().flatten()
    if len(new):
        part = replace(cell, images=cell.images.take(new))
        for name, values in _asked(part, machine, reference, images[new], answer, known)[0].items():
            for place, value in zip(new.tolist(), _listed(values)):
                told[name][place] = value
    return told, _circuit(machine, {})


def _asked(cell: Cell, machine: Machine, reference: Machine | None, images: torch.Tensor,
           answer: Equilibrium | None, known: Known | None) -> Judged:
    """See `_judged`; of all images."""
    labels, before = cell.images.labels, machine.counts()
    ends = [answer] if answer is not None and not before else read(machine, images, cell.configuration.votes,
                                                                   cell.generator("verdict"))
    circuit = _circuit(machine, before)
    theirs, clean = _reference_logits(cell, reference or machine, images, None if reference else ends[0].logits, known)
    return {"prediction": majority(ends),
            "read_accuracy": torch.stack([(end.prediction == labels).double() for end in ends]).mean(0),
            "reference_prediction": theirs.argmax(1),
            "reference_correct_clean": clean.argmax(1) == labels,
            "logit_rms": (ends[0].logits - theirs).double().square().mean(1).sqrt(),
            "norm": perturbation(cell.images.images, images, cell.configuration.threat.norm).double(),
            "steps": ends[0].steps.double(), "converged": ends[0].converged,
            "noise_correct": _noise_correct(cell, machine, images)}, circuit


def pixel_digest(image: torch.Tensor) -> str:
    """16 hex digits of the sha256 of a clean image's pixels."""
    return hashlib.sha256(image.contiguous().numpy().data).hexdigest()[:16]


def _reference_logits(cell: Cell, reference: Machine, images: torch.Tensor, own: torch.Tensor | None,
                      known: Known | None) -> Sequence[torch.Tensor]:
    """Logits of the reference for the images and for the clean ones.

    Args:
        own: those for the images where the reference is the machine under test.
        known: see `run_cell`.
    """
    clean, theirs = cell.images.images, _logits(reference, images, known, own)
    return theirs, theirs if images is clean else _logits(reference, clean, known)


def _logits(reference: Machine, images: torch.Tensor, known: Known | None,
            own: torch.Tensor | None = None) -> torch.Tensor:
    """Of a batch, `own` where they are given; those of a batch that many cells meet are asked for once."""
    if known is None or not reference.deterministic:
        return reference.relax(images).logits if own is None else own
    digest = hashlib.sha256(images.contiguous().numpy()).digest()
    if digest not in known:
        if len(known) >= MOST_KNOWN:
            del known[next(iter(known))]   # the oldest
        known[digest] = reference.relax(images).logits if own is None else own
    return known[digest]


def _circuit(machine: Machine, before: dict) -> dict:
    """What a machine's circuit met since `before`, an earlier `Machine.counts`."""
    met = {name: [now - then for now, then in zip(count, before[name])] for name, count in machine.counts().items()}
    return met if machine.asymmetry is None else {**met, "asymmetry": machine.asymmetry}


def _threatened(cell: Cell, machine: Machine, is_reference: bool) -> Threatened:
    """The images as the threat leaves them, and what is known of each attack."""
    threat, clean = cell.configuration.threat, cell.images
    blank: dict[str, Column] = {"broken_by": [""] * len(clean), "zero_gradient": torch.zeros(len(clean)),
             "queries": torch.zeros(len(clean)), "fooled_by": [None] * len(clean)}
    if threat.is_corruption:
        return _corrupted(cell), blank, None
    if threat.source is not None:
        return cell.source.adversarial(), blank, None
    if cell.configuration.joined:
        return _joined(cell, machine, is_reference)
    if cell.configuration.settings is not None:
        taken = cell.source.adversarial() if cell.configuration.source else None
        outcome = attack(machine, threat, clean.images, clean.labels, cell.configuration.settings,
                         cell.attack_generator(machine), taken, _begun(cell), _of_black_box(cell))
        return outcome.images, blank | {"broken_by": outcome.broken_by, "zero_gradient": outcome.zero_gradient,
                                        "queries": outcome.queries}, outcome.answer
    return clean.images, blank, None


def _corrupted(cell: Cell) -> torch.Tensor:
    """The images under a corruption, published ones where the threat names them; unchanged under clean."""
    threat, clean = cell.configuration.threat, cell.images
    if cell.official is not None and threat.is_official:
        return cell.official.corrupted(threat.corruption, int(threat.strength), clean)
    if threat.is_corruption:
        return torch.from_numpy(corrupt(clean.images.numpy(), threat.kind, int(threat.strength), cell_noise(cell)))
    return clean.images


def _begun(cell: Cell) -> Begun | None:
    """Where the cell's attack goes on from."""
    if cell.configuration.begun is None:
        return None
    rows, before = cell.begun.read().to_pydict(), cell.configuration.begun.threat
    return Begun(before.strength, cell.begun.adversarial(), rows["broken_by"], torch.tensor(rows["zero_gradient"]),
                 torch.tensor(rows["queries"]))


def _of_black_box(cell: Cell) -> Candidate | None:
    """What the black box made that the cell's attack ends with, where it is known."""
    if cell.configuration.black_box is None:
        return None
    made = cell._part(cell.configuration.black_box)
    return Candidate.of(made.adversarial(), queries=torch.tensor(made.read()["queries"].to_pylist()))


def _joined(cell: Cell, machine: Machine, is_reference: bool) -> Threatened:
    """A white box's own images; where these left one standing, that of the first other machine that fools this one.

    What fools the reference stands in the rows of the others, unless it is attacked at what it predicts itself.
    """
    (own, *others), clean = cell.joined, cell.images
    settings, generator = cell.configuration.settings or AttackSettings(), cell.attack_generator(machine)
    rows = own.read().to_pydict()
    made = [own.adversarial(), *(other.adversarial() for other in others)]
    if is_reference and machine.deterministic and settings.label == "true":
        fooling = [_fooling_reference(other) for other in others]
    else:
        fooling = [fools(machine, images, clean.images, clean.labels, settings, generator).tolist()
                   for images in made[1:]]
    names = [other.configuration.machine for other in others]
    images, broken_by, fooled_by = made[0].clone(), list(rows["broken_by"]), []
    for n, fooled in enumerate(zip(*fooling)):
        fooled_by.append([name for name, by in zip(names, fooled) if by])
        if not broken_by[n] and fooled_by[n]:
            images[n], broken_by[n] = made[1 + fooled.index(True)][n], TRANSFER + fooled_by[n][0]
    return images, {"broken_by": broken_by, "fooled_by": fooled_by,
                    **{name: torch.tensor(rows[name]) for name in ("zero_gradient", "queries")}}, None


def _fooling_reference(cell: Cell) -> list[bool]:
    """Which images of a finished cell the reference gets wrong."""
    rows = cell.read().select(["reference_prediction", "label"]).to_pydict()
    return [said != label for said, label in zip(rows["reference_prediction"], rows["label"])]


def _noise_correct(cell: Cell, machine: Machine, images: torch.Tensor) -> list[bool | None]:
    """Whether the machine is right on noise as large as the attack; None where there is no attack on it."""
    threat, clean = cell.configuration.threat, cell.images
    if not threat.is_direct:
        return [None] * len(clean)
    generator = cell.generator("noise")
    noisy = noise_like(clean.images, images, threat.norm, generator)
    return (decide(machine.deciding(), noisy, cell.configuration.votes, generator)[0] == clean.labels).tolist()


def cell_noise(cell: Cell) -> np.random.Generator:
    """Generator of a corruption: the same for every machine and chip, so that all see the same images."""
    c = cell.configuration
    return corruption_noise(c.dataset, c.threat, c.seed, cell.images)


def corruption_noise(dataset: str, threat: Threat, seed: int, images: Split) -> np.random.Generator:
    """See `cell_noise`; the images are those of one cell."""
    return np.random.default_rng(_number(f"{dataset} {threat} {seed}".encode() + images.ids.numpy().tobytes(), 8))


def _sha(content: str) -> str:
    """16 hex digits of the sha256 of a text."""
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _number(content: bytes, size: int = 7) -> int:
    """A seed of `size` bytes."""
    return int.from_bytes(hashlib.sha256(content).digest()[:size], "big")


def _table(cell: Cell, columns: dict) -> pa.Table:
    c, n = cell.configuration, len(cell.images)
    fixed = {"key": c.key, "model": c.model, "dataset": c.dataset, "machine": c.machine, "threat": c.threat.name,
             "strength": float(c.threat.strength), "chip_seed": c.chip_seed}
    data = {k: [v] * n for k, v in fixed.items()} | {k: _listed(v) for k, v in columns.items()}
    return pa.table(data, schema=SCHEMA)


def _listed(values: Column) -> list:
    return values.tolist() if isinstance(values, torch.Tensor) else values
