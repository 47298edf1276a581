"""CIFAR's python batches, which are pickles, read without unpickling.

A pickle is a program for a small stack machine. The few instructions that batches are written in run here and only
take notes: a call becomes a `_Call` with its arguments, and nothing is looked up, called or built. The notes must then
say what numpy says of an array of uint8. Every instruction adds one item to memory at most, so memory and time are
bounded by the file's bytes and the number of instructions.

Python 2 wrote the published files (protocol 2); those that today's Python and numpy write have protocols 2 to 5.
Source of the instructions: Python's module pickletools.
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

MOST_INSTRUCTIONS = 300_000   # of a published file: 10,000 to 200,000
_LONGEST_WORD = 100   # bytes of a key, or of the name of what a pickle calls
_RECONSTRUCT = ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct")   # of numpy 1 and 2
_FROM_BUFFER = ("numpy.core.numeric._frombuffer", "numpy._core.numeric._frombuffer")
_ENDIAN_FREE = (3, "|", None, None, None, -1, -1, 0)   # numpy's state of a dtype without fields or byte order


def read_batch(content: bytes, key: str, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """(N, 3072) uint8 pixels and (N,) int64 labels, kept under `key`, of one batch.

    Raises:
        ValueError: anything but a batch of N >= 1 images with labels from 0 to classes - 1.
    """
    batch = _Notes(content).read()
    if not isinstance(batch, dict) or not {"data", key} <= set(batch):
        raise ValueError(f"no dictionary with data and {key}")
    pixels, labels = _pixels(batch["data"]), batch[key]
    if not isinstance(labels, list) or not all(type(label) is int and 0 <= label < classes for label in labels):
        raise ValueError(f"{key} that are not a list of integers from 0 to {classes - 1}")
    if not 0 < len(labels) == len(pixels):
        raise ValueError(f"{len(pixels)} images and {len(labels)} labels")
    return pixels, np.array(labels, np.int64)


class _Text(bytes):
    """Text as its UTF-8."""


@dataclass(frozen=True)
class _Name:
    """What a pickle refers to by module and name."""

    name: str


@dataclass(eq=False)
class _Call:
    """What a pickle calls, with which arguments, and the state it then gives to the result."""

    function: str
    arguments: tuple
    state: tuple | None = None


def _pixels(noted) -> np.ndarray:
    """The (N, 3072) uint8 array that a call stands for; its memory is that of the file's own bytes."""
    if not isinstance(noted, _Call):
        raise ValueError("data that are no array")
    shape, dtype, order, raw = _array(noted)
    raw = _raw(raw)
    if not _is_uint8(dtype) or order not in ("C", "F"):
        raise ValueError("data that are no uint8")
    if not isinstance(shape, tuple) or [type(n) for n in shape] != [int, int] or shape[1] != 3072:
        raise ValueError("data that are not (N, 3072)")
    if shape[0] * 3072 != len(raw):
        raise ValueError(f"{len(raw)} bytes for {shape[0]} images")
    return np.frombuffer(raw, np.uint8).reshape(shape, order=order)


def _array(noted: _Call) -> tuple:
    """Shape, dtype, order and bytes of an array, in either of numpy's spellings."""
    if noted.function in _RECONSTRUCT and noted.state:
        kind, empty, fill = noted.arguments
        version, shape, dtype, fortran, raw = noted.state
        if (kind, empty, _raw(fill), version) == (_Name("numpy.ndarray"), (0,), b"b", 1):
            return shape, dtype, "F" if fortran is True else "C", raw
    if noted.function in _FROM_BUFFER and noted.state is None:
        raw, dtype, shape, order = noted.arguments
        return shape, dtype, _word(order), raw
    raise ValueError("data that are no array of numpy")


