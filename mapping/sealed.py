"""Sealed files: a JSON header and arrays in one safetensors file, with a checksum over all of both.

    write_atomically(path, seal("ep-hw chip 2", {"seed": 3}, arrays))
    sealed = open_sealed(path, "ep-hw chip 2", remedy="program the chip again")
    arrays = sealed.arrays({"0.forward": "float64 (3, 4)"})      # shapes, types and checksum as they must be

Nothing is read, and nothing is allocated, before the header and the shapes were found right.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from mapping.errors import Refusal
from mapping.files import check_regular, parse_json, refusing

HEADER_LIMIT = 2**22   # bytes of safetensors' own header: names, shapes and our JSON
TYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "I64": "int64", "I32": "int32", "I16": "int16",
         "I8": "int8", "U8": "uint8", "BOOL": "bool"}


@dataclass(frozen=True, eq=False)
class Sealed:
    """A sealed file whose header was read, and whose arrays were not.

    Attributes:
        path: the file. remedy: what a user can do where it is wrong.
        header: what `seal` was given. layout: name -> type and shape of each array, as `describe` writes them.
    """

    path: Path
    remedy: str
    header: dict
    layout: dict[str, str]
    _text: str
    _sum: str

    def arrays(self, expected: Mapping[str, str]) -> dict[str, np.ndarray]:
        """All arrays, once they are those that the header asks for.

        Args:
            expected: name -> type and shape, as in `layout`.

        Raises:
            Refusal: an array is missing, unknown or of another shape or type, or the checksum is not right.
        """
        for name in (*expected, *self.layout):
            got, wanted = self.layout.get(name, "nothing"), expected.get(name, "nothing")
            if got != wanted:
                raise Refusal("tensor has the wrong shape or type", where=f"{self.path}, {name}", got=got,
                              allowed=wanted, remedy=self.remedy)
        with refusing("the file cannot be read", where=self.path, allowed="a whole file", remedy=self.remedy), \
                safe_open(str(self.path), "np") as file:
            found = {name: file.get_tensor(name) for name in self.layout}
        if (got := checksum(self._text, found)) != self._sum:
            raise Refusal("the file is damaged", where=str(self.path), got=f"sha256 {got[:12]}",
                          allowed=self._sum[:12] or "a checksum", remedy=self.remedy)
        return found


def seal(form: str, header: dict, arrays: Mapping[str, np.ndarray]) -> bytes:
    """The bytes of a sealed file.

    Args:
        form: what kind of file this is, and its version, as "ep-hw chip 2".
    """
    text = json.dumps({"format": form, **header}, sort_keys=True, allow_nan=False)
    arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    return save(arrays, {"ep_hw": text, "sha256": checksum(text, arrays)})


def open_sealed(path: str | Path, form: str, remedy: str) -> Sealed:
    """Read the header of a sealed file, and no array.

    Raises:
        Refusal: no such file, not a sealed file of this kind, or one of another version.
    """
    path, kind = Path(path), form.rsplit(" ", 1)[0]
    with refusing(f"not a readable {kind.removeprefix('ep-hw ')}", where=path, allowed=form, remedy=remedy):
        _check_header_size(path)
        with safe_open(str(path), "np") as file:
            metadata = file.metadata() or {}
            layout = {name: _layout(file.get_slice(name)) for name in file.keys()}   # noqa: SIM118 - not a dict
        text, header = metadata.get("ep_hw", ""), parse_json(metadata.get("ep_hw") or "{}")
        version = header.get("format") if isinstance(header, dict) else None
        if not str(version).startswith(f"{kind} "):
            raise ValueError(f"no header of one ({version})")
    if header.pop("format") != form:
        raise Refusal(f"{kind.removeprefix('ep-hw ')} of another version", where=str(path), got=version, allowed=form,
                      remedy=remedy)
    return Sealed(path, remedy, header, layout, text, metadata.get("sha256", ""))


def checksum(text: str, arrays: Mapping[str, np.ndarray]) -> str:
    """sha256 over a header and over names, types, shapes and bytes of arrays, in name order."""
    content = hashlib.sha256(text.encode())
    for name, array in sorted(arrays.items()):
        content.update(json.dumps([name, describe(array)]).encode() + array.tobytes())
    return content.hexdigest()


def describe(array) -> str:
    """Type and shape of an array or tensor, as "float32 (3, 4)"."""
    return f"{array.dtype} {tuple(array.shape)}".removeprefix("torch.")


def _layout(part) -> str:
    return f"{TYPES.get(part.get_dtype(), part.get_dtype())} {tuple(part.get_shape())}"


def _check_header_size(path: Path):
    check_regular(path)
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
    if size > HEADER_LIMIT:
        raise ValueError(f"a header of {size} bytes, more than {HEADER_LIMIT}")
