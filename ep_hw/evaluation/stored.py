"""What a cell leaves on disk: STEM.arrow (a row an image), STEM.npy (adversarial images), STEM.json (its record).

The record is written last and vouches for the others by their sha256, and for itself: a cell without one is not done,
and nothing is parsed that it does not vouch for. So none of them is flushed to the disk: a cell that a computer's end
damaged is made again, as any that is damaged.
"""

import hashlib
import os
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from mapping.arrays import map_array, npy
from mapping.files import parse_signed, read_bytes, refusing, sign, write_atomically

LARGEST = 2**32   # bytes of a cell's table or images
Sum = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Record(BaseModel):
    """Seconds that a cell took, what its circuit met (`Machine.counts` and asymmetry), sha256 of its files."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    seconds: float = Field(ge=0)
    circuit: dict[str, list[float] | float]
    table: Sum
    images: Sum | None


@dataclass(frozen=True)
class Stored:
    """The files of one cell."""

    folder: Path
    stem: str

    @property
    def table_path(self) -> Path:
        return Path(self._file("arrow"))

    @property
    def images_path(self) -> Path:
        """Adversarial images, float32 (N, C, H, W)."""
        return Path(self._file("npy"))

    @property
    def record_path(self) -> Path:
        return Path(self._file("json"))

    def there(self) -> bool:
        """Whether the record is."""
        return os.path.exists(self._file("json"))

    @property
    def paths(self) -> tuple[Path, ...]:
        """Of all files, in the order in which they are written; that of images only where there are some."""
        return self.table_path, self.images_path, self.record_path

    def bring(self, folder: Path):
        """Take over the files that another folder has of the same cell, the record last."""
        for path in self.paths:
            if (there := folder / path.name).is_file():
                write_atomically(path, there.read_bytes(), flushed=False)

    def write(self, table: pa.Table, images: np.ndarray | None, seconds: float, circuit: dict):
        """Write all files, the record last.

        Raises:
            Refusal: one of them cannot be written.
        """
        blobs = {self.table_path: _ipc(table)} | ({} if images is None else {self.images_path: npy(images)})
        for path, blob in blobs.items():
            write_atomically(path, blob, flushed=False)
        sums = {path: hashlib.sha256(blob).hexdigest() for path, blob in blobs.items()}
        record = Record(seconds=round(seconds, 3), circuit=circuit, table=sums[self.table_path],
                        images=sums.get(self.images_path))
        write_atomically(self.record_path, sign(record.model_dump(mode="json")), flushed=False)

    def record(self) -> Record:
        """The record.

        Raises:
            Refusal: there is none, or it was altered.
        """
        with self._reading(path := self._file("json")):
            return Record.model_validate(parse_signed(read_bytes(path)))

    def open(self) -> tuple[Record, pa.Table]:
        """The record, and the rows, whose values were not looked at yet: `pyarrow.Table.validate` does that.

        Raises:
            Refusal: they are not those of the record.
        """
        record = self.record()
        content = self._vouched(path := self._file("arrow"), record.table)
        with self._reading(path):
            return record, pa.ipc.open_file(pa.BufferReader(content)).read_all()

    def read(self) -> tuple[Record, pa.Table]:
        """The record, and the rows. Raises Refusal where they are not those of the record."""
        record, table = self.open()
        with self._reading(self.table_path):
            table.validate(full=True)
        return record, table

    def images(self) -> np.ndarray:
        """The adversarial images. Raises Refusal where they are not those of the record."""
        self._vouched(self.images_path, self.record().images)
        with self._reading(self.images_path):
            images = map_array(self.images_path)
            if images.dtype != np.float32:
                raise ValueError(f"images of {images.dtype}")
            return np.array(images)

    def _file(self, kind: str) -> str:
        """A path as a text: the parts of a `Path` that is used are interned, and so held for good."""
        return f"{self.folder}/{self.stem}.{kind}"

    def _vouched(self, path: str | Path, checksum: str | None) -> bytes:
        with self._reading(path):
            content = read_bytes(path, LARGEST)
            if hashlib.sha256(content).hexdigest() != checksum:
                raise ValueError("its checksum is not the record's")
        return content

    def _reading(self, path: str | Path) -> AbstractContextManager[None]:
        return refusing("a stored cell is damaged", where=path, allowed="a file as it was written",
                        remedy="run the same command again")


def stems_in(folder: Path) -> frozenset[str]:
    """Of the cells in a folder that were done, whatever became of their files since: one look at the folder, not one a
    cell.
    """
    with suppress(OSError):
        return frozenset(name.removesuffix(".json") for name in os.listdir(folder) if name.endswith(".json"))
    return frozenset()


def _ipc(table: pa.Table) -> bytes:
    """A table as the bytes of an Arrow file, which is read twenty times as fast as parquet where it is small."""
    buffer = pa.BufferOutputStream()
    with pa.ipc.new_file(buffer, table.schema) as file:
        file.write_table(table)
    return buffer.getvalue().to_pybytes()
