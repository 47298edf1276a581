"""Doors of what earlier runs left behind: cells, measurements, a budget's choice, summaries and results."""

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq

from ep_hw import workflow
from ep_hw.analysis.comparison import FinishedRun, over_runs, paired
from ep_hw.analysis.results import RESULTS, SUMMARY, SUMS, read_card
from ep_hw.evaluation import budget
from ep_hw.evaluation.allocation import Allocation
from ep_hw.evaluation.budget import kept_choice
from ep_hw.evaluation.cells import Cell
from ep_hw.evaluation.folders import Question, claim
from ep_hw.evaluation.kept import Kept
from ep_hw.evaluation.plan import Plan, cells_of, evaluate
from ep_hw.evaluation.stored_attacks import Place, StoredAttack
from ep_hw.evaluation.stored_times import StoredTime
from ep_hw.evaluation.suites import Request, Temporal
from ep_hw.evaluation.summary import summarise
from ep_hw.threats.threat import CLEAN, parse_threat
from mapping.errors import Refusal
from mapping.files import sign
from tests.fuzz.documents import edited_json
from tests.fuzz.door import Door, digest
from tests.fuzz.doors.data import forged_npy
from tests.fuzz.doors.networks import Sealed, files_in
from tests.fuzz.edits import BYTE_EDITS, in_one_file, replaced


def edited_parquet(rng: Random, blob: bytes) -> bytes:
    """A parquet file with a column or some rows changed."""
    out = io.BytesIO()
    pq.write_table(edited_table(rng, pq.read_table(io.BytesIO(blob))), out)
    return out.getvalue()


def edited_arrow(rng: Random, blob: bytes) -> bytes:
    """An Arrow file with a column or some rows changed."""
    changed, out = edited_table(rng, pa.ipc.open_file(blob).read_all()), io.BytesIO()
    with pa.ipc.new_file(out, changed.schema) as file:
        file.write_table(changed)
    return out.getvalue()


def edited_table(rng: Random, table: pa.Table) -> pa.Table:
    """A table with a column or some rows changed."""
    name = rng.choice(table.column_names)
    column, place = table[name].to_pylist(), table.column_names.index(name)
    return rng.choice((
        lambda: table.drop_columns([name]), lambda: table.slice(0, 0), lambda: table.slice(1),
        lambda: pa.concat_tables([table, table]), lambda: table.rename_columns(
            [n + "_" if n == name else n for n in table.column_names]),
        lambda: table.append_column(name, table[name]), lambda: table.append_column("foreign", table[name]),
        lambda: table.set_column(place, name, pa.nulls(len(table), table.schema.field(name).type)),
        lambda: table.set_column(place, name, pa.array(list(map(str, column)))),
        lambda: table.replace_schema_metadata({"seconds": rng.choice(("nan", "x", "-1", "1e400")), "circuit": "["}),
        lambda: table.replace_schema_metadata({}),
        lambda: table.set_column(place, name, pa.array(
            [rng.choice((float("nan"), float("inf"), -1.0, 1e308))] * len(table)))))()


class Evaluated:
    """A small evaluation, made once: its folder's files and its cells."""

    @cached_property
    def made(self):
        with TemporaryDirectory() as folder:
            plan = workflow.plan_evaluation("digits", Request(["reference"], [parse_threat("square_l2@0.3")], images=6))
            plan = replace(plan, attacks=replace(plan.attacks, settings=plan.attacks.settings.model_copy(
                update={"queries": 3})))
            evaluate(plan, Path(folder))
            for record in Path(folder).glob("cells/*.json"):   # times would make other cases of the same seed
                record.write_bytes(sign({**json.loads(record.read_bytes())["content"], "seconds": 0.5}))
            evaluate(plan, Path(folder))
            return plan, files_in(Path(folder))


EVALUATED = Evaluated()


class Cells(Door):
    """A finished cell, read again."""

    name = "cell"
    edits = (*[replaced] * 2, *(in_one_file(edit) for edit in BYTE_EDITS), forged_npy)
    forgeries = (forged_npy, *(in_one_file(edit, suffix=".npy") for edit in BYTE_EDITS),
                 *(in_one_file(edit, suffix=".arrow") for edit in (*BYTE_EDITS, *[edited_arrow] * 9)),
                 *[in_one_file(edited_json, suffix=".json")] * 4)

    def resealed(self, files):
        """The record vouches for the table and the images, and for itself."""
        sums = {kind: _sum(next(blob for name, blob in files.items() if name.endswith(end)))
                for kind, end in (("table", ".arrow"), ("images", ".npy"))}
        name = next(name for name in files if name.endswith(".json"))
        return {**files, name: sign({**json.loads(files[name])["content"], **sums})}

    def make(self):
        cell = self._cell(Path("."))
        kept = {name: blob for name, blob in EVALUATED.made[1].items() if cell.stem in name}
        return [kept]

    @staticmethod
    def _cell(folder: Path) -> Cell:
        plan, _ = EVALUATED.made
        return next(cell for cell in cells_of(plan, folder) if cell.configuration.threat.is_attack)

    def open(self, folder):
        cell = self._cell(folder)
        if not cell.done():
            raise Refusal("the cell is computed again", where=cell.stem, got="a damaged file", allowed="", remedy="")
        return list(summarise([cell])), cell.adversarial()

    def meaning(self, opened):
        ((table, summary),), images = opened
        return digest((table.to_pydict(), str(table.schema), str(summary), images))


