"""What bit rot, cut downloads, carelessness and malice make of the files that a door reads."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np

CANARY = "canary"      # the file that planted code makes in the current folder
HOLE = 1 << 41         # bytes of a file without content: two terabytes
HTML = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>Please sign in.</body></html>\n"
POINTER = (b"version https://git-lfs.github.com/spec/v1\n"
           b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 132\n")


@dataclass(frozen=True)
class Node:
    """What lies in a file's place though it is none: "folder", "fifo", "hole", "nothing" or a link to `target`."""

    kind: str
    target: str = ""

    def lay(self, path: Path):
        """Make it."""
        if self.kind == "folder":
            path.mkdir()
        elif self.kind == "fifo":
            os.mkfifo(path)
        elif self.kind == "hole":
            path.touch()
            os.truncate(path, HOLE)
        elif self.kind == "link":
            path.symlink_to(self.target)


Files = dict[str, bytes | Node]     # path within the folder that a door opens -> content


@dataclass(frozen=True)
class Edited:
    """Files after an edit.

    Attributes:
        what: the edit, for people.
        strict: whether a door that accepts them must read the meaning that the files had before.
    """

    what: str
    files: Files
    strict: bool = True


Edit = Callable[[Random, Files], Edited]
ByteEdit = Callable[[Random, bytes], bytes]

NODES = {"missing": Node("nothing"), "a folder": Node("folder"), "a fifo": Node("fifo"), "a hole": Node("hole"),
         "a link to nothing": Node("link", "nowhere"), "a link to /dev/zero": Node("link", "/dev/zero"),
         "empty": b"", "a web page": HTML, "an LFS pointer": POINTER, "deep JSON": b"[" * 200_000,
         "deep objects": b'{"a":' * 200_000, "a zip's end": b"PK\x05\x06" + bytes(18), "blanks": b" " * 4096,
         "planted code": f"cos\nsystem\n(S'touch {CANARY}'\ntR.".encode()}


def lay_out(files: Files, folder: Path):
    """Write files and whatever lies in their place."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Node):
            content.lay(path)
        else:
            path.write_bytes(content)


def replaced(rng: Random, files: Files) -> Edited:
    """Something else in a file's place; where it is nothing, a door may begin anew."""
    name, what = rng.choice(sorted(files)), rng.choice(sorted(NODES))
    return Edited(f"{name}: {what}", {**files, name: NODES[what]}, what not in ("missing", "a link to nothing"))


def in_one_file(edit: ByteEdit, strict: bool = True, suffix: str = "") -> Edit:
    """An edit of the bytes of one of the files whose names end in `suffix`."""
    def edited(rng, files):
        name = rng.choice(sorted(name for name in files if name.endswith(suffix)))
        changed = edit(rng, files[name])
        what = f"{name} {edit.__name__}: {_difference(files[name], changed)}"
        return Edited(what, {**files, name: changed}, strict)
    return edited


def _difference(before: bytes, after: bytes) -> str:
    """The part that differs, with a little of what stands before it."""
    start = _common(before, after)
    if start < 8 <= min(len(before), len(after)) and before[8:] != after[8:]:   # a length before what it measures
        start = 8 + _common(before[8:], after[8:])
    end = _common(before[start:][::-1], after[start:][::-1])
    old, new = (blob[start:len(blob) - end] for blob in (before, after))
    return f"{before[max(0, start - 24):start]!r} {old!r:.60} -> {new!r:.60}"


def _common(a: bytes, b: bytes) -> int:
    """Bytes that both begin with."""
    size = min(len(a), len(b))
    differing = np.flatnonzero(np.frombuffer(a, np.uint8, size) != np.frombuffer(b, np.uint8, size))
    return int(differing[0]) if len(differing) else size


def truncated(rng: Random, blob: bytes) -> bytes:
    return blob[:_place(rng, blob)]


def flipped(rng: Random, blob: bytes) -> bytes:
    """One to four bits."""
    changed = bytearray(blob)
    for _ in range(rng.choice((1, 1, 2, 4))):
        changed[_place(rng, blob)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def inserted(rng: Random, blob: bytes) -> bytes:
    place = _place(rng, blob)
    return blob[:place] + rng.randbytes(rng.choice((1, 1, 4, 64))) + blob[place:]


def deleted(rng: Random, blob: bytes) -> bytes:
    place = _place(rng, blob)
    return blob[:place] + blob[place + rng.choice((1, 1, 4, 64)):]


def repeated(rng: Random, blob: bytes) -> bytes:
    place, length = _place(rng, blob), rng.choice((1, 8, 64, 512))
    return blob[:place + length] + blob[place:]


def zeroed(rng: Random, blob: bytes) -> bytes:
    place, length = _place(rng, blob), rng.choice((1, 8, 64))
    return blob[:place] + bytes(len(blob[place:place + length])) + blob[place + length:]


def appended(rng: Random, blob: bytes) -> bytes:
    return blob + rng.randbytes(rng.choice((1, 8, 4096)))


def resized(rng: Random, blob: bytes) -> bytes:
    """A number of 4 or 8 bytes, of whatever meaning, becomes a huge or a negative one."""
    place, size = _place(rng, blob), rng.choice((4, 8))
    number = rng.choice((-1, 1 << (8 * size - 1), (1 << (8 * size - 1)) - 1, 1 << (4 * size), 10**9))
    return blob[:place] + (number % (1 << 8 * size)).to_bytes(size, "little") + blob[place + size:]


BYTE_EDITS = (truncated, flipped, flipped, inserted, deleted, repeated, zeroed, appended, resized)


def _place(rng: Random, blob: bytes) -> int:
    """Somewhere: as often within the first or last bytes, where formats keep their structure, as anywhere."""
    near = min(len(blob), 200)
    return rng.choice((rng.randrange(near), len(blob) - 1 - rng.randrange(near), rng.randrange(len(blob)),
                       rng.randrange(len(blob))))
