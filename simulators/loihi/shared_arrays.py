"""Arrays in anonymous memory that the host, its worker and Lava's processes share: gone with the last of them."""

import mmap
import os
from collections.abc import Iterator

import numpy as np

_ALIGNMENT = 64


class SharedArrays:
    """Named arrays in one memory file.

    Args:
        layout: name -> (dtype's name, shape); its order decides the places.
        fd: an open memory file that already holds them; None makes a new one.
    """

    def __init__(self, layout: dict[str, tuple[str, tuple[int, ...]]], fd: int | None = None):
        places: dict[str, int] = {}
        size = 0
        for name, (dtype, shape) in layout.items():
            places[name] = size
            size += -(-int(np.prod(shape)) * np.dtype(dtype).itemsize // _ALIGNMENT) * _ALIGNMENT
        self.layout, self.fd = layout, os.memfd_create("ep-hw") if fd is None else fd
        if fd is None:
            os.truncate(self.fd, max(size, _ALIGNMENT))
        memory = mmap.mmap(self.fd, max(size, _ALIGNMENT))
        self._arrays: dict[str, np.ndarray] = {name: np.ndarray(tuple(shape), dtype, memory, places[name])
                                               for name, (dtype, shape) in layout.items()}

    def close_file(self):
        """Give back the descriptor once whoever needs it has it; the memory lives as long as the arrays."""
        os.close(self.fd)

    def __getitem__(self, name: str) -> np.ndarray:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)
