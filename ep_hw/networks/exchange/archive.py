"""Files of torch.save, read without torch's loader: nothing in them is called, and all that they claim is checked.

Such a file is a zip, not compressed: `ROOT/data.pkl` is a pickle that says which numbers of which storage make a
tensor, `ROOT/data/KEY` holds the bytes of a storage. Every member's checksum is verified before anything else is read,
and a tensor's size and strides before it is made.
"""

import math
import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from ep_hw.data.pickles import Call, Name, Reference, read_notes, word
from ep_hw.data.zips import open_zip
from ep_hw.networks.exchange.formats import AGAIN, SAVE, TENSORS, check_format, not_tensors, root_of
from mapping.files import refusing

LARGEST_FILE = 2**29       # bytes
LARGEST_PICKLE = 2**22     # bytes
LARGEST_WEIGHT = 2**23     # numbers
DTYPES = {"torch.FloatStorage": torch.float32, "torch.DoubleStorage": torch.float64,
          "torch.HalfStorage": torch.float16, "torch.BFloat16Storage": torch.bfloat16}
_DENSE = "a dense tensor of float32, float64, float16 or bfloat16"
_TENSOR, _PARAMETER = "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter"


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A tensor as some of the numbers of a storage.

    Attributes:
        member: the storage's file in the archive.
        dtype: of its numbers.
        length: how many numbers it has.
        offset: place of the tensor's first number.
        size: of the tensor.
        stride: of the tensor, in numbers.
    """

    member: str
    dtype: torch.dtype
    length: int
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def check(self, stored: int):
        """Check the tensor against its storage.

        Args:
            stored: bytes of the storage.

        Raises:
            ValueError: the tensor does not fit it, or overlaps itself.
        """
        reach = 1
        for stride, size in sorted((stride, size) for size, stride in zip(self.size, self.stride) if size > 1):
            if stride < reach:
                raise ValueError("one that uses numbers twice")
            reach += stride * (size - 1)
        if not 0 < math.prod(self.size) <= LARGEST_WEIGHT:
            raise ValueError(f"one of {math.prod(self.size)} numbers")
        if self.offset + reach > self.length or self.length * self.dtype.itemsize != stored:
            raise ValueError("one of another size than its storage")


@dataclass(frozen=True, eq=False)
class TorchArchive:
    """A file of torch.save whose checksums were verified.

    Attributes:
        path: the file.
        content: what it holds, as `ep_hw.data.pickles` notes it.
        root: its folder in the zip, with a slash.
        sizes: name of each member -> its bytes.
    """

    path: Path
    content: object
    root: str
    sizes: dict[str, int]

    def stored(self, name: str, noted: object) -> StoredTensor:
        """Where the numbers of a tensor of the state dict lie.

        Raises:
            Refusal: it is no dense tensor of floating-point numbers, or the archive does not hold what it claims.
        """
        with self._reading(name):
            tensor = _stored(noted, self.root)
            tensor.check(self.sizes.get(tensor.member, 0))
        return tensor

    def tensor(self, name: str, tensor: StoredTensor) -> torch.Tensor:
        """The tensor itself, in float32.

        Raises:
            Refusal: numbers that are not finite, or too large for float32.
        """
        with self._reading(name), zipfile.ZipFile(self.path) as members:
            numbers = torch.frombuffer(bytearray(members.read(tensor.member)), dtype=tensor.dtype)
            read = numbers.as_strided(tensor.size, tensor.stride, tensor.offset).to(torch.float32).contiguous()
            if not read.isfinite().all():
                raise ValueError("one with numbers that are NaN, infinite or too large for float32")
        return read

    def _reading(self, name: str) -> AbstractContextManager[None]:
        return refusing("a tensor cannot be read", where=f"{self.path}, {name}", allowed=_DENSE,
                        remedy="save the state dict of a model with dense, finite weights")


def read_archive(path: str | Path) -> TorchArchive:
    """Open a file of torch.save: all of its checksums are verified, and its pickle is noted.

    Raises:
        Refusal: another kind of file, which is named, or one that is damaged or absurd.
    """
    path = Path(path)
    check_format(path)
    with _members(path) as members:
        sizes = {info.filename: info.file_size for info in members.infolist()}
        root = root_of(path, list(sizes))
        _check_members(members, path.stat().st_size)
        if f"{root}byteorder" in sizes and members.read(f"{root}byteorder") != b"little":
            raise not_tensors(path, "a file of a big-endian machine", "save it again on this one")
        if sizes[f"{root}data.pkl"] > LARGEST_PICKLE:
            raise not_tensors(path, f"data.pkl of {sizes[f'{root}data.pkl']} bytes", SAVE)
        pickled = members.read(f"{root}data.pkl")
    with refusing("not a file of tensors", where=path, allowed=TENSORS, remedy=SAVE):
        return TorchArchive(path, read_notes(pickled), root, sizes)


@contextmanager
def _members(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive, opened; what the module zipfile raises becomes a Refusal."""
    with refusing("the file is damaged", where=path, allowed="a zip archive of whole members, not compressed",
                  remedy=AGAIN), open_zip(path, LARGEST_FILE) as members:
        yield members


def _check_members(members: zipfile.ZipFile, size: int):
    """Raises ValueError where a member is not as torch.save writes it, or its checksum is wrong."""
    listed = members.infolist()
    for info in listed:
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise ValueError(f"{info.filename!r} compressed")
    if sum(info.file_size for info in listed) > size:
        raise ValueError("members larger than the file")
    if bad := members.testzip():
        raise ValueError(f"a wrong checksum of {bad!r}")


def is_tensor(noted: object) -> bool:
    """Whether a note stands for a tensor of any kind."""
    return isinstance(noted, Call) and noted.function.startswith("torch._utils._rebuild_")


def _stored(noted: object, root: str) -> StoredTensor:
    """The tensor that a note stands for. Raises ValueError where it stands for none that is dense."""
    if isinstance(noted, Call) and noted.function == _PARAMETER and noted.arguments:
        noted = noted.arguments[0]
    if not isinstance(noted, Call) or noted.function != _TENSOR or len(noted.arguments) not in (6, 7):
        raise ValueError(f"one of {noted.function if isinstance(noted, Call) else 'no tensor'}")
    reference, offset, size, stride, _, _, *bits = noted.arguments
    if any(bits):
        raise ValueError("one that is conjugated or negated when it is read")
    dtype, key, length = _storage(reference)
    if not isinstance(size, tuple) or not isinstance(stride, tuple) or not len(size) == len(stride) <= 8:
        raise ValueError("one without a shape")
    if not all(type(n) is int and 0 <= n < 2**63 for n in (length, offset, *size, *stride)):
        raise ValueError("one of impossible sizes")
    return StoredTensor(f"{root}data/{key}", dtype, length, offset, size, stride)


def _storage(reference: object) -> tuple[torch.dtype, str, int]:
    """Type, key and length of a storage.

    Raises:
        ValueError: there is none.
    """
    fields = reference.key if isinstance(reference, Reference) else None
    if not isinstance(fields, tuple) or len(fields) != 5 or not isinstance(fields[1], Name):
        raise ValueError("one without a storage")
    _, kind, key, _, length = fields
    if kind.name not in DTYPES:
        raise ValueError(f"one of {kind.name!r}")
    if type(length) is not int:
        raise ValueError("one of impossible sizes")
    return DTYPES[kind.name], word(key), length
