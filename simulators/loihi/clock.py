"""The relaxation's own time, in memory that host and processes share."""

import numpy as np


class Clock:
    """When the phase began, whether states are held, whether the top layer is nudged.

    Args:
        cells: (3,) int64: Lava's time step before the phase, hold, nudging.
    """

    def __init__(self, cells: np.ndarray):
        self._cells = cells

    def begin(self, lava_step: int, *, hold: bool, nudging: bool):
        """Start a phase at t = 0. With `hold`, populations send their states and keep them (to read the logits)."""
        self._cells[:] = lava_step, hold, nudging

    def time(self, lava_step: int) -> int:
        """t of the phase at Lava's time step (which counts from 1)."""
        return int(lava_step - 1 - self._cells[0])

    @property
    def hold(self) -> bool:
        return bool(self._cells[1])

    @property
    def nudging(self) -> bool:
        return bool(self._cells[2])
