"""Sealed files: a JSON header and arrays in one safetensors file, with checksums over all of both.

    write_atomically(path, seal("ep-hw chip 2", {"seed": 3}, arrays))
    sealed = open_sealed(path, "ep-hw chip 2", remedy="program the chip again")
    arrays = sealed.arrays({"0.forward": ("float64", (3, 4))})   # types, shapes and checksum as they must be

The header carries the checksum of the arrays, the file that of the header, so that a header can be believed while no
array was read. Nothing is allocated before the header and the shapes were found right.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, overload

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from mapping.errors import Refusal
from mapping.fields import read_as
from mapping.files import check_regular, parse_json, refusing

T = TypeVar("T")
HEADER_LIMIT = 2**22   # bytes of safetensors' own header: names, shapes and our JSON
TYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "I64": "int64", "I32": "int32", "I16": "int16",
         "I8": "int8", "U8": "uint8", "BOOL": "bool"}
Layout = dict[str, tuple[str, tuple[int, ...]]]   # name -> type and shape
Ranges = dict[str, tuple[float, float]]           # name -> lowest and highest value


@dataclass(frozen=True, eq=False)
class Sealed:
    """A sealed file whose header was read, and whose arrays were not.

    Attributes:
        path: the file.
        remedy: what a user can do where it is wrong.
        header: what `seal` was given.
        sha256: `checksum` of the arrays, as the header promises.
        layout: type and shape of each array.
    """

    path: Path
    remedy: str
    header: dict
    sha256: str
    layout: Layout

    def arrays(self, expected: Layout, ranges: Ranges | None = None) -> dict[str, np.ndarray]:
        """All arrays, once they are those that the header asks for.

        Args:
            expected: type and shape of each.
            ranges: of the values of those that it names.

        Raises:
            Refusal: an array is missing, unknown or of another shape or type, the checksum is not right, or a value is
                out of range.
        """
        for name in (*expected, *self.layout):
            got, wanted = self.layout.get(name), expected.get(name)
            if got != wanted:
                raise Refusal("tensor has the wrong shape or type", where=f"{self.path}, {name}", got=spell(got),
                              allowed=spell(wanted), remedy=self.remedy)
        with refusing("the file cannot be read", where=self.path, allowed="a whole file", remedy=self.remedy), \
                safe_open(str(self.path), "np") as file:
            tensors = {name: file.get_tensor(name) for name in self.layout}
        if (held := checksum(tensors)) != self.sha256:
            raise Refusal("the file is damaged", where=str(self.path), got=f"sha256 {held[:12]}",
                          allowed=self.sha256[:12], remedy=self.remedy)
        for name, (low, high) in (ranges or {}).items():
            if not ((tensors[name] >= low) & (tensors[name] <= high)).all():
                raise Refusal("values out of range", where=f"{self.path}, {name}", got="NaN, or some beyond it",
                              allowed=f"{low:g} to {high:g}", remedy=self.remedy)
        return tensors

    @overload
    def read_as(self, kind: type[T]) -> T: ...

    @overload
    def read_as(self, kind: object) -> Any: ...   # a union, or an annotated type

    def read_as(self, kind: Any) -> Any:
        """The header as a type of pydantic, strictly.

        Raises:
            Refusal: a field that is missing, unknown, of another type or out of range.
        """
        with refusing("its header is not right", where=self.path, allowed="what ep-hw writes", remedy=self.remedy):
            return read_as(kind, self.header)


def seal(form: str, header: dict, arrays: Mapping[str, np.ndarray]) -> bytes:
    """The bytes of a sealed file.

    Args:
        form: what kind of file this is, and its version, as "ep-hw chip 2".
    """
    arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    text = json.dumps({"format": form, "sha256": checksum(arrays), **header}, sort_keys=True, allow_nan=False)
    return save(arrays, {"ep_hw": _signed(text)})   # one entry: safetensors writes several in any order


def open_sealed(path: str | Path, form: str, remedy: str, older: str | None = None) -> Sealed:
    """Read the header of a sealed file, and no array.

    Args:
        older: the remedy for a file of another version, where it is another.

    Raises:
        Refusal: no such file, not a sealed file of this kind, one of another version, or another header than promised.
    """
    path, kind = Path(path), form.rsplit(" ", 1)[0]
    name = kind.removeprefix("ep-hw ")
    with refusing(f"not a readable {name}", where=path, allowed=form, remedy=remedy):
        _check_header_size(path)
        with safe_open(str(path), "np") as file:
            metadata = file.metadata() or {}
            layout = {key: _layout(file.get_slice(key)) for key in file.keys()}   # noqa: SIM118 - not a dict
        text = metadata.get("ep_hw", "").lstrip("0123456789abcdef ") or "{}"
        header = parse_json(text)
        version = header.get("format") if isinstance(header, dict) else None
        if not str(version).startswith(f"{kind} "):
            raise ValueError(f"no header of one ({version})")
        if version == form and metadata != {"ep_hw": _signed(text)}:
            raise ValueError("a header that was changed")
    if version != form:
        raise Refusal(f"{name} of another version", where=str(path), got=version, allowed=form, remedy=older or remedy)
    del header["format"]
    return Sealed(path, remedy, header, str(header.pop("sha256", "")), layout)


def checksum(arrays: Mapping[str, np.ndarray]) -> str:
    """sha256 over names, types, shapes and bytes of arrays, in name order."""
    content = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        content.update(json.dumps([name, *describe(array)]).encode() + array.tobytes())
    return content.hexdigest()


class Described(Protocol):
    """An array or a tensor, which this package does not know."""

    @property
    def dtype(self) -> object: ...
    @property
    def shape(self) -> Iterable[int]: ...


def describe(array: Described) -> tuple[str, tuple[int, ...]]:
    """Type and shape of an array or tensor."""
    return str(array.dtype).removeprefix("torch."), tuple(array.shape)


def spell(part: tuple[str, tuple[int, ...]] | None) -> str:
    """A type and shape as "float32 (3, 4)"."""
    return f"{part[0]} {part[1]}" if part else "nothing"


def _signed(text: str) -> str:
    """A header after its own sha256."""
    return f"{hashlib.sha256(text.encode()).hexdigest()} {text}"


def _layout(part: Any) -> tuple[str, tuple[int, ...]]:
    return TYPES.get(part.get_dtype(), part.get_dtype()), tuple(part.get_shape())


def _check_header_size(path: Path):
    check_regular(path)
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
    if size > HEADER_LIMIT:
        raise ValueError(f"a header of {size} bytes, more than {HEADER_LIMIT}")
