"""The relaxation's own time, in memory that host and processes share."""

import numpy as np

from mapping.loihi.integers import LOSSES

CELLS = 4


class Clock:
    """When the phase began, whether states are held, how the top layer is nudged.

    Args:
        cells: (CELLS,) int64: Lava's time step before the phase, hold, the nudge's loss (0 none, else 1 + its place),
            and Lava's last time step.
    """

    def __init__(self, cells: np.ndarray):
        self._cells = cells

    def tick(self, lava_step: int):
        """Remember that Lava has come to this time step."""
        self._cells[3] = lava_step

    def begin(self, *, hold: bool = False, loss: str | None = None):
        """Start a phase at t = 0. With `hold`, populations send their states and keep them (to read the logits)."""
        self._cells[:3] = self._cells[3], hold, 0 if loss is None else 1 + LOSSES.index(loss)

    def time(self, lava_step: int) -> int:
        """t of the phase at Lava's time step (which counts from 1)."""
        return int(lava_step - 1 - self._cells[0])

    @property
    def now(self) -> int:
        """t of the states that Lava's last time step left."""
        return int(self._cells[3] - self._cells[0])

    @property
    def hold(self) -> bool:
        return bool(self._cells[1])

    @property
    def loss(self) -> str | None:
        """What the nudge pulls towards; None in a free phase."""
        return LOSSES[self._cells[2] - 1] if self._cells[2] else None
