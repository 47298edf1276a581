"""How a chip is tuned."""

import math

from mapping.fields import Count, Positive, Stated, Steps


class TuningSettings(Stated):
    """Steps count time steps. `rate` falls along half a cosine to nothing over the epochs.

    A contrast is a small difference of noisy, rounded states: `beta` is larger than in training, and `pairs` of nudged
    phases are averaged. With `biases_only` no device is written: how much of a chip's errors its digital side can learn
    to undo.
    """

    epochs: Count = 4
    batch: Count = 60
    rate: Positive = 0.3
    beta: Positive = 1.0
    pairs: Count = 1
    free_steps: Steps = 20
    nudged_steps: Steps = 8
    biases_only: bool = False

    def rate_at(self, epoch: int) -> float:
        """Learning rate of an epoch 0, 1, ..."""
        return self.rate * (1 + math.cos(math.pi * epoch / self.epochs)) / 2
