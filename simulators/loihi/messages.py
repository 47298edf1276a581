"""What a receiver knows of a sender: the message of this step, or the sum of all changes since the phase began."""

import numpy as np

from simulators.loihi.clock import Clock


class Inbox:
    """One sender's messages.

    Integers stay exact: a state moves between 0 and S_max, so what changes of states bring to an accumulator lies
    within sum |W| S_max, less than twice the bound 2^23 of mapping.loihi.bound, and their sum within the bound itself.

    Args:
        events: messages are changes, but for the first of a phase, which is whole.
    """

    def __init__(self, clock: Clock, events: bool):
        self._clock, self._events = clock, events
        self._held: np.ndarray | None = None

    def add(self, message: np.ndarray, lava_step: int) -> np.ndarray:
        """Take in this step's message: the value that the sender stands at."""
        if not self._events:
            return message
        begins = self._held is None or self._clock.time(lava_step) == 0
        self._held = message if begins else self._held + message
        return self._held
