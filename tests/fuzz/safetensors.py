"""Edits of safetensors files, with a codec of our own: it writes what the library would refuse to."""

import json
import re
import struct
from random import Random

import numpy as np

from mapping.sealed import TYPES, _signed, checksum
from tests.fuzz.documents import HUGE, Raw, edit_tree, spell

_SIZES = {"F64": 8, "F32": 4, "I64": 8, "I32": 4, "U8": 1, "I8": 1, "BOOL": 1, "F16": 2, "I16": 2, "U64": 8}
_ODD = {"F32": (float("nan"), float("inf"), 3e38, -3e38, 1e-40), "F64": (float("nan"), float("inf"), 1e308, -1e308),
        "I64": (2**62, -2**63, -1), "I32": (2**30, -2**31, -1), "I8": (127, -128), "U8": (255,)}
_SIGNED = re.compile(r"((?:[0-9a-f]{64} )?)(.*)", re.S)   # a header, perhaps after its own checksum
_FORMATS = {"F32": "f", "F64": "d", "I64": "q", "I32": "i", "I8": "b", "U8": "B"}


def split(blob: bytes) -> tuple[dict, bytes]:
    """Header and payload."""
    end = 8 + int.from_bytes(blob[:8], "little")
    return json.loads(blob[8:end]), blob[end:]


def join(header: dict, payload: bytes) -> bytes:
    """Inverse of `split`."""
    text = spell(header).encode()
    return len(text).to_bytes(8, "little") + text + payload


def resealed(blob: bytes) -> bytes:
    """The same file under checksums that fit it. Raises KeyError, TypeError, ValueError where nothing can be read."""
    header, payload = split(blob)
    arrays = {name: np.frombuffer(payload[slice(*entry["data_offsets"])], TYPES[entry["dtype"]]).reshape(entry["shape"])
              for name, entry in header.items() if name != "__metadata__"}
    text = _SIGNED.fullmatch(header["__metadata__"]["ep_hw"]).group(2)
    text = re.sub('"sha256": "[0-9a-f]{64}"', f'"sha256": "{checksum(arrays)}"', text, count=1)
    header["__metadata__"]["ep_hw"] = _signed(text)
    return join(header, payload)


def edited_header(rng: Random, blob: bytes) -> bytes:
    """One thing in the library's own header: a type, a shape, a place."""
    header, payload = split(blob)
    return join(edit_tree(rng, header)[1], payload)


def edited_length(rng: Random, blob: bytes) -> bytes:
    """The length of the header."""
    length = int.from_bytes(blob[:8], "little") + rng.choice((-1, 1, 8, 10**8, 2**62, -10**6))
    return rng.choice((length % 2**64, 0, 2**63, 2**64 - 1)).to_bytes(8, "little") + blob[8:]


def edited_metadata(rng: Random, blob: bytes) -> bytes:
    """One thing in a document that an entry of the metadata holds, or the entry itself."""
    header, payload = split(blob)
    metadata = header.get("__metadata__") or {"foreign": "1"}
    key = rng.choice(sorted(metadata))
    signature, text = _SIGNED.fullmatch(metadata[key]).groups()
    if text.startswith("{") and rng.random() < 0.9:
        changed = signature + spell(edit_tree(rng, json.loads(text))[1], text)
    else:
        changed = rng.choice((*HUGE, "", "-1", "0", "null", "{}", "[" * 100_000, "1_0", "\u0661", " 1", "x" * 10**6,
                              metadata[key] + "0", metadata[key][:-1]))
    header["__metadata__"] = {**metadata, key: changed}
    return join(header, payload)


def edited_tensor(rng: Random, blob: bytes) -> bytes:
    """A tensor renamed, left out, doubled, of another shape or type, or with a number that no one means."""
    header, payload = split(blob)
    names = sorted(name for name in header if name != "__metadata__")
    name = rng.choice(names)
    metadata = {"__metadata__": header.pop("__metadata__", {})}
    change = rng.choice(("rename", "drop", "double", "reshape", "retype", "odd number", "odd number", "swap"))
    tensors = {n: (e["dtype"], e["shape"], payload[slice(*e["data_offsets"])]) for n, e in header.items()}
    dtype, shape, data = tensors[name]
    if change == "rename":
        tensors[rng.choice((name + "0", name.upper(), "", "../x"))] = tensors.pop(name)
    elif change == "drop":
        del tensors[name]
    elif change == "double":
        tensors[name + ".twin"] = tensors[name]
    elif change == "reshape":
        tensors[name] = (dtype, rng.choice((shape[::-1], [len(data) // _SIZES[dtype]], [1, *shape], [*shape, 1])), data)
        if rng.random() < 0.3:
            tensors[name] = (dtype, [0, *shape], b"")
    elif change == "retype":
        other = rng.choice(sorted(_SIZES))
        tensors[name] = (other, [len(data) // _SIZES[other]], data[:len(data) // _SIZES[other] * _SIZES[other]])
        if _SIZES[other] == _SIZES[dtype]:
            tensors[name] = (other, shape, data)
    elif change == "odd number" and dtype in _ODD and data:
        tensors[name] = (dtype, shape, _with_odd_number(rng, dtype, data))
    elif change == "swap":
        other = rng.choice(names)
        tensors[name], tensors[other] = tensors[other], tensors[name]
    return join({**metadata, **_places(tensors)}, b"".join(data for *_, data in tensors.values()))


def forged_shape(rng: Random, blob: bytes) -> bytes:
    """A shape of absurd size; as often one without data, whose size in bytes is right."""
    header, payload = split(blob)
    name = rng.choice(sorted(name for name in header if name != "__metadata__"))
    shape = rng.choice(([2**62], [2**32, 2**32], [0, 2**40], [2**40, 0], [-1], [1] * 10_000, [0] * 65, [Raw("1e3")]))
    header[name] = {**header[name], "shape": shape}
    if 0 in shape:
        header[name]["data_offsets"] = [0, 0]
    return join(header, payload)


def _with_odd_number(rng: Random, dtype: str, data: bytes) -> bytes:
    size = _SIZES[dtype]
    place = size * rng.randrange(len(data) // size)
    return data[:place] + struct.pack("<" + _FORMATS[dtype], rng.choice(_ODD[dtype])) + data[place + size:]


def _places(tensors: dict) -> dict:
    """Header entries of tensors that lie one after another."""
    header, at = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    return header


EDITS = (edited_header, edited_header, edited_length, edited_metadata, edited_metadata, edited_tensor, edited_tensor,
         forged_shape)
