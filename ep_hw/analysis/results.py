"""What an evaluation leaves for others to read: results.parquet (a row an image), summary.json (a row a cell).

SHA256SUMS, written last, says that they are whole and belong together ('sha256sum -c SHA256SUMS' reads it too).
"""

import hashlib
import json
from collections.abc import Iterable
from io import BytesIO, RawIOBase
from os.path import isfile, lexists
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, FailFast, Field, TypeAdapter

from ep_hw.analysis.rows import Summary, SummaryRow, plain
from ep_hw.networks.family import FOLDER
from ep_hw.threats.threat import Threat
from mapping.errors import Refusal
from mapping.fields import DEEPEST, FeedbackGain
from mapping.files import parse_json, read_bytes, refusing, replacing, slug, write_atomically
from mapping.targets import REFERENCE

RESULTS, SUMMARY, SUMS = "results.parquet", "summary.json", "SHA256SUMS"
LARGEST = 2**32   # bytes of either
NEEDED = {"machine": pa.string(), "threat": pa.string(), "strength": pa.float64(), "image_id": pa.int64(),
          "pixels": pa.string(), "label": pa.int64(), "prediction": pa.int64()}


class ReadRow(BaseModel):
    """What a comparison needs of a row of a summary that was written."""

    model_config = ConfigDict(frozen=True, strict=True)

    model: str
    machine: str
    machine_label: str = ""
    threat: str
    strength: float
    accuracy: float = Field(ge=0, le=1)

    @property
    def met(self) -> Threat:
        """The threat, which need not be registered here."""
        return Threat.named(self.threat, self.strength)


class ReadSpec(BaseModel):
    """What a comparison needs of a network's spec."""

    model_config = ConfigDict(frozen=True, strict=True)

    feedback_gain: FeedbackGain | Annotated[list[FeedbackGain], Field(max_length=DEEPEST)] | None = None


class ReadCard(BaseModel):
    """What a comparison needs of a card: how a run's network was made."""

    model_config = ConfigDict(frozen=True, strict=True)

    architecture: ReadSpec | None = None
    recipe: dict | None = None
    trained_on: dict | None = None

    @property
    def provenance(self) -> dict:
        """As the network itself says it."""
        spec = self.architecture.model_dump() if self.architecture else {}
        return {"spec": spec, "recipe": self.recipe or {}, "data": self.trained_on}


class Summed(RawIOBase):
    """A file that is written through, and the sha256 of what went into it."""

    def __init__(self, file: BinaryIO):
        self.file, self.sha256 = file, hashlib.sha256()

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.file.tell()

    def write(self, content: Any) -> int:
        self.sha256.update(content)
        return self.file.write(content)


def write_results(folder: Path, schema: pa.Schema, batches: Iterable[tuple[pa.Table, list[SummaryRow]]]
                  ) -> Summary:
    """Write all three files, each whole or not at all; the summary.

    Args:
        folder: where to write.
        schema: of the results.
        batches: rows an image, and the rows of the summary that they come to, in order.

    Raises:
        Refusal: one of them cannot be written.
    """
    summary = Summary()
    with replacing(folder / RESULTS) as results, replacing(folder / SUMMARY) as listed:
        sums = {RESULTS: Summed(results), SUMMARY: Summed(listed)}
        with pq.ParquetWriter(sums[RESULTS], schema) as writer:
            for table, rows in batches:
                writer.write_table(table)
                for row in plain(rows):
                    sums[SUMMARY].write(b"%b\n%b" % (b"," if listed.tell() else b"[", json.dumps(row).encode()))
                summary.extend(rows)
        sums[SUMMARY].write(b"\n]\n")
    lines = (f"{file.sha256.hexdigest()}  {name}\n" for name, file in sums.items())
    write_atomically(folder / SUMS, "".join(lines).encode())
    return summary


def read_results(folder: Path) -> tuple[pa.Table, list[ReadRow]]:
    """Results and summary of a finished evaluation.

    Raises:
        Refusal: there is none, it is not finished, or its files were altered.
    """
    if not all(isfile(folder / name) for name in (RESULTS, SUMMARY, SUMS)):
        raise Refusal("not a finished evaluation", where="RUN", got=str(folder),
                      allowed=f"a folder with {RESULTS}, {SUMMARY} and {SUMS}", remedy="see 'ep-hw evaluate --out'")
    with refusing("an evaluation cannot be read", where=folder, allowed="the files as they were written",
                  remedy="run its command again"):
        lines = (line.split("  ") for line in read_bytes(folder / SUMS).decode().splitlines())
        sums = {name: checksum for checksum, name in lines}
        summary = _ROWS.validate_python(parse_json(_checked(folder / SUMMARY, sums)))
        table = pq.read_table(BytesIO(_checked(folder / RESULTS, sums)))
        if not summary or any(name not in table.column_names or table.schema.field(name).type != kind
                              for name, kind in NEEDED.items()):
            raise ValueError("columns or rows are missing")
    return table, summary


def read_card(folder: Path, model: str) -> ReadCard | None:
    """The card of a run's network on the reference; of a member of a family it lies with those of the family.

    Returns:
        None where there is no card.

    Raises:
        Refusal: it is no card.
    """
    places = [folder, *([folder.parent.parent] if folder.parent.name == FOLDER else [])]
    files = (place / "cards" / f"{slug(f'{model}-{REFERENCE}')}.json" for place in places)
    if not (file := next(filter(lexists, files), None)):
        return None
    with refusing("a card cannot be read", where=file, allowed="the file as it was written",
                  remedy="run the command of its folder again"):
        return ReadCard.model_validate(parse_json(read_bytes(file)))


_ROWS = TypeAdapter(Annotated[list[ReadRow], FailFast()])


def _checked(path: Path, sums: dict[str, str]) -> bytes:
    content = read_bytes(path, LARGEST)
    if hashlib.sha256(content).hexdigest() != sums.get(path.name):
        raise ValueError(f"the checksum of {path.name} is not that of {SUMS}")
    return content