class Measured(Sealed):
    """What is measured once and kept beside the cells."""

    def __init__(self, name: str, stored: Callable[[Plan, Path], Kept]):
        self.name, self.stored = name, stored

    def make(self):
        with TemporaryDirectory() as folder:
            self.stored(EVALUATED.made[0], Path(folder)).measure()
            return [files_in(Path(folder))]

    def open(self, folder):
        stored = self.stored(EVALUATED.made[0], folder)
        if not stored.done():
            raise Refusal("it is measured again", where=stored.path.name, got="damage", allowed="", remedy="")
        return stored.arrays()


def a_time(plan: Plan, folder: Path) -> StoredTime:
    return StoredTime(plan.programs["reference"], 0, plan.images, Temporal(0.1, (1,), (1, 2), 1), 0, "cpu", folder)


def an_attack(plan: Plan, folder: Path) -> StoredAttack:
    place = Place(plan.programs["reference"])
    return StoredAttack(CLEAN, 1, place, (place,), plan.images, plan.attacks.settings, 2, 0, "cpu", folder)


class Signed(Door):
    """A JSON file that vouches for itself."""

    edits = (*[replaced] * 2, *(in_one_file(edit) for edit in BYTE_EDITS), *[in_one_file(edited_json)] * 4)
    forgeries = (in_one_file(edited_json),)

    def resealed(self, files):
        return {name: sign(json.loads(blob)["content"]) for name, blob in files.items()}


class Choice(Signed):
    """What a budget chose before: choice.json of one network, allocation.json of a family."""

    def __init__(self, name: str, kind: type, **content):
        self.name, self.kind, self.content = name, kind, {"question": "ab" * 32, "budget_s": 60.0, **content}

    def make(self):
        return [{"kept.json": sign(self.content)}]

    def open(self, folder):
        if (choice := kept_choice(folder / "kept.json", "ab" * 32, self.kind)) is None:
            raise Refusal("the choice is made again", where="kept.json", got="another", allowed="", remedy="")
        return choice

    def use(self, choice):
        plan, _ = EVALUATED.made
        choice.of(plan) if self.kind is Allocation else choice.sentence()


class Claimed(Door):
    """The question that a folder belongs to."""

    name = "question"
    edits = (*[replaced] * 2, *(in_one_file(edit) for edit in BYTE_EDITS), *[in_one_file(edited_json)] * 6)
    question = Question.of("ep-hw evaluate digits", ["digits", 0], "ab" * 32)

    def make(self):
        with TemporaryDirectory() as folder:
            claim(folder, self.question)
            return [files_in(Path(folder))]

    def open(self, folder):
        claim(folder, self.question)


class Compared(Door):
    """Two finished runs under `ep-hw compare`."""

    name = "compare"
    edits = (*[replaced] * 2, *(in_one_file(edit) for edit in BYTE_EDITS))
    forgeries = (*(in_one_file(edit, suffix=".parquet") for edit in (*BYTE_EDITS, *[edited_parquet] * 9)),
                 *(in_one_file(edit, suffix=".json") for edit in (*BYTE_EDITS, *[edited_json] * 9)))

    def make(self):
        return [{f"{run}/{name}": EVALUATED.made[1][name] for run in "ab" for name in (SUMMARY, RESULTS, SUMS)}]

    def resealed(self, files):
        sums = {f"{run}/{SUMS}": "".join(f"{_sum(files[f'{run}/{name}'])}  {name}\n" for name in (RESULTS, SUMMARY))
                for run in "ab"}
        return files | {name: text.encode() for name, text in sums.items()}

    def open(self, folder):
        runs = [FinishedRun.of(folder / name) for name in "ab"]
        return over_runs(runs), paired(*runs)


class Card(Door):
    """What a run says of its network; what is legal after an edit is another network."""

    name = "card"
    edits = (replaced, *(in_one_file(edit, strict=False) for edit in BYTE_EDITS),
             *[in_one_file(edited_json, strict=False)] * 9)

    def make(self):
        content = {"model": "digits", "architecture": {"feedback_gain": 0.5}, "recipe": {"data": "digits", "seed": 1},
                   "trained_on": {"name": "digits"}}
        return [{"cards/digits-reference.json": json.dumps(content).encode()}]

    def open(self, folder):
        return read_card(folder, "digits")


def _sum(blob: bytes) -> str:
    return hashlib.sha256(blob).hexdigest()


DOORS = (Cells(), Measured("attack time", a_time), Measured("adversarial success", an_attack),
         Choice("choice", budget.Choice, images=100, queries=200, seconds=12.5, detectable=0.1),
         Choice("allocation", Allocation, images=64, queries=100, image_limits=[["loihi", "pgd_l2", 9]],
                skipped=[["lava", "cw_l2"]], seconds=50.5), Claimed(), Compared(), Card())
