"""The relaxation's own time, and the signals that all processes hear, in memory that host and processes share."""

import numpy as np

from mapping.loihi.integers import LOSSES

CELLS = 6


class Clock:
    """When the phase began, whether states are held, how the top layer is nudged, what processes learn.

    Args:
        cells: (CELLS,) int64: Lava's time step before the phase, hold, the nudge's loss (0 none, else 1 + its place),
            Lava's last time step, the sign of the nudge that processes learn from (0 none), and how they write (0 not,
            else 1 + the cooling).
    """

    def __init__(self, cells: np.ndarray):
        self._cells = cells

    def tick(self, lava_step: int):
        """Remember that Lava has come to this time step."""
        self._cells[3] = lava_step

    def begin(self, *, hold: bool = False, loss: str | None = None, learn: int = 0, cooling: int | None = None):
        """Start a phase at t = 0. With `hold`, populations send their states and keep them (to read the logits).

        Args:
            learn: 1 or -1 after the phase of a nudge of that sign, with `hold` for one step.
            cooling: weights and biases take what was learned, in steps 2^-cooling as large; None where they do not.
        """
        self._cells[:3] = self._cells[3], hold, 0 if loss is None else 1 + LOSSES.index(loss)
        self._cells[4:] = learn, 0 if cooling is None else 1 + cooling

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
    def learn(self) -> int:
        """Sign of the nudge whose end this step is; 0 at all other times."""
        return int(self._cells[4])

    @property
    def cooling(self) -> int | None:
        """How much smaller the steps are in which weights are written; None where they are not."""
        return int(self._cells[5]) - 1 if self._cells[5] else None

    @property
    def loss(self) -> str | None:
        """What the nudge pulls towards; None in a free phase."""
        return LOSSES[self._cells[2] - 1] if self._cells[2] else None
