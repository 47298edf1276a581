"""Currents, noise and conversion in one pass over memory: C for x86 processors, used where a compiler is found.

    y = current + sqrt(max(variance, 0)) n,    code = clip(round(y / step), low, high),    value = step code     (1)

Currents and variances are given, or computed some positions at a time, which lie in cache until they are converted,
from maps that are laid out there with their padding and squared, image by image. n are the normals that torch's own
generator gives next, and all bits are those of the same steps in torch, which are taken wherever the C is not:
elsewhere than on a CPU, in other types, without a compiler, or with EP_HW_KERNELS=0. The first use compiles it into
`~/.cache/ep-hw`, a second's work, and tries its normals against torch's: where one bit differs (of another version of
torch, say), it is not used.
"""

import ctypes
import hashlib
import logging
import math
import os
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import torch
from torch import Generator, Tensor

SOURCE = Path(__file__).with_suffix(".c")
WIDE = ("-mavx512f",) * (torch.backends.cpu.get_cpu_capability() == "AVX512")
FLAGS = ("-O3", "-mavx2", "-mfma", *WIDE, "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-shared",
         "-fPIC")
PATIENCE_S = 60
GROUP = 16         # normals that torch makes at once; fewer it makes one by one, by another rule
STATE = 5056       # bytes of a generator
REPEATED = 256     # steps, at least, that lie side by side for the kernel: the stretches of its innermost loop
TRIED = (16, 17, 624, 4099)   # counts of normals
VARIABLE = "EP_HW_KERNELS"
_POINTER, _COUNT, _FLOAT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
Steps = tuple[Tensor, Tensor, int]   # see `repeated`


class _Given(ctypes.Structure):
    """`windows` of `SOURCE`."""

    _fields_: ClassVar = [("place", _POINTER), ("position", _POINTER),
                          *((name, _COUNT) for name in ("length", "places", "positions", "image"))]


class Windows:
    """Where the values of windows that overlap lie in a map (B, H, W, C).

    Args:
        place: int64, of each row of a window, what lies between it and the window's first, in values of the map.
        position: int64, of each window of an image, where in the image it begins.
        length: values of a row of a window, side by side.
        image: values of an image.
    """

    def __init__(self, place: Tensor, position: Tensor, length: int, image: int):
        self._held = place, position
        self.given = _Given(place.data_ptr(), position.data_ptr(), length, len(place), len(position), image)


class _Product(ctypes.Structure):
    """`product` of `SOURCE`."""

    _fields_: ClassVar = [*((name, _POINTER) for name in ("windows", "drive", "weight", "variance")),
                          ("apart", _COUNT * 3),
                          *((name, _COUNT) for name in ("channels", "height", "width", "padding", "rows", "columns"))]


@dataclass(frozen=True, eq=False)
class Product:
    """What lines sense of a batch, still to be computed: the sums of `simulators.crossbar.products` (1).

    Attributes:
        drive: (B, C, H, W), channels side by side.
        padding: of its maps.
        weight: in panels, see `simulators.crossbar.products.panels`.
        variance: of the weights, alike; None without noise.
        windows: where the places of the kernel lie in the drive with its padding.
        shape: (B, H', W', lines) of the sums, in their order of memory.
        maps: they are wanted as maps (B, lines, H', W').
    """

    drive: Tensor
    padding: int
    weight: Tensor
    variance: Tensor | None
    windows: Windows
    shape: tuple[int, int, int, int]
    maps: bool = True

    @property
    def room(self) -> Tensor:
        """For the sums, or what they are converted to."""
        room = torch.empty(self.shape)
        return room.permute(0, 3, 1, 2) if self.maps else room

    @property
    def given(self) -> _Product:
        """As the kernels take it."""
        held, (image, _, row, position) = map(_place, (self.drive, self.weight, self.variance)), self.drive.stride()
        return _Product(ctypes.addressof(self.windows.given), *held, (image, row, position), *self.drive.shape[1:],
                        self.padding, math.prod(self.shape[:3]), self.shape[3])


