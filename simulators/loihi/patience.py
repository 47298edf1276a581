"""Deadlines that count only time in which this process could run."""

import time


class Patience:
    """How long somebody still waits.

    A process that was stopped and goes on (SIGSTOP, a frozen container) has not waited: whoever asks often sees that
    by a gap between two questions, of which no more than `slice_s` counts.

    Args:
        seconds: how long to wait.
        slice_s: between two questions, at most, while the process runs.
    """

    def __init__(self, seconds: float, slice_s: float):
        self.left, self._slice, self._asked = seconds, slice_s, time.monotonic()

    def is_over(self) -> bool:
        """Whether the time is up; asked again and again."""
        now = time.monotonic()
        self.left -= min(now - self._asked, self._slice)
        self._asked = now
        return self.left <= 0

    def shorten(self, seconds: float):
        """Wait no longer than this from now on."""
        self.left = min(self.left, seconds)
