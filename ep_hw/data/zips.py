"""Zip archives of other people: opened once their list of members is bounded, their failures as ValueErrors."""

import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mapping.files import check_regular

LARGEST_DIRECTORY = 2**20   # bytes of a zip's list of members: some ten thousand
TIGHTEST = 1100             # bytes that deflate packs into one, at most


@contextmanager
def open_zip(path: Path, limit: int) -> Iterator[zipfile.ZipFile]:
    """A zip archive of at most `limit` bytes, none of whose members is encrypted or stands twice.

    Raises:
        OSError: it cannot be read, or is no regular file.
        ValueError: it is none, is damaged, or too large.
    """
    try:
        _check_directory(path, limit)
        with zipfile.ZipFile(path) as members:
            _check_members(members)
            yield members
    except (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError, LookupError, struct.error) as error:
        raise ValueError(str(error) or "an end where more was promised") from None


def _check_directory(path: Path, limit: int):
    """Raises ValueError where a zip has no end, or where it or its list of members is too large."""
    size = check_regular(path).st_size
    with open(path, "rb") as file:
        end = zipfile._EndRecData(file)  # type: ignore[attr-defined]  # the module's own, which its stubs leave out
    if not end:
        raise ValueError("half of it: a zip archive without its end")
    listed = end[zipfile._ECD_SIZE]  # type: ignore[attr-defined]
    if size > limit or listed > LARGEST_DIRECTORY:
        raise ValueError(f"{size} bytes, {listed} of them a list of members")


def _check_members(members: zipfile.ZipFile):
    """Raises ValueError where two members have one name, or one is encrypted or packed more tightly than can be."""
    listed = members.infolist()
    if len(set(members.namelist())) != len(listed):
        raise ValueError("two members of one name")
    for info in listed:
        if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{info.filename!r} encrypted, or compressed in a way of its own")
        if info.file_size > TIGHTEST * info.compress_size + LARGEST_DIRECTORY:
            raise ValueError(f"{info.filename!r} of more bytes than it can hold")
