"""How a chip is tuned."""

import math

from pydantic import BaseModel, ConfigDict, Field


class TuningSettings(BaseModel):
    """Steps count time steps. `rate` falls along half a cosine to nothing over the epochs.

    A contrast is a small difference of noisy, rounded states: `beta` is larger than in training, and `pairs` of nudged
    phases are averaged. With `biases_only` no device is written: how much of a chip's errors its digital side can learn
    to undo.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int = Field(4, ge=1)
    batch: int = Field(60, ge=1)
    rate: float = Field(0.3, gt=0)
    beta: float = Field(1.0, gt=0)
    pairs: int = Field(1, ge=1)
    free_steps: int = Field(20, ge=1)
    nudged_steps: int = Field(8, ge=1)
    biases_only: bool = False

    def rate_at(self, epoch: int) -> float:
        """Learning rate of an epoch 0, 1, ..."""
        return self.rate * (1 + math.cos(math.pi * epoch / self.epochs)) / 2
