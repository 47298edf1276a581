"""CIFAR's python batches, which are pickles, read without unpickling.

What `ep_hw.data.pickles` notes must be what numpy writes of an array of uint8. Python 2 wrote the published
files (protocol 2); those that today's Python and numpy write have protocols 2 to 5.
"""

import numpy as np

from ep_hw.data.pickles import Call, Name, Text, read_notes, word

_RECONSTRUCT = ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct")   # of numpy 1 and 2
_FROM_BUFFER = ("numpy.core.numeric._frombuffer", "numpy._core.numeric._frombuffer")
_ENDIAN_FREE = (3, "|", None, None, None, -1, -1, 0)   # numpy's state of a dtype without fields or byte order


def read_batch(content: bytes, key: str, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """(N, 3072) uint8 pixels and (N,) int64 labels, kept under `key`, of one batch.

    Raises:
        ValueError: anything but a batch of N >= 1 images with labels from 0 to classes - 1.
    """
    batch = read_notes(content)
    if not isinstance(batch, dict) or not {"data", key} <= set(batch):
        raise ValueError(f"no dictionary with data and {key}")
    pixels, labels = _pixels(batch["data"]), batch[key]
    if not isinstance(labels, list) or not all(type(label) is int and 0 <= label < classes for label in labels):
        raise ValueError(f"{key} that are not a list of integers from 0 to {classes - 1}")
    if not 0 < len(labels) == len(pixels):
        raise ValueError(f"{len(pixels)} images and {len(labels)} labels")
    return pixels, np.array(labels, np.int64)


def _pixels(noted: object) -> np.ndarray:
    """The (N, 3072) uint8 array that a call stands for; its memory is that of the file's own bytes."""
    if not isinstance(noted, Call):
        raise ValueError("data that are no array")
    shape, dtype, order, noted_raw = _array(noted)
    raw = _raw(noted_raw)
    if not _is_uint8(dtype) or order not in ("C", "F"):
        raise ValueError("data that are no uint8")
    if not isinstance(shape, tuple) or [type(n) for n in shape] != [int, int] or shape[1] != 3072:
        raise ValueError("data that are not (N, 3072)")
    if shape[0] * 3072 != len(raw):
        raise ValueError(f"{len(raw)} bytes for {shape[0]} images")
    return np.frombuffer(raw, np.uint8).reshape(shape, order="F" if order == "F" else "C")


def _array(noted: Call) -> tuple[object, object, str | None, object]:
    """Shape, dtype, order and bytes of an array, in either of numpy's spellings."""
    if noted.function in _RECONSTRUCT and isinstance(noted.state, tuple):
        kind, empty, fill = noted.arguments
        version, shape, dtype, fortran, raw = noted.state
        if (kind, empty, _raw(fill), version) == (Name("numpy.ndarray"), (0,), b"b", 1):
            return shape, dtype, "F" if fortran is True else "C" if fortran is False else None, raw
    if noted.function in _FROM_BUFFER and noted.state is None:
        raw, dtype, shape, order = noted.arguments
        return shape, dtype, word(order), raw
    raise ValueError("data that are no array of numpy")


def _is_uint8(noted: object) -> bool:
    """Whether a call makes the dtype uint8 and leaves it as it is."""
    if not isinstance(noted, Call) or noted.function != "numpy.dtype" or not isinstance(noted.state, tuple):
        return False
    name, *flags = noted.arguments
    version, order, *others = noted.state
    return word(name) == "u1" and flags == [0, 1] and (version, word(order), *others) == _ENDIAN_FREE


def _raw(noted: object) -> bytes:
    """Bytes, which protocol 2 of Python 3 writes as text that is encoded in latin-1."""
    if not isinstance(noted, Call):
        if type(noted) is not bytes:
            raise ValueError("pixels that are no bytes")
        return noted
    if noted.function != "_codecs.encode" or len(noted.arguments) != 2:
        raise ValueError("pixels that are no bytes")
    text, encoding = noted.arguments
    if type(text) is not Text or word(encoding) != "latin1":
        raise ValueError("pixels that are no bytes")
    if text and np.frombuffer(text, np.uint8).max() > 0xC3:   # in UTF-8, so that no character takes more than a byte
        raise ValueError("pixels that are no latin-1")
    return text.decode().encode("latin1")
