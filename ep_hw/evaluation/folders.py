"""The folder of a run belongs to one question: the same question goes on there, any other is refused.

`question.json` says which it is: the command as it was typed, a digest of everything it asks, and one of the images.
"""

import hashlib
import json
import logging
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import count, takewhile
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from ep_hw.versions import all_code
from mapping.errors import Refusal, printable
from mapping.files import check_writable, parse_json, read_bytes, refusing, slug, write_atomically

FILE = "question.json"


class Question(BaseModel):
    """What a folder answers: the command as a user types it, the sha256 of what it asks, and of which images."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    command: str
    digest: str = Field(pattern="^[0-9a-f]{64}$")
    images: str

    @classmethod
    def of(cls, command: str, asked: Iterable, images: str) -> "Question":
        """The question that a command asks; the version of all code is part of it.

        Args:
            command: as a user types it.
            asked: plain values, among them digests of networks.
            images: digest of the images that the answer is about.
        """
        content = json.dumps([all_code(), *asked], sort_keys=True, default=str)
        return cls(command=command, digest=hashlib.sha256(content.encode()).hexdigest(), images=images)


def claim(folder: str | Path, question: Question):
    """Take a new or empty folder for a question, or go on with that question; of other images, as is said, it is
    answered again.

    Raises:
        Refusal: the folder belongs to another question, holds other files, or cannot be written.
    """
    folder = Path(folder)
    check_writable(folder)
    if not (folder / FILE).exists():
        if others := sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")):
            raise _taken(folder, f"{', '.join(others[:3])}{' ...' if others[3:] else ''}")
        _write(folder, question)
    theirs = _read(folder)   # even what was just written: another run may race
    if theirs.digest != question.digest:
        changed = ", with other settings, files or versions than now" if theirs.command == question.command else ""
        raise _taken(folder, theirs.command + changed)
    if theirs.images != question.images:
        logging.getLogger(__name__).warning("%s: the images are others than before; the question is answered again",
                                            printable(str(folder)))
        _write(folder, question)


@contextmanager
def claimed(folder: str | Path, question: Question) -> Iterator[None]:
    """`claim`; what is then refused before anything else was written leaves no new folder and no file behind.

    Raises:
        Refusal: see `claim`.
    """
    folder = Path(folder)
    is_new = not (folder / FILE).exists()
    made = list(takewhile(lambda path: not path.exists(), (folder, *folder.parents)))
    try:
        claim(folder, question)
        yield
    except Refusal:
        if is_new:
            _release(folder, made)
        raise


def _release(folder: Path, made: Sequence[Path]):
    """Remove a question, and the folders made for it, where nothing else is."""
    written = [path for path in folder.rglob("*") if not path.relative_to(folder).parts[0].startswith(".")]
    if [path for path in written if not path.is_dir()] == [folder / FILE]:
        (folder / FILE).unlink()
        written.remove(folder / FILE)
    with suppress(OSError):   # one holds something
        for empty in (*sorted(filter(Path.is_dir, written), reverse=True), *made):
            empty.rmdir()


def command_line() -> str:
    """The command that is running, as a user would type it again; bytes that are no text are written out."""
    return shlex.join(["ep-hw", *sys.argv[1:]]).encode(errors="backslashreplace").decode()


def folder_for(command: str, name: str, question: Callable[[], Question], now: datetime) -> Path:
    """Where a question is answered in the current folder if no folder is named: where it already is, else
    ep-hw-COMMAND-NAME-TIME. It is asked only where a folder may be its own.
    """
    stem = f"ep-hw-{command}-{slug(name)}"
    if kept := sorted(Path().glob(f"{stem}-*/{FILE}")):
        digest = question().digest
        if own := next((path.parent for path in kept if _read(path.parent).digest == digest), None):
            return own
    names = (f"{stem}-{now:%Y%m%d-%H%M%S}{f'-{n}' if n else ''}" for n in count())
    return next(Path(name) for name in names if not Path(name).exists())


def _write(folder: Path, question: Question):
    write_atomically(folder / FILE, question.model_dump_json(indent=1).encode() + b"\n")


def _read(folder: Path) -> Question:
    with refusing("cannot tell which question the folder belongs to", where=folder / FILE, allowed="a file as written",
                  remedy="choose another --out, or remove the folder"):
        return Question.model_validate(parse_json(read_bytes(folder / FILE)))


def _taken(folder: Path, got: str) -> Refusal:
    return Refusal("the folder belongs to another question", where=str(folder), got=got,
                   allowed="a new folder, or the same command with the same version",
                   remedy="choose another --out, or remove the folder")
