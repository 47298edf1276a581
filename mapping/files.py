"""Files: how everything that comes in from one is read, and everything that goes out is written.

A reader meets any bytes at all: it bounds sizes before it reads, numbers and nesting before it believes, and turns
what a parser raises into one Refusal (`refusing`). A writer's file is there whole or not at all.
"""

import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import ValidationError
from safetensors import SafetensorError

from mapping.errors import Refusal

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_NEW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)   # where known
TEXT_LIMIT = 2**20       # bytes of a TOML or JSON file that a person or `ep-hw` writes
DEEPEST = 16             # brackets within brackets, and keys of TOML
_STATEMENTS = re.compile(rb"[\n{,]")   # what stands before each of them in TOML
LARGEST_INTEGER = 2**63
_NUMBERS, _NESTS = (int, float), (dict, list)
_KINDS = (*_NESTS, str, *_NUMBERS, type(None))   # of values in JSON
LONGEST_REASON = 300     # characters of what a parser says of bad bytes, which it may quote whole
UNREADABLE = (OSError, ValueError, RecursionError, MemoryError, SafetensorError)   # what bad bytes make parsers raise


@contextmanager
def refusing(what: str, *, where: object, allowed: object, remedy: str) -> Iterator[None]:
    """Around a reader: what bad input makes it raise becomes a Refusal. `got` is the reader's own reason.

    Raises:
        Refusal: see above; those raised within pass unchanged.
    """
    try:
        yield
    except Refusal:
        raise
    except UNREADABLE as error:
        raise Refusal(what, where=str(where), got=reason(error), allowed=allowed, remedy=remedy) from None


def reason(error: Exception) -> str:
    """Why a reader failed, in a few words; of pydantic's errors the first field and what is wrong with it."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        said = first["msg"].removeprefix("Value error, ")
        # what is in brackets is a type of pydantic's
        place = ".".join(str(part) for part in first["loc"] if "[" not in str(part))
        return ": ".join(filter(None, (place, said)))[:LONGEST_REASON]
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__)[:LONGEST_REASON]


def check_regular(path: str | Path) -> os.stat_result:
    """The status of a regular file, or of what a link to one points at.

    Raises:
        OSError: there is none, or a folder, pipe or device, which would never end or block.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(f"a {'folder' if stat.S_ISDIR(status.st_mode) else 'pipe or device'}, not a file")
    return status


def read_bytes(path: str | Path, limit: int = TEXT_LIMIT) -> bytes:
    """The content of a regular file of at most `limit` bytes.

    Raises:
        OSError: it cannot be read, is no regular file, or is larger.
    """
    if (size := check_regular(path).st_size) <= limit:
        with open(path, "rb") as file:
            content = file.read(size + 1)   # a read takes memory for all that it may give
            if len(content) > size:         # as it grows, or lies in /proc
                content += file.read(limit + 1 - len(content))
        if len(content) <= limit:
            return content
    raise OSError(f"more than {limit} bytes")


def parse_json(text: str | bytes) -> Any:
    """What strict JSON says.

    Raises:
        ValueError: no JSON, or NaN, infinite or huge numbers, a key twice, nesting beyond `DEEPEST`.
    """
    with _bounded_parsing():
        return _plain(json.loads(text, object_pairs_hook=_unique))


def parse_toml(content: bytes) -> dict:
    """What a TOML file says.

    Raises:
        ValueError: see `parse_json`; also dates and times, which nothing here states.
    """
    if max(map(_dots, _STATEMENTS.split(content))) > DEEPEST:   # whose parser takes the square of their time
        raise ValueError(f"more than {DEEPEST} keys within each other")
    with _bounded_parsing():
        return _plain(tomllib.loads(content.decode()))


def _dots(statement: bytes) -> int:
    """Dots in the key of a statement of TOML; fewer where it may be a part of a text or a comment."""
    key, equals, _ = statement.partition(b"=")
    return key.count(b".") // (1 if equals or key.lstrip().startswith(b"[") else DEEPEST)