def _is_uint8(noted) -> bool:
    """Whether a call makes the dtype uint8 and leaves it as it is."""
    if not isinstance(noted, _Call) or noted.function != "numpy.dtype" or len(noted.state or ()) != 8:
        return False
    name, *flags = noted.arguments
    state = (noted.state[0], _word(noted.state[1]), *noted.state[2:])
    return _word(name) == "u1" and flags == [0, 1] and state == _ENDIAN_FREE


def _raw(noted) -> bytes:
    """Bytes, which protocol 2 of Python 3 writes as text that is encoded in latin-1."""
    if not isinstance(noted, _Call):
        if type(noted) is not bytes:
            raise ValueError("pixels that are no bytes")
        return noted
    if noted.function != "_codecs.encode" or len(noted.arguments) != 2:
        raise ValueError("pixels that are no bytes")
    text, encoding = noted.arguments
    if type(text) is not _Text or _word(encoding) != "latin1":
        raise ValueError("pixels that are no bytes")
    if text and np.frombuffer(text, np.uint8).max() > 0xC3:   # in UTF-8, so that no character takes more than a byte
        raise ValueError("pixels that are no latin-1")
    return text.decode().encode("latin1")


def _word(noted) -> str:
    """A short text; Python 2 has bytes for it."""
    if not isinstance(noted, bytes) or len(noted) > _LONGEST_WORD:
        raise ValueError("no name where one belongs")
    return noted.decode("utf-8" if type(noted) is _Text else "latin1")


class _Notes:
    """The stack machine.

    Attributes:
        place: of the next byte of `content`. stack: the notes. marks: how deep the stack was at each open mark.
        memo: notes that are referred to again, by number.
    """

    def __init__(self, content: bytes):
        self.content, self.place, self.running = memoryview(content), 0, True
        self.stack, self.marks, self.memo = [], [], {}

    def read(self):
        """What the pickle leaves on the stack."""
        for _ in range(MOST_INSTRUCTIONS):
            code = self.take(1)
            if code not in _INSTRUCTIONS:
                known = pickletools.code2op.get(chr(code[0]))
                raise ValueError(f"{known.name if known else 'no instruction'} at byte {self.place - 1}")
            _INSTRUCTIONS[code](self)
            if not self.running:
                break
        if self.running or len(self.stack) != 1 or self.place != len(self.content):
            raise ValueError("too many instructions" if self.running else "more than one value")
        return self.stack[0]

    def stop(self):
        self.running = False

    def take(self, count: int) -> memoryview:
        """The next `count` bytes of the file."""
        start, self.place = self.place, self.place + count
        if self.place > len(self.content):
            raise ValueError("cut short")
        return self.content[start:self.place]

    def number(self, width: int, signed: bool = False) -> int:
        return int.from_bytes(self.take(width), "little", signed=signed)

    def line(self) -> str:
        """Text up to the end of a line."""
        word, end, _ = bytes(self.content[self.place:self.place + _LONGEST_WORD]).partition(b"\n")
        self.take(len(word) + 1)
        if not end:
            raise ValueError("no name where one belongs")
        return word.decode("latin1")

    def push(self, noted):
        self.stack.append(noted)

    def pop(self, count: int = 1) -> list:
        """The `count` last notes, none of them below an open mark."""
        if len(self.stack) - count < (self.marks[-1] if self.marks else 0):
            raise ValueError("an empty stack")
        taken = self.stack[len(self.stack) - count:]
        del self.stack[len(self.stack) - count:]
        return taken

    def mark(self):
        self.marks.append(len(self.stack))

    def since_mark(self) -> list:
        """All notes since the last mark, which is taken away."""
        if not self.marks:
            raise ValueError("no mark")
        taken = self.pop(len(self.stack) - self.marks[-1])
        self.marks.pop()
        return taken

    def top(self, kind: type):
        """The last note, which stays, of a kind."""
        if not self.stack or type(self.stack[-1]) is not kind:
            raise ValueError(f"no {kind.__name__.strip('_').lower()} where one belongs")
        return self.stack[-1]

    def extend(self, items: list):
        self.top(list).extend(items)

    def enter(self, items: list):
        """Alternating keys and values into a dictionary, each key once."""
        entries = self.top(dict)
        for key, value in zip(map(_word, items[::2]), items[1::2], strict=True):
            if key in entries:
                raise ValueError(f"two entries of one name, {key!r}")
            entries[key] = value

    def protocol(self):
        if self.number(1) not in (2, 3, 4, 5):
            raise ValueError("another protocol than 2 to 5")

    def refer(self, module: str, name: str):
        self.push(_Name(f"{module}.{name}"))

    def call(self):
        function, arguments = self.pop(2)
        if not isinstance(function, _Name) or not isinstance(arguments, tuple):
            raise ValueError("a call of something else")
        self.push(_Call(function.name, arguments))

    def build(self):
        state, = self.pop()
        call = self.top(_Call)
        if call.state is not None or not isinstance(state, tuple):
            raise ValueError("a state of something else")
        call.state = state

    def keep(self, number: int):
        if not self.stack:
            raise ValueError("an empty stack")
        self.memo[number] = self.stack[-1]

    def recall(self, number: int):
        if number not in self.memo:
            raise ValueError("nothing of that number was kept")
        self.push(self.memo[number])


