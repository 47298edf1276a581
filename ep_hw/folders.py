"""The folder of a run belongs to one question: the same question goes on there, any other is refused.

`question.json` says which it is: the command as it was typed, and a digest of everything that decides the answer.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from datetime import datetime
from itertools import count
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from ep_hw.versions import all_code
from mapping.errors import Refusal
from mapping.files import check_writable, parse_json, read_bytes, refusing, write_atomically

FILE = "question.json"


class Question(BaseModel):
    """What a folder answers: the command as a user types it, and the sha256 of what decides the answer."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    command: str
    digest: str = Field(pattern="^[0-9a-f]{64}$")

    @classmethod
    def of(cls, command: str, asked: Iterable) -> "Question":
        """Args: asked: plain values, among them digests of networks and images; this version's code is added."""
        content = json.dumps([all_code(), *asked], sort_keys=True, default=str)
        return cls(command=command, digest=hashlib.sha256(content.encode()).hexdigest())


def claim(folder: str | Path, question: Question):
    """Take a new or empty folder for a question, or go on with that question.

    Raises:
        Refusal: the folder belongs to another question, holds other files, or cannot be written.
    """
    folder = Path(folder)
    check_writable(folder)
    if not (folder / FILE).exists():
        if others := sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")):
            raise _taken(folder, f"{', '.join(others[:3])}{' ...' if others[3:] else ''}")
        write_atomically(folder / FILE, question.model_dump_json(indent=1).encode() + b"\n")
    if (theirs := _read(folder)).digest != question.digest:   # read even what was just written: another run may race
        raise _taken(folder, theirs.command)


def folder_for(command: str, name: str, question: Question, now: datetime) -> Path:
    """Where a question is answered in the current folder if no folder is named: where it already is, else
    ep-hw-COMMAND-NAME-TIME.
    """
    stem = f"ep-hw-{command}-{re.sub(r'[^A-Za-z0-9._-]+', '-', name)}"
    for found in sorted(Path().glob(f"{stem}-*/{FILE}")):
        if _read(found.parent).digest == question.digest:
            return found.parent
    names = (f"{stem}-{now:%Y%m%d-%H%M%S}{f'-{n}' if n else ''}" for n in count())
    return next(Path(name) for name in names if not Path(name).exists())


def _read(folder: Path) -> Question:
    with refusing("cannot tell which question the folder belongs to", where=folder / FILE, allowed="a file as written",
                  remedy="choose another --out, or remove the folder"):
        return Question.model_validate(parse_json(read_bytes(folder / FILE)))


def _taken(folder: Path, got: str) -> Refusal:
    return Refusal("the folder belongs to another question", where=str(folder), got=got,
                   allowed="a new folder, or the same command on the same data with the same version",
                   remedy="choose another --out, or remove the folder")
