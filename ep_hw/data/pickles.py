"""Pickles, read without unpickling.

A pickle is a program for a small stack machine. The few instructions that data are written in run here, and only take
notes: a call becomes a `Call` with its arguments, and nothing is looked up, called or built. What the notes stand for
is decided by whoever reads them. Every instruction adds at most one item to memory, so memory and time are bounded by
the file's bytes and the number of instructions.

Source of the instructions: Python's module pickletools.
"""

import pickletools
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

MOST_INSTRUCTIONS = 300_000   # of published CIFAR batches: 10,000 to 200,000; of a checkpoint, some 20 a tensor
_CHECKED_TEXT = 2**16
_LONGEST_WORD = 200   # bytes of a key, or of the name of what a pickle calls
_ORDERED = "collections.OrderedDict"
_NAMES = {opcode.code: opcode.name for opcode in pickletools.opcodes}
T = TypeVar("T")


def read_notes(content: bytes) -> object:
    """What a pickle of protocol 2 to 5 leaves on the stack: plain values, `Text`, and the notes below.

    Raises:
        ValueError: other instructions than those of data, or too many, or bytes that are no pickle.
    """
    return _Notes(content).read()


class Text(bytes):
    """Text as its UTF-8."""


@dataclass(frozen=True)
class Name:
    """What a pickle refers to by module and name."""

    name: str


@dataclass(eq=False)
class Call:
    """A call in a pickle.

    Attributes:
        function: name of what is called.
        arguments: notes.
        state: what the pickle then gives to the result; None where it gives nothing.
    """

    function: str
    arguments: tuple[Any, ...]
    state: object = None


@dataclass(frozen=True, eq=False)
class Reference:
    """Something that a pickle names and its reader has to find: a storage of torch."""

    key: object


def _key(noted: object) -> int | float | str | None:
    """A key of a dictionary: a number or None as it is, anything else as a short text."""
    return noted if isinstance(noted, int | float | None) else word(noted)


def word(noted: object) -> str:
    """A short text, for which Python 2 wrote bytes.

    Raises:
        ValueError: anything else.
    """
    if not isinstance(noted, bytes) or len(noted) > _LONGEST_WORD:
        raise ValueError("no name where one belongs")
    return noted.decode("utf-8" if type(noted) is Text else "latin1")


class _Notes:
    """The stack machine.

    Attributes:
        content: the pickle.
        place: of the next byte of `content`.
        running: whether there are instructions to follow.
        stack: the notes.
        marks: how deep the stack was at each open mark.
        memo: notes that are referred to again, by number.
    """

    def __init__(self, content: bytes):
        self.content, self.place, self.running = memoryview(content), 0, True
        self.stack: list[object] = []
        self.marks: list[int] = []
        self.memo: dict[int, object] = {}

    def read(self) -> object:
        """What the pickle leaves on the stack."""
        for _ in range(MOST_INSTRUCTIONS):
            code = bytes(self.take(1))
            if code not in _INSTRUCTIONS:
                raise ValueError(f"{_NAMES.get(chr(code[0]), 'no instruction')} at byte {self.place - 1}")
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
        if not start <= self.place <= len(self.content):
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

    def push(self, noted: object):
        self.stack.append(noted)

    def pop(self, count: int = 1) -> list[object]:
        """The `count` last notes, none of them below an open mark, taken off the stack."""
        if len(self.stack) - count < (self.marks[-1] if self.marks else 0):
            raise ValueError("an empty stack")
        taken = self.stack[len(self.stack) - count:]
        del self.stack[len(self.stack) - count:]
        return taken

    def mark(self):
        self.marks.append(len(self.stack))

    def since_mark(self) -> list[object]:
        """All notes since the last mark, taken off the stack with it."""
        if not self.marks:
            raise ValueError("no mark")
        taken = self.pop(len(self.stack) - self.marks[-1])
        self.marks.pop()
        return taken

    def top(self, kind: type[T]) -> T:
        """The last note, which stays on the stack, of a kind."""
        if not self.stack or type(top := self.stack[-1]) is not kind:
            raise ValueError(f"no {kind.__name__.strip('_').lower()} where one belongs")
        return top

    def extend(self, items: list[object]):
        self.top(list).extend(items)

    def enter(self, items: list[object]):
        """Alternating keys and values into a dictionary, each key once."""
        entries = self.top(dict)
        for key, value in zip(map(_key, items[::2]), items[1::2], strict=True):
            if key in entries:
                raise ValueError(f"two entries of one name, {key!r}")
            entries[key] = value

    def protocol(self):
        if self.number(1) not in (2, 3, 4, 5):
            raise ValueError("another protocol than 2 to 5")

    def frame(self):
        """The length of a part of the file, all of which must be there."""
        if self.number(8) > len(self.content) - self.place:
            raise ValueError("cut short")

    def refer(self, module: str, name: str):
        self.push(Name(f"{module}.{name}"))

    def call(self):
        function, arguments = self.pop(2)
        if not isinstance(function, Name) or not isinstance(arguments, tuple):
            raise ValueError("a call of something else")
        self.push({} if function.name == _ORDERED and not arguments else Call(function.name, arguments))

    def build(self):
        state, = self.pop()
        if self.stack and isinstance(self.stack[-1], dict):
            return   # attributes of an ordered dictionary, as torch gives them to state dicts
        call = self.top(Call)
        if call.state is not None:
            raise ValueError("a second state of one object")
        call.state = state

    def keep(self, number: int):
        if not self.stack:
            raise ValueError("an empty stack")
        self.memo[number] = self.stack[-1]

    def recall(self, number: int):
        if number not in self.memo:
            raise ValueError("nothing of that number was kept")
        self.push(self.memo[number])


Instruction = Callable[[_Notes], None]


def _counted(width: int, signed: bool = False) -> Instruction:
    """Pushes as many bytes as the next `width` bytes say."""
    return lambda notes: notes.push(bytes(notes.take(notes.number(width, signed))))


def _text(width: int) -> Instruction:
    """Pushes a text of as many bytes as the next `width` bytes say."""
    def act(notes: _Notes):
        text = Text(notes.take(notes.number(width)))
        if len(text) <= _CHECKED_TEXT:   # what is longer is decoded where it is used
            text.decode()
        notes.push(text)

    return act


def _integer(width: int, signed: bool = False) -> Instruction:
    return lambda notes: notes.push(notes.number(width, signed))


_INSTRUCTIONS: dict[bytes, Instruction] = {
    b"\x80": _Notes.protocol,
    b"\x95": _Notes.frame,
    b".": _Notes.stop,
    b"N": lambda notes: notes.push(None), b"\x88": lambda notes: notes.push(True),
    b"\x89": lambda notes: notes.push(False),
    b"K": _integer(1), b"M": _integer(2), b"J": _integer(4, signed=True),
    b"\x8a": lambda notes: notes.push(notes.number(notes.number(1), signed=True)),
    b"G": lambda notes: notes.push(*struct.unpack(">d", notes.take(8))),
    b"U": _counted(1), b"T": _counted(4, signed=True), b"C": _counted(1), b"B": _counted(4), b"\x8e": _counted(8),
    b"\x96": _counted(8), b"\x8c": _text(1), b"X": _text(4), b"\x8d": _text(8),
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
    b"\x93": lambda notes: notes.refer(*map(word, notes.pop(2))),
    b"R": _Notes.call, b"\x81": _Notes.call, b"b": _Notes.build,
    b"Q": lambda notes: notes.push(Reference(*notes.pop()))}
