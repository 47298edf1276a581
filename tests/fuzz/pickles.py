"""Pickles that no one should load: planted code, forged arrays, absurd labels."""

import io
import os
import pickle
import subprocess
import zipfile
from random import Random

import numpy as np

from tests.fuzz.edits import CANARY


class Reduced:
    """Pickled as a call: `function(*arguments)`, with a state set afterwards where one is given."""

    def __init__(self, function, arguments, state=None):
        self.call = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.call


def planted(rng: Random) -> object:
    """A call that leaves a canary behind."""
    sing = f"open({CANARY!r}, 'w').close()"
    return rng.choice((Reduced(os.system, (f"touch {CANARY}",)), Reduced(subprocess.call, (["touch", CANARY],)),
                       Reduced(eval, (sing,)), Reduced(exec, (sing,)),
                       Reduced(open, (CANARY, "w")), Reduced(os.mkdir, (CANARY,)),
                       Reduced(np.memmap, (CANARY, "u1", "w+", 0, (3,)))))


def forged_array(rng: Random) -> object:
    """An array whose shape, type or buffer is a lie."""
    object_type, pixel = np.dtype("O"), np.dtype("u1")
    rebuilt = np.core.multiarray._reconstruct
    state = rng.choice(((1, (2**40,), pixel, False, b"\x01"), (1, (4,), object_type, False, b"\x41" * 32),
                        (1, (3,), pixel, False, b"\x01"), (1, (-1,), pixel, False, b""),
                        (1, (2, 3072), pixel, True, b""),
                        (1, (2**62, 2**62), pixel, False, b""), (1, (2, 3072), pixel, False, [1, 2, 3])))
    forged_type = Reduced(np.dtype, ("u1", False, True), rng.choice((
        (3, "|", None, None, None, -1, -1, 63), (3, "|", (pixel, (2**40,)), None, None, 2**40, 1, 0),
        (3, "<", None, ("a",), {"a": (object_type, 0)}, 8, 8, 63), (4, "|", None, None, None, 2**31, 1, 27))))
    return rng.choice((Reduced(np.ndarray, ((4,), object_type, b"\x41" * 64)), Reduced(np.ndarray, ((2**40,), pixel)),
                       Reduced(np.ndarray, ((10**10,), pixel)), Reduced(np.ndarray, ((2, 3072), forged_type)),
                       Reduced(rebuilt, (np.ndarray, (0,), b"b"), state),
                       Reduced(rebuilt, (np.ndarray, (0,), b"b"), (1, (2,), forged_type, False, b"\x41" * 64)),
                       Reduced(rebuilt, (np.ndarray, (10**11,), b"b")), Reduced(np.dtype, ("O",)), forged_type))


def dumped(rng: Random, thing) -> bytes:
    """A pickle of any protocol."""
    return pickle.dumps(thing, rng.randrange(5))


def torch_zip(data: bytes, **others: bytes) -> bytes:
    """A file as torch.save lays it out, around a pickle of one's own."""
    blob = io.BytesIO()
    with zipfile.ZipFile(blob, "w") as file:
        for name, content in {"data.pkl": data, "byteorder": b"little", "version": b"3\n", **others}.items():
            file.writestr(zipfile.ZipInfo(f"archive/{name}"), content)   # without the time of day
    return blob.getvalue()
