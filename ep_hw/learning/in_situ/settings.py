"""The settings of tuning in situ."""

import math

from mapping.fields import Count, Positive, Stated, Steps


class TuningSettings(Stated):
    """How a chip is tuned. Contrasts are small differences of noisy, rounded states: nudges are strong.

    Attributes:
        epochs: passes over the training images.
        batch: images between two updates.
        rate: first learning rate of all layers; it falls along half a cosine to zero over the epochs.
        beta: strength of the nudges.
        pairs: nudged pairs averaged on noisy machines.
        free_steps: time steps of the free phase.
        nudged_steps: time steps of each nudged phase.
        biases_only: no device is written; the digital biases alone learn to undo a chip's errors.
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