class Kernels:
    """The compiled functions.

    Args:
        library: of `SOURCE`.

    Attributes:
        lines: of a panel of weights.
    """

    def __init__(self, library: ctypes.CDLL):
        self._normals, self._convert, self._room, self._sums, self._read = (
            library.normals, library.convert, library.room, library.sums, library.read_lines)
        self._normals.argtypes, self._normals.restype = [_POINTER, _POINTER, _COUNT], None
        self._convert.argtypes = [*[_POINTER] * 5, _COUNT, _FLOAT, _FLOAT, *[_POINTER] * 3, _COUNT, _POINTER]
        self._room.argtypes, self._room.restype = [_POINTER], _COUNT
        self._sums.argtypes, self._sums.restype = [_POINTER] * 3, None
        self._read.argtypes = [*[_POINTER] * 5, _COUNT, _FLOAT, _FLOAT, *[_POINTER] * 3]
        self._convert.restype = self._read.restype = _COUNT
        self.lines = _COUNT.in_dll(library, "lines").value

    def normals(self, out: Tensor, generator: Generator) -> Tensor:
        """`out`, dense and of `GROUP` values or more, filled with standard normals in the order of memory."""
        state = generator.get_state()
        self._normals(state.data_ptr(), out.data_ptr(), out.numel())
        generator.set_state(state)
        return out

    def convert(self, current: Tensor, noise: tuple[Tensor, Generator] | None, steps: Steps, codes: tuple[int, int],
                out: Tensor, *, before: Tensor | None = None, outside: Tensor | None = None,
                overlap: "Windows | None" = None) -> int:
        """Equation (1): how many codes were clipped.

        Args:
            current: what is sensed, dense.
            noise: variances in the same order of memory, and what draws; None for none.
            steps: see `repeated`.
            codes: low and high.
            out: filled with the values, alike; may be `current` or `before`.
            before: alike, what the values are added to.
            outside: bool, alike, filled with which were clipped; without `before`.
            overlap: where `out` is a map that values are added to, in their order; without the two before.
        """
        variance, generator = noise or (None, None)
        state = None if generator is None else generator.get_state()
        inverse, step, period = steps
        clipped = self._convert(*map(_place, (state, current, variance, inverse, step)), period, *codes,
                                *map(_place, (before, outside, out)), current.numel(),
                                None if overlap is None else ctypes.byref(overlap.given))
        if generator is not None and state is not None:
            generator.set_state(state)
        return clipped

    def sums(self, product: Product) -> Tensor:
        """What the lines sense, (B, H', W', lines)."""
        out, given = torch.empty(product.shape), product.given
        scratch = self._scratch(given)
        self._sums(ctypes.byref(given), scratch.data_ptr(), out.data_ptr())
        return out

    def read(self, product: Product, generator: Generator | None, steps: Steps, codes: tuple[int, int], out: Tensor, *,
             before: Tensor | None = None, overlap: "Windows | None" = None) -> int:
        """`convert` of what the lines sense."""
        state = None if generator is None else generator.get_state()
        inverse, step, period = steps
        given = product.given
        scratch = self._scratch(given)
        clipped = self._read(_place(state), ctypes.byref(given), *map(_place, (scratch, inverse, step)), period, *codes,
                             *map(_place, (before, out)),
                             None if overlap is None else ctypes.byref(overlap.given))
        if generator is not None and state is not None:
            generator.set_state(state)
        return clipped

    def _scratch(self, given: _Product) -> Tensor:
        return torch.empty(self._room(ctypes.byref(given)))


def _place(tensor: Tensor | None) -> int | None:
    """Of its first value in memory."""
    return None if tensor is None else tensor.data_ptr()


def repeated(step: Tensor) -> Steps:
    """(1 / step, step, how many they are) of lines that lie side by side in memory, one after the other till there are
    `REPEATED`; a scalar is that of every line.
    """
    flat = step.float().flatten()
    times = -(-REPEATED // len(flat))
    return (1 / flat).repeat(times), flat.repeat(times), times * len(flat)


@cache
def kernels() -> Kernels | None:
    """The kernels, compiled where they are not yet; None where they cannot be used, see above."""
    if os.environ.get(VARIABLE) == "0" or not torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        return None
    with suppress(OSError, RuntimeError, subprocess.SubprocessError):   # RuntimeError: there is no home
        found = Kernels(_library())
        if all(map(_agrees, [found] * len(TRIED), TRIED)):
            return found
    logging.getLogger(__name__).info("crossbars read with torch's own operations: no kernels could be made")
    return None


def drawing(like: Tensor, generator: Generator | None) -> Kernels | None:
    """The kernels, where they can draw the noise of such values."""
    cpu = generator is not None and generator.device.type == "cpu" and like.device.type == "cpu"
    return kernels() if cpu and like.dtype == torch.float32 and like.numel() >= GROUP else None


def _library() -> ctypes.CDLL:
    """The library that was compiled before, or is now: whole or not at all.

    Raises:
        OSError: there is no compiler, or no folder to write in.
        subprocess.SubprocessError: the compiler failed.
    """
    compiler = os.environ.get("CC") or shutil.which("cc") or "gcc"
    name = hashlib.sha256(SOURCE.read_bytes() + " ".join((compiler, *FLAGS)).encode()).hexdigest()[:16]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ep-hw"
    place = folder / f"kernels-{name}.so"
    if not place.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder, prefix=".making-") as scratch:
            made = Path(scratch) / "made.so"
            subprocess.run([compiler, *FLAGS, "-o", made, SOURCE, "-lm"], check=True, capture_output=True,
                           timeout=PATIENCE_S, stdin=subprocess.DEVNULL)
            made.replace(place)
    return ctypes.CDLL(str(place))


def _agrees(found: Kernels, count: int) -> bool:
    """Whether normals are torch's to the bit, and leave the generator where torch does."""
    ours, theirs = (Generator().manual_seed(count) for _ in range(2))
    if len(ours.get_state()) != STATE:
        return False
    same = torch.equal(found.normals(torch.empty(count), ours), torch.randn(count, generator=theirs))
    return same and torch.equal(ours.get_state(), theirs.get_state())