def _counted(kind: type, width: int, signed: bool = False) -> Callable:
    """Pushes as many bytes as the next `width` bytes say, as `kind`."""
    return lambda notes: notes.push(kind(notes.take(max(0, notes.number(width, signed)))))


def _integer(width: int, signed: bool = False) -> Callable:
    return lambda notes: notes.push(notes.number(width, signed))


_INSTRUCTIONS: dict[bytes, Callable[[_Notes], None]] = {
    b"\x80": _Notes.protocol,
    b"\x95": lambda notes: notes.take(8),   # a frame: where the writer flushed
    b".": _Notes.stop,
    b"N": lambda notes: notes.push(None), b"\x88": lambda notes: notes.push(True),
    b"\x89": lambda notes: notes.push(False),
    b"K": _integer(1), b"M": _integer(2), b"J": _integer(4, signed=True),
    b"\x8a": lambda notes: notes.push(notes.number(notes.number(1), signed=True)),
    b"U": _counted(bytes, 1), b"T": _counted(bytes, 4, signed=True), b"C": _counted(bytes, 1),
    b"B": _counted(bytes, 4), b"\x8e": _counted(bytes, 8), b"\x96": _counted(bytes, 8),
    b"\x8c": _counted(_Text, 1), b"X": _counted(_Text, 4), b"\x8d": _counted(_Text, 8),
    b"(": _Notes.mark,
    b")": lambda notes: notes.push(()), b"t": lambda notes: notes.push(tuple(notes.since_mark())),
    b"\x85": lambda notes: notes.push(tuple(notes.pop(1))), b"\x86": lambda notes: notes.push(tuple(notes.pop(2))),
    b"\x87": lambda notes: notes.push(tuple(notes.pop(3))),
    b"]": lambda notes: notes.push([]), b"a": lambda notes: notes.extend(notes.pop()),
    b"e": lambda notes: notes.extend(notes.since_mark()),
    b"}": lambda notes: notes.push({}), b"s": lambda notes: notes.enter(notes.pop(2)),
    b"u": lambda notes: notes.enter(notes.since_mark()),
    b"q": lambda notes: notes.keep(notes.number(1)), b"r": lambda notes: notes.keep(notes.number(4)),
    b"\x94": lambda notes: notes.keep(len(notes.memo)),
    b"h": lambda notes: notes.recall(notes.number(1)), b"j": lambda notes: notes.recall(notes.number(4)),
    b"c": lambda notes: notes.refer(notes.line(), notes.line()),
    b"\x93": lambda notes: notes.refer(*map(_word, notes.pop(2))),
    b"R": _Notes.call, b"b": _Notes.build}