def check_writable(folder: str | Path):
    """Make a folder, and refuse now rather than after hours of work one that nothing can be written into."""
    with _writing("cannot write into the output folder", folder, "choose another --out"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass


def check_possible(folder: str | Path):
    """Refuse at once a folder that nothing could be written into; what is made to try it is removed again."""
    missing = list(takewhile(lambda path: not os.path.lexists(path), (Path(folder), *Path(folder).parents)))
    check_writable(folder)
    with suppress(OSError):   # another run has begun there
        for made in missing:
            made.rmdir()


def check_new(path: str | Path):
    """Refuse now rather than after hours of work what would take an older file's place."""
    if os.path.lexists(path):
        raise Refusal("the file exists already", where=str(path), got="an existing path", allowed="a new path",
                      remedy="choose another --out, or remove it")


def write_atomically(path: str | Path, blob: bytes, flushed: bool = True):
    """Write a file by way of one of a random name beside it.

    Args:
        flushed: whether it is on the disk before it takes its place, which takes milliseconds. Where it is not, it may
            be damaged after the computer stopped, though not after the process did: for files that are checked when
            they are read, and made again.

    Raises:
        Refusal: it cannot be written; what was there is as it was.
    """
    with replacing(path, flushed) as file:
        file.write(blob)


@contextmanager
def replacing(path: str | Path, flushed: bool = True) -> Iterator[BinaryIO]:
    """A new file, empty, for what is too large to be held; see `write_atomically`. It takes its place once all is
    written, and not at all where writing ends in an error.
    """
    with _writing("cannot write", path, "choose another place"), _scratch(Path(path)) as scratch:
        with _opened(scratch, flushed) as file:
            yield file
        os.replace(scratch, path)


def write_folder(folder: str | Path, blobs: Mapping[str, bytes]):
    """Write a folder of files, by way of one of a random name beside it: it appears whole or not at all.

    Raises:
        Refusal: something is there already, be it a link to nothing, or it cannot be written.
    """
    if os.path.lexists(folder):
        raise Refusal("output folder exists", where=str(folder), got="an existing path", allowed="a new path",
                      remedy="choose another --out or remove it")
    with _writing("cannot write", folder, "choose another --out"), _scratch(Path(folder)) as scratch:
        scratch.mkdir()
        for name, blob in blobs.items():
            write_new(scratch / name, blob)
        os.rename(scratch, folder)


def write_new(path: Path, blob: bytes):
    """Write a file that does not exist yet, down to the disk; never through a link. Raises OSError."""
    with _opened(path) as file:
        file.write(blob)


@contextmanager
def _opened(path: Path, flushed: bool = True) -> Iterator[BinaryIO]:
    """See `write_new`, `write_atomically`."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NEW, 0o666), "wb") as file:
        yield file
        file.flush()
        if flushed:
            os.fsync(file.fileno())


@contextmanager
def _scratch(path: Path) -> Iterator[Path]:
    """A path of a random name beside one, whose folder is made; nothing is left there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        yield scratch
    finally:
        if scratch.is_dir():
            shutil.rmtree(scratch, ignore_errors=True)
        with suppress(OSError):
            scratch.unlink(missing_ok=True)


@contextmanager
def _writing(what: str, place: str | Path, remedy: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        if isinstance(error, ValueError) and "\0" not in str(place):   # which no path may hold
            raise
        raise Refusal(what, where=str(place), got=reason(error), allowed="a writable folder",
                      remedy=remedy) from None


@contextmanager
def _bounded_parsing() -> Iterator[None]:
    try:
        yield
    except RecursionError:
        raise ValueError("too deeply nested") from None
    except ValueError as error:
        raise ValueError("a number of thousands of digits" if "set_int_max" in str(error) else error) from None


def _unique(pairs: list[tuple]) -> dict:
    if len(table := dict(pairs)) != len(pairs):
        raise ValueError("a key stands twice")
    return table


def _plain(value: Any) -> Any:
    """The value itself, once nothing in it is absurd."""
    level = [value]
    for _ in range(DEEPEST):
        if any(isinstance(v, _NUMBERS) and not abs(v) <= LARGEST_INTEGER for v in level):   # NaN compares false
            raise ValueError("a number that is not finite, or larger than 64 bits")
        if not all(isinstance(v, _KINDS) for v in level):
            raise ValueError("a date or time where none belongs")
        level = [inner for v in level if isinstance(v, _NESTS)
                 for inner in (v.values() if isinstance(v, dict) else v)]
        if not level:
            return value
    raise ValueError(f"more than {DEEPEST} brackets within each other")


def slug(text: str) -> str:
    """Any text as part of a file's name, or as an id: letters, digits, dots, equals signs and underscores, joined by
    dashes; another text may become the same, one that is long or has none of these ends in its hash.
    """
    plain = re.sub(r"[^\w.=]+", "-", text).strip("-.")
    if 0 < len(plain.encode()) <= 120:
        return plain
    return f"{plain[:25]}-{hashlib.sha256(text.encode(errors='backslashreplace')).hexdigest()[:8]}".strip("-")


def slugs(texts: Iterable[str]) -> Iterator[str]:
    """A slug for each text, numbered where an earlier one has it already: no file takes another's place."""
    taken: set[str] = set()
    for name in map(slug, texts):
        free = next(other for other in (name, *(f"{name}-{n}" for n in range(2, len(taken) + 3))) if other not in taken)
        taken.add(free)
        yield free


def sign(content: dict) -> bytes:
    """JSON that vouches for itself: {"content": ..., "sha256": of the content's own JSON}."""
    text = json.dumps(content, sort_keys=True, allow_nan=False)
    return f'{{"content": {text}, "sha256": "{hashlib.sha256(text.encode()).hexdigest()}"}}'.encode()


def parse_signed(blob: bytes) -> dict:
    """The content of `sign`.

    Raises:
        ValueError: see `parse_json`; or it was altered.
    """
    parsed = parse_json(blob)
    if not isinstance(parsed, dict) or not isinstance(content := parsed.get("content"), dict) or sign(content) != blob:
        raise ValueError("it does not have its own checksum")
    return content
